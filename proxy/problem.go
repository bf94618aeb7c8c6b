package proxy

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"pleo-sidecar/tokens"
)

// slug names a kind of answer that is ours and not the upstream's. It is the
// value of the response field Pleo-Sidecar-Error and a contract with callers.
type slug string

// All slugs. Each has exactly one status.
const (
	slugLoginRequired         slug = "login-required"
	slugClientRejected        slug = "client-rejected"
	slugUnknownConnection     slug = "unknown-connection"
	slugTokenUnavailable      slug = "token-unavailable"
	slugStoreUnavailable      slug = "store-unavailable"
	slugUpstreamUnreachable   slug = "upstream-unreachable"
	slugUpstreamTimeout       slug = "upstream-timeout"
	slugCallerRefused         slug = "caller-refused"
	slugCallerUnauthenticated slug = "caller-unauthenticated"
	slugWrongHost             slug = "wrong-host"
	slugBadRequest            slug = "bad-request"
	slugContentTooLarge       slug = "content-too-large"
	slugNotFound              slug = "not-found"
	slugInternalError         slug = "internal-error"
)

// problem is what a slug means to a caller.
type problem struct {
	status int
	title  string // RFC 9457 3.1.4: the same for every occurrence
	detail string // what to do; a refusal may bring its own
	proxy  string // error type of Proxy-Status (RFC 9209 2.3)
	// challenge is the value of WWW-Authenticate, which a 401 must have
	// (RFC 9110 15.5.2); "" for every other status.
	challenge string
	// retryAfter is sent when the error does not say when to try again; 0 sends
	// nothing then.
	retryAfter time.Duration
}

var problems = map[slug]problem{
	slugLoginRequired: {
		status: http.StatusUnauthorized, title: "Login required",
		detail:    "Pleo no longer accepts the grant of this connection, or there never was one. Trying again does not help: a person must log in.",
		proxy:     "http_request_denied",
		challenge: `Bearer error="invalid_token"`,
	},
	slugClientRejected: {
		status: http.StatusServiceUnavailable, title: "Client rejected",
		detail: "Pleo refuses the client id or client secret of the sidecar. Its operator must correct them; the grant is kept.",
		proxy:  "proxy_configuration_error",
	},
	slugUnknownConnection: {
		status: http.StatusNotFound, title: "Unknown connection",
		detail: "The sidecar knows no connection of this name. Check the name in the path, or log in to create it.",
		proxy:  "http_request_denied",
	},
	slugTokenUnavailable: {
		status: http.StatusServiceUnavailable, title: "No token now",
		detail: "There is no usable token at this moment. Nothing was sent that took effect; try again after Retry-After.",
		proxy:  "proxy_internal_error", retryAfter: 2 * time.Second,
	},
	slugStoreUnavailable: {
		status: http.StatusServiceUnavailable, title: "Store unavailable",
		detail: "The store of the sidecar cannot be reached and no token in memory serves. Nothing was sent that took effect; try again after Retry-After.",
		proxy:  "proxy_internal_error", retryAfter: 5 * time.Second,
	},
	slugUpstreamUnreachable: {
		status: http.StatusBadGateway, title: "Upstream unreachable",
		detail: "Pleo gave no answer that could be read. Whether the request took effect is not known; the sidecar does not send it again.",
		proxy:  "destination_unavailable",
	},
	slugUpstreamTimeout: {
		status: http.StatusGatewayTimeout, title: "Upstream timed out",
		detail: "Pleo did not answer in time. Whether the request took effect is not known; the sidecar does not send it again.",
		proxy:  "http_response_timeout",
	},
	slugCallerRefused: {
		status: http.StatusForbidden, title: "Caller refused",
		detail: "The request comes from a page in a browser. The sidecar serves programs, and pages of its own.",
		proxy:  "http_request_denied",
	},
	slugCallerUnauthenticated: {
		status: http.StatusUnauthorized, title: "Caller not authenticated",
		detail:    "Send the caller token of the sidecar as Authorization: Bearer. It is not a token of Pleo's.",
		proxy:     "http_request_denied",
		challenge: "Bearer",
	},
	slugWrongHost: {
		status: http.StatusMisdirectedRequest, title: "Wrong host",
		detail: "The sidecar does not go by the name in Host. Use localhost, or have the operator add the name to callers.hosts.",
		proxy:  "http_request_denied",
	},
	slugBadRequest: {
		status: http.StatusBadRequest, title: "Bad request",
		detail: "The request could not be read to its end.",
		proxy:  "http_request_error",
	},
	slugContentTooLarge: {
		status: http.StatusRequestEntityTooLarge, title: "Content too large",
		detail: "The request is longer than the sidecar takes.",
		proxy:  "http_request_error",
	},
	slugNotFound: {
		status: http.StatusNotFound, title: "Not found",
		detail: "Paths under /-/ belong to the sidecar, which has nothing here.",
		proxy:  "http_request_error",
	},
	slugInternalError: {
		status: http.StatusInternalServerError, title: "Internal error",
		detail: "The sidecar has a fault. Its log tells more under the id of this request.",
		proxy:  "proxy_internal_error",
	},
}

var (
	errForeignHost = errors.New("proxy: request goes to a host other than the upstream")
	errNotFinal    = errors.New("proxy: upstream's answer has no final status")
	errBody        = errors.New("proxy: request content unreadable")
	errPanic       = errors.New("proxy: panic")
)

// refusal is an error that stands for a slug.
type refusal struct {
	slug   slug
	detail string // "" is the slug's own
}

func (e *refusal) Error() string { return "proxy: refused: " + string(e.slug) }

func refuse(s slug, detail string) error { return &refusal{s, detail} }

// bySentinel maps the errors of package tokens.
var bySentinel = []struct {
	err  error
	slug slug
}{
	{tokens.ErrLoginRequired, slugLoginRequired},
	{tokens.ErrClientRejected, slugClientRejected},
	{tokens.ErrUnknownConnection, slugUnknownConnection},
	{tokens.ErrStoreUnavailable, slugStoreUnavailable},
	{tokens.ErrTokenUnavailable, slugTokenUnavailable},
}

// problemOf is the one mapping from an error to what a caller is told. An error
// that nobody planned for is a fault of ours.
func problemOf(err error) (slug, problem) {
	s, detail, proxy := slugInternalError, "", ""
	var refused *refusal
	var up *upstreamError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &refused):
		s, detail = refused.slug, refused.detail
	case errors.As(err, &tooLarge):
		s = slugContentTooLarge
	case errors.Is(err, errBody):
		s = slugBadRequest
	case errors.As(err, &up):
		s, proxy = up.slug(), string(up.cause)
	default:
		for _, m := range bySentinel {
			if errors.Is(err, m.err) {
				s = m.slug
				break
			}
		}
	}
	p := problems[s]
	if detail != "" {
		p.detail = detail
	}
	if proxy != "" {
		p.proxy = proxy
	}
	if after := tokens.RetryAfter(err); after > 0 && p.status == http.StatusServiceUnavailable {
		p.retryAfter = after
	}
	return s, p
}

// fail answers r with the problem that err is. A caller that has left is told
// nothing; the answer is aborted so that what may still be listening does not
// take an empty 200 for Pleo's.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
	answer(w, r, err)
}

// answer writes the problem document of err.
func answer(w http.ResponseWriter, r *http.Request, err error) {
	c := callOf(r)
	s, p := problemOf(err)
	c.problem, c.cause = s, err
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Pleo-Sidecar-Error", string(s))
	h.Set("Proxy-Status", "pleo-sidecar; error="+p.proxy)
	if p.challenge != "" {
		h.Set("WWW-Authenticate", p.challenge)
	}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(wholeSeconds(p.retryAfter), 10))
	}
	w.WriteHeader(p.status)
	_, _ = w.Write(p.document(s, c, r)) // nothing is left to do for a caller that does not read
}

// document returns the content of the answer (RFC 9457).
func (p problem) document(s slug, c *call, r *http.Request) []byte {
	doc, err := json.MarshalIndent(struct {
		Type       string `json:"type"`
		Title      string `json:"title"`
		Status     int    `json:"status"`
		Detail     string `json:"detail"`
		Instance   string `json:"instance"`
		Connection string `json:"connection,omitempty"`
	}{
		"urn:pleo-sidecar:problem:" + string(s), p.title, p.status, p.detail,
		"urn:pleo-sidecar:request:" + c.requestID(r), c.connection,
	}, "", "  ")
	if err != nil {
		return nil // strings and a number always marshal
	}
	return append(doc, '\n')
}

// wholeSeconds rounds d up: who comes too early waits twice.
func wholeSeconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
