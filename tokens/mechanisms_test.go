package tokens

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pleo-sidecar/lock"
	"pleo-sidecar/tokens/pleosim"
)

// rotateNow refreshes a good token, as the keeper does.
func (p *pod) rotateNow() {
	p.source.mu.Lock()
	defer p.source.mu.Unlock()
	p.source.start(reasonKeepAlive, p.source.current()).wanted = true
}

func TestReplacedTokenIsNotBrakedHoweverYoung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		p := f.start("a")
		p.mustCall()
		old := p.source.view.Load().token
		p.rotateNow()
		synctest.Wait()
		fresh, err := p.source.Refresh(context.Background(), old)
		if err != nil || fresh.SameAccess(old) || f.rotations() != 2 {
			t.Errorf("got the replaced token again (%v) after %d rotations", err, f.rotations())
		}
	})
}

func TestYoungTokenRejectedDuringARotationElsewhereWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a, b := f.start("a"), f.start("b")
		a.mustCall()
		b.mustCall()
		old := a.source.view.Load().token
		f.sim.Token.Next(pleosim.Fault{Delay: time.Second, After: true})
		b.rotateNow()
		time.Sleep(100 * time.Millisecond) // rotated; the answer is on its way
		fresh, err := a.source.Refresh(context.Background(), old)
		if err != nil || fresh.SameAccess(old) || f.rotations() != 2 {
			t.Errorf("got the rotated token again (%v) after %d rotations", err, f.rotations())
		}
	})
}

// The event of a rotation elsewhere is late, the token is seconds old.
func TestBrakedCallerLooksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a, b := f.start("a"), f.start("b")
		a.mustCall()
		b.mustCall()
		synctest.Wait() // a new token serves before it is saved
		b.store.deafen()
		a.rotateNow()
		synctest.Wait()
		b.mustCall()
		if got := f.rotations(); got != 2 {
			t.Errorf("%d rotations, want 2: b adopts", got)
		}
	})
}

// A pod whose clock is an hour ahead issued the token: its age is below zero, and
// a brake that believes it would hold for an hour.
func TestTokenOfAFastClockIsNotBraked(t *testing.T) {
	s := warm(t)
	ahead := time.Now().Add(time.Hour)
	rec := s.remembered()
	rec.Version, rec.Attempt, rec.Generation, rec.Seen = 2, "b", 1, Seen{2, "r"}
	rec.Token = NewToken(Pair{Access: NewSecret("fast"), Refresh: NewSecret("r2"), Issued: ahead, End: ahead.Add(time.Hour)})
	s.remember(rec)
	if s.braked(rec.Token) {
		t.Error("braked for an hour")
	}
}

// A late caller rejects the token before the last: the last one, rejected as
// well, does not serve again for that.
func TestLateRejectionDoesNotReviveARejectedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		p := f.start("a")
		p.mustCall()
		first := p.source.view.Load().token
		p.rotateNow()
		synctest.Wait()
		second := p.source.view.Load().token
		time.Sleep(time.Minute)
		f.sim.Token.Next(pleosim.Fault{Hold: true})
		t.Cleanup(f.sim.Release)
		p.source.reject(second)
		p.source.reject(first)
		if v := p.source.view.Load(); v.open {
			t.Error("the rejected token serves again")
		}
	})
}

func TestCallerWaitsNoLongerThanMaxWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		f.tune = func(o *Options) { o.Timing.NetworkLife = time.Minute }
		p := f.start("a")
		f.sim.Token.Next(pleosim.Fault{Delay: 30 * time.Second})
		began := time.Now()
		_, err := p.source.Token(context.Background())
		if waited := time.Since(began); !errors.Is(err, ErrTokenUnavailable) || waited != 5*time.Second || RetryAfter(err) == 0 {
			t.Errorf("after %v: %v, retry after %v; want ErrTokenUnavailable after MaxWait", waited, err, RetryAfter(err))
		}
	})
}

func TestClosedSourceStartsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		p := f.start("a")
		p.mustCall()
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
		p.mustCall() // what is in memory still serves
		time.Sleep(20 * time.Minute)
		p.mustFail(ErrTokenUnavailable)
		if f.rotations() != 1 {
			t.Error("a flight started after Close")
		}
	})
}

// Pleo asked for a minute: that is obeyed within a flight, and between flights.
func TestRetryAfterIsObeyed(t *testing.T) {
	for name, attempts := range map[string]int{"within a flight": 4, "between flights": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, pleosim.Options{})
				f.tune = func(o *Options) { o.Timing.Attempts = attempts }
				p := f.start("a")
				p.mustCall()
				time.Sleep(20 * time.Minute)
				f.sim.Token.Next(pleosim.Fault{Status: http.StatusServiceUnavailable, RetryAfter: "60"})
				began := time.Now()
				p.eventually(2 * time.Minute)
				if waited := time.Since(began); waited < time.Minute {
					t.Errorf("asked again after %v", waited)
				}
			})
		})
	}
}

func TestLoginHealsAHoldOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		f.tune = func(o *Options) { o.Timing.Attempts = 1 }
		a, b := f.start("a"), f.start("b")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		f.sim.Token.Next(pleosim.Fault{Status: http.StatusServiceUnavailable, RetryAfter: "3600"})
		a.mustFail(ErrTokenUnavailable)
		if err := b.conns.Replace(context.Background(), "default", NewSecret(f.sim.Grant())); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		a.mustCall()
	})
}

func TestKeepAliveThatFailsIsNotRepeatedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		var broken atomic.Bool
		var dials atomic.Int64
		f.wire = func(_ string, dial wireFunc) wireFunc {
			return func(ctx context.Context, network, address string) (net.Conn, error) {
				if broken.Load() {
					dials.Add(1)
					return nil, errors.New("connection refused")
				}
				return dial(ctx, network, address)
			}
		}
		p := f.start("a")
		p.mustCall()
		broken.Store(true)
		time.Sleep(34 * time.Hour) // due after 24
		if got := dials.Load(); got < 10 || got > 100 {
			t.Errorf("%d dials in ten hours, want some, and not a stream", got)
		}
		broken.Store(false)
		time.Sleep(2 * time.Hour)
		if f.rotations() != 2 {
			t.Errorf("%d rotations, want 2: kept alive in the end", f.rotations())
		}
	})
}

// The gate is for the old token. The new one serves before it is saved.
func TestNewTokenServesBeforeItIsSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		p := f.start("a")
		p.mustCall()
		time.Sleep(time.Minute)
		f.sim.On(pleosim.AtToken, pleosim.AfterRotate, func(pleosim.Event) { p.store.cut(errors.New("i/o timeout")) })
		p.rotateNow()
		synctest.Wait()
		began := time.Now()
		p.mustCall()
		if waited := time.Since(began); waited != 0 {
			t.Errorf("the call waited %v", waited)
		}
		p.store.mend()
	})
}

// After a claim that was not used nobody waits for quiet: nothing was sent.
func TestUnusedClaimIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		slow := true
		a.store.setAfter(func(op string, _ Record) error {
			if op == "save claimed" && slow {
				slow = false
				time.Sleep(testSend + time.Millisecond)
			}
			return nil
		})
		began := time.Now()
		a.mustCall()
		if waited := time.Since(began); waited > 2*testSend {
			t.Errorf("the call waited %v: the claim was not taken back", waited)
		}
	})
}

// The lock is never had: what is waited for comes from another pod, and ends the
// waiting in line, without a complaint.
func TestFlightLeavesTheLineWhenItsWishHasCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		f.lock = lockedOut{}
		b := f.start("b")
		b.mustCall()
		time.Sleep(20 * time.Minute)
		go func() {
			time.Sleep(time.Second)
			_, _ = a.call()
		}()
		b.mustCall()
		synctest.Wait()
		b.source.mu.Lock()
		defer b.source.mu.Unlock()
		if b.source.flight != nil {
			t.Error("the flight still waits in line")
		}
		if strings.Contains(f.logs.String(), `"result":"failed"`) {
			t.Error("leaving the line is told as a failure")
		}
	})
}

type lockedOut struct{}

func (lockedOut) Do(ctx context.Context, _ string, _ func(context.Context) error) error {
	<-ctx.Done()
	return errors.Join(lock.ErrNotHeld, context.Cause(ctx))
}

// Repair and doubt go through the line, too: a lock that works does not keep them
// from their end.
func TestRepairIsDoneUnderARealLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		f.lock = lock.NewLocal()
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		a.mustCall()
		synctest.Wait() // a new token serves before it is saved
		f.shelf.rollback(2)
		synctest.Wait()
		if rec := f.record(); rec.Generation != 2 || !rec.Doubt {
			t.Errorf("generation %d, doubt %v; want 2, true", rec.Generation, rec.Doubt)
		}
		time.Sleep(20 * time.Minute)
		a.mustCall()
	})
}

// Between the POST and its 400 another grant was saved: that one is adopted, and
// nobody is asked about the old one.
func TestRefusalIsHeldAgainstTheStoreFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a, b := f.start("a"), f.start("b")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		f.sim.Token.Next(pleosim.Fault{Status: http.StatusBadRequest, Code: "invalid_grant", Delay: time.Second})
		var status int
		var err error
		done := make(chan struct{})
		began := time.Now()
		go func() {
			defer close(done)
			status, err = a.call()
		}()
		time.Sleep(500 * time.Millisecond)
		if err := b.conns.Replace(context.Background(), "default", NewSecret(f.sim.Grant())); err != nil {
			t.Fatal(err)
		}
		asked := f.sim.Ledger().Grants[0].Introspections
		<-done
		if took := time.Since(began); status != http.StatusOK || took > 1500*time.Millisecond {
			t.Errorf("status %d, %v after %v; want 200 as soon as the answer was there", status, err, took)
		}
		if got := f.sim.Ledger().Grants[0].Introspections; got != asked {
			t.Errorf("%d introspections of a grant that was replaced", got-asked)
		}
	})
}

// Both were sent a request: introspection vouches for the pair, after quiet.
func TestRefusedPairRestsBeforeItIsPresentedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		f.sim.Token.Next(pleosim.ProxyForbids())
		began := time.Now()
		a.eventually(20 * time.Second)
		if waited := time.Since(began); waited < testQuiet {
			t.Errorf("presented again after %v, before %v of quiet", waited, testQuiet)
		}
	})
}

// A 401 without a code is taken for the client's, until introspection, which the
// same client may ask, says that the grant is dead.
func TestUnauthorizedDoesNotKeepADeadGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		f.sim.Token.Next(pleosim.Fault{Status: http.StatusUnauthorized, Proxy: true})
		f.sim.Revoke("")
		a.mustFail(ErrLoginRequired)
	})
}

// Introspection found the pair active. It is presented again when the old access
// token has ended, and not before.
func TestSettledDoubtIsNotPresentedWhileTheOldTokenServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		time.Sleep(14*time.Minute + 10*time.Second) // within the lead
		f.sim.Token.Next(pleosim.AnswerOnly(http.StatusBadGateway))
		for range 40 {
			a.mustCall()
			time.Sleep(time.Second)
		}
		if got := f.rotations(); got != 1 {
			t.Errorf("%d rotations, want 1: the old token serves", got)
		}
		time.Sleep(time.Minute)
		a.mustCall()
		if got := f.rotations(); got != 2 {
			t.Errorf("%d rotations, want 2", got)
		}
	})
}

// Rule SeedQuiet, timed by the request itself: it is in a buffer, the store is
// emptied, and b wants its seed at that very moment.
func TestSeedIsNotPresentedWhileItsFirstRotationIsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		f.tune = func(o *Options) { o.SharedStore = true }
		a := f.start("a")
		f.sim.Token.Next(pleosim.Fault{Delay: 2 * time.Second})
		emptied := make(chan struct{})
		empty := sync.OnceFunc(func() { close(emptied) })
		f.sim.On(pleosim.AtToken, pleosim.Arrived, func(pleosim.Event) {
			go func() {
				a.kill()
				f.shelf.flush()
				empty()
			}()
		})
		go func() { _, _ = a.call() }()
		<-emptied
		f.start("b").eventuallyFails(ErrLoginRequired, 20*time.Second)
	})
}

// Rule Epoch, between two logins: the first was an import, too.
func TestNewLoginIsAboveAFormerOneInAnEmptiedStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		f.seed = Secret{}
		a := f.start("a")
		if err := a.conns.Import(context.Background(), "default", NewSecret(f.sim.Grant())); err != nil {
			t.Fatal(err)
		}
		a.mustCall()
		time.Sleep(time.Minute)
		a.store.deafen()
		f.shelf.flush()
		fresh := NewSecret(f.sim.Grant())
		if err := f.start("b").conns.Import(context.Background(), "default", fresh); err != nil {
			t.Fatal(err)
		}
		a.store.listen()
		time.Sleep(time.Second)
		a.mustCall()
		if rec := f.record(); rec.Root != FingerprintOf(fresh) || rec.Epoch < time.Now().Add(-time.Minute).UnixMilli() {
			t.Error("the former login is back over the new one")
		}
	})
}

// Rule LateGen, S4: not even for a moment does an answer take a tombstone's place.
func TestNothingIsWrittenOverATombstone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a, b := f.start("a"), f.start("b")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		f.sim.On(pleosim.AtToken, pleosim.AfterRotate, func(pleosim.Event) {
			if err := b.conns.Forget(context.Background(), "default"); err != nil {
				t.Error(err)
			}
		})
		_, _ = a.call()
		time.Sleep(time.Second)
		version := f.record().Version
		if f.record().State != StateForgotten {
			t.Fatalf("record is %s", f.record().State)
		}
		for _, rec := range f.shelf.history["default"] {
			if rec.State == StateForgotten && rec.Version < version {
				t.Errorf("version %d was forgotten, and written over", rec.Version)
			}
		}
	})
}

// The claim is lost with a failover, and then one look fails: the pair is kept.
func TestPairSurvivesAConflictAndAStoreErrorAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		f.sim.On(pleosim.AtToken, pleosim.AfterRotate, func(pleosim.Event) {
			a.store.deafen()
			f.shelf.failover(1)
			failed := 0
			a.store.setBefore(func(op string, _ Record) error {
				if op == "load" && failed < 2 {
					failed++
					return errors.New("broken pipe")
				}
				return nil
			})
		})
		a.mustCall()
		time.Sleep(5 * time.Second)
		if rec := f.record(); rec.Generation != 2 || !rec.Doubt {
			t.Errorf("generation %d, doubt %v; want 2, true", rec.Generation, rec.Doubt)
		}
	})
}

// Rule 11: doubt is resolved by itself.
func TestDoubtIsResolvedWithoutACaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		before := f.sim.Ledger().Introspections
		f.shelf.failover(0)
		time.Sleep(3 * time.Minute)
		if got := f.sim.Ledger().Introspections - before; got != 1 {
			t.Errorf("%d introspections, want 1", got)
		}
		began := time.Now()
		a.mustCall()
		if waited := time.Since(began); waited > time.Second {
			t.Errorf("the call waited %v for quiet", waited)
		}
	})
}

func TestEndedTokenIsNeverSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{AccessLife: 90 * time.Second}) // ends between two looks at the wall clock
		p := f.start("a")
		p.mustCall()
		time.Sleep(91 * time.Second)
		p.mustCall()
		if got := f.sim.Ledger().APIRefused["expired"] + f.sim.Ledger().APIRefused["rotated"]; got != 0 {
			t.Errorf("%d calls went out with a token that had ended", got)
		}
	})
}

func TestShortLifeIsNotSpentRefreshing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{AccessLife: 30 * time.Second}) // half of the lead
		p := f.start("a")
		for range 300 {
			p.mustCall()
			time.Sleep(time.Second)
		}
		if got := f.rotations(); got > 18 {
			t.Errorf("%d rotations in five minutes of 30-second tokens", got)
		}
	})
}

func TestSpooledPairIsSavedWithoutACaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		spool := newTestSpool(t, newDir(t), nil, 1)
		f.tune = func(o *Options) { o.Spool = spool }
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		a.store.setBefore(func(op string, rec Record) error {
			if op != "save ok" {
				return nil
			}
			if kept, err := spool.All(); err != nil || len(kept) != 1 || kept[0].Record.Generation != rec.Generation {
				t.Errorf("the spool holds %d pairs (%v) when the save begins; want the new one", len(kept), err)
			}
			return errors.New("i/o timeout")
		})
		a.mustCall()
		synctest.Wait() // a new token serves before it is saved
		a.kill()
		f.start("b")
		time.Sleep(5 * time.Second)
		if rec := f.record(); rec.Generation != 2 {
			t.Errorf("generation %d, want 2", rec.Generation)
		}
	})
}

func TestTombstoneClearsTheSpoolOfOtherPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		spool := newTestSpool(t, newDir(t), nil, 1)
		f.tune = func(o *Options) { o.Spool = spool }
		a := f.start("a")
		a.mustCall()
		f.tune = nil
		if err := f.start("b").conns.Forget(context.Background(), "default"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if kept, err := spool.All(); err != nil || len(kept) != 0 {
			t.Errorf("the spool holds %d pairs (%v) of a forgotten connection", len(kept), err)
		}
	})
}

// What others remember of versions is not to be mistaken for news.
func TestRepairIsAboveEveryRememberedVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		before := f.record()
		time.Sleep(20 * time.Minute)
		a.mustCall()
		if rec := f.record(); rec.Previous != before.Current || rec.Current == before.Current {
			t.Errorf("previous %s, want %s", rec.Previous.Short(), before.Current.Short())
		}
		version := f.record().Version
		f.shelf.rollback(2)
		time.Sleep(time.Second)
		if got := f.record().Version; got <= version {
			t.Errorf("repaired as version %d, remembered %d", got, version)
		}
	})
}

// Without introspection: one gamble a generation, not one for ever.
func TestRetryGamblesOnceAGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		f.tune = func(o *Options) { o.Endpoint = f.endpointWithoutIntrospection() }
		a := f.start("a")
		a.mustCall()
		for range 3 {
			time.Sleep(20 * time.Minute)
			f.sim.Token.Next(pleosim.CutUnread())
			a.eventually(20 * time.Second)
		}
	})
}

func TestSecondIntrospectionComesSecondsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		time.Sleep(time.Minute)
		f.sim.Revoke("")
		began := time.Now()
		a.mustFail(ErrLoginRequired)
		if took := time.Since(began); took < deadPause {
			t.Errorf("given up after %v", took)
		}
	})
}

func TestImportOfTheNewestOrTheLastTokenChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		var seen []Secret
		for range 3 {
			a.mustCall()
			seen = append(seen, f.record().Token.Refresh())
			time.Sleep(20 * time.Minute)
		}
		before := f.record()
		for _, secret := range seen[1:] { // prev, fp
			if err := a.conns.Replace(context.Background(), "default", secret); err != nil {
				t.Errorf("Replace: %v", err)
			}
		}
		if f.record().Version != before.Version {
			t.Error("the record was written")
		}
	})
}

// A claim of a pod that is dead holds calls back for the gate's time, and not for
// all of a caller's patience.
func TestGateOpensByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a, b := f.start("a"), f.start("b")
		a.mustCall()
		b.mustCall()
		time.Sleep(time.Minute)
		f.sim.On(pleosim.AtToken, pleosim.Arrived, func(pleosim.Event) { go a.kill() })
		f.sim.Token.Next(pleosim.Fault{Hold: true})
		t.Cleanup(f.sim.Release)
		a.rotateNow()
		time.Sleep(10 * time.Millisecond)
		began := time.Now()
		if _, err := b.source.Token(context.Background()); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited < time.Second || waited > 2*time.Second {
			t.Errorf("waited %v, want the gate's 2 s", waited)
		}
	})
}
