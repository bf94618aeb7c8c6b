package proxy

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pleo-sidecar/tokens"
)

const (
	// drainLimit is how much of a 401 is read, in bytes, so that its network
	// connection can be used again. A longer answer costs a new connection.
	drainLimit = 64 << 10
	// drainTime is how long that may take: the caller waits meanwhile.
	drainTime = time.Second
)

// transport attaches the token of a request's connection and, after a 401, asks
// once for another token and sends once more. It is the only place with both the
// errors and a body that can be sent again.
type transport struct {
	upstream upstream
	next     http.RoundTripper
	replay   *replayer
	rejected prometheus.Counter
}

func newTransport(up upstream, o Options, rejected prometheus.Counter) *transport {
	return &transport{
		upstream: up,
		next:     o.Transport,
		replay:   newReplayer(o.ReplayLimit, o.ReplayBudget),
		rejected: rejected,
	}
}

// RoundTrip sends r with its token. Without a token nothing is sent. The body is
// read first: a caller that leaves while we wait for a token is only noticed once
// its body was read, and the token is as fresh as can be.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := t.replay.hold(r)
	if err != nil {
		return nil, err
	}
	defer body.release()
	token, err := present(callOf(r).source.Token(r.Context()))
	if err != nil {
		return nil, err
	}
	res, err := t.send(r, token, body)
	if err != nil || res.StatusCode != http.StatusUnauthorized {
		return res, err
	}
	return t.again(r, res, token, body)
}

// again handles res, a 401 to the token used. It was refused, not applied, so the
// request may be sent once more, which holds for no other answer. Pleo's 401 goes
// to the caller as it came when no other token can be had, or when the body is gone;
// the refresh is asked for even then, so that the next call finds a good token.
func (t *transport) again(r *http.Request, res *http.Response, used tokens.Token, body *content) (*http.Response, error) {
	c := callOf(r)
	token, err := present(c.source.Refresh(r.Context(), used))
	switch {
	case err != nil:
		drain(res.Body)
		return nil, err
	case token.SameAccess(used):
		return res, nil
	case body.skipped() != "":
		c.skipped = body.skipped()
		return res, nil
	}
	drain(res.Body)
	c.retried = true
	return t.send(r, token, body)
}

// present returns token and err, and an error for a token that could not be
// attached: a request must not leave bare.
func present(token tokens.Token, err error) (tokens.Token, error) {
	if err == nil && token.Access().IsZero() {
		err = fmt.Errorf("attach token: %w", tokens.ErrTokenUnavailable)
	}
	return token, err
}

// send sends r once, with token attached and its own reader of body.
func (t *transport) send(r *http.Request, token tokens.Token, body *content) (*http.Response, error) {
	if !t.upstream.is(r) {
		return nil, errForeignHost
	}
	out := r.WithContext(r.Context()) // a RoundTripper must not change its request
	out.Header = maps.Clone(r.Header)
	token.Attach(out.Header)
	body.attach(out)
	res, err := t.next.RoundTrip(out)
	if err != nil {
		return nil, upstreamFailed(err)
	}
	switch {
	case res.StatusCode < 200:
		// 101: nobody asked for it, and ReverseProxy would hand the caller a raw
		// network connection on which a token was sent. Below 100: no status.
		res.Body.Close()
		return nil, upstreamFailed(errNotFinal)
	case res.StatusCode == http.StatusUnauthorized:
		t.rejected.Inc()
	}
	res.Request = r // the one that carries the call, whatever next has put there
	return res, nil
}

// drain reads body to its end, within bounds, and closes it.
func drain(body io.ReadCloser) {
	stop := time.AfterFunc(drainTime, func() { body.Close() })
	_, _ = io.CopyN(io.Discard, body, drainLimit)
	stop.Stop()
	body.Close()
}
