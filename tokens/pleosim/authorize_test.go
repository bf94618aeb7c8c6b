package pleosim_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"pleo-sidecar/tokens/pleosim"
)

const (
	verifier = "abcdefghijklmnopqrstuvwxyz0123456789-._~ABCDEFG"
	callback = "http://127.0.0.1:8080/-/callback?keep=1"
)

// loginQuery is a good authorization request.
func loginQuery() url.Values {
	sum := sha256.Sum256([]byte(verifier))
	return url.Values{
		"response_type": {"code"}, "client_id": {"pleosim-client"}, "redirect_uri": {callback},
		"scope": {"test:test"}, "state": {"a state/+"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
		"urn_pleo_params_oauth_subject": {"urn:pleo:company:acme"},
	}
}

// authorize asks and returns what the redirect brings back.
func (w *world) authorize(method string, q url.Values, form string) (reply, url.Values) {
	w.Helper()
	req := w.request(method, "http://"+pleosim.AuthAddr+"/oauth/authorize?"+q.Encode(), form)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r := w.do(req)
	back, err := url.Parse(r.header.Get("Location"))
	if err != nil {
		w.Fatal(err)
	}
	return r, back.Query()
}

func (w *world) exchange(code, verifier, redirect string) reply {
	w.Helper()
	return w.post(tokenURL, url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirect}, "code_verifier": {verifier},
	})
}

func TestLoginGivesAPairForTheAskedSubject(t *testing.T) {
	inBubble(t, pleosim.Options{AutoConsent: true, RedirectURLs: []string{callback}}, func(w *world) {
		r, back := w.authorize("GET", loginQuery(), "")
		w.want(r, http.StatusFound)
		if back.Get("state") != "a state/+" || back.Get("keep") != "1" {
			w.Errorf("came back with %v", back)
		}
		pair := w.exchange(back.Get("code"), verifier, callback)
		w.want(pair, 200)
		who := w.call("GET", "/v1/introspect", pair.text("access_token"), "")
		if !strings.Contains(string(who.body), "urn:pleo:company:acme") {
			w.Errorf("introspection says %s", who.body)
		}
		w.want(w.refresh(pair.text("refresh_token")), 200)
		w.quiet()
	})
}

func TestPersonDecidesOnThePage(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		page, _ := w.authorize("GET", loginQuery(), "")
		w.want(page, 200)
		if !strings.Contains(string(page.body), "Approve") {
			w.Errorf("page: %s", page.body)
		}
		if _, back := w.authorize("POST", loginQuery(), "decision=deny"); back.Get("error") != "access_denied" || back.Has("code") {
			w.Errorf("denied, and came back with %v", back)
		}
		_, back := w.authorize("POST", loginQuery(), "decision=approve")
		w.want(w.exchange(back.Get("code"), verifier, callback), 200)
		w.quiet()
	})
}

func TestUnregisteredRedirectIsNotFollowed(t *testing.T) {
	inBubble(t, pleosim.Options{AutoConsent: true, RedirectURLs: []string{callback + "&more=1"}}, func(w *world) {
		r, _ := w.authorize("GET", loginQuery(), "")
		w.want(r, 400)
		q := loginQuery()
		q.Set("client_id", "another")
		r, _ = w.authorize("GET", q, "")
		w.want(r, 400)
	})
}

func TestAuthorizationWithoutPKCEOrStateIsAViolation(t *testing.T) {
	for name, spoil := range map[string]func(url.Values){
		"no challenge":  func(q url.Values) { q.Del("code_challenge") },
		"plain":         func(q url.Values) { q.Set("code_challenge_method", "plain") },
		"no state":      func(q url.Values) { q.Del("state") },
		"implicit flow": func(q url.Values) { q.Set("response_type", "token") },
		"repeated":      func(q url.Values) { q.Add("scope", "again") },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, pleosim.Options{AutoConsent: true}, func(w *world) {
				q := loginQuery()
				spoil(q)
				if _, back := w.authorize("GET", q, ""); back.Get("error") != "invalid_request" || back.Has("code") {
					w.Errorf("came back with %v", back)
				}
				w.complained(pleosim.Malformed)
			})
		})
	}
}

func TestCodeIsGoodOnceSoonAndForItsVerifier(t *testing.T) {
	for _, row := range []struct {
		name string
		kind pleosim.Kind // none: refused without a violation
		do   func(w *world, code string) reply
	}{
		{"another verifier", "", func(w *world, code string) reply { return w.exchange(code, verifier+"x", callback) }},
		{"short verifier", pleosim.Malformed, func(w *world, code string) reply { return w.exchange(code, "short", callback) }},
		{"another redirect", pleosim.Malformed, func(w *world, code string) reply { return w.exchange(code, verifier, callback+"/") }},
		{"unknown code", "", func(w *world, _ string) reply { return w.exchange("never-issued", verifier, callback) }},
		{"a minute later", "", func(w *world, code string) reply {
			time.Sleep(time.Minute)
			return w.exchange(code, verifier, callback)
		}},
		{"twice", pleosim.Reuse, func(w *world, code string) reply {
			pair := w.exchange(code, verifier, callback)
			again := w.exchange(code, verifier, callback)
			w.want(w.call("GET", "/v1/companies", pair.text("access_token"), ""), 401)
			return again
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			inBubble(t, pleosim.Options{AutoConsent: true}, func(w *world) {
				_, back := w.authorize("GET", loginQuery(), "")
				r := row.do(w, back.Get("code"))
				w.want(r, 400)
				if r.text("error") != "invalid_grant" {
					w.Errorf("error = %q", r.text("error"))
				}
				if row.kind == "" {
					w.quiet()
				} else {
					w.complained(row.kind)
				}
			})
		})
	}
}
