package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pleo-sidecar/tokens"
)

// Source gives the tokens of one connection. It is safe for concurrent use.
type Source interface {
	// Token returns a token that may be sent now, at once if there is one, else
	// after a bounded wait. Its errors are the sentinels of package tokens, or the
	// cause of ctx.
	Token(ctx context.Context) (tokens.Token, error)

	// Refresh returns a token other than rejected, which the upstream has
	// answered with 401, if there is or can be one. The same access token back
	// means that no refresh cures this answer.
	Refresh(ctx context.Context, rejected tokens.Token) (tokens.Token, error)
}

// Connections finds the source of a connection by name. It answers
// tokens.ErrUnknownConnection or another sentinel of package tokens when there
// is none to give. It is safe for concurrent use.
type Connections func(ctx context.Context, name string) (Source, error)

// Sources returns Connections of a function that finds sources of one type.
func Sources[S Source](open func(ctx context.Context, name string) (S, error)) Connections {
	return func(ctx context.Context, name string) (Source, error) {
		s, err := open(ctx, name)
		if err != nil {
			return nil, err // and not a Source around what S has for nothing
		}
		return s, nil
	}
}

// Options say what a Handler forwards, for whom, and to where.
type Options struct {
	// Upstream is the API behind us: scheme, host and perhaps a base path that
	// goes before every path. Required. Tokens go to this scheme and host only.
	Upstream *url.URL

	// Connections finds the source of each request's connection. Required.
	Connections Connections

	// DefaultConnection is the name of the connection of paths without /@name/;
	// Connections is asked for it, and logs and problem documents show it.
	// Empty asks Connections for "".
	DefaultConnection string

	// Transport sends to the upstream. nil is NewTransport with its defaults.
	// It must not follow redirects, which no http.Transport does.
	Transport http.RoundTripper

	// ReplayLimit is the longest request body, in bytes, that is held in memory
	// so that it can be sent again after a 401. 0 holds none.
	ReplayLimit int64

	// ReplayBudget bounds the bytes held at any time for all requests together.
	// A body that does not fit streams and is not sent again. 0 holds none.
	ReplayBudget int64

	// Listen is the address of the listener; its host, unless it stands for all
	// addresses, is one that callers may name in Host.
	Listen string

	// Hosts are further names, with or without a port, that callers may use for
	// us in Host. Loopback names and addresses always are; nothing else is.
	Hosts []string

	// CallerToken is what a caller must show as its own bearer. The zero Secret
	// asks for none.
	CallerToken tokens.Secret

	// Logger takes one record a request. nil discards.
	Logger *slog.Logger

	// Metrics takes the metrics of this handler. nil registers none.
	Metrics prometheus.Registerer
}

// Handler forwards requests to one upstream with the token of their connection
// attached. It is safe for concurrent use.
type Handler struct {
	guard       *guard
	observer    *observer
	upstream    upstream
	connections Connections
	fallback    string // the default connection
	reverse     *httputil.ReverseProxy
}

// New returns the handler that o describes.
func New(o Options) (*Handler, error) {
	if o.Connections == nil {
		return nil, errors.New("proxy: no connections given")
	}
	up, err := newUpstream(o.Upstream)
	if err != nil {
		return nil, err
	}
	obs, err := newObserver(o.Logger, o.Metrics)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	if o.Transport == nil {
		o.Transport = NewTransport(TransportOptions{})
	}
	h := &Handler{
		guard:       newGuard(o.Listen, o.Hosts, o.CallerToken),
		observer:    obs,
		upstream:    up,
		connections: o.Connections,
		fallback:    o.DefaultConnection,
	}
	h.reverse = &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      newTransport(up, o, obs.rejected),
		ModifyResponse: modifyResponse,
		ErrorHandler:   fail,
		BufferPool:     &buffers{},
		// Its lines quote what the upstream sent, which may be a secret. That an
		// answer was cut is told by the access log.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	return h, nil
}

// ServeHTTP forwards r, or answers it with a problem document.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.observer.serve(w, r, h.serve)
}

// InFlight returns how many requests are being served.
func (h *Handler) InFlight() int64 { return h.observer.inFlight.Load() }

// LastCall returns when a request last came or ended; when the handler was made,
// if none has.
func (h *Handler) LastCall() time.Time { return h.observer.lastCall() }

// serve is what happens to one request inside the observer. A refusal of the
// guard is a request too: whoever typed a wrong host must find it in the log.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request) {
	if err := h.prepare(r); err != nil {
		fail(w, r, err)
		return
	}
	h.reverse.ServeHTTP(w, withoutUpgrade(r))
	stripTrailers(w.Header(), callOf(r).response)
}

// prepare asks the guard, and finds out where the request goes and with whose
// token.
func (h *Handler) prepare(r *http.Request) error {
	if err := h.guard.check(r); err != nil {
		return err
	}
	t, err := route(r.URL)
	if err != nil {
		return err
	}
	if t.own {
		return own(r)
	}
	c := callOf(r)
	if c.connection = t.connection; c.connection == "" {
		c.connection = h.fallback
	}
	if c.url, err = h.upstream.url(t.path, r.URL); err != nil {
		return err
	}
	c.source, err = h.connections(r.Context(), c.connection)
	return err
}

// rewrite makes the upstream request out of the caller's.
func rewrite(p *httputil.ProxyRequest) {
	p.Out.URL = callOf(p.In).url
	p.Out.Host = ""
	// ReverseProxy does not carry their values, and RFC 9110 6.5.1 lets us drop
	// them; announcing trailers that never come would be worse.
	p.Out.Trailer = nil
	p.Out.TransferEncoding = nil
	stripRequest(p.Out.Header)
	addVia(p.Out.Header, p.In.ProtoMajor, p.In.ProtoMinor)
}

// modifyResponse makes the answer to the caller out of the upstream's. Status,
// content and all other fields, redirects among them, stay as they came.
func modifyResponse(res *http.Response) error {
	c := callOf(res.Request)
	c.response = res
	stripResponse(res)
	addVia(res.Header, res.ProtoMajor, res.ProtoMinor)
	if _, ok := res.Header["Content-Type"]; !ok {
		c.Header()["Content-Type"] = nil // else the server guesses one
	}
	if c.skipped != "" {
		res.Header.Set("Pleo-Sidecar-Retry", "skipped; reason="+string(c.skipped))
	}
	return nil
}

// withoutUpgrade returns r without its Upgrade field. ReverseProxy forwards any
// upgrade by default, and the network connections it makes survive a shutdown.
func withoutUpgrade(r *http.Request) *http.Request {
	if _, ok := r.Header["Upgrade"]; !ok {
		return r
	}
	stripped := r.WithContext(r.Context())
	stripped.Header = r.Header.Clone()
	stripped.Header.Del("Upgrade")
	return stripped
}
