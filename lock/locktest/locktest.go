// Package locktest holds what the tests of locks share: the conformance suite
// that every lock.Locker runs, and None, which locks nothing.
//
// The suite runs in real time, so that it can face real backends. It never
// sleeps: it waits on channels, and on deadlines where waiting is the subject.
package locktest

import (
	"context"
	"sync"
	"testing"
	"time"

	"pleo-sidecar/lock"
)

const (
	// patience ends a test that hangs.
	patience = 30 * time.Second

	// prompt is how soon a released lock must be had. It is free at once, so
	// this is only slack for a busy machine.
	prompt = 3 * time.Second

	// brief is a wait that is meant to be in vain.
	brief = 30 * time.Millisecond

	// name is the lock most tests use; each test has a backend of its own.
	name = "acme"
)

// Backend is what one test needs of the backend it runs on.
type Backend struct {
	// New returns a Locker on this backend, as a further process would make
	// one. A Locker that excludes only through itself returns itself.
	New func() lock.Locker

	// Lose takes the lock called name away from its holder and leaves it free,
	// as an expired lease or a failover does. Nil where there is no lease.
	Lose func(name string)

	// Break makes the backend unreachable, for Lockers made before and after.
	// Nil where that cannot happen.
	Break func()
}

// Run runs the conformance suite. Open makes an empty backend for the test it
// is given and cleans up with it. Where a lock is a lease, it must not run out by
// itself within 3 s, or a lock that is never released would pass for one that is.
func Run(t *testing.T, open func(t *testing.T) Backend) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, b Backend)
	}{
		{"OneHolderAtATime", oneHolderAtATime},
		{"NamesAreIndependent", namesAreIndependent},
		{"NotReentrant", notReentrant},
		{"NamesWithinTheGrammarAreTaken", goodNames},
		{"NamesOutsideTheGrammarAreRefused", badNames},
		{"WaitEndsWithItsContext", waitEndsWithItsContext},
		{"WaiterThatGaveUpLeavesNothingBehind", waiterLeavesNothing},
		{"EndedContextRunsNothing", endedContextRunsNothing},
		{"ContextCarriesTheCallersValues", contextCarriesValues},
		{"ContextEndsWithTheCallers", contextEndsWithCallers},
		{"ErrorIsReturnedAsItIs", errorAsItIs},
		{"EndedContextDoesNotReplaceTheResult", endedContextKeepsResult},
		{"ErrorReleases", errorReleases},
		{"PanicReleasesAndGoesOn", panicReleases},
		{"GoexitReleases", goexitReleases},
		{"CallerThatGaveUpStillReleases", gaveUpReleases},
		{"LostLeaseEndsTheContext", lostLeaseEndsContext},
		{"LostLeaseDoesNotReplaceTheResult", lostLeaseKeepsResult},
		{"UnreachableBackendRunsNothing", unreachableRunsNothing},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// soon returns a context that ends when the test has waited too long.
func soon(t *testing.T) context.Context {
	t.Helper()
	return within(t, patience)
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// hold takes the lock called name and keeps it until release, at the latest
// until the test ends.
func hold(t *testing.T, l lock.Locker, name string) (release func()) {
	t.Helper()
	held, free, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	ctx := soon(t)
	go func() {
		done <- l.Do(ctx, name, func(context.Context) error {
			close(held)
			<-free
			return nil
		})
	}()
	select {
	case <-held:
	case err := <-done:
		t.Fatalf("Do(%q) on a free lock = %v without running its function", name, err)
	}
	release = sync.OnceFunc(func() {
		close(free)
		if err := <-done; err != nil {
			t.Errorf("Do(%q) = %v, want nil", name, err)
		}
	})
	t.Cleanup(release)
	return release
}

// wantFree fails the test unless l obtains the lock called name.
func wantFree(t *testing.T, l lock.Locker, name string) {
	t.Helper()
	ran := false
	err := l.Do(within(t, prompt), name, func(context.Context) error {
		ran = true
		return nil
	})
	if err != nil || !ran {
		t.Fatalf("Do(%q) = %v, ran %v; want the lock free", name, err, ran)
	}
}

// mustNotRun is a function for a Do that must not run it.
func mustNotRun(t *testing.T) func(context.Context) error {
	return func(context.Context) error {
		t.Error("the function ran")
		return nil
	}
}
