package tokens

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// authority signs certificates for the test's servers.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{cert, key, pool}
}

func (a *authority) config(host string) *tls.Config {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &a.key.PublicKey, a.key)
	if err != nil {
		panic(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: a.key}}, MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"}, SessionTicketsDisabled: true}
}

func (a *authority) handshake(conn net.Conn, host string) error {
	return tls.Server(conn, a.config(host)).HandshakeContext(context.Background())
}

// serve is serve under TLS, as host.
func (a *authority) serve(host string, serve func(net.Conn)) func(net.Conn) {
	return func(conn net.Conn) { serve(tls.Server(conn, a.config(host))) }
}

// secure points an endpoint to host, trusting a.
func (a *authority) secure(host string) func(*EndpointOptions) {
	return func(o *EndpointOptions) {
		o.TokenURL, o.IntrospectionURL, o.RootCAs = "https://"+host+"/oauth/token", "", a.pool
	}
}

func TestTLSCarriesTheRequest(t *testing.T) {
	for _, host := range []string{"auth.example", "192.0.2.7", "[2001:db8::1]"} {
		ca := newAuthority(t)
		var request, dialed, protocol string
		answer := answering(json200(goodBody), func(s string) { request = s })
		pipe := pipeTo(t, ca.serve(strings.Trim(host, "[]"), func(conn net.Conn) {
			c := conn.(*tls.Conn)
			_ = c.HandshakeContext(context.Background())
			protocol = c.ConnectionState().NegotiatedProtocol
			answer(c)
		}))
		e := newTestEndpoint(t, func(ctx context.Context, network, address string) (net.Conn, error) {
			dialed = network + " " + address
			return pipe(ctx, network, address)
		}, ca.secure(host))
		if _, err := refreshOnce(t.Context(), e, testRefresh); err != nil {
			t.Fatal(err)
		}
		if protocol != "http/1.1" {
			t.Errorf("negotiated %q, which we do not speak", protocol)
		}
		if dialed != "tcp "+host+":443" || !strings.Contains(request, "\r\nHost: "+host+"\r\n") {
			t.Errorf("dialed %q, sent %q", dialed, request)
		}
	}
}

func TestFailedHandshakesAreUnsent(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	for _, test := range []struct {
		name  string
		serve func(net.Conn)
		want  string
	}{
		{"certificate of another host", ca.serve("evil.example", answering("", fails(t))), "certificate is valid for evil.example"},
		{"certificate of another authority", other.serve("auth.example", answering("", fails(t))), "certificate signed by unknown authority"},
		{"plain HTTP", func(conn net.Conn) {
			_, _ = io.CopyN(io.Discard, conn, 5)
			_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
		}, "tls: "},
		{"closed", func(net.Conn) {}, "tls: "},
		{"only an old version", func(conn net.Conn) {
			c := ca.config("auth.example")
			c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
			_ = tls.Server(conn, c).HandshakeContext(context.Background())
		}, "protocol version"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := newTestEndpoint(t, listenTo(t, test.serve), ca.secure("auth.example")).Connect(t.Context())
			if r != nil {
				t.Error("a request in spite of the error")
			}
			wantClass(t, err, Unsent)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q in it", err, test.want)
			}
		})
	}
}

// listenTo dials real network connections to serve. Over a pipe, which has no
// buffers, both sides of a failed handshake would write and wait for the other.
func listenTo(t *testing.T, serve func(net.Conn)) dialFunc {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serve(conn)
			_ = conn.Close()
		}
	})
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return newDialer().DialContext(ctx, network, l.Addr().String())
	}
}

func fails(t *testing.T) func(string) {
	return func(request string) { t.Errorf("a request was sent: %q", request) }
}

func TestConnectSendsNothingOfTheRequest(t *testing.T) {
	e := newTestEndpoint(t, pipeTo(t, func(conn net.Conn) {
		if n, _ := io.Copy(io.Discard, conn); n != 0 {
			t.Errorf("%d bytes were sent", n)
		}
	}))
	r, err := e.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
}

func TestRefusedConnectionIsUnsent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	e := newTestEndpoint(t, nil, func(o *EndpointOptions) {
		o.TokenURL, o.IntrospectionURL = "http://"+l.Addr().String(), "http://"+l.Addr().String()
	})
	_, err = e.Connect(t.Context())
	wantClass(t, err, Unsent)
	_, err = e.Introspect(t.Context(), NewSecret(testRefresh))
	wantClass(t, err, Unsent)
	_, err = e.Exchange(t.Context(), NewSecret("c"), NewSecret("v"))
	wantClass(t, err, Unsent)
}

func TestUnacknowledgedBytesAreGivenUp(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("TCP_USER_TIMEOUT is Linux's")
	}
	conn, err := listenTo(t, func(net.Conn) {})(t.Context(), "tcp", "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var got int
	if cerr := raw.Control(func(fd uintptr) { got, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, 0x12) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	if want := int(unackedLimit.Milliseconds()); got != want {
		t.Errorf("TCP_USER_TIMEOUT = %d ms, want %d", got, want)
	}
}

func TestEndOfContextStopsConnecting(t *testing.T) {
	hang := func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }
	for _, test := range []struct {
		name  string
		proxy string
		serve func(net.Conn)
	}{
		{"in the handshake", "", hang},
		{"at the proxy", "http://proxy.example", hang},
		{"in the proxy's handshake", "https://proxy.example", hang},
		{"behind the proxy", "http://proxy.example", func(conn net.Conn) {
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			hang(conn)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newTestEndpoint(t, pipeTo(t, test.serve), newAuthority(t).secure("auth.example"), through(test.proxy))
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				start := time.Now()
				_, err := e.Connect(ctx)
				wantClass(t, err, Unsent)
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 20*time.Second {
					t.Errorf("ended after %v with %v", time.Since(start), err)
				}
			})
		})
	}
	t.Run("while dialing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cause := errors.New("shutting down")
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(cause) })
			_, err := newTestEndpoint(t, func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}).Connect(ctx)
			wantClass(t, err, Unsent)
			if !errors.Is(err, cause) {
				t.Errorf("error %v, want %v", err, cause)
			}
		})
	})
}

func TestConnectOutlivesItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTestEndpoint(t, pipeTo(t, answering(json200(goodBody))))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		r, err := e.Connect(ctx)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		sending, cancel := context.WithTimeout(t.Context(), time.Second)
		err = r.Send(sending, NewSecret(testRefresh))
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, err := r.Answer(t.Context()); err != nil {
			t.Error(err)
		}
		_ = r.Close()
	})
}

// through sends everything through the proxy, if there is one.
func through(proxy string) func(*EndpointOptions) {
	return func(o *EndpointOptions) {
		if proxy != "" {
			o.Proxy = func(*url.URL) (*url.URL, error) { return url.Parse(proxy) }
		}
	}
}

func TestProxyIsAskedForATunnel(t *testing.T) {
	ca := newAuthority(t)
	auth := base64.StdEncoding.EncodeToString([]byte("us er:canary_pass/word"))
	for _, test := range []struct {
		name, proxy, dialed, want string
	}{
		{"plain", "http://proxy.example", "proxy.example:80", ""},
		{"with a port", "http://proxy.example:3128", "proxy.example:3128", ""},
		{"with TLS", "https://proxy.example", "proxy.example:443", ""},
		{"with user info", "http://us%20er:canary_pass%2Fword@proxy.example", "proxy.example:80", "Proxy-Authorization: Basic " + auth + "\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var asked, request, dialed string
			serve := func(conn net.Conn) {
				asked, _ = readRequest(conn)
				_, _ = io.WriteString(conn, "HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n")
				ca.serve("auth.example", answering(json200(goodBody), func(s string) { request = s }))(conn)
			}
			if strings.HasPrefix(test.proxy, "https") {
				serve = ca.serve("proxy.example", serve)
			}
			pipe := pipeTo(t, serve)
			e := newTestEndpoint(t, func(ctx context.Context, network, address string) (net.Conn, error) {
				dialed = address
				return pipe(ctx, network, address)
			}, ca.secure("auth.example"), through(test.proxy))
			if _, err := refreshOnce(t.Context(), e, testRefresh); err != nil {
				t.Fatal(err)
			}
			want := "CONNECT auth.example:443 HTTP/1.1\r\nHost: auth.example:443\r\nUser-Agent: pleo-sidecar\r\n" + test.want + "\r\n"
			if asked != want || dialed != test.dialed {
				t.Errorf("asked %q of %s, want %q", asked, dialed, want)
			}
			if strings.Contains(request, "Proxy-") || !strings.Contains(request, "Authorization: Basic ") {
				t.Errorf("request %q", request)
			}
		})
	}
}

func TestProxyThatRefusesIsUnsent(t *testing.T) {
	for _, test := range []struct{ name, raw, want string }{
		{"407", "HTTP/1.1 407 canary_reason\r\nContent-Length: 0\r\n\r\n", "proxy answered 407"},
		{"302", "HTTP/1.1 302 x\r\nLocation: https://x/canary_\r\n\r\n", "proxy answered 302"},
		{"rubbish", "canary_rubbish\r\n\r\n", "not an HTTP answer"},
		{"nothing", "", "unexpected EOF"},
		{"a flood", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 20000), "answer is too long"},
		{"more than an answer", "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 canary_\r\n\r\n", "not an HTTP answer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := newTestEndpoint(t, pipeTo(t, answering(test.raw)), newAuthority(t).secure("auth.example"),
				through("http://user:canary_password@proxy.example"))
			_, err := refreshOnce(t.Context(), e, testRefresh)
			wantClass(t, err, Unsent)
			if want := "authorization server: connect to auth.example:443: through proxy proxy.example:80: " + test.want; err == nil || err.Error() != want {
				t.Errorf("error %v, want %s", err, want)
			}
			wantNoSecret(t, everyForm(err))
		})
	}
}

func TestBadProxySettingIsUnsentAndKeepsItsPassword(t *testing.T) {
	for _, proxy := range []string{"http://user:canary_password@host:x", "socks5://user:canary_password@proxy.example", "http://user:canary_password@"} {
		e := newTestEndpoint(t, func(context.Context, string, string) (net.Conn, error) {
			t.Error("dialed")
			return nil, errors.New("no")
		}, newAuthority(t).secure("auth.example"), through(proxy))
		_, err := e.Connect(t.Context())
		wantClass(t, err, Unsent)
		wantNoSecret(t, everyForm(err))
	}
}

func TestLoopbackIsNeverReachedThroughAProxy(t *testing.T) {
	e := newTestEndpoint(t, pipeTo(t, answering(json200(goodBody))), func(o *EndpointOptions) {
		o.Proxy = func(*url.URL) (*url.URL, error) {
			t.Error("the proxy was asked for")
			return nil, nil
		}
	})
	if _, err := refreshOnce(t.Context(), e, testRefresh); err != nil {
		t.Error(err)
	}
}

func TestNoProxyIsADirectConnection(t *testing.T) {
	ca := newAuthority(t)
	e := newTestEndpoint(t, pipeTo(t, ca.serve("auth.example", answering(json200(goodBody)))), ca.secure("auth.example"),
		func(o *EndpointOptions) { o.Proxy = func(*url.URL) (*url.URL, error) { return nil, nil } })
	if _, err := refreshOnce(t.Context(), e, testRefresh); err != nil {
		t.Error(err)
	}
}
