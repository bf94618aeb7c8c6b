package proxy

import (
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestHostIsAskedOnceForTheHeaderOfTheRoot(t *testing.T) {
	up := newFakeUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", "Tue, 04 Mar 2025 05:06:07 GMT")
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(http.StatusFound)
	})
	clock, err := reach(t.Context(), up.url.String()+"/oauth/token?code=secret", nil)
	if want := time.Date(2025, 3, 4, 5, 6, 7, 0, time.UTC); err != nil || !clock.Equal(want) {
		t.Errorf("the clock shows %v, %v", clock, err)
	}
	if r := up.only(t); r.method != "HEAD" || r.uri != "/" || r.bearer() != "" {
		t.Errorf("it sent %s %s with %q", r.method, r.uri, r.bearer())
	}
}

func TestHostMayShowNoClock(t *testing.T) {
	up := newFakeUpstream(t, func(w http.ResponseWriter, _ *http.Request) { w.Header()["Date"] = nil })
	if clock, err := reach(t.Context(), up.url.String(), nil); err != nil || !clock.IsZero() {
		t.Errorf("the clock shows %v, %v", clock, err)
	}
}

func TestHostIsTrustedByTheGivenAuthoritiesAlone(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = NewServer(nil, nil).ErrorLog // a handshake fails on purpose
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	if _, err := reach(t.Context(), server.URL, roots); err != nil {
		t.Error(err)
	}
	if _, err := reach(t.Context(), server.URL, nil); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown authority: %v", err)
	}
}

func TestHostWhereNobodyListensIsWrong(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	found := CheckHost(t.Context(), "upstream", closed.URL, nil)
	if len(found) != 1 || !errors.Is(found[0].Err, syscall.ECONNREFUSED) || found[0].Advice == "" {
		t.Errorf("found %+v", found)
	}
}

func TestClockThatIsOffIsDoubtful(t *testing.T) {
	for off, want := range map[time.Duration]int{0: 1, 20 * time.Second: 1, time.Hour: 2, -time.Hour: 2} {
		up := newFakeUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
		})
		found := CheckHost(t.Context(), "upstream", up.url.String(), nil)
		if len(found) != want || found[0].Text != up.url.String()+" answers" || found[0].Err != nil {
			t.Fatalf("%v: found %+v", off, found)
		}
		if want == 2 && (!found[1].Doubtful || !strings.Contains(found[1].Text, "away from that of the upstream")) {
			t.Errorf("%v: found %+v", off, found[1])
		}
	}
}
