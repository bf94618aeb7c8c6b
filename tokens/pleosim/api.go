package pleosim

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// apiCall is one call with a good token, its content already read.
type apiCall struct {
	*call
	sim    *Sim
	grant  *grant
	id     string // what {id} matched
	length int64
	sum    hash.Hash
}

const (
	bodyLimit = 64 << 20 // a receipt of 30 MB in Base64, with room
	keepLimit = 1 << 20  // how much of a content routes may parse
)

// API is the resource API. Everything below /echo answers with what arrived.
func (s *Sim) API() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.screen(AtResource, r)
		s.serve(s.Resource, w, r, s.resource)
	})
}

// resource checks the token when the head has come and again when the content
// has: a rotation in between kills the call, as Pleo's words have it. Nothing
// is applied for a refused call.
func (s *Sim) resource(c *call) answer {
	g, cause := s.bearer(c.r)
	if cause != "" {
		return s.refuseCall(cause)
	}
	a := &apiCall{call: c, sim: s, grant: g, sum: sha256.New()}
	var kept bytes.Buffer
	content := io.TeeReader(http.MaxBytesReader(c.w, c.r.Body, bodyLimit), a.sum)
	_, err := io.CopyN(&kept, content, keepLimit)
	a.length = int64(kept.Len())
	if err == nil {
		var rest int64
		rest, err = io.Copy(io.Discard, content)
		a.length += rest
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return apiError(http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE", "the content is too long or broke off")
	}
	a.body = kept.Bytes()
	if strings.HasPrefix(c.r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		if form, err := url.ParseQuery(string(a.body)); err == nil {
			s.screenValues(AtResource, "content", form)
		}
	}
	if _, cause := s.bearer(c.r); cause != "" {
		return s.refuseCall(cause)
	}
	s.mu.Lock()
	s.tally.APIServed++
	s.mu.Unlock()
	return a.dispatch()
}

func (a *apiCall) dispatch() answer {
	path := a.r.URL.Path
	if path == "/echo" || strings.HasPrefix(path, "/echo/") {
		return a.echo()
	}
	if strings.HasPrefix(path, "/v0/") || strings.HasPrefix(path, "/v1/export-jobs") {
		return apiError(http.StatusBadRequest, "UNSUPPORTED_API_VERSION", "this version is retired")
	}
	for _, route := range routes {
		if id, ok := matches(route.pattern, path); ok && route.method == a.r.Method {
			a.id = id
			return route.serve(a)
		}
	}
	return apiError(http.StatusNotFound, "NOT_FOUND", "no such resource")
}

// matches compares segment by segment and cleans nothing, unlike ServeMux.
func matches(pattern, path string) (id string, ok bool) {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return "", false
	}
	for i := range want {
		switch {
		case want[i] == "{id}" && got[i] != "":
			id = got[i]
		case want[i] != got[i]:
			return "", false
		}
	}
	return id, true
}

// bearer finds whose call it is, or why it is refused.
func (s *Sim) bearer(r *http.Request) (*grant, string) {
	value := r.Header.Get("Authorization")
	if value == "" {
		return nil, causeMissing
	}
	value, ok := strings.CutPrefix(value, "Bearer ")
	if !ok {
		return nil, causeMalformed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tokens[value]
	switch {
	case t == nil:
		return nil, causeUnknown
	case t.refresh:
		s.violate(WrongHost, "grant %s: refresh token %d (%s) sent to the resource API", t.grant.id, t.ordinal, t.fingerprint)
		return nil, causeUnknown
	}
	return t.grant, t.diedOf(time.Now())
}

// refuseCall is one 401 for every cause, as at Pleo.
func (s *Sim) refuseCall(cause string) answer {
	s.refusedCall(cause)
	s.logf("resource API: 401, token %s", cause)
	a := apiError(http.StatusUnauthorized, "UNAUTHORIZED", "the access token is not good")
	a.header = map[string]string{"WWW-Authenticate": `Bearer error="invalid_token"`}
	return a
}

func (s *Sim) refusedCall(cause string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally.APIRefused[cause]++
}

func apiError(status int, kind, message string) answer {
	return answer{status: status}.with(map[string]any{"type": kind, "message": message})
}

func success(members map[string]any) answer { return answer{status: http.StatusOK}.with(members) }
