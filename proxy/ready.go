package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// askTime is how long AskReady waits: Docker gives a health check three seconds
// in its examples, and a listener on the own machine needs milliseconds.
const askTime = 2 * time.Second

// AskReady asks the admin listener at listen, a host:port as it was configured
// on this machine, whether calls can be served. nil says so.
func AskReady(ctx context.Context, listen string) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return err
	}
	switch ip, _ := netip.ParseAddr(host); {
	case host == "", ip == netip.IPv4Unspecified():
		host = "127.0.0.1"
	case ip == netip.IPv6Unspecified():
		host = "::1"
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return err
	}
	// A transport of its own: through no proxy, and without keeping a connection.
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		return fmt.Errorf("ask %s: %w", r.URL, err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, 200))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("ask %s: not ready: %q", r.URL, strings.TrimSpace(string(text)))
	}
	return err
}
