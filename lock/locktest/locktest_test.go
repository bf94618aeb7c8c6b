package locktest_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"pleo-sidecar/lock"
	"pleo-sidecar/lock/locktest"
)

// brokenEnv names the broken Locker that TestBrokenLocker gives to the suite.
const brokenEnv = "PLEO_SIDECAR_LOCKTEST_BROKEN"

type work = func(ctx context.Context) error

// do makes a Locker of a function.
type do func(ctx context.Context, name string, fn work) error

func (d do) Do(ctx context.Context, name string, fn work) error { return d(ctx, name, fn) }

// fakeLease is a Locker in memory whose lease can be lost and whose backend can
// be away.
type fakeLease struct {
	lock.Locker
	away   bool
	holder context.CancelCauseFunc // of the one name the suite loses
}

func newFakeLease() *fakeLease { return &fakeLease{Locker: lock.NewLocal()} }

func (l *fakeLease) Do(ctx context.Context, name string, fn work) error {
	if l.away {
		return lock.ErrUnavailable
	}
	return l.Locker.Do(ctx, name, func(ctx context.Context) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		if name == "acme" {
			l.holder = cancel
		}
		return fn(ctx)
	})
}

// backend gives front to the suite, with the lease and the backend of l.
func (l *fakeLease) backend(front lock.Locker) locktest.Backend {
	return locktest.Backend{
		New:   func() lock.Locker { return front },
		Lose:  func(string) { l.holder(lock.ErrLost) },
		Break: func() { l.away = true },
	}
}

func TestLeaseConforms(t *testing.T) {
	locktest.Run(t, func(*testing.T) locktest.Backend {
		fake := newFakeLease()
		return fake.backend(fake)
	})
}

// broken breaks the contract in one point each. The key names the test of the
// suite that must fail.
var broken = map[string]func(l lock.Locker) lock.Locker{
	"OneHolderAtATime":                 none,
	"NotReentrant":                     none,
	"NamesOutsideTheGrammarAreRefused": none,
	"EndedContextRunsNothing":          none,
	"UnreachableBackendRunsNothing":    none,

	"ErrorReleases":                 releasing(func(_ context.Context, err error) bool { return err == nil }),
	"CallerThatGaveUpStillReleases": releasing(func(ctx context.Context, _ error) bool { return ctx.Err() == nil }),
	"PanicReleasesAndGoesOn":        releasing(func(context.Context, error) bool { return true }),
	"GoexitReleases":                releasing(func(context.Context, error) bool { return true }),

	"ContextEndsWithTheCallers": forgettingCauses,
	"LostLeaseEndsTheContext":   forgettingCauses,

	"NamesAreIndependent": func(l lock.Locker) lock.Locker {
		return do(func(ctx context.Context, _ string, fn work) error { return l.Do(ctx, "one", fn) })
	},
	"NamesWithinTheGrammarAreTaken": func(l lock.Locker) lock.Locker {
		return do(func(ctx context.Context, name string, fn work) error {
			if len(name) == 63 {
				return lock.ErrName
			}
			return l.Do(ctx, name, fn)
		})
	},
	"WaitEndsWithItsContext": func(l lock.Locker) lock.Locker {
		return do(func(ctx context.Context, name string, fn work) error {
			if err := l.Do(ctx, name, fn); err != nil {
				return fmt.Errorf("%w: %w", lock.ErrNotHeld, ctx.Err()) // not its cause
			}
			return nil
		})
	},
	"WaiterThatGaveUpLeavesNothingBehind": func(l lock.Locker) lock.Locker {
		return do(func(ctx context.Context, name string, fn work) error {
			if stuck.Load() {
				<-ctx.Done()
				return errors.Join(lock.ErrNotHeld, context.Cause(ctx))
			}
			err := l.Do(ctx, name, fn)
			if errors.Is(err, lock.ErrNotHeld) {
				stuck.Store(true) // holds what it stopped waiting for, as a flock that blocks
			}
			return err
		})
	},
	"ContextCarriesTheCallersValues": func(l lock.Locker) lock.Locker {
		return do(func(ctx context.Context, name string, fn work) error {
			return l.Do(ctx, name, func(context.Context) error { return fn(context.Background()) })
		})
	},
	"ErrorIsReturnedAsItIs": func(l lock.Locker) lock.Locker {
		return do(func(ctx context.Context, name string, fn work) error {
			if err := l.Do(ctx, name, fn); err != nil {
				return fmt.Errorf("run %q: %w", name, err)
			}
			return nil
		})
	},
	"EndedContextDoesNotReplaceTheResult": func(l lock.Locker) lock.Locker {
		return do(func(ctx context.Context, name string, fn work) error {
			return cmp.Or(l.Do(ctx, name, fn), ctx.Err())
		})
	},
	"LostLeaseDoesNotReplaceTheResult": func(l lock.Locker) lock.Locker {
		return do(func(ctx context.Context, name string, fn work) error {
			return l.Do(ctx, name, func(ctx context.Context) error {
				return cmp.Or(fn(ctx), context.Cause(ctx))
			})
		})
	},
}

// stuck is set once a waiter gave up, in the process of one breach.
var stuck atomic.Bool

func none(lock.Locker) lock.Locker { return locktest.None{} }

// forgettingCauses makes a Locker that ends the context of the function in
// time, but does not say why.
func forgettingCauses(l lock.Locker) lock.Locker {
	return do(func(ctx context.Context, name string, fn work) error {
		return l.Do(ctx, name, func(ctx context.Context) error {
			mute, cancel := context.WithCancel(context.WithoutCancel(ctx))
			defer context.AfterFunc(ctx, cancel)()
			return fn(mute)
		})
	})
}

// releasing makes a Locker of a channel that releases only where well says so,
// and never after a panic or Goexit.
func releasing(well func(ctx context.Context, err error) bool) func(lock.Locker) lock.Locker {
	return func(lock.Locker) lock.Locker {
		held := make(chan struct{}, 1)
		return do(func(ctx context.Context, _ string, fn work) error {
			select {
			case held <- struct{}{}:
			case <-ctx.Done():
				return lock.ErrNotHeld
			}
			err := fn(ctx)
			if well(ctx, err) {
				<-held
			}
			return err
		})
	}
}

// TestBrokenLocker fails on purpose, in a process of its own.
func TestBrokenLocker(t *testing.T) {
	breaks, ok := broken[os.Getenv(brokenEnv)]
	if !ok {
		t.Skip("only TestSuiteCatchesEveryBreach runs this, with " + brokenEnv)
	}
	locktest.Run(t, func(*testing.T) locktest.Backend {
		fake := newFakeLease()
		return fake.backend(breaks(fake))
	})
}

func TestSuiteCatchesEveryBreach(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// All at once: most of them only wait for a lock that is never released.
	running, said := map[string]*exec.Cmd{}, map[string]*bytes.Buffer{}
	for fails := range broken {
		cmd, out := exec.CommandContext(t.Context(), self, "-test.run=^TestBrokenLocker$/^"+fails+"$"), &bytes.Buffer{}
		cmd.Env = append(os.Environ(), brokenEnv+"="+fails, "GORACE=atexit_sleep_ms=0")
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running[fails], said[fails] = cmd, out
	}
	for fails, cmd := range running {
		err := cmd.Wait()
		if out := said[fails].String(); err == nil || !strings.Contains(out, "--- FAIL: TestBrokenLocker/"+fails) {
			t.Errorf("the suite let a Locker pass that breaks %s: %v\n%s", fails, err, out)
		}
	}
}
