package pleosim

import (
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"time"
)

// code is an authorization code: good once, for a short time, for one redirect
// URI and one verifier.
type code struct {
	challenge, redirect, subject string
	ends                         time.Time
	grant                        *grant // once exchanged
}

// codeLife is short, as Pleo says without a figure; RFC 6749 4.1.2 allows ten
// minutes at most.
const codeLife = time.Minute

// verifierForm is RFC 7636 4.1.
var verifierForm = regexp.MustCompile(`^[A-Za-z0-9._~-]{43,128}$`)

var consentPage = template.Must(template.New("consent").Parse(`<!doctype html>
<html lang="en"><title>pleosim: consent</title>
<h1>This is a simulator, not Pleo</h1>
<p><b>{{.Client}}</b> asks for <code>{{.Scope}}</code>.</p>
<form method="post"><button name="decision" value="approve">Approve</button>
<button name="decision" value="deny">Deny</button></form></html>
`))

// authorize is the authorization endpoint: code grant with PKCE S256 only.
func (s *Sim) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	redirect, err := url.Parse(q.Get("redirect_uri"))
	switch {
	case q.Get("client_id") != s.opt.ClientID:
		http.Error(w, "unknown client_id", http.StatusBadRequest)
		return
	case err != nil || !redirect.IsAbs() || !s.redirectAllowed(q.Get("redirect_uri")):
		// Never redirect to where nobody registered (RFC 6749 4.1.2.1).
		http.Error(w, "redirect_uri does not match exactly", http.StatusBadRequest)
		return
	}
	back := redirect.Query()
	back.Set("state", q.Get("state"))
	if problem := authorizeProblem(q); problem != "" {
		s.violate(Malformed, "authorization endpoint: %s", problem)
		back.Set("error", "invalid_request")
		back.Set("error_description", problem)
		s.redirectBack(w, r, redirect, back)
		return
	}
	decision := r.PostFormValue("decision")
	switch {
	case s.opt.AutoConsent || r.Method == http.MethodPost && decision == "approve":
		back.Set("code", s.newCode(q))
	case r.Method == http.MethodPost:
		back.Set("error", "access_denied")
	default:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = consentPage.Execute(w, map[string]string{"Client": s.opt.ClientID, "Scope": q.Get("scope")})
		return
	}
	s.redirectBack(w, r, redirect, back)
}

func authorizeProblem(q url.Values) string {
	for _, values := range q {
		if len(values) > 1 {
			return "a field is repeated"
		}
	}
	switch {
	case q.Get("response_type") != "code":
		return "response_type is not code"
	case q.Get("state") == "":
		return "no state"
	case q.Get("code_challenge_method") != "S256":
		return "code_challenge_method is not S256"
	case len(q.Get("code_challenge")) != base64.RawURLEncoding.EncodedLen(sha256.Size):
		return "code_challenge is no S256 challenge"
	}
	return ""
}

func (s *Sim) redirectAllowed(uri string) bool {
	return uri != "" && (len(s.opt.RedirectURLs) == 0 || slices.Contains(s.opt.RedirectURLs, uri))
}

func (s *Sim) redirectBack(w http.ResponseWriter, r *http.Request, to *url.URL, q url.Values) {
	s.logf("authorization endpoint: back to the client, error %q", q.Get("error"))
	to.RawQuery = q.Encode()
	http.Redirect(w, r, to.String(), http.StatusFound)
}

func (s *Sim) newCode(q url.Values) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	value := s.dice.word(40, headerAlphabet)
	s.codes[value] = &code{
		challenge: q.Get("code_challenge"),
		redirect:  q.Get("redirect_uri"),
		subject:   q.Get("urn_pleo_params_oauth_subject"),
		ends:      time.Now().Add(codeLife),
	}
	return value
}

// exchange turns a code into a grant. A code used twice revokes what it gave
// (RFC 6749 4.1.2).
func (s *Sim) exchange(c *call, form url.Values) answer {
	s.mu.Lock()
	cd, now := s.codes[form.Get("code")], time.Now()
	problem := ""
	switch {
	case cd == nil:
		problem = "unknown code"
	case cd.grant != nil:
		problem = "code already used"
		s.violate(Reuse, "grant %s: its authorization code presented twice", cd.grant.id)
		s.revoke(cd.grant, RevokedCode, now)
	case !now.Before(cd.ends):
		problem = "code expired"
	case form.Get("redirect_uri") != cd.redirect:
		problem = "redirect_uri differs"
		s.violate(Malformed, "token endpoint: redirect_uri differs from the one of the authorization request")
	case !verifierForm.MatchString(form.Get("code_verifier")):
		problem = "code_verifier malformed"
		s.violate(Malformed, "token endpoint: code_verifier is not 43 to 128 unreserved characters")
	case challengeOf(form.Get("code_verifier")) != cd.challenge:
		problem = "code_verifier does not fit"
	}
	if problem != "" {
		s.mu.Unlock()
		return oauthError(http.StatusBadRequest, "invalid_grant", problem)
	}
	cd.grant = s.newGrant(cd.subject)
	cd.grant.refresh.answer = onItsWay
	c.carries = cd.grant.refresh
	a := s.pairAnswer(cd.grant, true)
	s.logf("grant %s made by a code, refresh token %s", cd.grant.id, c.carries.fingerprint)
	s.mu.Unlock()
	s.fire(c, AfterRotate)
	return a
}

func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
