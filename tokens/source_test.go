package tokens

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pleo-sidecar/lock"
	"pleo-sidecar/tokens/pleosim"
)

func TestFirstCallOfASeedObtainsAToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		f.start("a").mustCall()
		if rec := f.record(); rec.State != StateOK || rec.Generation != 1 || rec.Root != FingerprintOf(f.seed) {
			t.Errorf("record is %s, generation %d; want ok, 1, rooted in the seed", rec.State, rec.Generation)
		}
	})
}

func TestRefreshHappensOncePerExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		pods := []*pod{f.start("a"), f.start("b"), f.start("c"), f.start("d"), f.start("e")}
		pods[0].mustCall()
		for round := range 5 {
			time.Sleep(40 * time.Minute) // unused after at most one refresh ahead, the token ends
			before := f.rotations()
			var callers sync.WaitGroup
			for i := range 5 * 50 {
				callers.Go(func() { pods[i%5].mustCall() })
			}
			callers.Wait()
			if got := f.rotations() - before; got != 1 {
				t.Fatalf("%d rotations for expiry %d, want one", got, round)
			}
		}
	})
}

func TestConnectionInUseIsRefreshedAheadOfItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		p := f.start("a")
		for range 3600 {
			began := time.Now()
			p.mustCall()
			if waited := time.Since(began); waited > 0 {
				if f.rotations() > 1 {
					t.Fatalf("a call waited %v", waited)
				}
			}
			time.Sleep(time.Second)
		}
		if got := f.rotations(); got < 4 || got > 6 {
			t.Errorf("%d rotations in an hour of 15-minute tokens, want 4 to 6", got)
		}
	})
}

func TestLateFirstCallStartsTheRefreshAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		p := f.start("a")
		p.mustCall()
		time.Sleep(14*time.Minute + 30*time.Second) // lead began half a minute ago, unused
		if f.rotations() != 1 {
			t.Fatal("an unused connection was refreshed ahead")
		}
		p.mustCall()
		synctest.Wait()
		if got := f.rotations(); got != 2 {
			t.Errorf("%d rotations, want 2: the call came within the lead", got)
		}
	})
}

func TestIdleConnectionIsKeptAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{RefreshLife: 48 * time.Hour})
		p := f.start("a")
		p.mustCall()
		time.Sleep(240 * time.Hour)
		if got := f.rotations(); got < 10 || got > 13 {
			t.Errorf("%d rotations in 10 idle days, want one a day", got-1)
		}
		p.mustCall()
	})
}

func TestManyRejectedCallersCauseOneRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		pods := []*pod{f.start("a"), f.start("b"), f.start("c")}
		for _, p := range pods {
			p.mustCall()
		}
		time.Sleep(time.Minute)
		f.sim.Expire("") // Pleo ends it early; nobody knows
		var callers sync.WaitGroup
		for i := range 300 {
			callers.Go(func() { pods[i%3].mustCall() })
		}
		callers.Wait()
		if got := f.rotations(); got != 2 {
			t.Errorf("%d rotations, want one for the first token and one for the rejected", got)
		}
	})
}

func TestYoungRejectedTokenIsNotRefreshed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		p := f.start("a")
		p.mustCall()
		f.sim.Resource.Always(pleosim.Fault{Status: http.StatusUnauthorized})
		for range 100 {
			if status, err := p.call(); status != http.StatusUnauthorized || err != nil {
				t.Fatalf("status %d, %v; want Pleo's own 401", status, err)
			}
		}
		if got := f.rotations(); got != 1 {
			t.Errorf("%d rotations, want none for a token seconds old", got-1)
		}
		time.Sleep(brake)
		for range 100 {
			_, _ = p.call()
		}
		if got := f.rotations(); got != 2 {
			t.Errorf("%d rotations, want one when the token was old enough, then none", got)
		}
	})
}

func TestCallerGivesUpRefreshGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		p := f.start("a")
		f.sim.Token.Next(pleosim.Fault{Delay: time.Second})
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if _, err := p.source.Token(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Token: %v, want the caller's own deadline", err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if rec := f.record(); rec.Generation != 1 || rec.State != StateOK {
			t.Errorf("record is %s, generation %d; want the pair saved", rec.State, rec.Generation)
		}
	})
}

func TestCallsWaitWhileAnyPodRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		a, b := f.start("a"), f.start("b")
		a.mustCall()
		b.mustCall()
		time.Sleep(time.Minute)
		f.sim.Token.Next(pleosim.Fault{Delay: time.Second, After: true})
		go func() { _, _ = a.source.Refresh(context.Background(), a.source.view.Load().token) }()
		time.Sleep(100 * time.Millisecond)
		began := time.Now()
		b.mustCall()
		if waited := time.Since(began); waited < 800*time.Millisecond {
			t.Errorf("b called after %v, while a was rotating", waited)
		}
		if refused := f.sim.Ledger().APIRefused["rotated"]; refused != 0 {
			t.Errorf("%d calls went out with a rotated token", refused)
		}
	})
}

func TestGateOpensWhenAClaimLeadsToNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		p := f.start("a")
		p.mustCall()
		time.Sleep(time.Minute)
		f.sim.Token.Next(pleosim.Fault{Status: http.StatusServiceUnavailable})
		p.rotateNow()
		synctest.Wait()
		if f.record().State != StateClaimed {
			t.Fatalf("record is %s, want the claim to stand", f.record().State)
		}
		began := time.Now()
		p.mustCall()
		if waited := time.Since(began); waited != 0 {
			t.Errorf("the call waited %v; the old token was good", waited)
		}
	})
}

func TestLockerThatFailsStopsEveryRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		f.lock = brokenLocker{}
		f.start("a").mustFail(ErrStoreUnavailable)
		if f.rotations() != 0 {
			t.Error("a refresh ran without the lock")
		}
	})
}

type brokenLocker struct{}

func (brokenLocker) Do(context.Context, string, func(context.Context) error) error {
	return lock.ErrUnavailable
}

func TestUnknownConnectionIsNotServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		p := f.start("a")
		for _, name := range []string{"nobody", "Acme", "a/b", "-a", "a_"} {
			if _, err := p.conns.Open(context.Background(), name); !errors.Is(err, ErrUnknownConnection) {
				t.Errorf("Open(%q): %v, want ErrUnknownConnection", name, err)
			}
		}
	})
}

func TestDefaultConnectionWithoutAGrantRequiresLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		f.seed = Secret{}
		f.start("a").mustFail(ErrLoginRequired)
	})
}
