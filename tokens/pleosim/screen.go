package pleosim

import (
	"net/http"
	"net/url"
	"strings"
)

// screen looks for credentials where none belong, before anything else.
func (s *Sim) screen(place Place, r *http.Request) {
	auth := r.Header.Values("Authorization")
	if len(auth) > 1 {
		s.violate(Malformed, "%s: %d Authorization fields", place, len(auth))
	}
	for _, value := range auth {
		basic := strings.HasPrefix(strings.ToLower(value), "basic ")
		switch {
		case place == AtFile:
			s.violate(WrongHost, "the file host received an Authorization field")
		case place == AtResource && basic:
			s.violate(WrongHost, "the resource API received Basic credentials")
		case place != AtResource && !basic:
			s.violate(WrongHost, "the authorization server received an Authorization field that is not Basic")
		}
	}
	if r.URL.RawQuery != "" {
		s.screenValues(place, "query", r.URL.Query())
	}
}

// screenValues reports tokens among the fields of a query or a form.
func (s *Sim) screenValues(place Place, where string, values url.Values) {
	for name, all := range values {
		if name == "access_token" || name == "refresh_token" || name == "client_secret" {
			s.violate(Exposed, "%s: %s in the %s", place, name, where)
			continue
		}
		for _, value := range all {
			s.mu.Lock()
			known := s.tokens[value] != nil
			s.mu.Unlock()
			if known {
				s.violate(Exposed, "%s: a token in the %s", place, where)
			}
		}
	}
}
