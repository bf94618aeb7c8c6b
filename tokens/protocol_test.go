package tokens

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pleo-sidecar/tokens/pleosim"
)

// Each test below is a trace that broke a promise before the rule named in its
// comment was there (protocol rules, README of this package). The simulator fails
// them from inside when a refresh token is presented twice.

// Rule Quiet: the request sits in a buffer between pod and Pleo. Introspection
// says active all the while; whoever believes it sends a second request.
func TestRequestInABufferIsOutwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		f.sim.Token.Next(pleosim.Fault{Delay: testNet - 100*time.Millisecond})
		f.sim.On(pleosim.AtToken, pleosim.Arrived, func(pleosim.Event) { go a.kill() })
		go func() { _, _ = a.call() }()
		time.Sleep(10 * time.Millisecond)
		b := f.start("b")
		time.Sleep(testQuiet + deadPause + time.Second)
		b.mustFail(ErrLoginRequired) // the answer went to a dead pod
		if f.rotations() != 2 {
			t.Errorf("%d rotations, want 2", f.rotations())
		}
	})
}

// The same delay with a living pod: it listens until quiet is over, and saves.
func TestSlowAnswerIsSavedNotResolved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a, b := f.start("a"), f.start("b")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		f.sim.Token.Next(pleosim.Fault{Delay: 2100 * time.Millisecond, After: true}) // beyond refresh.timeout
		go func() { _, _ = a.call() }()
		time.Sleep(10 * time.Millisecond)
		b.mustCall()
		if rec := f.record(); rec.Generation != 2 || rec.Doubt {
			t.Errorf("generation %d, doubt %v; want 2, false", rec.Generation, rec.Doubt)
		}
	})
}

// Rule Stamp: the failover lost claim and save; the record that is left is
// unclaimed and stands on a spent token. Only its run tells.
func TestFreshPodDoubtsARecordOfAFormerRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		a.mustCall()
		synctest.Wait() // a new token serves before it is saved
		a.kill()
		f.shelf.failover(2)
		if rec := f.record(); rec.State != StateOK || rec.Generation != 1 {
			t.Fatalf("record is %s, generation %d; want ok, 1", rec.State, rec.Generation)
		}
		b := f.start("b")
		began := time.Now()
		b.mustFail(ErrLoginRequired)
		if waited := time.Since(began); waited < testQuiet {
			t.Errorf("judged after %v, before %v of quiet", waited, testQuiet)
		}
	})
}

// Rule RunCAS: loaded before the failover, claimed after it, versions equal.
func TestClaimOfAFormerRunDoesNotLand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		failed := false
		a.store.setBefore(func(op string, _ Record) error {
			if op == "save claimed" && !failed {
				failed = true
				f.shelf.failover(0)
			}
			return nil
		})
		began := time.Now()
		a.eventually(10 * time.Second)
		if waited := time.Since(began); waited < testQuiet {
			t.Errorf("served after %v; the new run must be doubted for %v", waited, testQuiet)
		}
	})
}

// Rule Epoch: the store was emptied, then a person logged in; a pod that
// remembers the old grant must not repair it over the new one.
func TestOldGrantNeverOverwritesANewLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		synctest.Wait() // a new token serves before it is saved
		a.store.deafen()
		f.shelf.flush()
		fresh := NewSecret(f.sim.Grant())
		f.seed = Secret{}
		b := f.start("b")
		if err := b.conns.Import(context.Background(), "default", fresh); err != nil {
			t.Fatal(err)
		}
		if err := a.source.look(context.Background()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		a.mustCall()
		b.mustCall()
		if rec := f.record(); rec.Root != FingerprintOf(fresh) {
			t.Error("the old grant is back over the new login")
		}
	})
}

// A store that went back in time is repaired from memory, reported, and doubted.
func TestStoreThatWentBackIsRepairedFromMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		a.mustCall()
		synctest.Wait() // a new token serves before it is saved
		f.shelf.rollback(2)
		synctest.Wait()
		rec := f.record()
		if rec.Generation != 2 || !rec.Doubt {
			t.Errorf("record has generation %d, doubt %v; want 2, true", rec.Generation, rec.Doubt)
		}
		if !strings.Contains(f.logs.String(), "store went back in time") {
			t.Error("the rollback was not reported")
		}
		a.mustCall()
		time.Sleep(20 * time.Minute)
		a.mustCall()
	})
}

// Rule RepDoubt: b's claim is lost with the last writes, its request is out; a
// repairs from memory, and would present the same token if that passed for clean.
func TestRepairedRecordRestsBeforeItsTokenIsPresented(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a, b := f.start("a"), f.start("b")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		a.store.deafen()
		f.sim.Token.Next(pleosim.Fault{Delay: 2 * time.Second})
		f.sim.On(pleosim.AtToken, pleosim.Arrived, func(pleosim.Event) {
			go func() {
				b.kill()
				f.shelf.rollback(2) // to before the pair that both remember
			}()
		})
		go func() { _, _ = b.call() }()
		time.Sleep(100 * time.Millisecond)
		a.eventuallyFails(ErrLoginRequired, 20*time.Second)
	})
}

// Rule Claim stands: a gateway answers 504 and delivers the request later.
func TestGatewayTimeoutThenLateRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		f.sim.Token.Next(pleosim.RotateLater(time.Second))
		a.eventuallyFails(ErrLoginRequired, 20*time.Second)
	})
}

// A 5xx that rotated nothing costs quiet and an introspection, and no login.
func TestServerErrorWithoutRotationHealsByItself(t *testing.T) {
	for _, status := range []int{500, 502, 503, 504, 408, 425, 429, 307} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, pleosim.Options{})
				a := f.start("a")
				a.mustCall()
				time.Sleep(20 * time.Minute)
				f.sim.Token.Next(pleosim.Fault{Status: status, RetryAfter: "1"})
				began := time.Now()
				a.eventually(20 * time.Second)
				if waited := time.Since(began); waited < testQuiet {
					t.Errorf("presented again after %v, before %v of quiet", waited, testQuiet)
				}
			})
		})
	}
}

// While an answer is lost, the old access token serves as long as it can.
func TestOldTokenServesWhileInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		f.tune = nil
		a.mustCall()
		f.sim.Token.Next(pleosim.AnswerOnly(http.StatusServiceUnavailable))
		for f.record().State == StateOK { // until the lead begins
			a.mustCall()
			time.Sleep(time.Second)
		}
		for range 60 {
			began := time.Now()
			a.mustCall()
			if waited := time.Since(began); waited > 2*time.Second {
				t.Fatalf("a call waited %v", waited)
			}
			time.Sleep(time.Second)
		}
		if f.rotations() < 2 {
			t.Error("the refresh was never repeated")
		}
	})
}

// Rule Reimport: a retried import must not overwrite the claim while the
// request is out.
func TestRepeatedImportChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		f.sim.Token.Next(pleosim.Fault{Delay: time.Second})
		go func() { _, _ = a.call() }()
		time.Sleep(100 * time.Millisecond)
		before := f.record()
		b := f.start("b")
		for _, install := range []func(context.Context, string, Secret) error{b.conns.Import, b.conns.Replace} {
			if err := install(context.Background(), "default", f.seed); err != nil {
				t.Fatal(err)
			}
		}
		if f.record().Version != before.Version || before.State != StateClaimed {
			t.Errorf("version %d after %d in state %s; want the claim untouched", f.record().Version, before.Version, before.State)
		}
		time.Sleep(2 * time.Second)
		a.mustCall()
		b.mustCall()
	})
}

// Rule SeedQuiet: the store is emptied while the seed's first rotation is out.
func TestSeedWaitsQuietOnASharedStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		f.tune = func(o *Options) { o.SharedStore = true }
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
		b := f.start("b")
		b.eventuallyFails(ErrLoginRequired, 20*time.Second)
	})
}

// Rule Intro4xx: the 403 came from a proxy that forwarded nothing.
func TestRefusalByAProxyCostsNoGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		f.sim.Token.Next(pleosim.ProxyForbids())
		a.eventually(20 * time.Second)
	})
}

// Rule LateGen: cut off from the store, a holds the pair; the others find the
// refresh token spent and give up. When a is back, its pair wins.
func TestLateAnswerWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a, b := f.start("a"), f.start("b")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		f.sim.On(pleosim.AtToken, pleosim.AfterRotate, func(pleosim.Event) { a.store.cut(errors.New("i/o timeout")) })
		a.mustCall() // its own new token serves at once
		b.eventuallyFails(ErrLoginRequired, 20*time.Second)
		a.mustCall()
		a.store.mend()
		b.eventually(5 * time.Second)
		rec := f.record()
		if rec.Generation != 2 || !rec.Doubt {
			t.Errorf("generation %d, doubt %v; want 2, true", rec.Generation, rec.Doubt)
		}
		time.Sleep(20 * time.Minute)
		b.mustCall()
	})
}

// Rule LateGen: the record that the answer replaces is gone with a rollback past
// it; the pair is newer all the same.
func TestLateAnswerWinsOverARollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		f.sim.On(pleosim.AtToken, pleosim.AfterRotate, func(pleosim.Event) { f.shelf.failover(3) })
		a.mustCall()
		time.Sleep(time.Second)
		if rec := f.record(); rec.Generation != 2 || !rec.Doubt {
			t.Errorf("generation %d, doubt %v; want 2, true", rec.Generation, rec.Doubt)
		}
		time.Sleep(20 * time.Minute)
		a.mustCall()
	})
}

// Rule "Read, then remember": the pod gives its pair up to a login it read, and
// a failover loses that login. The pod is the only one who knows it.
func TestRecordThatWonIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		a.store.deafen()
		fresh := NewSecret(f.sim.Grant())
		f.sim.On(pleosim.AtToken, pleosim.AfterRotate, func(event pleosim.Event) {
			if event.Grant != f.sim.Ledger().Grants[0].ID || !a.store.deaf {
				return
			}
			b := f.start("b")
			if err := b.conns.Replace(context.Background(), "default", fresh); err != nil {
				t.Error(err)
			}
			b.kill()
		})
		if _, err := a.source.Token(context.Background()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		f.shelf.failover(1)
		a.store.listen()
		time.Sleep(time.Second)
		a.eventually(20 * time.Second)
		if rec := f.record(); rec.Root != FingerprintOf(fresh) {
			t.Error("the login is lost")
		}
	})
}

// Rule Dead twice: an introspection that lags behind says inactive once.
func TestOneInactiveAnswerIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		f.sim.Token.Next(pleosim.AnswerOnly(http.StatusBadGateway))
		f.sim.Introspect.Next(pleosim.Fault{Lie: "inactive"})
		a.eventually(20 * time.Second)
	})
}

// Introspection that fails decides nothing: the record stays in doubt until it
// answers.
func TestDoubtWaitsForIntrospection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		f.sim.Token.Next(pleosim.AnswerOnly(http.StatusBadGateway))
		f.sim.Introspect.Always(pleosim.Fault{Status: http.StatusInternalServerError})
		a.mustFail(ErrTokenUnavailable)
		time.Sleep(10 * time.Minute)
		if rec := f.record(); rec.State != StateClaimed || f.rotations() != 1 {
			t.Fatalf("record is %s after %d rotations; want the claim to stand", rec.State, f.rotations())
		}
		f.sim.Introspect.Clear()
		a.eventually(time.Minute)
	})
}

func TestRevokedGrantRequiresLoginAndIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		time.Sleep(time.Minute)
		f.sim.Revoke("")
		a.mustFail(ErrLoginRequired)
		sent := f.sim.Ledger()
		for range 1000 {
			a.mustFail(ErrLoginRequired)
		}
		b := f.start("b")
		b.mustFail(ErrLoginRequired)
		time.Sleep(48 * time.Hour)
		if after := f.sim.Ledger(); len(after.Grants[0].RefreshTokens[1].Presented) != 1 || after.Introspections != sent.Introspections {
			t.Error("a dead grant was asked about again")
		}
		if !f.record().Token.IsZero() {
			t.Error("secrets of a dead grant are kept")
		}
		if err := b.conns.Import(context.Background(), "default", NewSecret(f.sim.Grant())); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		a.mustCall()
		b.mustCall()
	})
}

func TestForgottenConnectionStaysForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a, b := f.start("a"), f.start("b")
		a.mustCall()
		b.mustCall()
		if err := a.conns.Forget(context.Background(), "default"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		a.mustFail(ErrLoginRequired)
		b.mustFail(ErrLoginRequired)
		f.shelf.failover(1) // the tombstone is lost; memory has it
		time.Sleep(time.Second)
		b.mustFail(ErrLoginRequired)
		if got := f.record().State; got != StateForgotten {
			t.Errorf("record is %s, want forgotten", got)
		}
		f.shelf.flush()
		time.Sleep(time.Second)
		a.mustFail(ErrLoginRequired)
		f.start("c").mustFail(ErrLoginRequired) // its seed counts no more
		if f.rotations() != 1 {
			t.Error("a forgotten connection was refreshed")
		}
	})
}

// A refresh that is out when the connection is forgotten does not bring it back.
func TestAnswerForAForgottenConnectionIsDropped(t *testing.T) {
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
		synctest.Wait()
		a.mustFail(ErrLoginRequired)
		if got := f.record().State; got != StateForgotten {
			t.Errorf("record is %s, want forgotten", got)
		}
	})
}

func TestSpentSeedIsNeverPresented(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		synctest.Wait() // a new token serves before it is saved
		a.kill()
		b := f.start("b") // redeployed with the seed that a has spent
		b.mustCall()
		synctest.Wait() // a new token serves before it is saved
		b.kill()
		f.shelf.flush() // even when the store knows nothing of it
		f.start("c").mustFail(ErrLoginRequired)
	})
}

func TestAnotherSeedDoesNotReplaceAGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		root := f.record().Root
		f.seed = NewSecret(f.sim.Grant())
		f.start("b").mustCall()
		if f.record().Root != root || !strings.Contains(f.logs.String(), "import --replace") {
			t.Error("the seed was taken, or nobody was told how to replace a grant")
		}
	})
}

func TestImportLeavesALivingGrantAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		other := NewSecret(f.sim.Grant())
		if err := a.conns.Import(context.Background(), "default", other); !errors.Is(err, ErrLivingGrant) {
			t.Errorf("Import: %v, want ErrLivingGrant", err)
		}
		if err := a.conns.Replace(context.Background(), "default", other); err != nil {
			t.Errorf("Replace: %v", err)
		}
		a.mustCall()
		if f.record().Root != FingerprintOf(other) {
			t.Error("the grant was not replaced")
		}
	})
}

func TestImportRefusesASpentToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		if err := a.conns.Import(context.Background(), "other", f.seed); !errors.Is(err, ErrSpentToken) {
			t.Errorf("Import: %v, want ErrSpentToken", err)
		}
		if _, err := a.conns.Open(context.Background(), "other"); !errors.Is(err, ErrUnknownConnection) {
			t.Errorf("Open: %v, want ErrUnknownConnection", err)
		}
	})
}

// The window: the claim took longer to save than a request may take to be sent.
func TestNothingIsSentAfterTheSendWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		slow := true
		a.store.setAfter(func(op string, _ Record) error {
			if op == "save claimed" && slow {
				slow = false
				time.Sleep(testSend + time.Millisecond)
			}
			return nil
		})
		a.mustCall()
		if got := strings.Count(f.logs.String(), "the time to send was over"); got == 0 {
			t.Error("the first claim was used after its window")
		}
	})
}

func TestWindowEndsByEitherClock(t *testing.T) {
	for _, c := range []struct {
		name            string
		monotonic, wall time.Duration
		want            time.Duration
	}{
		{"neither", time.Second, time.Second, 4 * time.Second},
		{"monotonic", 6 * time.Second, time.Second, 0},
		{"wall, after a suspend", time.Second, time.Hour, 0},
		{"wall set back", 2 * time.Second, -time.Hour, 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := windowLeft(5*time.Second, c.monotonic, c.wall); got != c.want {
				t.Errorf("left %v, want %v", got, c.want)
			}
		})
	}
}

// A claim that landed while its reply was lost is known by its attempt.
func TestLostReplyOfAClaimOrASaveIsRetried(t *testing.T) {
	for _, op := range []string{"save claimed", "save ok"} {
		t.Run(op, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, pleosim.Options{})
				a := f.start("a")
				a.mustCall()
				time.Sleep(20 * time.Minute)
				lost := 0
				a.store.setAfter(func(got string, _ Record) error {
					if got == op && lost < 1 {
						lost++
						return errors.New("i/o timeout")
					}
					return nil
				})
				began := time.Now()
				a.mustCall()
				time.Sleep(time.Second)
				if rec := f.record(); lost != 1 || rec.Generation != 2 || rec.Doubt || time.Since(began) > 2*time.Second {
					t.Errorf("generation %d, doubt %v after %v; want 2, false, at once", rec.Generation, rec.Doubt, time.Since(began))
				}
			})
		})
	}
}

func TestStoreAwayServesUntilTheTokenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		synctest.Wait() // a new token serves before it is saved
		a.store.cut(errors.New("connection refused"))
		for range 14 * 60 {
			a.mustCall()
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Minute)
		for range 30 {
			_, err := a.call()
			if !errors.Is(err, ErrStoreUnavailable) || RetryAfter(err) <= 0 || RetryAfter(err) > storeRetry {
				t.Fatalf("got %v, retry after %v; want ErrStoreUnavailable within %v", err, RetryAfter(err), storeRetry)
			}
			time.Sleep(time.Second)
		}
		if f.rotations() != 1 {
			t.Error("a refresh ran that could not be saved")
		}
		a.store.mend()
		a.eventually(2 * time.Second)
	})
}

// One Redis error between two good calls is nobody's business.
func TestOneStoreErrorIsNotSeenByCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		failed := false
		a.store.setBefore(func(string, Record) error {
			if failed {
				return nil
			}
			failed = true
			return errors.New("broken pipe")
		})
		a.mustCall()
	})
}

// Closing waits for the answer and the save.
func TestCloseSavesWhatWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		f.sim.Token.Next(pleosim.Fault{Delay: time.Second, After: true})
		go func() { _, _ = a.call() }()
		time.Sleep(100 * time.Millisecond)
		refused := 0
		a.store.setBefore(func(op string, _ Record) error {
			if op == "save ok" && refused < 3 {
				refused++
				return errors.New("OOM command not allowed")
			}
			return nil
		})
		if err := a.stop(); err != nil {
			t.Fatal(err)
		}
		if rec := f.record(); rec.Generation != 1 || refused != 3 {
			t.Errorf("generation %d after %d refused saves; want 1 after 3", rec.Generation, refused)
		}
	})
}

// Closing does not wait for doubt to be resolved: nothing of ours is out.
func TestCloseLeavesDoubtToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		f.sim.Token.Next(pleosim.AnswerOnly(http.StatusBadGateway))
		go func() { _, _ = a.call() }()
		time.Sleep(100 * time.Millisecond)
		began := time.Now()
		if err := a.stop(); err != nil || time.Since(began) > 0 {
			t.Errorf("closed after %v with %v; want at once", time.Since(began), err)
		}
		f.start("b").eventually(20 * time.Second)
	})
}

func TestRejectedClientKeepsThePair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		f.sim.SetClientSecret("another-secret")
		time.Sleep(20 * time.Minute)
		a.mustFail(ErrClientRejected)
		refused := f.sim.Ledger().ClientRefused
		for range 100 {
			a.mustFail(ErrClientRejected)
		}
		if got := f.sim.Ledger().ClientRefused; got != refused {
			t.Errorf("%d more requests with a refused client", got-refused)
		}
		f.tune = func(o *Options) {
			e := *o.Endpoint
			fixed, err := NewEndpoint(EndpointOptions{
				TokenURL:         "http://" + pleosim.AuthAddr + "/oauth/token",
				IntrospectionURL: "http://" + pleosim.AuthAddr + "/oauth/token/introspect",
				ClientID:         "pleosim-client", ClientSecret: NewSecret("another-secret"), Dial: f.pipes.DialContext,
			})
			if err != nil {
				t.Fatal(err)
			}
			_, o.Endpoint = e, fixed
		}
		b := f.start("b") // restarted with the mended secret
		b.eventually(20 * time.Second)
		synctest.Wait()
		a.mustCall() // and serves the others
	})
}

func TestLostAnswerPolicies(t *testing.T) {
	for _, c := range []struct {
		policy     Policy
		introspect bool
		rotated    bool // whether the lost refresh had reached Pleo
		want       error
	}{
		{Retry, true, false, nil},
		{Retry, false, false, nil},
		{Stop, true, false, nil},
		{Stop, false, false, ErrLoginRequired},
		{Never, true, false, ErrLoginRequired},
		{Never, false, false, ErrLoginRequired},
		{Stop, false, true, ErrLoginRequired},
		{Never, true, true, ErrLoginRequired},
	} {
		t.Run(string(c.policy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, pleosim.Options{})
				f.tune = func(o *Options) {
					o.OnLostAnswer = c.policy
					if !c.introspect {
						o.Endpoint = f.endpointWithoutIntrospection()
					}
				}
				a := f.start("a")
				a.mustCall()
				time.Sleep(20 * time.Minute)
				fault := pleosim.CutUnread()
				if c.rotated {
					fault = pleosim.LoseAnswer()
				}
				f.sim.Token.Next(fault)
				if c.want == nil {
					a.eventually(20 * time.Second)
					return
				}
				a.eventuallyFails(c.want, 20*time.Second)
			})
		})
	}
}

// Without introspection the gamble is taken once, not for ever.
func TestRetryGamblesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		f.tune = func(o *Options) { o.Endpoint = f.endpointWithoutIntrospection() }
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		f.sim.Token.Next(pleosim.CutUnread(), pleosim.CutUnread())
		a.eventuallyFails(ErrLoginRequired, time.Minute)
	})
}

func (f *fleet) endpointWithoutIntrospection() *Endpoint {
	e, err := NewEndpoint(EndpointOptions{
		TokenURL: "http://" + pleosim.AuthAddr + "/oauth/token",
		ClientID: "pleosim-client", ClientSecret: NewSecret("pleosim-secret"), Dial: f.pipes.DialContext,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return e
}

func TestAnswerThatCannotBeReadIsNeverTriedAgain(t *testing.T) {
	for _, garble := range []pleosim.Garble{
		pleosim.GarbleJSON, pleosim.GarbleEmpty, pleosim.GarbleTruncated, pleosim.GarbleNoAccess, pleosim.GarbleHTML,
	} {
		t.Run(string(garble), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, pleosim.Options{})
				a := f.start("a")
				a.mustCall()
				time.Sleep(20 * time.Minute)
				f.sim.Token.Next(pleosim.Fault{Garble: garble})
				a.eventuallyFails(ErrLoginRequired, 20*time.Second)
			})
		})
	}
}

func TestOldRefreshTokenIsKeptWhenNoneComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{OmitRefreshToken: true})
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		a.mustCall()
		if !f.record().Token.Refresh().Equal(f.seed) {
			t.Error("the refresh token is lost")
		}
	})
}

// eventuallyFails lets virtual time pass until calls are answered with want.
func (p *pod) eventuallyFails(want error, limit time.Duration) {
	p.t.Helper()
	var last error
	for begun := time.Now(); time.Since(begun) < limit; time.Sleep(100 * time.Millisecond) {
		status, err := p.call()
		if errors.Is(err, want) {
			return
		}
		last = err
		if status == http.StatusOK {
			p.t.Fatalf("a call through %s was served; want %v", p.name, want)
		}
	}
	p.t.Fatalf("calls through %s end with %v after %v; want %v", p.name, last, limit, want)
}

// The key ring lost the key of a record: it cannot be used, is not taken for
// absent, and only a replacement on purpose takes its place.
func TestRecordWhoseKeyIsLostIsKeptUntilReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		f.sealWithNewKey()
		a := f.start("a")
		a.mustCall()
		synctest.Wait() // a new token serves before it is saved
		a.kill()
		version := f.record().Version
		f.sealWithNewKey()
		b := f.start("b")
		b.mustFail(ErrStoreUnavailable)
		fresh := NewSecret(f.sim.Grant())
		if err := b.conns.Import(context.Background(), "default", fresh); !errors.Is(err, ErrLivingGrant) {
			t.Fatalf("Import: %v, want ErrLivingGrant", err)
		}
		if f.record().Version != version {
			t.Fatal("the record was changed")
		}
		if err := b.conns.Replace(context.Background(), "default", fresh); err != nil {
			t.Fatal(err)
		}
		b.eventually(5 * time.Second)
	})
}

// sealWithNewKey gives the pods started from here on a key ring of their own.
func (f *fleet) sealWithNewKey() {
	key, err := NewKey()
	if err != nil {
		f.t.Fatal(err)
	}
	ring, err := NewKeyring(key)
	if err != nil {
		f.t.Fatal(err)
	}
	f.tune = func(o *Options) { o.Store = Seal(o.Store, ring) }
}

// A pair that the store would not take outlives the process in the spool.
func TestSpooledPairOutlivesTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		key, err := NewKey()
		if err != nil {
			t.Fatal(err)
		}
		ring, err := NewKeyring(key)
		if err != nil {
			t.Fatal(err)
		}
		spool, err := NewSpool(filepath.Join(t.TempDir(), "spool"), ring)
		if err != nil {
			t.Fatal(err)
		}
		f.tune = func(o *Options) { o.Spool = spool }
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		f.sim.On(pleosim.AtToken, pleosim.AfterRotate, func(pleosim.Event) { a.store.cut(errors.New("connection refused")) })
		a.mustCall()
		synctest.Wait() // a new token serves before it is saved
		a.kill()
		if got := f.record().Generation; got != 1 {
			t.Fatalf("generation %d is in the store, want 1", got)
		}
		b := f.start("b")
		b.mustCall()
		if rec := f.record(); rec.Generation != 2 || !rec.Doubt {
			t.Errorf("generation %d, doubt %v; want 2, true", rec.Generation, rec.Doubt)
		}
		time.Sleep(20 * time.Minute)
		b.mustCall()
		if err := b.conns.Forget(context.Background(), "default"); err != nil {
			t.Fatal(err)
		}
		if left, err := spool.All(); len(left) != 0 || err != nil {
			t.Errorf("%d pairs in the spool of a forgotten connection, %v", len(left), err)
		}
	})
}

// One record that cannot be read is told once, does not hold up the others, and
// is taken up when it can be read again.
func TestUnreadableRecordHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a := f.start("a")
		a.mustCall()
		if err := a.conns.Import(context.Background(), "other", NewSecret(f.sim.Grant())); err != nil {
			t.Fatal(err)
		}
		var mended atomic.Bool
		f.tune = func(o *Options) { o.Store = &damagedStore{Store: o.Store, mended: &mended} }
		b := f.start("b")
		time.Sleep(time.Minute)
		b.mustCall()
		if _, err := b.conns.Open(context.Background(), "other"); !errors.Is(err, ErrStoreUnavailable) || !errors.Is(err, errDamaged) {
			t.Errorf("Open: %v, want ErrStoreUnavailable and why", err)
		}
		if told := strings.Count(f.logs.String(), "trying again until it can"); told != 1 {
			t.Errorf("told %d times, want once", told)
		}
		mended.Store(true)
		time.Sleep(2 * watchRetry)
		if _, err := b.conns.Open(context.Background(), "other"); err != nil {
			t.Errorf("Open: %v after it was mended", err)
		}
	})
}

// damagedStore cannot read the connection "other" until it is mended.
type damagedStore struct {
	Store
	mended *atomic.Bool
}

var errDamaged = errors.New("record is damaged")

func (d *damagedStore) Load(ctx context.Context, connection string) (Record, error) {
	if connection == "other" && !d.mended.Load() {
		return Record{}, errDamaged
	}
	return d.Store.Load(ctx, connection)
}
