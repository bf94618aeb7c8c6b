package tokens

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// ClientAuth is how the client shows its id and secret at the token endpoint.
// It is fixed by configuration and never probed: a probe would present the same
// refresh token twice.
type ClientAuth string

const (
	// ClientAuthBasic sends them as HTTP Basic, unencoded, as Pleo documents it
	// (RFC 6749 2.3.1 would form-encode them first; equal for plain letters).
	ClientAuthBasic ClientAuth = "basic"
	// ClientAuthPost sends them as client_id and client_secret in the form, and
	// no Authorization field (RFC 6749 2.3: one method a request).
	ClientAuthPost ClientAuth = "post"
)

// EndpointOptions says where the authorization server is and who we are there.
type EndpointOptions struct {
	TokenURL         string     // https, or http to the loopback; no user info, no fragment
	IntrospectionURL string     // the same; "" means that introspection is not configured
	RedirectURL      string     // sent by Exchange as it stands; "" makes Exchange fail
	ClientID         string     // never empty; without a colon where Basic is used
	ClientSecret     Secret     // never empty; goes to these two URLs and nowhere else
	ClientAuth       ClientAuth // at the token endpoint; "" is basic. Introspection is always Basic

	RootCAs *x509.CertPool                                                       // who may sign the servers' and the proxy's certificates; nil: the system's
	Proxy   func(*url.URL) (*url.URL, error)                                     // the HTTP proxy towards a URL; nil, or a nil URL: none. Not asked for the loopback
	Dial    func(ctx context.Context, network, address string) (net.Conn, error) // nil: a net.Dialer
	Version string                                                               // of this program, for User-Agent; "" leaves it out
	Log     *slog.Logger                                                         // nil discards
}

// Endpoint is the authorization server, seen by one OAuth client: it exchanges
// codes, refreshes and introspects.
//
// Each call is exactly one HTTP request on a network connection of its own,
// written by hand, because a refresh token must not be presented twice:
// http.Client posts it again to wherever a 307 points, http.Transport replays a
// request when an idle connection dies, and golang.org/x/oauth2 tries a second
// way of client authentication after any error. Here there is no redirect, no
// replay, no idle connection and no probing, for there is no code to do it.
//
// Every error of a call is an *EndpointError and holds no secret. An Endpoint
// is safe for concurrent use.
type Endpoint struct {
	options       EndpointOptions
	token         target
	introspection target // zero when not configured
	dial          func(ctx context.Context, network, address string) (net.Conn, error)
	log           *slog.Logger
}

// NewEndpoint returns the endpoint of o, or every mistake in o together.
func NewEndpoint(o EndpointOptions) (*Endpoint, error) {
	e := &Endpoint{options: o, dial: o.Dial, log: o.Log}
	if e.options.ClientAuth == "" {
		e.options.ClientAuth = ClientAuthBasic
	}
	if e.dial == nil {
		e.dial = newDialer().DialContext
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	var wrong, notURL error
	if e.token, notURL = parseTarget(o.TokenURL); notURL != nil {
		wrong = fmt.Errorf("token URL: %w", notURL)
	}
	if o.IntrospectionURL != "" {
		if e.introspection, notURL = parseTarget(o.IntrospectionURL); notURL != nil {
			wrong = errors.Join(wrong, fmt.Errorf("introspection URL: %w", notURL))
		}
	}
	if err := errors.Join(wrong, e.checkClient()); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *Endpoint) checkClient() error {
	var wrong []error
	o := e.options
	if o.ClientAuth != ClientAuthBasic && o.ClientAuth != ClientAuthPost {
		wrong = append(wrong, fmt.Errorf("client auth %q: must be %s or %s", o.ClientAuth, ClientAuthBasic, ClientAuthPost))
	}
	if o.ClientID == "" {
		wrong = append(wrong, errors.New("client id: must not be empty"))
	}
	// Basic has no escape for a colon: the server would cut the id at it.
	if strings.Contains(o.ClientID, ":") && (o.ClientAuth == ClientAuthBasic || o.IntrospectionURL != "") {
		wrong = append(wrong, errors.New("client id: must not contain a colon"))
	}
	if o.ClientSecret.IsZero() {
		wrong = append(wrong, errors.New("client secret: must not be empty"))
	}
	return errors.Join(wrong...)
}

// Client returns the fingerprint of client id and secret together. A connection
// that was refused because of its client is tried again when it changes.
func (e *Endpoint) Client() Fingerprint {
	id, secret := e.options.ClientID, e.options.ClientSecret.Reveal()
	// The length keeps "ab"+"c" and "a"+"bc" apart.
	return FingerprintOf(NewSecret(fmt.Sprintf("%d:%s%s", len(id), id, secret)))
}

// Introspects reports whether introspection is configured.
func (e *Endpoint) Introspects() bool { return e.introspection.url != nil }

// Connect opens a network connection to the token endpoint, with TLS and
// through the proxy where there is one, and sends nothing of the request. The
// class of its error is Unsent. The caller closes the TokenRequest.
func (e *Endpoint) Connect(ctx context.Context) (*TokenRequest, error) {
	c, err := e.connect(ctx, e.token)
	if err != nil {
		return nil, err
	}
	return &TokenRequest{endpoint: e, call: c}, nil
}

// TokenRequest is one request to the token endpoint: connected, then sent once,
// then answered once. It belongs to one goroutine; Close may come from any.
type TokenRequest struct {
	endpoint *Endpoint
	call     *call
}

// Send writes the refresh request (RFC 6749 6), once, and does not wait for the
// answer. The end of ctx, or its deadline by the wall clock, stops the writing
// and resets the connection, so that nothing waits in a buffer to be sent later.
//
// The class of its error is Unsent if not one byte went out, else InDoubt. A
// second Send writes nothing and is Unsent, which says nothing about the first.
func (t *TokenRequest) Send(ctx context.Context, refresh Secret) error {
	return t.send(ctx, url.Values{
		"grant_type":    {"refresh_token"},
		"refresh_token": {refresh.Reveal()},
	}, refresh)
}

// send adds the client's authentication to form and writes it. The secrets in
// form are named again, so that no error repeats one.
func (t *TokenRequest) send(ctx context.Context, form url.Values, secrets ...Secret) error {
	o := t.endpoint.options
	if o.ClientAuth == ClientAuthPost {
		form.Set("client_id", o.ClientID)
		form.Set("client_secret", o.ClientSecret.Reveal())
	}
	return t.endpoint.send(ctx, t.call, form, o.ClientAuth == ClientAuthBasic, secrets)
}

// Answer reads the answer of a request that was sent. The token is issued at
// the wall time just before Send wrote; its refresh token is empty when the
// answer holds none, and then the one that was sent goes on living.
//
// It is called once. The end of ctx ends the reading: what was not read by then
// is lost, and with it a pair that may have been issued.
func (t *TokenRequest) Answer(ctx context.Context) (Token, error) {
	a, err := t.call.answer(ctx)
	if err != nil {
		return Token{}, err
	}
	return a.token(t.endpoint.log)
}

// Close closes the connection. Unless a whole answer was read it is reset,
// which drops whatever was not delivered yet. Closing twice is no error.
func (t *TokenRequest) Close() error { return t.call.close() }

// Exchange turns an authorization code into tokens (RFC 6749 4.1.3, with the
// verifier of RFC 7636 4.5), in one request.
func (e *Endpoint) Exchange(ctx context.Context, code, verifier Secret) (Token, error) {
	if e.options.RedirectURL == "" {
		return Token{}, unsent(errors.New("exchange code: no redirect URL is configured"))
	}
	t, err := e.Connect(ctx)
	if err != nil {
		return Token{}, err
	}
	defer func() { _ = t.Close() }()
	if err := t.send(ctx, url.Values{
		"grant_type":    {"authorization_code"},
		"redirect_uri":  {e.options.RedirectURL},
		"code":          {code.Reveal()},
		"code_verifier": {verifier.Reveal()},
	}, code, verifier); err != nil {
		return Token{}, err
	}
	return t.Answer(ctx)
}

// Introspect asks whether a refresh token is active (RFC 7662), which does not
// use it up, in one request. It reads that member and no other: tokens are
// opaque. A class of InDoubt says no more than that there was no clear answer.
func (e *Endpoint) Introspect(ctx context.Context, refresh Secret) (active bool, err error) {
	if !e.Introspects() {
		return false, unsent(errors.New("introspect: no introspection URL is configured"))
	}
	c, err := e.connect(ctx, e.introspection)
	if err != nil {
		return false, err
	}
	defer func() { _ = c.close() }()
	form := url.Values{"token": {refresh.Reveal()}, "token_type_hint": {"refresh_token"}}
	if err := e.send(ctx, c, form, true, []Secret{refresh}); err != nil {
		return false, err
	}
	a, err := c.answer(ctx)
	if err != nil {
		return false, err
	}
	return a.active()
}

// send writes form as the one request of c.
func (e *Endpoint) send(ctx context.Context, c *call, form url.Values, basic bool, secrets []Secret) error {
	request, err := e.request(c.to.url, form, basic)
	if err != nil {
		return unsent(err)
	}
	return c.send(ctx, request, append(secrets, e.options.ClientSecret))
}

// request returns the bytes of one HTTP request. "Connection: close" makes it
// the only one of its network connection, and identity keeps the answer
// readable (without the field any coding is acceptable, RFC 9110 12.5.3).
func (e *Endpoint) request(to *url.URL, form url.Values, basic bool) ([]byte, error) {
	body := form.Encode()
	r := &http.Request{
		Method: http.MethodPost, URL: to, Close: true,
		Header: http.Header{
			"Accept":          {"application/json"},
			"Accept-Encoding": {"identity"},
			"Content-Type":    {"application/x-www-form-urlencoded"},
			"User-Agent":      {e.userAgent()},
		},
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
	if basic {
		r.SetBasicAuth(e.options.ClientID, e.options.ClientSecret.Reveal())
	}
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		return nil, errors.New("make request: the URL cannot be sent")
	}
	return b.Bytes(), nil
}

func (e *Endpoint) userAgent() string {
	if e.options.Version == "" {
		return "pleo-sidecar"
	}
	return "pleo-sidecar/" + e.options.Version
}
