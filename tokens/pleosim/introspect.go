package pleosim

import (
	"net/http"
	"time"
)

// introspect tells the client about a token of its own (RFC 7662) without using
// it up. It always wants Basic, whatever the token endpoint wants.
func (s *Sim) introspect(c *call) answer {
	form, problem := parseForm(c)
	if problem != "" {
		return s.malformed(c, problem)
	}
	if refusal, ok := s.authenticate(c, form, "basic"); !ok {
		return refusal
	}
	hint := form.Get("token_type_hint")
	form.Del("token_type_hint")
	if problem := exactly(form, "token"); problem != "" {
		return s.malformed(c, problem)
	}
	if hint != "" && hint != "access_token" && hint != "refresh_token" {
		return s.malformed(c, "unknown token_type_hint")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally.Introspections++
	at := time.Now().Add(-c.fault.Lag)
	t := s.tokens[form.Get("token")]
	active := t != nil && !t.issuedAt.After(at) && t.diedOf(at) == ""
	if t != nil {
		t.grant.introspects++
		s.logf("grant %s: introspection of %s: active %t, lie %q, lag %s", t.grant.id, t.fingerprint, active, c.fault.Lie, c.fault.Lag)
	}
	if c.fault.Lie != "" {
		active = c.fault.Lie == "active"
	}
	if !active {
		return answer{status: http.StatusOK}.with(map[string]any{"active": false})
	}
	members := map[string]any{"active": true, "client_id": s.opt.ClientID}
	if t != nil {
		members["sub"] = t.grant.subject
		members["exp"] = t.ends.Unix()
		members["iat"] = t.issuedAt.Unix()
		members["aud"] = []string{"pleosim"}
		members["iss"] = "http://" + c.r.Host
		members["jti"] = t.grant.id + "-" + t.fingerprint
		members["urn:pleo:params:oauth:subject_urn"] = t.grant.subject
	}
	return answer{status: http.StatusOK}.with(members)
}
