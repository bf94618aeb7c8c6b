package proxy

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pleo-sidecar/tokens"
)

func TestTokenIsAttached(t *testing.T) {
	up := newFakeUpstream(t, nil)
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	wantUpstream(t, s.get("/v1/employees"), 200)
	if got := up.only(t).header["Authorization"]; !slices.Equal(got, []string{"Bearer " + firstAccess}) {
		t.Errorf("Authorization %q", got)
	}
}

func TestCallersAuthorizationNeverGoesUpstream(t *testing.T) {
	up := newFakeUpstream(t, nil)
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	for name, raw := range map[string]string{
		"plain":         "Authorization: Bearer foreign\r\n",
		"twice":         "Authorization: Bearer foreign\r\nauthorization: Basic Zm9yZWlnbg==\r\n",
		"as hop-by-hop": "Authorization: Bearer foreign\r\nConnection: Authorization\r\n",
		"as proxy":      "Proxy-Authorization: Bearer foreign\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			up.came = nil
			wantUpstream(t, s.raw("GET /v1/x HTTP/1.1\r\nHost: localhost\r\n"+raw+"\r\n"), 200)
			came := up.only(t)
			if got := came.header["Authorization"]; !slices.Equal(got, []string{"Bearer " + firstAccess}) {
				t.Errorf("Authorization %q", got)
			}
			if _, ok := came.header["Proxy-Authorization"]; ok {
				t.Error("Proxy-Authorization went upstream")
			}
		})
	}
}

func TestOnlyWhatTheUpstreamMayKnowGoesUpstream(t *testing.T) {
	up := newFakeUpstream(t, nil)
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	s.raw("POST /v1/x?q=1 HTTP/1.1\r\nHost: localhost\r\n" +
		"Cookie: session=1\r\nForwarded: for=10.0.0.1\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Host: app\r\n" +
		"X-Forwarded-Port: 1\r\nX-Real-Ip: 10.0.0.1\r\nProxy-Connection: keep-alive\r\nPleo-Sidecar-Error: x\r\n" +
		"Connection: Upgrade, X-Hop\r\nX-Hop: 1\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n" +
		"Accept: application/json\r\nTraceparent: t\r\nX-Request-Id: r1\r\nIf-Match: \"e\"\r\n\r\n" +
		"2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n")
	got := up.only(t)
	want := http.Header{
		"Authorization":  {"Bearer " + firstAccess},
		"Accept":         {"application/json"},
		"Traceparent":    {"t"},
		"X-Request-Id":   {"r1"},
		"If-Match":       {`"e"`},
		"Content-Length": {"2"},
		"Via":            {"1.1 pleo-sidecar"},
	}
	for name, values := range got.header {
		if !slices.Equal(values, want[name]) {
			t.Errorf("arrived %s: %q, want %q", name, values, want[name])
		}
	}
	if len(got.header) != len(want) {
		t.Errorf("arrived %d fields, want %d: %v", len(got.header), len(want), got.header)
	}
	if got.host != up.url.Host || got.body != "hi" || got.uri != "/v1/x?q=1" {
		t.Errorf("arrived %+v", got)
	}
}

func TestPathAndQueryTravelByteForByte(t *testing.T) {
	up := newFakeUpstream(t, nil)
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	for sent, want := range map[string]string{
		"/v1/installations/me:activate":       "/v1/installations/me:activate",
		"/v1/a%2Fb%3a//c/../d/./e;f=1":        "/v1/a%2Fb%3a//c/../d/./e;f=1",
		"/v1/x?a=1;b=2&c=%zz&a=3&&=":          "/v1/x?a=1;b=2&c=%zz&a=3&&=",
		"/v1/x?after=A2=~7&limit=10":          "/v1/x?after=A2=~7&limit=10",
		"/v1/x?":                              "/v1/x?",
		"/v1/x?y=/@acme":                      "/v1/x?y=/@acme",
		"/@acme/v1/a%2Fb?x=%20":               "/v1/a%2Fb?x=%20",
		"/@acme//evil.example/x":              "//evil.example/x",
		"/@acme":                              "/",
		"/@acme?a=b":                          "/?a=b",
		"/@acme/":                             "/",
		"/@acme/@other/v1":                    "/@other/v1",
		"/v1/@acme":                           "/v1/@acme",
		"//evil.example/x":                    "//evil.example/x",
		"/v1/%7B{a%2Fb}":                      "/v1/%7B%7Ba%2Fb%7D",
		"/v1/\xc3\xa9":                        "/v1/%C3%A9",
		"http://localhost/v1/x?y":             "/v1/x?y",
		"http://user:pass@localhost/v1/x":     "/v1/x",
		"http://localhost":                    "/",
		"http://LOCALHOST:1234/@acme/v1/x%2f": "/v1/x%2f",
	} {
		up.came = nil
		wantUpstream(t, s.raw("GET "+sent+" HTTP/1.1\r\nHost: localhost\r\n\r\n"), 200)
		if got := up.only(t).uri; got != want {
			t.Errorf("%s arrived as %s, want %s", sent, got, want)
		}
	}
}

func TestBasePathOfTheUpstreamComesFirst(t *testing.T) {
	up := newFakeUpstream(t, nil)
	based := *up.url
	based.Path = "/base/"
	s := start(t, &based, &fakeSource{access: []string{firstAccess}})
	s.get("/@acme/v1/a%2Fb")
	if got := up.only(t).uri; got != "/base/v1/a%2Fb" {
		t.Errorf("arrived %s", got)
	}
}

func TestConnectionsKeepTheirTokens(t *testing.T) {
	up := newFakeUpstream(t, nil)
	s := start(t, up.url, nil, func(o *Options) {
		o.DefaultConnection = "main"
		o.Connections = func(_ context.Context, name string) (Source, error) {
			return &fakeSource{access: []string{"of-" + name}}, nil
		}
	})
	for path, want := range map[string]string{"/v1/x": "of-main", "/@a/v1/x": "of-a", "/@b-2/v1/x": "of-b-2"} {
		up.came = nil
		s.get(path)
		if got := up.only(t).bearer(); got != want {
			t.Errorf("%s carried %q, want %q", path, got, want)
		}
	}
}

func TestRedirectGoesToTheCallerUnfollowed(t *testing.T) {
	other := newFakeUpstream(t, nil)
	up := newFakeUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", other.url.String()+"/file")
		w.WriteHeader(http.StatusFound)
	})
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	a := s.get("/v1/x")
	wantUpstream(t, a, http.StatusFound)
	if a.Header.Get("Location") != other.url.String()+"/file" {
		t.Errorf("Location %q", a.Header.Get("Location"))
	}
	if n := len(other.arrivals()); n != 0 {
		t.Errorf("%d requests followed the redirect", n)
	}
}

func TestAnswerComesAsItCame(t *testing.T) {
	up := newFakeUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h["Content-Type"] = nil
		h.Set("Content-Encoding", "gzip")
		h.Set("Etag", `"1"`)
		h.Set("Retry-After", "7")
		h.Set("Ratelimit-Remaining", "0")
		h.Set("Proxy-Status", "edge; error=x")
		h.Add("Set-Cookie", "a=1")
		h.Add("Set-Cookie", "b=2")
		h.Set("Alt-Svc", `h3=":443"`)
		h.Set("Pleo-Sidecar-Error", "login-required")
		h.Set("Pleo-Sidecar-Retry", "forged")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, "\x1f\x8b not really")
	})
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	a := s.get("/v1/x")
	wantUpstream(t, a, http.StatusTooManyRequests)
	a.Header.Del("Date")
	want := http.Header{
		"Content-Encoding": {"gzip"}, "Content-Length": {"13"}, "Etag": {`"1"`}, "Retry-After": {"7"},
		"Ratelimit-Remaining": {"0"}, "Proxy-Status": {"edge; error=x"}, "Set-Cookie": {"a=1", "b=2"},
		"Via": {"1.1 pleo-sidecar"},
	}
	for name, values := range a.Header {
		if !slices.Equal(values, want[name]) {
			t.Errorf("answered %s: %q, want %q", name, values, want[name])
		}
	}
	if len(a.Header) != len(want) || a.body != "\x1f\x8b not really" {
		t.Errorf("answered %v %q", a.Header, a.body)
	}
}

func TestContentTypeIsNotGuessed(t *testing.T) {
	up := newFakeUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		_, _ = io.WriteString(w, "<html>")
	})
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	if got, ok := s.get("/v1/x").Header["Content-Type"]; ok {
		t.Errorf("Content-Type %q", got)
	}
}

func TestTrailersOfARequestAreNotAnnounced(t *testing.T) {
	trailers := make(chan http.Header, 1)
	up := newFakeUpstream(t, func(_ http.ResponseWriter, r *http.Request) { trailers <- r.Trailer })
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	r := s.request("POST", "/v1/x", onlyReader{strings.NewReader(strings.Repeat("x", 2*replayLimit))})
	r.Trailer = http.Header{"X-Sum": {"1"}}
	wantUpstream(t, s.do(r), 200)
	if got := <-trailers; len(got) != 0 {
		t.Errorf("trailers %v", got)
	}
}

func TestFieldsOfOursDoNotComeAsTrailersOrHints(t *testing.T) {
	for _, announced := range []bool{true, false} {
		up := newFakeUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Pleo-Sidecar-Error", "hint")
			w.Header().Set("Link", "</a>")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Pleo-Sidecar-Error")
			if announced {
				w.Header().Set("Trailer", "Pleo-Sidecar-Error, X-Sum")
			}
			_, _ = io.WriteString(w, strings.Repeat("x", 5000))
			w.Header().Set(http.TrailerPrefix+"Pleo-Sidecar-Error", "trailer")
			w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
		})
		s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
		text := readAllRaw(t, s.addr, "GET /v1/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		if strings.Contains(text, "Pleo-Sidecar") {
			t.Errorf("announced=%v: the answer carries a field of ours:\n%s", announced, text)
		}
		if !strings.Contains(text, "103 Early Hints") || !strings.Contains(text, "X-Sum: 1") {
			t.Errorf("announced=%v: hint or trailer is missing:\n%s", announced, text)
		}
	}
}

func TestForeignHostGetsNoToken(t *testing.T) {
	other := newFakeUpstream(t, nil)
	up := newFakeUpstream(t, nil)
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	for name, change := range map[string]func(*http.Request){
		"other host":   func(r *http.Request) { r.URL.Host = other.url.Host },
		"other scheme": func(r *http.Request) { r.URL.Scheme = "https" },
		"other Host":   func(r *http.Request) { r.Host = other.url.Host },
	} {
		t.Run(name, func(t *testing.T) {
			r := withCall(s.request("GET", "/v1/x", nil), &call{source: s.source})
			r.URL.Host, r.Host = up.url.Host, ""
			change(r)
			res, err := s.reverse.Transport.RoundTrip(r)
			if err == nil {
				res.Body.Close()
				t.Error("it was sent")
			}
			if n := len(other.arrivals()) + len(up.arrivals()); n != 0 {
				t.Errorf("%d requests arrived", n)
			}
		})
	}
}

func TestUpstreamCannotSwitchProtocols(t *testing.T) {
	up := rawUpstream(t, "HTTP/1.1 101 Switching Protocols\r\n\r\nhello")
	s := start(t, up, &fakeSource{access: []string{firstAccess}})
	wantProblem(t, s.get("/v1/x"), slugUpstreamUnreachable)
}

func TestUpstreamWithoutStatusIsNoAnswer(t *testing.T) {
	up := rawUpstream(t, "HTTP/1.1 099 What\r\nContent-Length: 0\r\n\r\n")
	s := start(t, up, &fakeSource{access: []string{firstAccess}})
	wantProblem(t, s.get("/v1/x"), slugUpstreamUnreachable)
}

func TestCutAnswerIsCutForTheCallerToo(t *testing.T) {
	up := rawUpstream(t, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
	s := start(t, up, &fakeSource{access: []string{firstAccess}})
	res, err := noFollow.RoundTrip(s.request("GET", "/v1/x", nil))
	if err == nil {
		defer res.Body.Close()
		_, err = io.ReadAll(res.Body)
	}
	if err == nil {
		t.Error("half an answer passed for a whole one")
	}
}

func TestHTTP2WithoutTLSIsServed(t *testing.T) {
	up := newFakeUpstream(t, nil)
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	defer h2.CloseIdleConnections()
	res, err := h2.RoundTrip(s.request("POST", "/@acme/v1/x?a;b", strings.NewReader("hello")))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got := up.only(t); got.uri != "/v1/x?a;b" || got.body != "hello" || got.header.Get("Via") != "2 pleo-sidecar" {
		t.Errorf("arrived %+v", got)
	}
}

func TestSpaceInAQueryIsRefused(t *testing.T) {
	up := newFakeUpstream(t, nil)
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	r := s.request("GET", "/v1/x", nil)
	r.URL.RawQuery = "a HTTP/1.1"
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	defer h2.CloseIdleConnections()
	res, err := h2.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	wantProblem(t, answered{Response: res}, slugBadRequest)
	if n := len(up.arrivals()); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
}

func TestOwnNamespaceIsNeverForwarded(t *testing.T) {
	up := newFakeUpstream(t, nil)
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	for _, path := range []string{"/-/", "/-", "/-/connections", "/-/../v1/x"} {
		wantProblem(t, s.raw("GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n"), slugNotFound)
	}
	if n := len(up.arrivals()); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	some := func(context.Context, string) (Source, error) { return nil, tokens.ErrUnknownConnection }
	for name, o := range map[string]Options{
		"no connections": {Upstream: &url.URL{Scheme: "https", Host: "h"}},
		"no upstream":    {Connections: some},
		"no host":        {Connections: some, Upstream: &url.URL{Scheme: "https"}},
		"other scheme":   {Connections: some, Upstream: &url.URL{Scheme: "ftp", Host: "h"}},
		"user":           {Connections: some, Upstream: &url.URL{Scheme: "https", Host: "h", User: url.User("u")}},
		"query":          {Connections: some, Upstream: &url.URL{Scheme: "https", Host: "h", RawQuery: "q"}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestCredentialsAndAddressesAreStripped(t *testing.T) {
	kept := []string{"Accept", "User-Agent", "Content-Type", "Traceparent", "Referer", "Idempotency-Key", "X-Api-Key", "Via"}
	gone := []string{
		"Authorization", "Cookie", "Forwarded", "X-Forwarded", "X-Forwarded-For", "X-Forwarded-Anything", "X-Real-Ip",
		"Proxy-Authorization", "Proxy-Connection", "True-Client-Ip", "X-Original-Forwarded-For",
		"X-Envoy-External-Address", "Cf-Connecting-Ip", "Fastly-Client-Ip", "Pleo-Sidecar-Anything",
	}
	h := http.Header{}
	for _, name := range slices.Concat(kept, gone) {
		h.Set(name, "x")
	}
	stripRequest(h)
	for _, name := range gone {
		if h.Get(name) != "" {
			t.Errorf("%s stays", name)
		}
	}
	if len(h) != len(kept) {
		t.Errorf("left: %v", h)
	}
}

func TestViaIsAddedToWhatIsThere(t *testing.T) {
	h := http.Header{"Via": {"1.1 edge"}}
	addVia(h, 1, 1)
	addVia(h, 3, 0)
	addVia(http.Header{}, 1, 1)
	if want := []string{"1.1 edge", "1.1 pleo-sidecar", "3 pleo-sidecar"}; !slices.Equal(h["Via"], want) {
		t.Errorf("Via %q, want %q", h["Via"], want)
	}
	if got := via[[2]int{1, 1}]; len(got) != 1 {
		t.Errorf("the shared value became %q", got)
	}
}
