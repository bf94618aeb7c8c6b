package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pleo-sidecar/tokens"
)

func TestRejectedTokenIsReplacedOnceAndTheRequestSentAgain(t *testing.T) {
	up := newFakeUpstream(t, accepts(secondAccess))
	s := start(t, up.url, &fakeSource{access: []string{firstAccess, secondAccess}})
	a := s.do(s.request("PUT", "/v1/x?q", strings.NewReader(`{"a":1}`)))
	wantUpstream(t, a, 200)
	came := up.arrivals()
	if len(came) != 2 {
		t.Fatalf("%d requests arrived, want 2", len(came))
	}
	if came[0].bearer() != firstAccess || came[1].bearer() != secondAccess {
		t.Errorf("tokens %q, %q", came[0].bearer(), came[1].bearer())
	}
	for i, got := range came {
		if got.body != `{"a":1}` || got.uri != "/v1/x?q" || got.method != "PUT" || got.length != 7 {
			t.Errorf("attempt %d: %+v", i, got)
		}
		got.header.Del("Authorization")
	}
	for name, values := range came[0].header {
		if !slices.Equal(values, came[1].header[name]) {
			t.Errorf("%s differs: %q, %q", name, values, came[1].header[name])
		}
	}
	if !slices.Equal(s.source.asked, []string{firstAccess}) {
		t.Errorf("refreshes asked about %q", s.source.asked)
	}
}

func TestSecondRejectionGoesToTheCaller(t *testing.T) {
	up := newFakeUpstream(t, accepts(thirdAccess))
	s := start(t, up.url, &fakeSource{access: []string{firstAccess, secondAccess, thirdAccess}})
	wantUpstream(t, s.get("/v1/x"), http.StatusUnauthorized)
	if n := len(up.arrivals()); n != 2 {
		t.Errorf("%d requests arrived, want 2", n)
	}
	if n := s.source.refreshes(); n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}
}

func TestSameTokenBackMeansTheRejectionGoesToTheCallerAsItCame(t *testing.T) {
	up := newFakeUpstream(t, accepts(secondAccess))
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	a := s.get("/v1/x")
	wantUpstream(t, a, http.StatusUnauthorized)
	if a.body != "token rejected" || a.Header.Get("WWW-Authenticate") != "Bearer realm=pleo" || a.Header.Get("Pleo-Sidecar-Retry") != "" {
		t.Errorf("answered %v %q", a.Header, a.body)
	}
	up.only(t)
}

func TestNothingButARejectionRefreshesOrSendsAgain(t *testing.T) {
	for _, code := range []int{200, 204, 301, 307, 308, 400, 402, 403, 404, 407, 408, 409, 425, 429, 500, 502, 503, 504} {
		up := newFakeUpstream(t, status(code))
		s := start(t, up.url, &fakeSource{access: []string{firstAccess, secondAccess}})
		wantUpstream(t, s.do(s.request("PUT", "/v1/x", strings.NewReader("a"))), code)
		up.only(t)
		if n := s.source.refreshes(); n != 0 {
			t.Errorf("%d made %d refreshes", code, n)
		}
	}
}

func TestUpstreamErrorsAreNotSentAgain(t *testing.T) {
	for name, answer := range map[string]string{
		"cut":     "",
		"rubbish": "rubbish\r\n\r\n",
		"torn":    "HTTP/1.1 200 OK\r\nContent-Len",
	} {
		t.Run(name, func(t *testing.T) {
			up := rawUpstream(t, answer)
			s := start(t, up, &fakeSource{access: []string{firstAccess, secondAccess}})
			wantProblem(t, s.do(s.request("POST", "/v1/x", strings.NewReader("a"))), slugUpstreamUnreachable)
			if n := s.source.refreshes(); n != 0 {
				t.Errorf("%d refreshes", n)
			}
		})
	}
}

func TestSlowUpstreamIsATimeoutAndNotSentAgain(t *testing.T) {
	hold := make(chan struct{})
	up := newFakeUpstream(t, func(http.ResponseWriter, *http.Request) { <-hold })
	defer close(hold)
	s := start(t, up.url, &fakeSource{access: []string{firstAccess, secondAccess}}, func(o *Options) {
		o.Transport.(*http.Transport).ResponseHeaderTimeout = 20 * time.Millisecond
	})
	wantProblem(t, s.get("/v1/x"), slugUpstreamTimeout)
	up.only(t)
}

func TestWithoutATokenNothingIsSent(t *testing.T) {
	for want, err := range map[slug]error{
		slugLoginRequired:     tokens.ErrLoginRequired,
		slugClientRejected:    tokens.ErrClientRejected,
		slugTokenUnavailable:  tokens.ErrTokenUnavailable,
		slugStoreUnavailable:  tokens.ErrStoreUnavailable,
		slugUnknownConnection: tokens.ErrUnknownConnection,
		slugInternalError:     errors.New("unforeseen"),
	} {
		up := newFakeUpstream(t, nil)
		s := start(t, up.url, &fakeSource{tokenErr: err})
		wantProblem(t, s.do(s.request("POST", "/@acme/v1/x", strings.NewReader("a"))), want)
		if n := len(up.arrivals()); n != 0 {
			t.Errorf("%v: %d requests arrived", err, n)
		}
	}
}

func TestTokenWithoutAnAccessTokenIsNone(t *testing.T) {
	for _, access := range [][]string{{""}, {firstAccess, ""}} {
		up := newFakeUpstream(t, accepts(secondAccess))
		s := start(t, up.url, &fakeSource{access: access})
		wantProblem(t, s.get("/v1/x"), slugTokenUnavailable)
		for _, got := range up.arrivals() {
			if got.bearer() == "" {
				t.Error("a request left bare")
			}
		}
	}
}

func TestUnknownConnectionIsNotFound(t *testing.T) {
	up := newFakeUpstream(t, nil)
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	a := s.get("/@nobody/v1/x")
	wantProblem(t, a, slugUnknownConnection)
	if !strings.Contains(a.body, `"connection": "nobody"`) {
		t.Errorf("the document does not name the connection: %s", a.body)
	}
	if n := len(up.arrivals()); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
}

func TestFailedRefreshIsTold(t *testing.T) {
	for want, err := range map[slug]error{
		slugLoginRequired:    tokens.ErrLoginRequired,
		slugClientRejected:   tokens.ErrClientRejected,
		slugTokenUnavailable: tokens.ErrTokenUnavailable,
		slugStoreUnavailable: tokens.ErrStoreUnavailable,
	} {
		up := newFakeUpstream(t, accepts(secondAccess))
		s := start(t, up.url, &fakeSource{access: []string{firstAccess}, refresh: err})
		wantProblem(t, s.get("/v1/x"), want)
		up.only(t)
	}
}

func TestRejectedRequestReusesItsNetworkConnection(t *testing.T) {
	for name, c := range map[string]struct {
		size   int
		reused bool
	}{
		"short answer": {10, true},
		"long answer":  {4 << 20, false},
	} {
		t.Run(name, func(t *testing.T) {
			up := newFakeUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "Bearer "+secondAccess {
					w.WriteHeader(http.StatusUnauthorized)
					_, _ = io.WriteString(w, strings.Repeat("x", c.size))
				}
			})
			s := start(t, up.url, &fakeSource{access: []string{firstAccess, secondAccess}})
			var reused []bool
			r := withCall(s.request("GET", "/v1/x", nil), &call{source: s.source})
			r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
				GotConn: func(i httptrace.GotConnInfo) { reused = append(reused, i.Reused) },
			}))
			r.URL.Host, r.Host = up.url.Host, ""
			res, err := s.reverse.Transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if !slices.Equal(reused, []bool{false, c.reused}) {
				t.Errorf("connections reused: %v", reused)
			}
		})
	}
}

func TestStalledRejectionDoesNotHoldTheSecondAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body, upstream := io.Pipe()
		defer upstream.Close()
		began := time.Now()
		drain(body)
		if took := time.Since(began); took != drainTime {
			t.Errorf("it took %v", took)
		}
		if _, err := upstream.Write([]byte("x")); err == nil {
			t.Error("the answer is still open")
		}
	})
}

func TestCallerThatLeavesGetsNoAnswerAndNoBlame(t *testing.T) {
	up := newFakeUpstream(t, accepts(secondAccess))
	ctx, leave := context.WithCancel(t.Context())
	source := &fakeSource{access: []string{firstAccess}, onRefresh: func(ctx context.Context) {
		leave()
		<-ctx.Done()
	}}
	source.refresh = context.Canceled
	s := start(t, up.url, source)
	res, err := noFollow.RoundTrip(s.request("GET", "/v1/x", nil).WithContext(ctx))
	if err == nil {
		res.Body.Close()
		t.Fatalf("answered %d", res.StatusCode)
	}
	s.waitEnd()
	if log := s.log.String(); !strings.Contains(log, `"status":499`) || !strings.Contains(log, `"level":"DEBUG"`) {
		t.Errorf("log: %s", log)
	}
}

func TestUnreachableUpstreamIsToldWithItsCause(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	up := rawUpstream(t, "")
	up.Host = l.Addr().String()
	l.Close()
	s := start(t, up, &fakeSource{access: []string{firstAccess}})
	a := s.get("/v1/x")
	wantProblem(t, a, slugUpstreamUnreachable)
	if got := a.Header.Get("Proxy-Status"); got != "pleo-sidecar; error=connection_refused" {
		t.Errorf("Proxy-Status %q", got)
	}
	if strings.Contains(a.body, up.Host) {
		t.Errorf("the document names the address: %s", a.body)
	}
}
