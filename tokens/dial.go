package tokens

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// target is one server of ours: the authorization server or a proxy.
type target struct {
	url     *url.URL
	host    string // name or address, without brackets: what the certificate must show
	address string // host and port to dial
	secure  bool   // speaks TLS
}

// parseTarget reads the URL of an endpoint. Its errors hold nothing of text,
// which may contain a password put there by mistake.
func parseTarget(text string) (target, error) {
	u, err := url.Parse(text)
	if err != nil {
		return target{}, errors.New("not a URL")
	}
	switch {
	case u.User != nil:
		return target{}, errors.New("must not contain user info")
	case u.Fragment != "" || strings.Contains(text, "#"): // RFC 6749 3.2
		return target{}, errors.New("must not contain a fragment")
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r <= ' ' || r > '~' }):
		return target{}, errors.New("host must be ASCII")
	}
	to, err := targetOf(u)
	if err == nil && !to.secure && !loopbackHost(to.host) {
		return target{}, errors.New("must be https; http goes to the loopback only")
	}
	return to, err
}

func targetOf(u *url.URL) (target, error) {
	to := target{url: u, host: u.Hostname()}
	port := u.Port()
	switch u.Scheme {
	case "https":
		to.secure = true
		if port == "" {
			port = "443"
		}
	case "http":
		if port == "" {
			port = "80"
		}
	default:
		return target{}, errors.New("scheme must be https or http")
	}
	if to.host == "" {
		return target{}, errors.New("must name a host")
	}
	to.address = net.JoinHostPort(to.host, port)
	return to, nil
}

// loopbackHost reports whether host names this machine: localhost (RFC 6761
// 6.3) or a loopback address.
func loopbackHost(host string) bool {
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// unackedLimit is how long written bytes may go without an acknowledgement
// before the kernel gives the connection up (Linux, TCP_USER_TIMEOUT). Without
// it the kernel repeats them for a quarter of an hour, also for a process that
// is frozen, and refresh.network_life must be longer than that (protocol, 2.0).
const unackedLimit = 15 * time.Second

// newDialer returns the dialer used where none is given.
func newDialer() *net.Dialer {
	return &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		if runtime.GOOS != "linux" {
			return nil
		}
		const tcpUserTimeout = 0x12 // linux/tcp.h; package syscall does not name it
		// A kernel that refuses the option is no reason not to connect.
		return c.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(unackedLimit.Milliseconds()))
		})
	}}
}

// connect opens the way to a server: TCP, CONNECT through the proxy if there is
// one, TLS. Not a byte of a request is written.
func (e *Endpoint) connect(ctx context.Context, to target) (*call, error) {
	proxy, err := e.proxyFor(to)
	if err != nil {
		return nil, unsent(err)
	}
	first := to
	if proxy.url != nil {
		first = proxy
	}
	raw, err := e.dial(ctx, "tcp", first.address)
	if err != nil {
		return nil, unsent(fmt.Errorf("connect to %s: %w", to.address, endedBy(ctx, err)))
	}
	w := newWire(raw)
	var conn net.Conn = w
	err = w.during(ctx, func() (err error) {
		if proxy.url != nil {
			if conn, err = e.tunnel(ctx, conn, proxy, to.address); err != nil {
				return fmt.Errorf("through proxy %s: %w", proxy.address, err)
			}
		}
		if to.secure {
			conn, err = e.handshake(ctx, conn, to.host)
		}
		return err
	})
	if err != nil {
		_ = w.Close()
		return nil, unsent(fmt.Errorf("connect to %s: %w", to.address, err))
	}
	return newCall(to, w, conn), nil
}

// proxyFor returns the proxy on the way to a server, the zero target for none.
// The loopback is never reached through a proxy, and so neither is plain HTTP.
func (e *Endpoint) proxyFor(to target) (target, error) {
	if e.options.Proxy == nil || loopbackHost(to.host) {
		return target{}, nil
	}
	u, err := e.options.Proxy(to.url)
	if err != nil {
		// The cause would quote the setting, and with it the proxy's password.
		return target{}, errors.New("choose proxy: the proxy setting is not a URL")
	}
	if u == nil {
		return target{}, nil
	}
	proxy, err := targetOf(u)
	if err != nil {
		return target{}, fmt.Errorf("choose proxy: proxy URL: %w", err)
	}
	return proxy, nil
}

// tunnel asks the proxy for a way to address (RFC 9110 9.3.6).
func (e *Endpoint) tunnel(ctx context.Context, conn net.Conn, proxy target, address string) (net.Conn, error) {
	if proxy.secure {
		var err error
		if conn, err = e.handshake(ctx, conn, proxy.host); err != nil {
			return nil, err
		}
	}
	r := &http.Request{
		Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address,
		Header: http.Header{"User-Agent": {e.userAgent()}},
	}
	if u := proxy.url.User; u != nil {
		password, _ := u.Password()
		auth := http.Request{Header: http.Header{}}
		auth.SetBasicAuth(u.Username(), password)
		r.Header["Proxy-Authorization"] = auth.Header["Authorization"]
	}
	if err := r.Write(conn); err != nil {
		return nil, err
	}
	in := &bounded{r: conn, left: maxHead}
	br := bufio.NewReader(in)
	status, _, _, err := readHead(br, r)
	switch {
	case err != nil:
		return nil, in.fault(errMalformed)
	case status/100 != 2:
		return nil, fmt.Errorf("proxy answered %d", status)
	case br.Buffered() > 0: // the other side of a TLS handshake never speaks first
		return nil, errMalformed
	}
	return conn, nil
}

// handshake makes conn a TLS connection to host. One record holds a request of
// up to 16 KiB, so that a server has all of it or can decrypt none.
func (e *Endpoint) handshake(ctx context.Context, conn net.Conn, host string) (net.Conn, error) {
	c := tls.Client(conn, &tls.Config{
		ServerName: host, RootCAs: e.options.RootCAs, MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"}, DynamicRecordSizingDisabled: true,
	})
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return c, nil
}
