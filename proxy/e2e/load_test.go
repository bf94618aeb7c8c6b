package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"pleo-sidecar/tokens/pleosim"
)

var (
	loadTime  = flag.Duration("load", 5*time.Second, "how long the load lasts")
	killSteps = flag.Int("kills", 5, "at how many moments of a refresh a process is killed")
)

// TestLoadAcrossRotationsSeesNoError lets 64 callers go on without a pause while
// tokens live two seconds and a refresh takes a fifth of one.
func TestLoadAcrossRotationsSeesNoError(t *testing.T) {
	for name, fault := range map[string]pleosim.Fault{
		"slow to rotate": {Delay: 200 * time.Millisecond},
		"slow to answer": {Delay: 200 * time.Millisecond, After: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, pleosim.Options{AccessLife: 2 * time.Second}).with("REFRESH_LEAD=600ms",
				"REFRESH_SEND_WINDOW=500ms", "REFRESH_NETWORK_LIFE=1500ms", "REFRESH_TIMEOUT=2s", "LOG_LEVEL=info")
			w.Token.Always(fault)
			w.start().stop()
			w.grantTo("default")
			s := w.start()
			statuses := s.load(64, *loadTime)
			s.stop()

			served := statuses["200"]
			if len(statuses) != 1 || served == 0 {
				t.Errorf("answers %v, want nothing but 200", statuses)
			}
			grant := w.Ledger().Grants[0]
			for i, refresh := range grant.RefreshTokens {
				if n := len(refresh.Presented); n != 1 && i < len(grant.RefreshTokens)-1 {
					t.Errorf("refresh token %d was presented %d times", refresh.Ordinal, n)
				}
			}
			if least := int(*loadTime / (2 * time.Second)); grant.Rotations < least {
				t.Errorf("%d rotations, want at least %d", grant.Rotations, least)
			}
			t.Logf("%d calls served across %d rotations; Pleo refused %v", served, grant.Rotations, w.Ledger().APIRefused)
		})
	}
}

// load makes calls with so many callers for so long, and counts the answers.
func (s *sidecar) load(callers int, duration time.Duration) map[string]int {
	var mu sync.Mutex
	statuses := map[string]int{}
	transport := &http.Transport{MaxIdleConnsPerHost: callers}
	defer transport.CloseIdleConnections()
	end := time.Now().Add(duration)
	var running sync.WaitGroup
	for range callers {
		running.Go(func() {
			for time.Now().Before(end) {
				status := s.once(transport)
				mu.Lock()
				statuses[status]++
				mu.Unlock()
			}
		})
	}
	running.Wait()
	return statuses
}

func (s *sidecar) once(transport *http.Transport) string {
	r, err := http.NewRequestWithContext(s.Context(), http.MethodGet, s.callers+"/v2/employees", nil)
	if err != nil {
		return err.Error()
	}
	res, err := transport.RoundTrip(r)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err.Error()
	}
	if slug := res.Header.Get("Pleo-Sidecar-Error"); slug != "" {
		return fmt.Sprintf("%d %s", res.StatusCode, slug)
	}
	return fmt.Sprint(res.StatusCode)
}

// TestKilledAtEveryStepOfARefresh kills the process at moments spread over a
// refresh: looking, connecting, claiming, on the way, rotated, answered, saved.
// Started again it goes on, if need be after the quiet time; it says login
// required only if Pleo rotated and the pair died with the process.
func TestKilledAtEveryStepOfARefresh(t *testing.T) {
	const whole = 260 * time.Millisecond // of a refresh that Pleo takes 200 ms for
	for name, fault := range map[string]pleosim.Fault{
		"rotated late":  {Delay: 200 * time.Millisecond},
		"rotated early": {Delay: 200 * time.Millisecond, After: true},
		"never rotated": {Delay: 200 * time.Millisecond, Cut: true},
	} {
		for step := range *killSteps {
			after := whole * time.Duration(step) / time.Duration(*killSteps)
			t.Run(fmt.Sprintf("%s, %v", name, after), func(t *testing.T) {
				w := newWorld(t, pleosim.Options{AccessLife: time.Second}).with("REFRESH_LEAD=300ms",
					"REFRESH_SEND_WINDOW=300ms", "REFRESH_NETWORK_LIFE=700ms", "REFRESH_TIMEOUT=900ms")
				w.start().stop()
				w.grantTo("default")
				s := w.start()
				s.want(whoami, 200)
				<-time.After(1100 * time.Millisecond) // the token's life, unused
				w.Token.Next(fault)
				s.later(whoami)
				<-time.After(after)
				s.kill()

				s = w.start()
				var last response
				until(t, func() bool {
					last = s.get(whoami)
					return last.status == 200 || last.slug() == "login-required"
				})
				s.stop()
				rotations, saved := w.Ledger().Grants[0].Rotations, w.generation()
				if last.status != 200 && saved >= rotations {
					t.Errorf("login required, although all of %d rotations were saved", rotations)
				}
				t.Logf("%d rotations, generation %d saved, then %d %s", rotations, saved, last.status, last.slug())
			})
		}
	}
}

// generation is what the store holds of the default connection.
func (w *world) generation() int {
	w.Helper()
	_, out := w.run("", "status", "--json")
	var connections []struct{ Generation int }
	// A login that is required is told on the same stream, behind the document.
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&connections); err != nil || len(connections) != 1 {
		w.Fatalf("status: %v: %s", err, out)
	}
	return connections[0].Generation
}
