package tokens

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pleo-sidecar/tokens/pleosim"
)

// A lost answer (or a restarted store) leaves a record that introspection has
// found active. Nobody calls: the refresh token aged out, for the keeper took a
// settled doubt for the end of its work.
func TestSettledDoubtIsKeptAliveToo(t *testing.T) {
	for name, doubt := range map[string]func(f *fleet, p *pod){
		"store restarted": func(f *fleet, _ *pod) { f.shelf.failover(0) },
		"answer lost": func(f *fleet, p *pod) {
			time.Sleep(14*time.Minute + 30*time.Second) // the lead: the old token serves while in doubt
			f.sim.Token.Next(pleosim.AnswerOnly(http.StatusBadGateway))
			p.mustCall()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, pleosim.Options{RefreshLife: 48 * time.Hour})
				p := f.start("a")
				p.mustCall()
				synctest.Wait() // a new token serves before it is saved
				doubt(f, p)
				time.Sleep(240 * time.Hour)
				p.mustCall()
			})
		})
	}
}

// The upstream answers 401 to everything, and saving takes a tenth of a second.
// The pair that serves before it is saved was not braked: each refresh caused the
// next one, for as long as calls came.
func TestBrakeHoldsForAPairThatIsNotSavedYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		p := f.start("a")
		p.mustCall()
		time.Sleep(time.Minute)
		p.store.setBefore(func(op string, _ Record) error {
			if op == "save ok" {
				time.Sleep(100 * time.Millisecond) // a disk that is busy
			}
			return nil
		})
		f.sim.Resource.Always(pleosim.Fault{Status: http.StatusUnauthorized})
		var callers sync.WaitGroup
		for range 8 {
			callers.Go(func() {
				for begun := time.Now(); time.Since(begun) < 3*time.Second; time.Sleep(20 * time.Millisecond) {
					_, _ = p.call()
				}
			})
		}
		callers.Wait()
		if got := f.rotations(); got != 2 {
			t.Errorf("%d rotations in 3 s of calls that are always rejected, want 2", got)
		}
	})
}

// A token of two seconds is younger than the brake all its life. A slow call that
// arrives after its end is rejected for its age, and a refresh cures that.
func TestEndedTokenIsNotBraked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{AccessLife: 2 * time.Second})
		p := f.start("a")
		token, err := p.source.Token(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2100 * time.Millisecond) // the caller's body takes its time
		if status, err := p.get(token); status != http.StatusUnauthorized || err != nil {
			t.Fatalf("status %d, %v; want the simulator's 401", status, err)
		}
		fresh, err := p.source.Refresh(context.Background(), token)
		if err != nil || fresh.SameAccess(token) {
			t.Errorf("Refresh returned the ended token again (%v): the caller sees a 401 caused by age", err)
		}
	})
}

// Pleo asked for an hour of rest, then a person imported a new grant.
func TestLoginEndsABackOff(t *testing.T) {
	for name, fault := range map[string]pleosim.Fault{
		"in a flight": {Status: http.StatusServiceUnavailable, RetryAfter: "3600"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, pleosim.Options{})
				a, b := f.start("a"), f.start("b")
				a.mustCall()
				time.Sleep(20 * time.Minute)
				f.sim.Token.Next(fault)
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				_, _ = a.source.Token(ctx)
				if err := b.conns.Replace(context.Background(), "default", NewSecret(f.sim.Grant())); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				began := time.Now()
				if status, err := a.call(); status != http.StatusOK {
					t.Errorf("after %v: status %d, %v; want 200: the login heals at once", time.Since(began), status, err)
				}
			})
		})
	}
}

// The last try of a flight is answered with Retry-After; its grant was replaced
// while it ran. The hold-off is that of the old grant.
func TestHoldOffOfAnOldGrantDoesNotOutliveALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		f.tune = func(o *Options) { o.Timing.Attempts = 1 }
		a, b := f.start("a"), f.start("b")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		fresh := NewSecret(f.sim.Grant())
		f.sim.Token.Next(pleosim.Fault{Status: http.StatusServiceUnavailable, RetryAfter: "3600", Delay: time.Second})
		go func() { _, _ = a.source.Token(context.Background()) }()
		time.Sleep(500 * time.Millisecond)
		if err := b.conns.Replace(context.Background(), "default", fresh); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if status, err := a.call(); status != http.StatusOK {
			t.Errorf("status %d, %v (retry after %v); want 200: the login heals at once", status, err, RetryAfter(err))
		}
	})
}

// The same Redis process is master again after another was (run_id survives a
// demotion): its clock must start anew, or quiet is over before it began.
func TestRunThatComesBackIsQuietAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a, b := f.start("a"), f.start("b")
		a.mustCall()
		synctest.Wait()     // a new token serves before it is saved
		f.shelf.failover(0) // run-2
		time.Sleep(20 * time.Minute)
		a.mustCall()
		time.Sleep(20 * time.Minute)
		f.sim.Token.Next(pleosim.Fault{Delay: 2 * time.Second})
		f.sim.On(pleosim.AtToken, pleosim.Arrived, func(pleosim.Event) {
			go func() {
				a.kill()
				f.shelf.mu.Lock()
				f.shelf.run = 1 // back to the first master; nothing is lost
				f.shelf.wakeAll()
				f.shelf.mu.Unlock()
			}()
		})
		go func() { _, _ = a.call() }()
		time.Sleep(50 * time.Millisecond)
		_, _ = b.call()
		time.Sleep(10 * time.Second) // the simulator fails the test when a's request meets b's
		b.mustFail(ErrLoginRequired)
	})
}

// An absent record has no mark that tells one absence from the next: b saw none,
// missed the events of a first rotation, and sees none again after a FLUSHALL.
func TestSeedWaitsQuietFromTheMomentItIsWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		f.tune = func(o *Options) { o.SharedStore = true }
		b := f.start("b")
		b.store.deafen()
		time.Sleep(time.Minute)
		a := f.start("a")
		f.sim.Token.Next(pleosim.Fault{Delay: 2 * time.Second})
		f.sim.On(pleosim.AtToken, pleosim.Arrived, func(pleosim.Event) {
			go func() {
				a.kill()
				f.shelf.flush()
			}()
		})
		go func() { _, _ = a.call() }()
		time.Sleep(testQuiet + 100*time.Millisecond)
		_, _ = b.call()
		time.Sleep(10 * time.Second) // the simulator fails the test when a's request meets b's
		b.mustFail(ErrLoginRequired)
	})
}

// Old token in its lead, doubt settled: each call took the mutex, made a view and
// woke everybody.
func TestTokenIsWarmWhileDoubtIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		p := f.start("a")
		p.mustCall()
		synctest.Wait() // a new token serves before it is saved
		f.shelf.failover(0)
		time.Sleep(14*time.Minute + 30*time.Second) // within the lead
		p.mustCall()
		synctest.Wait()
		before := p.source.view.Load()
		for range 10 {
			if _, err := p.source.Token(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		if p.source.view.Load() != before {
			t.Error("each call makes the view anew")
		}
	})
}

// A pair is held, the store is away, the pair has ended.
func TestHeldPairThatEndedSaysThatTheStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		f.sim.On(pleosim.AtToken, pleosim.AfterRotate, func(pleosim.Event) { a.store.cut(errors.New("connection refused")) })
		a.mustCall()
		time.Sleep(20 * time.Minute)
		began := time.Now()
		_, err := a.call()
		if !errors.Is(err, ErrStoreUnavailable) {
			t.Errorf("after %v: %v; want ErrStoreUnavailable", time.Since(began), err)
		}
		t.Logf("waited %v", time.Since(began))
	})
}

// The caller left: that is no fault of the store.
func TestCallerThatLeftIsToldSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		var slow *slowStore
		f.tune = func(o *Options) { slow = &slowStore{Store: o.Store}; o.Store = slow }
		p := f.start("a")
		p.mustCall()
		token := p.source.view.Load().token
		slow.set(time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if _, err := p.source.Refresh(ctx, token); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrStoreUnavailable) {
			t.Errorf("Refresh: %v; want the caller's own deadline", err)
		}
		ctx, cancel = context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if _, err := p.conns.Open(ctx, "other"); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrStoreUnavailable) {
			t.Errorf("Open: %v; want the caller's own deadline", err)
		}
	})
}

// slowStore takes its time, and ends early with the context as a network store
// does; what it was told to save lands all the same.
type slowStore struct {
	Store
	mu    sync.Mutex
	delay time.Duration
	fail  func(name string) error
	loads map[string]int
}

func (s *slowStore) set(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = d
}

func (s *slowStore) wait(ctx context.Context) error {
	s.mu.Lock()
	d := s.delay
	s.mu.Unlock()
	if d == 0 {
		return nil
	}
	return pause(ctx, d)
}

func (s *slowStore) Load(ctx context.Context, name string) (Record, error) {
	s.mu.Lock()
	if s.loads == nil {
		s.loads = map[string]int{}
	}
	s.loads[name]++
	fail := s.fail
	s.mu.Unlock()
	if err := s.wait(ctx); err != nil {
		return Record{}, err
	}
	if fail != nil {
		if err := fail(name); err != nil {
			return Record{}, err
		}
	}
	return s.Store.Load(ctx, name)
}

func (s *slowStore) Save(ctx context.Context, name string, rec Record) error {
	err := s.Store.Save(ctx, name, rec)
	if w := s.wait(ctx); w != nil {
		return w
	}
	return err
}

// A grant is revoked seconds after its token was issued. The brake spends nothing,
// and neither does introspection: the very call learns that a login is required.
func TestGrantRevokedWhileItsTokenIsYoungRequiresLoginAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		f.sim.Revoke("")
		a.mustFail(ErrLoginRequired)
	})
}

// The upstream's 401 has nothing to do with the grant: one introspection tells.
func TestBrakeAsksAboutATokenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		before := f.sim.Ledger().Introspections
		f.sim.Resource.Always(pleosim.Fault{Status: http.StatusUnauthorized})
		f.sim.Introspect.Always(pleosim.Fault{Delay: 50 * time.Millisecond})
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				for range 5 {
					if status, err := a.call(); status != http.StatusUnauthorized || err != nil {
						t.Errorf("status %d, %v; want the upstream's own 401", status, err)
					}
				}
			})
		}
		callers.Wait()
		if got := f.sim.Ledger().Introspections - before; got != 1 || f.rotations() != 1 {
			t.Errorf("%d introspections, %d rotations; want 1, 1", got, f.rotations())
		}
	})
}

// A server that answers each refresh with the access token it gave before: what
// was rejected stays rejected, and rotating again and again cures nothing.
func TestSameAccessTokenAgainIsNotRefreshedInALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		var asked atomic.Int64
		f.wire = func(string, wireFunc) wireFunc {
			return func(context.Context, string, string) (net.Conn, error) {
				ours, theirs := net.Pipe()
				go func() {
					defer theirs.Close()
					request, err := http.ReadRequest(bufio.NewReader(theirs))
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, request.Body)
					body := `{"active":true}`
					if request.URL.Path == "/oauth/token" {
						time.Sleep(50 * time.Millisecond)
						body = fmt.Sprintf(`{"access_token":"always-the-same","refresh_token":"refresh-%d","expires_in":900}`, asked.Add(1))
					}
					fmt.Fprintf(theirs, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
				}()
				return ours, nil
			}
		}
		p := f.start("a")
		token, err := p.source.Token(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		before := asked.Load()
		_, err = p.source.Refresh(context.Background(), token)
		if got := asked.Load() - before; got > 2 {
			t.Errorf("%d refreshes for one rejected call (%v)", got, err)
		}
	})
}

// Rule Intro4xx without introspection: a proxy's 403 has no error code of RFC
// 6749 5.2. It is a lost answer, for which there is a policy; it is no verdict.
func TestRefusalByAProxyCostsNoGrantWithoutIntrospection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		f.tune = func(o *Options) { o.Endpoint = f.endpointWithoutIntrospection() }
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		f.sim.Token.Next(pleosim.ProxyForbids())
		a.eventually(20 * time.Second)
	})
}
