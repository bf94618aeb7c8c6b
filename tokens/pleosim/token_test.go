package pleosim_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pleo-sidecar/tokens/pleosim"
)

func TestRefreshKillsAllEarlierTokensAtOnce(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		first := w.Grant()
		access, _ := w.Pair(first)
		w.want(w.call("GET", "/v1/companies", access, ""), 200)
		next := w.refresh(first)
		w.want(next, 200)
		w.want(w.call("GET", "/v1/companies", access, ""), 401)
		w.want(w.call("GET", "/v1/companies", next.text("access_token"), ""), 200)
		if w.active(first) != false || w.active(next.text("refresh_token")) != true {
			w.Error("introspection disagrees: the spent one must be dead, the next one alive")
		}
		if next.json["expires_in"] != 900.0 {
			w.Errorf("expires_in = %v, want 900", next.json["expires_in"])
		}
		l := w.Ledger()
		if l.APIRefused["rotated"] != 1 || l.APIServed != 2 || l.Introspections != 2 || l.Grants[0].Rotations != 1 {
			w.Errorf("ledger counts are wrong: %+v", l)
		}
		w.quiet()
	})
}

func TestSpentRefreshTokenRevokesTheGrant(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		first := w.Grant()
		next := w.refresh(first)
		again := w.refresh(first)
		w.want(again, 400)
		if again.text("error") != "invalid_grant" {
			w.Errorf("error = %q, want invalid_grant", again.text("error"))
		}
		w.want(w.call("GET", "/v1/companies", next.text("access_token"), ""), 401)
		if w.active(next.text("refresh_token")) != false {
			w.Error("the newest refresh token survived the reuse")
		}
		if got := w.Ledger().Grants[0].Revoked; got != pleosim.RevokedReuse {
			w.Errorf("revoked = %q, want %q", got, pleosim.RevokedReuse)
		}
		w.complained(pleosim.Reuse)
	})
}

func TestExpectedReuseDoesNotFail(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		w.ExpectReuse()
		first := w.Grant()
		w.refresh(first)
		w.refresh(first)
		w.Close()
		if got := w.tb.complaints(); got != "" || len(w.Violations()) != 0 {
			w.Errorf("complaints %q, violations %v; want none", got, w.Violations())
		}
	})
}

func TestExpectedReuseMustHappen(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		w.ExpectReuse()
		w.Close()
		if !strings.Contains(w.tb.complaints(), "saw none") {
			w.Error("a reuse was expected, none came, and nobody complained")
		}
	})
}

func TestTwoRefreshesAtOnceAreAViolation(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		w.Allow(pleosim.Reuse)
		first := w.Grant()
		w.On(pleosim.AtToken, pleosim.BeforeRotate, func(pleosim.Event) { time.Sleep(time.Second) })
		done := make(chan reply)
		go func() { done <- w.refresh(first) }()
		time.Sleep(time.Second / 2)
		w.refresh(first)
		<-done
		if got := w.Ledger().Grants[0].MaxConcurrent; got != 2 {
			w.Errorf("max concurrent = %d, want 2", got)
		}
		w.complained(pleosim.Concurrent)
	})
}

func TestRefreshesInARowAreNotConcurrent(t *testing.T) {
	inBubble(t, pleosim.Options{Hostile: true, Seed: 3}, func(w *world) {
		token := w.Grant()
		for range 50 {
			next := w.refresh(token)
			w.want(next, 200)
			token = next.text("refresh_token")
		}
		w.quiet()
	})
}

func TestDeadTokenIsNotPresentedAgainAfterRefusal(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		first := w.Grant()
		w.Revoke(first)
		w.want(w.refresh(first), 400)
		w.quietViolations()
		w.want(w.refresh(first), 400)
		w.complained(pleosim.DeadAgain)
	})
}

// quietViolations is quiet without the judgement of the ledger.
func (w *world) quietViolations() {
	w.Helper()
	if v := w.Violations(); len(v) != 0 {
		w.Errorf("violations: %v", v)
	}
}

func TestRefusalThatWasLostMayBeAskedAgain(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		first := w.Grant()
		w.Revoke("")
		w.Token.Next(pleosim.LoseAnswer())
		w.refresh(first)
		w.want(w.refresh(first), 400)
		w.quiet()
	})
}

func TestAgedRefreshTokenRevokesTheGrant(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		first := w.Grant()
		time.Sleep(60 * 24 * time.Hour)
		if w.active(first) != false {
			w.Error("a refresh token of 60 days is still active")
		}
		w.want(w.refresh(first), 400)
		w.quietViolations()
		if got := w.Ledger().Grants[0].Revoked; got != pleosim.RevokedAged {
			w.Errorf("revoked = %q, want %q", got, pleosim.RevokedAged)
		}
	})
}

func TestAgingEndsTheRefreshTokenAndLeavesTheAccessToken(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		first := w.Grant()
		access, _ := w.Pair(first)
		w.Age(first)
		w.want(w.call("GET", "/v1/companies", access, ""), 200)
		if w.active(first) != false {
			w.Error("the aged refresh token is still active")
		}
		w.want(w.refresh(first), 400)
		w.want(w.call("GET", "/v1/companies", access, ""), 401)
	})
}

func TestMalformedGrantRequests(t *testing.T) {
	form := func(pairs ...string) url.Values {
		v := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"TOKEN"}}
		for i := 0; i < len(pairs); i += 2 {
			v.Add(pairs[i], pairs[i+1])
		}
		return v
	}
	query := func(r *http.Request) { r.URL.RawQuery = "x=1" }
	for _, row := range []struct {
		name string
		form url.Values
		edit func(*http.Request)
	}{
		{"extra scope", form("scope", "a"), nil},
		{"extra redirect_uri", form("redirect_uri", "http://x"), nil},
		{"repeated field", form("refresh_token", "TOKEN"), nil},
		{"repeated grant_type", form("grant_type", "refresh_token"), nil},
		{"client twice", form("client_id", "pleosim-client", "client_secret", "pleosim-secret"), nil},
		{"client id beside Basic", form("client_id", "pleosim-client"), nil},
		{"no token", url.Values{"grant_type": {"refresh_token"}}, nil},
		{"unknown grant type", url.Values{"grant_type": {"password"}}, nil},
		{"a query", form(), query},
		{"JSON", form(), func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }},
		{"no content type", form(), func(r *http.Request) { r.Header.Del("Content-Type") }},
		{"PUT", form(), func(r *http.Request) { r.Method = "PUT" }},
		{"two Authorization fields", form(), func(r *http.Request) { r.Header.Add("Authorization", "Basic eDp5") }},
	} {
		t.Run(row.name, func(t *testing.T) {
			inBubble(t, pleosim.Options{}, func(w *world) {
				token := w.Grant()
				for i := range row.form["refresh_token"] {
					row.form["refresh_token"][i] = token
				}
				edit := row.edit
				if edit == nil {
					edit = func(*http.Request) {}
				}
				r := w.post(tokenURL, row.form, edit)
				if row.name != "two Authorization fields" {
					w.want(r, 400)
					if n := len(w.Ledger().Grants[0].RefreshTokens[0].Presented); n != 0 {
						w.Errorf("a malformed request counts as %d presentations", n)
					}
				}
				w.complained(pleosim.Malformed)
			})
		})
	}
}

func TestAccessTokenIsNoRefreshToken(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		access, _ := w.Pair(w.Grant())
		w.want(w.refresh(access), 400)
		w.complained(pleosim.Malformed)
	})
}

func TestClientAuthIsOneMethodAndRefusalIsNoPresentation(t *testing.T) {
	inForm := url.Values{"client_id": {"pleosim-client"}, "client_secret": {"pleosim-secret"}}
	for _, row := range []struct {
		name, method string
		form         url.Values
		basic        bool
		status       int
	}{
		{"basic wanted, basic given", "basic", nil, true, 200},
		{"basic wanted, form given", "basic", inForm, false, 401},
		{"post wanted, form given", "post", inForm, false, 200},
		{"post wanted, basic given", "post", nil, true, 401},
		{"nothing given", "basic", nil, false, 401},
	} {
		t.Run(row.name, func(t *testing.T) {
			inBubble(t, pleosim.Options{ClientAuth: row.method}, func(w *world) {
				form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {w.Grant()}}
				for name, values := range row.form {
					form[name] = values
				}
				r := w.post(tokenURL, form, func(r *http.Request) {
					if !row.basic {
						r.Header.Del("Authorization")
					}
				})
				w.want(r, row.status)
				presented := len(w.Ledger().Grants[0].RefreshTokens[0].Presented)
				if refused := row.status == 401; refused != (presented == 0) || refused != (r.text("error") == "invalid_client") {
					w.Errorf("presented %d times, error %q", presented, r.text("error"))
				}
				w.quiet()
			})
		})
	}
}

func TestChangedSecretRefusesTheOldOneAndKeepsTheGrant(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		first := w.Grant()
		w.SetClientSecret("another-secret")
		r := w.refresh(first)
		w.want(r, 401)
		if r.text("error") != "invalid_client" || w.Ledger().ClientRefused != 1 {
			w.Errorf("error %q, refused %d", r.text("error"), w.Ledger().ClientRefused)
		}
		again := w.post(tokenURL, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first}},
			func(r *http.Request) { r.SetBasicAuth("pleosim-client", "another-secret") })
		w.want(again, 200)
		w.quiet()
	})
}

func TestIncompleteRequestIsNoPresentation(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		first := w.Grant()
		body := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first}}.Encode()
		transport, _ := w.http.Transport.(*http.Transport)
		conn, err := transport.DialContext(w.Context(), "tcp", pleosim.AuthAddr)
		if err != nil {
			w.Fatal(err)
		}
		_, err = fmt.Fprintf(conn, "POST /oauth/token HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %s\r\n"+
			"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s",
			base64.StdEncoding.EncodeToString([]byte("pleosim-client:pleosim-secret")), len(body)+1, body)
		if err != nil {
			w.Fatal(err)
		}
		_ = conn.Close()
		synctest.Wait()
		if n := len(w.Ledger().Grants[0].RefreshTokens[0].Presented); n != 0 {
			w.Errorf("presented %d times, want 0", n)
		}
		w.want(w.refresh(first), 200)
		w.quiet()
	})
}

// eager is a ResponseWriter that acts on the first byte of the answer, as a
// client on a fast network does.
type eager struct {
	discard
	once sync.Once
	act  func()
}

func (e *eager) Write(p []byte) (int, error) {
	e.once.Do(e.act)
	return len(p), nil
}

// direct calls the token endpoint with a ResponseWriter of the test's own.
func (w *world) direct(out http.ResponseWriter, token string) {
	w.Helper()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
	req := w.request("POST", "/oauth/token", form.Encode())
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("pleosim-client", "pleosim-secret")
	w.Auth().ServeHTTP(out, req)
}

// broken is a ResponseWriter whose network connection is gone.
type broken struct{ discard }

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestBrokenAnswerIsLostAndEndsItsRefreshOnce(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		first := w.Grant()
		w.direct(broken{discard{http.Header{}}}, first)
		if got := w.Ledger().Grants[0].RefreshTokens[1].Answer; got != "lost: broke off" {
			w.Errorf("answer = %q, want it lost", got)
		}
		_, next := w.Pair(first)
		w.Allow(pleosim.Concurrent, pleosim.Reuse)
		w.Token.Next(pleosim.Fault{Late: time.Hour}, pleosim.Fault{Late: time.Hour})
		w.refresh(next)
		w.refresh(next)
		if got := w.Ledger().Grants[0].MaxConcurrent; got != 2 {
			w.Errorf("max concurrent = %d, want 2: the broken one was counted off twice or never", got)
		}
	})
}

func TestRefreshIsOverBeforeItsAnswerIsOut(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		first := w.Grant()
		w.direct(&eager{discard: discard{http.Header{}}, act: func() {
			_, next := w.Pair(first)
			w.want(w.refresh(next), 200)
		}}, first)
		w.quiet()
	})
}

func TestOmittedRefreshTokenStaysGood(t *testing.T) {
	inBubble(t, pleosim.Options{OmitRefreshToken: true, StringExpiresIn: true, AccessLife: time.Minute}, func(w *world) {
		first := w.Grant()
		r := w.refresh(first)
		w.want(r, 200)
		if _, there := r.json["refresh_token"]; there || r.json["expires_in"] != "60" {
			w.Errorf("answer %v, want no refresh_token and expires_in \"60\"", r.json)
		}
		w.want(w.refresh(first), 200)
		w.want(w.call("GET", "/v1/companies", r.text("access_token"), ""), 401)
		w.quiet()
	})
}

func TestUnknownRefreshTokenIsNotClean(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		w.want(w.refresh("never-issued"), 400)
		w.quietViolations()
		if w.Ledger().Clean() == nil {
			w.Error("the ledger is clean, want a complaint")
		}
	})
}
