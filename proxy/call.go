package proxy

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/url"
	"time"
)

// call is one request on its way through us: what the transport needs to know,
// and what the observer writes down. One goroutine at a time uses it.
type call struct {
	recorder
	began time.Time

	connection string   // as asked for; "" until the path was read
	url        *url.URL // where it goes
	source     Source   // whose token it carries

	retried  bool           // sent twice
	skipped  skip           // why it was not sent again although a fresh token was there
	response *http.Response // the upstream's answer, nil when there was none

	problem slug   // of our own answer, "" when the answer is the upstream's
	cause   error  // behind the problem, for the log
	id      string // see requestID
}

type callKey struct{}

// withCall returns r carrying c.
func withCall(r *http.Request, c *call) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), callKey{}, c))
}

// callOf returns the call that r carries. Every request inside the observer has
// one, and so have those that ReverseProxy and http.Transport derive from it.
func callOf(r *http.Request) *call { return r.Context().Value(callKey{}).(*call) }

// requestID returns the name of the request in logs and problem documents: the
// caller's X-Request-Id if it is short and plain, else a random one.
func (c *call) requestID(r *http.Request) string {
	if c.id == "" {
		if c.id = r.Header.Get("X-Request-Id"); !plainID(c.id) {
			c.id = rand.Text()
		}
	}
	return c.id
}

// plainID reports whether s is 1 to 64 letters, digits, - . or _: a form in which
// no secret of ours fits by accident into a log, and nothing needs escaping.
func plainID(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !alphanumeric(c) && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// recorder notes what was answered. Flushing and the rest reach the server
// through Unwrap.
type recorder struct {
	http.ResponseWriter
	status int   // 0 until the final header was written
	bytes  int64 // of the content
}

// Unwrap returns the server's writer, for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// WriteHeader notes the first final status. Interim answers (1xx) come straight
// from the upstream, so they lose the fields that may only be ours.
func (r *recorder) WriteHeader(status int) {
	if status < 200 {
		stripOurs(r.Header())
	} else if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write counts what it writes.
func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}
