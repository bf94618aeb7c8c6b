package proxy

import (
	"net/http"
	"strings"
	"testing"

	"pleo-sidecar/tokens"
)

func TestOnlyOurNamesAreServed(t *testing.T) {
	g := newGuard("10.1.2.3:8080", []string{"Sidecar.Example", "only.example:8080", "[2001:db8::1]"}, tokens.Secret{})
	for host, want := range map[string]bool{
		"localhost":             true,
		"LOCALHOST:1234":        true,
		"localhost.":            true,
		"127.0.0.1:8080":        true,
		"127.9.9.9":             true,
		"[::1]:8080":            true,
		"[::1]":                 true,
		"[::ffff:127.0.0.1]:80": true,
		"10.1.2.3":              true,
		"10.1.2.3:9":            true,
		"sidecar.example":       true,
		"sidecar.EXAMPLE:1":     true,
		"only.example:8080":     true,
		"[2001:db8::1]:8080":    true,
		"only.example":          false,
		"only.example:81":       false,
		"":                      false,
		":8080":                 false,
		"evil.example":          false,
		"evil.example:8080":     false,
		"localhost.evil":        false,
		"evil.localhost":        false,
		"localhost:80@evil":     false,
		"127.0.0.1.evil":        false,
		"10.1.2.4":              false,
		"0.0.0.0":               false,
		"2130706433":            false,
		"[::2]":                 false,
	} {
		if got := g.ours(host); got != want {
			t.Errorf("ours(%q) = %v", host, got)
		}
	}
}

func TestListeningOnEveryAddressNamesNone(t *testing.T) {
	for _, listen := range []string{":8080", "0.0.0.0:8080", "[::]:8080"} {
		g := newGuard(listen, nil, tokens.Secret{})
		for _, host := range []string{"", "0.0.0.0", "[::]", "10.1.2.3"} {
			if g.ours(host) {
				t.Errorf("listening on %s serves %q", listen, host)
			}
		}
	}
}

func TestGuardRefusesWhatMustNotBorrowTheToken(t *testing.T) {
	up := newFakeUpstream(t, nil)
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	for name, c := range map[string]struct {
		request string
		want    slug
	}{
		"rebound name":         {"GET /v1/x HTTP/1.1\r\nHost: evil.example\r\n", slugWrongHost},
		"no name":              {"GET /v1/x HTTP/1.0\r\n", slugWrongHost},
		"absolute-form":        {"GET http://evil.example/v1/x HTTP/1.1\r\nHost: localhost\r\n", slugWrongHost},
		"absolute-form, https": {"GET https://evil.example/v1/x HTTP/1.1\r\nHost: localhost\r\n", slugWrongHost},
		"CONNECT":              {"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n", slugCallerRefused},
		"CONNECT to us":        {"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n", slugCallerRefused},
		"TRACE":                {"TRACE /v1/x HTTP/1.1\r\nHost: localhost\r\n", slugCallerRefused},
		"trace":                {"trace /v1/x HTTP/1.1\r\nHost: localhost\r\n", slugCallerRefused},
		"cross-site GET":       {"GET /v1/x HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\n", slugCallerRefused},
		"same-site POST":       {"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-site\r\n", slugCallerRefused},
		"two sites":            {"GET /v1/x HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\n", slugCallerRefused},
		"foreign origin":       {"GET /v1/x HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n", slugCallerRefused},
		"null origin":          {"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n", slugCallerRefused},
		"other port":           {"GET /v1/x HTTP/1.1\r\nHost: localhost:8080\r\nOrigin: http://localhost:3000\r\n", slugCallerRefused},
		"preflight":            {"OPTIONS /v1/x HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\nAccess-Control-Request-Method: GET\r\n", slugCallerRefused},
		"our own, cross-site":  {"GET /-/ HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\n", slugCallerRefused},
	} {
		t.Run(name, func(t *testing.T) { wantProblem(t, s.raw(c.request+"\r\n"), c.want) })
	}
	if n := len(up.arrivals()); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
}

func TestProgramsAndOwnPagesAreServed(t *testing.T) {
	up := newFakeUpstream(t, nil)
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	for _, fields := range []string{
		"",
		"Sec-Fetch-Site: none\r\n",
		"Sec-Fetch-Site: same-origin\r\nOrigin: http://localhost:8080\r\n",
		"Origin: http://localhost:8080\r\n",
	} {
		wantUpstream(t, s.raw("POST /v1/x HTTP/1.1\r\nHost: localhost:8080\r\n"+fields+"\r\n"), 200)
	}
}

func TestCallerTokenIsAskedForAndStaysHere(t *testing.T) {
	up := newFakeUpstream(t, nil)
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}}, func(o *Options) {
		o.CallerToken = tokens.NewSecret(callerSecret)
	})
	for _, fields := range []string{
		"",
		"Authorization: Bearer\r\n",
		"Authorization: Bearer \r\n",
		"Authorization: Bearer x" + callerSecret + "\r\n",
		"Authorization: Bearer " + callerSecret[1:] + "\r\n",
		"Authorization: Bearer " + strings.ToUpper(callerSecret) + "\r\n",
		"Authorization: Basic " + callerSecret + "\r\n",
		"Authorization: " + callerSecret + "\r\n",
		"Authorization: Bearer " + callerSecret + "\r\nAuthorization: Bearer other\r\n",
		"Proxy-Authorization: Bearer " + callerSecret + "\r\n",
	} {
		a := s.raw("GET /v1/x HTTP/1.1\r\nHost: localhost\r\n" + fields + "\r\n")
		wantProblem(t, a, slugCallerUnauthenticated)
		if got := a.Header.Get("WWW-Authenticate"); got != "Bearer" {
			t.Errorf("WWW-Authenticate %q", got)
		}
	}
	if n := len(up.arrivals()); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
	for _, scheme := range []string{"Bearer ", "bearer ", "BEARER  "} {
		up.came = nil
		wantUpstream(t, s.raw("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: "+scheme+callerSecret+"\r\n\r\n"), 200)
		if got := up.only(t).bearer(); got != firstAccess {
			t.Errorf("arrived with %q", got)
		}
	}
}

func TestUpgradeIsNotForwarded(t *testing.T) {
	up := newFakeUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" || r.Header.Get("Connection") != "" {
			t.Errorf("arrived %v", r.Header)
		}
	})
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	for _, protocol := range []string{"websocket", "h2c", "\xff"} {
		wantUpstream(t, s.raw("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: "+protocol+"\r\n\r\n"), 200)
	}
}
