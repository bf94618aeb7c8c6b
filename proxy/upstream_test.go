package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

var discard = log.New(io.Discard, "", 0)

func TestZeroTransportOptionsServe(t *testing.T) {
	tr := NewTransport(TransportOptions{})
	for what, ok := range map[string]bool{
		"HTTP/2":               tr.Protocols.HTTP2() && tr.Protocols.HTTP1() && !tr.Protocols.UnencryptedHTTP2(),
		"TLS 1.2":              tr.TLSClientConfig.MinVersion == tls.VersionTLS12 && !tr.TLSClientConfig.InsecureSkipVerify,
		"no decoding":          tr.DisableCompression,
		"pings":                tr.HTTP2.SendPingTimeout > 0 && tr.HTTP2.PingTimeout > 0,
		"idle connections":     tr.MaxIdleConnsPerHost >= 100 && tr.MaxIdleConns >= tr.MaxIdleConnsPerHost,
		"no connection limit":  tr.MaxConnsPerHost == 0,
		"header timeout":       tr.ResponseHeaderTimeout == time.Minute,
		"idle below 60 s":      tr.IdleConnTimeout > 0 && tr.IdleConnTimeout < time.Minute,
		"handshake is bounded": tr.TLSHandshakeTimeout > 0,
		"Expect is obeyed":     tr.ExpectContinueTimeout > 0,
	} {
		if !ok {
			t.Errorf("%s: not so", what)
		}
	}
}

func TestTokensPassNoProxyInTheClear(t *testing.T) {
	for _, u := range []string{"http://api.example/v1", "http://127.0.0.1:1/", "https://127.0.0.1:1/", "https://localhost/"} {
		got, err := proxyForTLS(&http.Request{URL: mustParse(t, u)})
		if err != nil || got != nil {
			t.Errorf("%s goes through %v, %v", u, got, err)
		}
	}
}

func TestNetworkConnectionsAreReused(t *testing.T) {
	var mu sync.Mutex
	from := map[string]bool{}
	up := newFakeUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		from[r.RemoteAddr] = true
		_, _ = io.WriteString(w, strings.Repeat("x", 100))
	})
	s := start(t, up.url, &fakeSource{access: []string{firstAccess}})
	const callers = 16
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range 10 {
				s.get("/v1/x")
			}
		})
	}
	wg.Wait()
	// One each, and some more: a network connection comes back to the pool a moment
	// after its answer has been read. With the default pool of two it is over 100.
	if len(from) > 2*callers {
		t.Errorf("%d network connections for %d callers", len(from), callers)
	}
}

func TestUpstreamKnowsItsOwnRequests(t *testing.T) {
	up := upstream{scheme: "https", host: "api.example"}
	for raw, want := range map[string]bool{
		"https://api.example/x":      true,
		"http://api.example/x":       false,
		"https://api.example:444/x":  false,
		"https://api.example.evil/x": false,
		"https://evil/x":             false,
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := up.is(&http.Request{URL: u}); got != want {
			t.Errorf("is(%s) = %v", raw, got)
		}
	}
}

func TestUpstreamIsReachedWithHTTP2(t *testing.T) {
	up := &fakeUpstream{answer: accepts(secondAccess)}
	server := httptest.NewUnstartedServer(up)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	transport := NewTransport(TransportOptions{RootCAs: roots})
	defer transport.CloseIdleConnections()
	var protocol string
	s := start(t, mustParse(t, server.URL), &fakeSource{access: []string{firstAccess, secondAccess}}, func(o *Options) {
		o.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			res, err := transport.RoundTrip(r)
			if err == nil {
				protocol = res.Proto
			}
			return res, err
		})
	})
	a := s.do(s.request("POST", "/v1/a%2Fb?x;y", strings.NewReader("hello")))
	wantUpstream(t, a, 200)
	came := up.arrivals()
	if protocol != "HTTP/2.0" || a.Header.Get("Via") != "2 pleo-sidecar" || len(came) != 2 || came[1].body != "hello" || came[1].uri != "/v1/a%2Fb?x;y" {
		t.Errorf("%s, %+v", protocol, came)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
