package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// upstream is the API behind us.
type upstream struct {
	scheme, host string
	base         string // escaped path before every path, without a slash at its end
}

func newUpstream(u *url.URL) (upstream, error) {
	switch {
	case u == nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return upstream{}, errors.New("proxy: upstream must be an absolute http or https URL")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return upstream{}, errors.New("proxy: upstream must not have user, query or fragment")
	}
	return upstream{scheme: u.Scheme, host: u.Host, base: strings.TrimSuffix(u.EscapedPath(), "/")}, nil
}

// is reports whether r goes to the upstream and to no other host.
func (u upstream) is(r *http.Request) bool {
	return r.URL.Scheme == u.scheme && r.URL.Host == u.host && (r.Host == "" || r.Host == u.host)
}

// url returns where the escaped path goes, with the query of in as it came.
// URL.Opaque, which would also keep the bytes, is no way: /@acme//evil/x left us
// as a request to the host evil.
func (u upstream) url(path string, in *url.URL) (*url.URL, error) {
	raw := u.base + path
	decoded, err := url.PathUnescape(raw)
	if err != nil || strings.ContainsFunc(in.RawQuery, forbiddenInTarget) {
		return nil, refuse(slugBadRequest, "The request target holds bytes that no URL may hold.")
	}
	return &url.URL{
		Scheme: u.scheme, Host: u.host, Path: decoded, RawPath: raw,
		RawQuery: in.RawQuery, ForceQuery: in.ForceQuery,
	}, nil
}

// forbiddenInTarget reports whether r would break an HTTP/1 request line. A
// caller of HTTP/2 can send a space; package http lets it pass in a query.
func forbiddenInTarget(r rune) bool { return r <= ' ' || r == 0x7f }

// TransportOptions say how the upstream is reached. The zero value serves.
type TransportOptions struct {
	// RootCAs vouch for the upstream. nil is the system's set.
	RootCAs *x509.CertPool

	// ResponseHeaderTimeout is how long the upstream may take to begin its
	// answer, counted from the end of the request. 0 is one minute.
	ResponseHeaderTimeout time.Duration

	// IdleConnections is how many idle network connections are kept. It should
	// be the number of calls expected at once: more calls than this dial anew
	// each time. 0 is 256.
	IdleConnections int
}

// Limits of a network connection to the upstream. None bounds the content: large
// downloads take their time.
const (
	dialTimeout         = 10 * time.Second // TCP; a second try of SYN fits in three times
	tlsTimeout          = 10 * time.Second
	idleTimeout         = 50 * time.Second // below the 60 s after which common load balancers hang up
	probeInterval       = 15 * time.Second // TCP probes and HTTP/2 pings on a silent connection
	pingTimeout         = 5 * time.Second
	continueTimeout     = time.Second
	headerTimeout       = time.Minute
	idleConnections     = 256
	responseHeaderBytes = 256 << 10
)

// NewTransport returns a transport to the upstream: HTTP/1.1 and HTTP/2, TLS 1.2
// or later, content as it comes. It takes a proxy from the environment for https
// only, so that no intermediary reads a token, and never for the loopback.
func NewTransport(o TransportOptions) *http.Transport {
	if o.ResponseHeaderTimeout == 0 {
		o.ResponseHeaderTimeout = headerTimeout
	}
	if o.IdleConnections == 0 {
		o.IdleConnections = idleConnections
	}
	dialer := &net.Dialer{
		Timeout: dialTimeout,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: probeInterval, Interval: probeInterval, Count: 3,
		},
	}
	protocols := new(http.Protocols) // named, because our own TLS settings switch HTTP/2 off
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Transport{
		Proxy:       proxyForTLS,
		DialContext: dialer.DialContext,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12,
			RootCAs:    o.RootCAs,
		},
		TLSHandshakeTimeout:   tlsTimeout,
		ResponseHeaderTimeout: o.ResponseHeaderTimeout,
		ExpectContinueTimeout: continueTimeout,
		IdleConnTimeout:       idleTimeout,
		MaxIdleConns:          o.IdleConnections,
		MaxIdleConnsPerHost:   o.IdleConnections, // the default of 2 dials for most calls
		// MaxConnsPerHost stays 0: with HTTP/2 it hangs (golang/go#34941).
		DisableCompression:     true, // else the content is decoded, and its length and ETag are wrong
		MaxResponseHeaderBytes: responseHeaderBytes,
		Protocols:              protocols,
		// Without pings calls hang on a connection whose other end is gone.
		HTTP2: &http.HTTP2Config{SendPingTimeout: probeInterval, PingTimeout: pingTimeout},
	}
}

// proxyForTLS is http.ProxyFromEnvironment, which spares the loopback, for https.
func proxyForTLS(r *http.Request) (*url.URL, error) {
	if r.URL.Scheme != "https" {
		return nil, nil
	}
	return http.ProxyFromEnvironment(r)
}
