package pleosim_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pleo-sidecar/tokens/pleosim"
)

func TestLostAnswerSpendsTheTokenAndIsTrulyLost(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		first := w.Grant()
		w.Token.Next(pleosim.LoseAnswer())
		if r := w.refresh(first); r.err == nil {
			w.Fatalf("answered %d, want a cut connection", r.status)
		}
		if w.active(first) != false {
			w.Error("the spent token is still active")
		}
		g := w.Ledger().Grants[0]
		if !g.Lost() || g.RefreshTokens[1].Answer != "lost: cut" {
			w.Errorf("lost %t, answer %q; want the pair truly lost", g.Lost(), g.RefreshTokens[1].Answer)
		}
		w.quiet()
	})
}

func TestCutBeforeReadingSpendsNothing(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		first := w.Grant()
		w.Token.Next(pleosim.CutUnread())
		if r := w.refresh(first); r.err == nil {
			w.Fatalf("answered %d, want a cut connection", r.status)
		}
		w.want(w.refresh(first), 200)
		if n := len(w.Ledger().Grants[0].RefreshTokens[0].Presented); n != 1 {
			w.Errorf("presented %d times, want 1", n)
		}
		w.quiet()
	})
}

func TestStatusTellsNothingAboutRotation(t *testing.T) {
	for _, row := range []struct {
		name    string
		fault   pleosim.Fault
		rotated bool
	}{
		{"503 instead", pleosim.Fault{Status: 503, RetryAfter: "7"}, false},
		{"503 after", pleosim.Fault{Status: 503, RetryAfter: "7", After: true}, true},
		{"400 instead", pleosim.AnswerOnly(400), false},
		{"400 after", pleosim.WorkThenAnswer(400), true},
		{"proxy", pleosim.ProxyForbids(), false},
		{"429", pleosim.AnswerOnly(429), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			inBubble(t, pleosim.Options{}, func(w *world) {
				first := w.Grant()
				w.Token.Next(row.fault)
				r := w.refresh(first)
				w.want(r, row.fault.Status)
				if got := r.header.Get("Retry-After"); got != row.fault.RetryAfter {
					w.Errorf("Retry-After = %q, want %q", got, row.fault.RetryAfter)
				}
				if html := strings.Contains(string(r.body), "<html>"); html != row.fault.Proxy {
					w.Errorf("content %q, HTML wanted: %t", r.body, row.fault.Proxy)
				}
				if w.active(first) != !row.rotated {
					w.Errorf("rotated = %t, want %t", row.rotated, !row.rotated)
				}
				if lost := w.Ledger().Grants[0].Lost(); lost != row.rotated {
					w.Errorf("lost = %t, want %t", lost, row.rotated)
				}
				w.quiet()
			})
		})
	}
}

func TestLateRotationCountsAsRunningUntilItIsDone(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		first := w.Grant()
		w.Token.Next(pleosim.RotateLater(time.Minute))
		w.want(w.refresh(first), 504)
		time.Sleep(59 * time.Second)
		if w.active(first) != true {
			w.Error("rotated too early")
		}
		time.Sleep(2 * time.Second)
		newest := w.Ledger().Grants[0].RefreshTokens[1]
		if w.active(first) != false || newest.Answer != "lost: rotated late" {
			w.Errorf("not rotated after its time, or not lost: %+v", newest)
		}
		w.quiet()
	})
}

func TestPresentingDuringALateRotationIsConcurrentAndThenReuse(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		first := w.Grant()
		w.Allow(pleosim.Reuse)
		w.Token.Next(pleosim.RotateLater(time.Minute))
		w.refresh(first)
		w.want(w.refresh(first), 200)
		time.Sleep(2 * time.Minute)
		if got := w.Ledger().Grants[0].Revoked; got != pleosim.RevokedReuse {
			w.Errorf("revoked = %q, want %q: the late one found a spent token", got, pleosim.RevokedReuse)
		}
		w.complained(pleosim.Concurrent)
	})
}

func TestDelayedRequestIsPresentedOnlyWhenItArrives(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		first := w.Grant()
		w.Token.Next(pleosim.Fault{Delay: time.Minute})
		w.http.Timeout = 10 * time.Second
		if r := w.refresh(first); r.err == nil {
			w.Fatal("answered within ten seconds")
		}
		if n := len(w.Ledger().Grants[0].RefreshTokens[0].Presented); n != 0 {
			w.Errorf("presented %d times while still on its way, want 0", n)
		}
		time.Sleep(time.Minute)
		g := w.Ledger().Grants[0]
		if len(g.RefreshTokens) != 2 || g.RefreshTokens[1].Answer != "lost: the client was gone" {
			w.Errorf("want one rotation whose answer found nobody, got %+v", g.RefreshTokens)
		}
	})
}

func TestGarbledAnswersRotateAndCannotBeRead(t *testing.T) {
	for _, kind := range []pleosim.Garble{
		pleosim.GarbleJSON, pleosim.GarbleEmpty, pleosim.GarbleTruncated, pleosim.GarbleHuge,
		pleosim.GarbleNoAccess, pleosim.GarbleHTML,
	} {
		t.Run(string(kind), func(t *testing.T) {
			inBubble(t, pleosim.Options{}, func(w *world) {
				first := w.Grant()
				w.Token.Next(pleosim.Fault{Garble: kind})
				r := w.refresh(first)
				small := len(r.body) < 1<<20
				if r.status != 200 || small && r.err == nil && r.text("access_token") != "" {
					w.Errorf("status %d, %d bytes, access token %q: readable", r.status, len(r.body), r.text("access_token"))
				}
				if small == (kind == pleosim.GarbleHuge) {
					w.Errorf("%d bytes", len(r.body))
				}
				if w.active(first) != false || !w.Ledger().Grants[0].Lost() {
					w.Error("want it rotated and lost")
				}
			})
		})
	}
}

func TestFollowedRedirectIsAViolation(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		w.Token.Next(pleosim.AnswerOnly(307))
		w.http.CheckRedirect = nil
		w.want(w.refresh(w.Grant()), 404)
		w.complained(pleosim.Redirected)
	})
}

func TestHeldRequestWaitsForRelease(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		first := w.Grant()
		w.Token.Next(pleosim.Fault{Hold: true, After: true})
		answered := make(chan reply, 1)
		go func() { answered <- w.refresh(first) }()
		synctest.Wait()
		if w.Held() != 1 || len(answered) != 0 || w.active(first) != false {
			w.Errorf("held %d, answered %d; want it rotated and held", w.Held(), len(answered))
		}
		w.Release()
		w.want(<-answered, 200)
		w.quiet()
	})
}

func TestCloseEndsDelaysHoldsAndLateRotations(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		for _, f := range []pleosim.Fault{{Hold: true}, {Delay: time.Hour}, pleosim.RotateLater(time.Hour)} {
			w.Token.Next(f)
			go w.refresh(w.Grant())
			synctest.Wait()
		}
		began := time.Now()
		w.Close()
		synctest.Wait()
		if waited := time.Since(began); waited != 0 {
			w.Errorf("Close took %s", waited)
		}
	})
}

func TestHooksRunInOrderAndNameTheGrant(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		var seen []string
		for _, point := range []pleosim.Point{
			pleosim.Arrived, pleosim.BeforeRotate, pleosim.AfterRotate, pleosim.BeforeAnswer,
		} {
			w.On(pleosim.AtToken, point, func(e pleosim.Event) {
				_, live := w.Pair("g1")
				seen = append(seen, string(e.Point)+" "+e.Grant)
				if live == "" {
					w.Error("the Sim cannot be asked from a hook")
				}
			})
		}
		w.want(w.refresh(w.Grant()), 200)
		got := strings.Join(seen, ", ")
		if want := "arrived , before rotate g1, after rotate g1, before answer g1"; got != want {
			w.Errorf("hooks ran %q, want %q", got, want)
		}
	})
}

func TestQueueBeatsAlwaysBeatsChance(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		access, _ := w.Pair(w.Grant())
		w.Resource.Chance(1, pleosim.AnswerOnly(500))
		w.want(w.call("GET", "/v1/companies", access, ""), 500)
		w.Resource.Always(pleosim.AnswerOnly(403))
		w.Resource.Next(pleosim.Fault{Status: 401, Times: 2})
		for _, status := range []int{401, 401, 403, 403} {
			w.want(w.call("GET", "/v1/companies", access, ""), status)
		}
		w.Resource.Clear()
		w.want(w.call("GET", "/v1/companies", access, ""), 200)
		if got := w.Ledger().APIRefused["fault"]; got != 2 {
			w.Errorf("refused by fault %d, want 2", got)
		}
	})
}

func TestChancesFollowTheSeed(t *testing.T) {
	run := func() (statuses []int) {
		inBubble(t, pleosim.Options{Seed: 42}, func(w *world) {
			access, _ := w.Pair(w.Grant())
			w.Resource.Chance(0.5, pleosim.AnswerOnly(500))
			for range 20 {
				statuses = append(statuses, w.call("GET", "/v1/companies", access, "").status)
			}
		})
		return statuses
	}
	one, two, failed := run(), run(), 0
	for i := range one {
		if one[i] != two[i] {
			t.Fatalf("call %d: %d and %d from one seed", i, one[i], two[i])
		}
		if one[i] == 500 {
			failed++
		}
	}
	if failed == 0 || failed == len(one) {
		t.Errorf("%d of %d calls failed, want a mixture", failed, len(one))
	}
}

func TestHostileAnswersStayLegal(t *testing.T) {
	inBubble(t, pleosim.Options{Hostile: true, Seed: 1}, func(w *world) {
		token, oddities := w.Grant(), map[string]bool{}
		for range 30 {
			r := w.refresh(token)
			w.want(r, 200)
			token = r.text("refresh_token")
			_, isText := r.json["expires_in"].(string)
			oddities["expires_in as text"] = oddities["expires_in as text"] || isText
			oddities["unknown member"] = oddities["unknown member"] || r.json["x_unknown"] != nil
			oddities["no length"] = oddities["no length"] || r.header.Get("Content-Length") == ""
			oddities["long token"] = oddities["long token"] || len(token) > 2000
			if got := r.header.Get("Content-Type"); got != "application/json;charset=UTF-8" {
				w.Errorf("Content-Type = %q", got)
			}
			w.want(w.call("GET", "/v1/companies", r.text("access_token"), ""), 200)
		}
		for name, seen := range oddities {
			if !seen {
				w.Errorf("never saw: %s", name)
			}
		}
		w.quiet()
	})
}

func TestIntrospectionLiesLagsAndFails(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		first := w.Grant()
		time.Sleep(time.Hour)
		next := w.refresh(first).text("refresh_token")
		time.Sleep(time.Second)
		ask := func(f pleosim.Fault, token string) any {
			w.Introspect.Next(f)
			return w.active(token)
		}
		for _, row := range []struct {
			name  string
			fault pleosim.Fault
			token string
			want  any
		}{
			{"truth, spent", pleosim.Fault{}, first, false},
			{"truth, live", pleosim.Fault{}, next, true},
			{"lie, spent", pleosim.Fault{Lie: "active"}, first, true},
			{"lie, live", pleosim.Fault{Lie: "inactive"}, next, false},
			{"lag, spent", pleosim.Fault{Lag: time.Minute}, first, true},
			{"lag, live", pleosim.Fault{Lag: time.Minute}, next, false},
			{"failing", pleosim.AnswerOnly(500), next, nil},
			{"missing", pleosim.AnswerOnly(404), next, nil},
			{"cut", pleosim.CutUnread(), next, nil},
		} {
			if got := ask(row.fault, row.token); got != row.want {
				w.Errorf("%s: active = %v, want %v", row.name, got, row.want)
			}
		}
		w.quiet()
	})
}

func TestIntrospectionAnswersAsPleoDocuments(t *testing.T) {
	inBubble(t, pleosim.Options{}, func(w *world) {
		access, refresh := w.Pair(w.Grant())
		for _, token := range []string{access, refresh} {
			r := w.post(introspectURL, url.Values{"token": {token}, "token_type_hint": {"refresh_token"}})
			w.want(r, 200)
			for _, member := range []string{"active", "sub", "exp", "iat", "client_id", "aud", "iss", "jti", "urn:pleo:params:oauth:subject_urn"} {
				if r.json[member] == nil {
					w.Errorf("no %s in %s", member, r.body)
				}
			}
		}
		unknown := w.post(introspectURL, url.Values{"token": {"never-issued"}})
		if got, _ := json.Marshal(unknown.json); string(got) != `{"active":false}` {
			w.Errorf("unknown token: %s", got)
		}
		w.want(w.refresh(refresh), 200)
		w.quiet()
	})
}

func TestIntrospectionWantsBasicEvenWhereTheTokenEndpointWantsPost(t *testing.T) {
	inBubble(t, pleosim.Options{ClientAuth: "post"}, func(w *world) {
		if w.active(w.Grant()) != true {
			w.Error("Basic was refused")
		}
		w.quiet()
	})
}

func TestDateIsSkewed(t *testing.T) {
	inBubble(t, pleosim.Options{Skew: time.Hour}, func(w *world) {
		access, _ := w.Pair(w.Grant())
		w.Resource.Next(pleosim.Fault{Skew: time.Hour})
		date, err := time.Parse(time.RFC1123, w.call("GET", "/v1/companies", access, "").header.Get("Date"))
		if off := time.Until(date).Round(time.Minute); err != nil || off != 2*time.Hour {
			w.Errorf("Date is %s ahead (%v), want 2h", off, err)
		}
	})
}
