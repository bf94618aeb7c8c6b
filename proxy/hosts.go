package proxy

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	"pleo-sidecar/tokens"
)

// tolerable is how far a clock may be off without a word. Headers show whole
// seconds. Tokens are timed by our own clock alone; a wrong one misleads who reads
// the log, and who orders logins of several machines.
const tolerable = 30 * time.Second

// CheckHost looks whether the host of a URL, which messages call what, can be
// reached, and compares its clock with ours. It sends no token. roots vouch for
// the host; nil is the system's set.
func CheckHost(ctx context.Context, what, where string, roots *x509.CertPool) []tokens.Finding {
	clock, err := reach(ctx, where, roots)
	if err != nil {
		return []tokens.Finding{{What: what, Err: err,
			Advice: "DNS, the way there (HTTPS_PROXY, firewall) and the certificates must be right; a TLS proxy on the way needs a ca_file"}}
	}
	found := []tokens.Finding{{What: what, Text: where + " answers"}}
	if off := time.Since(clock).Round(time.Second); !clock.IsZero() && off.Abs() > tolerable {
		found = append(found, tokens.Finding{What: "clock", Doubtful: true,
			Text: fmt.Sprintf("%v away from that of the %s: let NTP set it", off.Abs(), what)})
	}
	return found
}

// reach asks the host of an https or http URL for the header of its root, once
// and without a token: name, network connection and TLS are then as they must be,
// whatever the answer. It returns what the clock there shows, in whole seconds;
// zero if the host does not tell. roots vouch for it; nil is the system's set.
func reach(ctx context.Context, where string, roots *x509.CertPool) (clock time.Time, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, where, nil)
	if err != nil {
		return time.Time{}, err
	}
	r.URL.Path, r.URL.RawPath, r.URL.RawQuery = "/", "", ""
	if _, err := http.ProxyFromEnvironment(r); err != nil {
		return time.Time{}, errors.New("the proxy setting is not a URL") // the cause would quote its password
	}
	transport := NewTransport(TransportOptions{RootCAs: roots})
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(r) // redirects are not followed
	if err != nil {
		return time.Time{}, err
	}
	_ = res.Body.Close()
	clock, _ = http.ParseTime(res.Header.Get("Date"))
	return clock, nil
}
