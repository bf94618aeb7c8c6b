package locktest

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"pleo-sidecar/lock"
)

func contextCarriesValues(t *testing.T, b Backend) {
	type key struct{}
	ctx := context.WithValue(soon(t), key{}, "value")
	err := b.New().Do(ctx, name, func(ctx context.Context) error {
		if got := ctx.Value(key{}); got != "value" {
			t.Errorf("Value = %v, want the caller's", got)
		}
		return ctx.Err()
	})
	if err != nil {
		t.Errorf("Do = %v; the context had ended before the function began", err)
	}
}

func contextEndsWithCallers(t *testing.T, b Backend) {
	cause := errors.New("the caller has gone")
	ctx, cancel := context.WithCancelCause(soon(t))
	defer cancel(nil)
	err := b.New().Do(ctx, name, func(ctx context.Context) error {
		cancel(cause)
		return causeOfEnd(t, ctx)
	})
	if !errors.Is(err, cause) {
		t.Errorf("the context ended with %v, want %v", err, cause)
	}
}

func errorAsItIs(t *testing.T, b Backend) {
	want := errors.New("refused")
	got := b.New().Do(soon(t), name, func(context.Context) error { return want })
	if !errors.Is(got, want) || got.Error() != want.Error() || errors.Unwrap(got) != nil {
		t.Errorf("Do = %v, want the very error of the function", got)
	}
}

func endedContextKeepsResult(t *testing.T, b Backend) {
	ctx, cancel := context.WithCancel(soon(t))
	err := b.New().Do(ctx, name, func(context.Context) error {
		cancel()
		return nil
	})
	if err != nil {
		t.Errorf("Do = %v, want nil: the function ran and was content", err)
	}
}

func errorReleases(t *testing.T, b Backend) {
	_ = b.New().Do(soon(t), name, func(context.Context) error { return errors.New("refused") })
	wantFree(t, b.New(), name)
}

func panicReleases(t *testing.T, b Backend) {
	want := errors.New("broken")
	func() {
		defer func() {
			if got := recover(); got != any(want) {
				t.Errorf("recovered %v, want %v", got, want)
			}
		}()
		_ = b.New().Do(soon(t), name, func(context.Context) error { panic(want) })
	}()
	wantFree(t, b.New(), name)
}

func goexitReleases(t *testing.T, b Backend) {
	ctx, gone := soon(t), make(chan struct{})
	go func() {
		defer close(gone)
		_ = b.New().Do(ctx, name, func(context.Context) error {
			runtime.Goexit()
			return nil
		})
		t.Error("Do returned from a function that had left its goroutine")
	}()
	<-gone
	wantFree(t, b.New(), name)
}

func gaveUpReleases(t *testing.T, b Backend) {
	ctx, cancel := context.WithCancel(soon(t))
	want := errors.New("refused")
	err := b.New().Do(ctx, name, func(context.Context) error {
		cancel()
		return want
	})
	if !errors.Is(err, want) {
		t.Errorf("Do = %v, want %v", err, want)
	}
	wantFree(t, b.New(), name)
}

func lostLeaseEndsContext(t *testing.T, b Backend) {
	if b.Lose == nil {
		t.Skip("this lock is no lease")
	}
	err := b.New().Do(soon(t), name, func(ctx context.Context) error {
		b.Lose(name)
		return causeOfEnd(t, ctx)
	})
	if !errors.Is(err, lock.ErrLost) {
		t.Errorf("the context ended with %v, want ErrLost", err)
	}
	wantFree(t, b.New(), name)
}

func lostLeaseKeepsResult(t *testing.T, b Backend) {
	if b.Lose == nil {
		t.Skip("this lock is no lease")
	}
	err := b.New().Do(soon(t), name, func(ctx context.Context) error {
		b.Lose(name)
		_ = causeOfEnd(t, ctx)
		return nil
	})
	if err != nil {
		t.Errorf("Do = %v, want nil: the function ran and was content", err)
	}
}

// causeOfEnd waits for the end of ctx and returns its cause.
func causeOfEnd(t *testing.T, ctx context.Context) error {
	t.Helper()
	select {
	case <-ctx.Done():
	case <-soon(t).Done():
		t.Error("the context of the function did not end")
	}
	return context.Cause(ctx)
}
