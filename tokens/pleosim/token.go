package pleosim

import (
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// The paths of the authorization server.
const (
	authorizePath  = "/oauth/authorize"
	tokenPath      = "/oauth/token"
	introspectPath = "/oauth/token/introspect"
	redirectTrap   = "/redirected"
)

// Auth is the authorization server.
func (s *Sim) Auth() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		place := AtToken
		if r.URL.Path == introspectPath {
			place = AtIntrospect
		}
		s.screen(place, r)
		switch r.URL.Path {
		case tokenPath:
			s.serve(s.Token, w, r, s.tokenEndpoint)
		case introspectPath:
			s.serve(s.Introspect, w, r, s.introspect)
		case authorizePath:
			s.authorize(w, r)
		case redirectTrap:
			s.violate(Redirected, "a redirect of the %s was followed", r.Host)
			http.NotFound(w, r)
		default:
			s.logf("authorization server: unknown path")
			http.NotFound(w, r)
		}
	})
}

func (s *Sim) tokenEndpoint(c *call) answer {
	form, problem := parseForm(c)
	if problem != "" {
		return s.malformed(c, problem)
	}
	if refusal, ok := s.authenticate(c, form, s.opt.ClientAuth); !ok {
		return refusal
	}
	switch form.Get("grant_type") {
	case "refresh_token":
		if problem := exactly(form, "grant_type", "refresh_token"); problem != "" {
			return s.malformed(c, problem)
		}
		return s.refresh(c, form.Get("refresh_token"))
	case "authorization_code":
		if problem := exactly(form, "grant_type", "code", "redirect_uri", "code_verifier"); problem != "" {
			return s.malformed(c, problem)
		}
		return s.exchange(c, form)
	}
	s.violate(Malformed, "token endpoint: unknown grant_type")
	return oauthError(http.StatusBadRequest, "unsupported_grant_type", "")
}

// parseForm reads a form as strictly as RFC 6749 3.2 words it.
func parseForm(c *call) (form url.Values, problem string) {
	if c.r.Method != http.MethodPost {
		return nil, "method " + c.r.Method
	}
	if c.r.URL.RawQuery != "" {
		return nil, "fields in the query"
	}
	mediaType, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/x-www-form-urlencoded" {
		return nil, "content type is no form"
	}
	form, err = url.ParseQuery(string(c.body))
	if err != nil {
		return nil, "form cannot be parsed"
	}
	for name, values := range form {
		if len(values) > 1 {
			return nil, fmt.Sprintf("field %q repeated", name)
		}
	}
	return form, ""
}

// exactly demands these fields, filled, beside those of the client, and no other.
func exactly(form url.Values, names ...string) (problem string) {
	for _, name := range names {
		if form.Get(name) == "" {
			return fmt.Sprintf("field %q missing", name)
		}
	}
	for name := range form {
		if !slices.Contains(names, name) && name != "client_id" && name != "client_secret" {
			return fmt.Sprintf("field %q does not belong here", name)
		}
	}
	return ""
}

func (s *Sim) malformed(c *call, problem string) answer {
	s.violate(Malformed, "%s endpoint: %s", c.place, problem)
	return oauthError(http.StatusBadRequest, "invalid_request", problem)
}

// authenticate lets the one client in by the one method. Two methods at once
// are forbidden (RFC 6749 2.3); the wrong one is refused like a wrong secret.
func (s *Sim) authenticate(c *call, form url.Values, method string) (refusal answer, ok bool) {
	inHeader, inForm := c.r.Header.Get("Authorization") != "", form.Has("client_id") || form.Has("client_secret")
	if inHeader && inForm {
		return s.malformed(c, "two ways of client authentication at once"), false
	}
	id, secret := form.Get("client_id"), form.Get("client_secret")
	if method == "basic" {
		// Raw, not form-encoded: what Pleo's pages show.
		id, secret, _ = c.r.BasicAuth()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == s.opt.ClientID && secret == s.secrets[len(s.secrets)-1] {
		return answer{}, true
	}
	s.tally.ClientRefused++
	s.logf("%s endpoint: client refused (wants method %s)", c.place, method)
	refusal = oauthError(http.StatusUnauthorized, "invalid_client", "")
	refusal.header = map[string]string{"WWW-Authenticate": `Basic realm="pleosim"`}
	return refusal, false
}

// refresh presents the token, and rotates at once or late.
func (s *Sim) refresh(c *call, value string) answer {
	if !s.present(c, value) {
		return s.refuseGrant("unknown refresh token")
	}
	s.fire(c, BeforeRotate)
	if c.fault.Late > 0 {
		c.late = func(later *call) { s.rotate(later) }
		return s.instead(c)
	}
	return s.rotate(c)
}

// present counts a refresh token that came in a complete request of an
// authenticated client. From here to the answer the grant's refresh is running.
func (s *Sim) present(c *call, value string) (known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tokens[value]
	if t == nil {
		s.tally.UnknownRefresh++
		s.logf("token endpoint: a refresh token never issued, %s", fingerprint(value))
		return false
	}
	if !t.refresh {
		s.violate(Malformed, "token endpoint: an access token presented as refresh token")
		return false
	}
	g := t.grant
	g.inFlight++
	g.maxInFlight = max(g.maxInFlight, g.inFlight)
	if g.inFlight > 1 {
		s.violate(Concurrent, "grant %s: %d refreshes at once, the last with refresh token %d (%s)",
			g.id, g.inFlight, t.ordinal, t.fingerprint)
	}
	c.token, c.entry = t, len(t.presented)
	t.presented = append(t.presented, Presentation{At: time.Now(), Outcome: OutcomeRunning})
	return true
}

// rotate gives the next pair for a good refresh token, and punishes any other.
func (s *Sim) rotate(c *call) answer {
	s.mu.Lock()
	t, g, now := c.token, c.token.grant, time.Now()
	outcome := OutcomeRotated
	switch t.diedOf(now) {
	case "":
		s.issue(g, now)
		if g.refresh != t {
			c.carries, g.refresh.answer = g.refresh, onItsWay
		}
	case causeRotated:
		outcome = OutcomeReuse
		s.violate(Reuse, "grant %s: refresh token %d (%s) presented %d times, it was spent", g.id, t.ordinal, t.fingerprint, len(t.presented))
		s.revoke(g, RevokedReuse, now)
	case causeExpired:
		outcome = OutcomeAged
		s.revoke(g, RevokedAged, now)
	case causeRevoked:
		outcome = OutcomeRevoked
		if t.refused {
			s.violate(DeadAgain, "grant %s: refresh token %d (%s) presented again after it was refused", g.id, t.ordinal, t.fingerprint)
		}
	}
	t.presented[c.entry].Outcome = outcome
	c.refused = outcome != OutcomeRotated
	s.logf("grant %s: refresh token %d (%s) presented: %s", g.id, t.ordinal, t.fingerprint, outcome)
	var a answer
	if !c.refused {
		a = s.pairAnswer(g, c.carries != nil)
	}
	s.mu.Unlock()
	if c.refused {
		return s.refuseGrant(outcome)
	}
	s.fire(c, AfterRotate)
	return a
}

// pairAnswer is the 200 of the token endpoint. It shows no token_type, because
// Pleo's pages show none. The caller holds mu.
func (s *Sim) pairAnswer(g *grant, withRefresh bool) answer {
	seconds := int(s.opt.AccessLife / time.Second)
	members := map[string]any{"access_token": g.access.value, "expires_in": seconds, "scope": "test:test"}
	if withRefresh {
		members["refresh_token"] = g.refresh.value
	}
	if s.opt.StringExpiresIn || s.opt.Hostile && s.dice.chance(0.5) {
		members["expires_in"] = strconv.Itoa(seconds)
	}
	if s.opt.Hostile && s.dice.chance(0.5) {
		members["token_type"] = "bearer"
	}
	return answer{status: http.StatusOK}.with(members)
}

func (s *Sim) refuseGrant(why string) answer {
	code := s.opt.RefusalCode
	switch {
	case code != "":
	case s.opt.Hostile && s.dice.chance(0.5):
		code = "invalid_refresh_token"
	default:
		code = "invalid_grant"
	}
	return oauthError(http.StatusBadRequest, code, why)
}

func oauthError(status int, code, description string) answer {
	members := map[string]any{"error": code}
	if description != "" {
		members["error_description"] = description
	}
	return answer{status: status}.with(members)
}
