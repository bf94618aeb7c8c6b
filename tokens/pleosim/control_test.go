package pleosim_test

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"pleo-sidecar/tokens/pleosim"
)

// order sends one control request and decodes the answer into result.
func (w *world) order(method, path, body string, result any) int {
	w.Helper()
	rec := httptest.NewRecorder()
	w.Control().ServeHTTP(rec, httptest.NewRequestWithContext(w.Context(), method, path, strings.NewReader(body)))
	if result != nil {
		if err := json.NewDecoder(bytes.NewReader(rec.Body.Bytes())).Decode(result); err != nil {
			w.Fatalf("%s %s: %v in %s", method, path, err, rec.Body)
		}
	}
	return rec.Code
}

func TestControlDoesWhatTheProgramsUsersNeed(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		var made struct {
			Grant   string `json:"grant"`
			Subject string `json:"subject"`
			Refresh string `json:"refresh_token"`
			Access  string `json:"access_token"`
		}
		w.order("POST", "/sim/grants", `{"subject":"urn:pleo:company:acme"}`, &made)
		if made.Grant != "g1" || made.Subject != "urn:pleo:company:acme" {
			w.Fatalf("made %+v", made)
		}
		w.order("POST", "/sim/expire", `{"grant":"g1"}`, nil)
		w.want(w.call("GET", "/v1/companies", made.Access, ""), 401)

		w.order("POST", "/sim/faults", `{"place":"token","faults":[{"status":503,"delay":"3s","times":2}]}`, nil)
		w.want(w.refresh(made.Refresh), 503)
		w.order("DELETE", "/sim/faults", "", nil)
		next := w.refresh(made.Refresh)
		w.want(next, 200)

		w.order("POST", "/sim/secret", `{"secret":"changed"}`, nil)
		w.want(w.refresh(next.text("refresh_token")), 401)
		w.order("POST", "/sim/secret", `{"secret":"pleosim-secret"}`, nil)

		w.order("POST", "/sim/revoke", `{"grant":"g1"}`, nil)
		w.want(w.refresh(next.text("refresh_token")), 400)
		var seen struct {
			Clean  bool           `json:"clean"`
			Ledger pleosim.Ledger `json:"ledger"`
		}
		w.order("GET", "/sim/ledger", "", &seen)
		if !seen.Clean || seen.Ledger.Grants[0].Rotations != 1 || seen.Ledger.APIRefused["expired"] != 1 {
			w.Errorf("ledger %+v", seen)
		}
		w.order("POST", "/sim/allow", `{"kinds":["dead-again"]}`, nil)
		w.refresh(next.text("refresh_token"))
		w.refresh("refresh token of nobody")
		var violations []pleosim.Violation
		w.order("GET", "/sim/violations", "", &violations)
		if len(violations) != 0 {
			w.Errorf("violations %v, want none that was not allowed", violations)
		}
	})
}

func TestControlHoldsAndReleases(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		w.order("POST", "/sim/hold", `{"place":"token","after":true}`, nil)
		answered := make(chan reply, 1)
		go func() { answered <- w.refresh(w.Grant()) }()
		held := struct{ Held int }{}
		for held.Held == 0 {
			w.order("GET", "/sim/hold", "", &held)
		}
		w.order("DELETE", "/sim/hold", "", nil)
		w.want(<-answered, 200)
	})
}

func TestControlRefusesWhatItDoesNotKnow(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		for _, body := range []string{
			`{"place":"nowhere"}`, `{"plaec":"token"}`, `{"place":"token","mode":"never","faults":[{}]}`,
			`{"place":"token","faults":[{"delay":"3"}]}`, `{"place":"token","faults":[{"statsu":503}]}`, `[]`,
		} {
			if code := w.order("POST", "/sim/faults", body, nil); code != 400 {
				w.Errorf("%s: %d, want 400", body, code)
			}
		}
	})
}
