package locktest

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pleo-sidecar/lock"
)

// oneHolderAtATime counts by reading, giving way, and writing: two holders at
// once are seen inside, and lose a count.
func oneHolderAtATime(t *testing.T, b Backend) {
	const lockers, callers = 5, 100
	var inside, count atomic.Int32
	var all sync.WaitGroup
	ctx := soon(t)
	locker := make([]lock.Locker, lockers)
	for i := range locker {
		locker[i] = b.New()
	}
	for i := range callers {
		all.Go(func() {
			err := locker[i%lockers].Do(ctx, name, func(context.Context) error {
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d holders at once", n)
				}
				n := count.Load()
				runtime.Gosched()
				count.Store(n + 1)
				inside.Add(-1)
				return nil
			})
			if err != nil {
				t.Errorf("Do = %v", err)
			}
		})
	}
	all.Wait()
	if got := count.Load(); got != callers {
		t.Errorf("counted %d, want %d", got, callers)
	}
}

func namesAreIndependent(t *testing.T, b Backend) {
	hold(t, b.New(), "acme")
	wantFree(t, b.New(), "acme-2")
	wantFree(t, b.New(), "a")
}

func notReentrant(t *testing.T, b Backend) {
	l := b.New()
	err := l.Do(soon(t), name, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, brief)
		defer cancel()
		return l.Do(ctx, name, mustNotRun(t))
	})
	if !errors.Is(err, lock.ErrNotHeld) {
		t.Errorf("Do within Do = %v, want ErrNotHeld", err)
	}
}

func goodNames(t *testing.T, b Backend) {
	for _, name := range []string{"a", "0", "a-b_c", "9--__z", strings.Repeat("n", 63)} {
		wantFree(t, b.New(), name)
	}
}

func badNames(t *testing.T, b Backend) {
	for _, name := range []string{
		"", "-", "_a", "a_", "-a", "a-", "A", "é", "a b", "a.b", ".", "..", "../a", "a/b", "/a", `a\b`,
		"a\x00", "a\n", "{a}", "a:b", "a*", strings.Repeat("n", 64), strings.Repeat("n", 1<<16),
	} {
		err := b.New().Do(soon(t), name, mustNotRun(t))
		if !errors.Is(err, lock.ErrName) {
			t.Errorf("Do(%.70q) = %v, want ErrName", name, err)
		} else if len(err.Error()) > 400 {
			t.Errorf("Do(%.70q): the error has %d bytes", name, len(err.Error()))
		}
	}
}

func waitEndsWithItsContext(t *testing.T, b Backend) {
	hold(t, b.New(), name)
	cause := errors.New("the caller has gone")
	ctx, cancel := context.WithTimeoutCause(t.Context(), brief, cause)
	defer cancel()
	wantNotHeld(t, b.New().Do(ctx, name, mustNotRun(t)), cause)
}

func waiterLeavesNothing(t *testing.T, b Backend) {
	release := hold(t, b.New(), name)
	ctx, cancel := context.WithTimeout(t.Context(), brief)
	defer cancel()
	wantNotHeld(t, b.New().Do(ctx, name, mustNotRun(t)), context.DeadlineExceeded)
	release()
	wantFree(t, b.New(), name)
}

// endedContextRunsNothing tries often, since a Locker that leaves the choice
// to a select gets it right half of the time.
func endedContextRunsNothing(t *testing.T, b Backend) {
	cause := errors.New("the caller has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	l := b.New()
	for range 20 {
		wantNotHeld(t, l.Do(ctx, name, mustNotRun(t)), cause)
	}
	wantFree(t, b.New(), name)
}

// wantNotHeld fails the test unless err says that the context ended, why, and
// nothing else.
func wantNotHeld(t *testing.T, err, cause error) {
	t.Helper()
	if !errors.Is(err, lock.ErrNotHeld) || !errors.Is(err, cause) {
		t.Errorf("Do = %v, want ErrNotHeld and %v", err, cause)
	}
	if errors.Is(err, lock.ErrUnavailable) || errors.Is(err, lock.ErrLost) {
		t.Errorf("Do = %v, though only the context ended", err)
	}
}

func unreachableRunsNothing(t *testing.T, b Backend) {
	if b.Break == nil {
		t.Skip("this backend cannot become unreachable")
	}
	before := b.New()
	wantFree(t, before, name)
	b.Break()
	for _, l := range []lock.Locker{before, b.New()} {
		err := l.Do(soon(t), name, mustNotRun(t))
		if !errors.Is(err, lock.ErrUnavailable) || errors.Is(err, lock.ErrNotHeld) {
			t.Errorf("Do = %v, want ErrUnavailable alone", err)
		}
	}
}
