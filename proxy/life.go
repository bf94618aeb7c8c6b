package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// ServeOptions are what Serve serves, and how it ends. Calls, both listeners and
// Timeout are required.
type ServeOptions struct {
	Calls         *Handler
	CallListener  net.Listener // Serve closes both
	AdminListener net.Listener
	Admin         AdminOptions // Ready is not asked any more once the end has begun

	// Keep runs beside the servers, until everything else has ended and its
	// context with it. nil: nothing.
	Keep func(context.Context) error
	// Finish stops what was not sent to the token endpoint, and returns when
	// everything that was sent is answered and saved, or when its context ends,
	// with what was lost. nil: nothing to wait for.
	Finish func(context.Context) error

	// Linger is how long it must have been quiet before calls are no longer
	// accepted. 0 stops accepting at once.
	Linger time.Duration
	// Timeout bounds the whole end.
	Timeout time.Duration
	// FinishTime is the part of Timeout that calls leave to Finish.
	FinishTime time.Duration

	Logger *slog.Logger // nil discards
}

// Serve serves callers and the admin listener until a signal comes, ctx ends or
// a server fails, and then ends everything in the order that loses nothing. It
// returns the failure, and what Finish returned. A second signal ends the waiting
// for calls, and nothing else.
func Serve(ctx context.Context, signals <-chan os.Signal, o ServeOptions) error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := &life{ServeOptions: o, failed: make(chan error, 3)}
	admin := o.Admin
	admin.Ready = l.ready
	l.calls, l.admin = NewServer(o.Calls, o.Logger), NewServer(NewAdmin(admin), o.Logger)

	// Detached from ctx: it may be what ends us, and changes by other processes
	// matter until the last call has ended.
	keeping, stopKeeping := context.WithCancel(context.WithoutCancel(ctx))
	defer stopKeeping()
	l.start(func() error { return l.admin.Serve(o.AdminListener) })
	if o.Keep != nil {
		l.start(func() error { return o.Keep(keeping) })
	}
	l.start(func() error { return l.calls.Serve(o.CallListener) })

	var err error
	select {
	case <-signals:
	case <-ctx.Done():
	case err = <-l.failed:
	}
	return errors.Join(err, l.end(signals, stopKeeping))
}

// life is one run of Serve.
type life struct {
	ServeOptions
	calls, admin *http.Server
	ending       atomic.Bool

	running sync.WaitGroup // of the goroutines that start started
	failed  chan error     // why one of them ended by itself
}

// start runs do until the end; do ends by itself only when it fails.
func (l *life) start(do func() error) {
	l.running.Go(func() {
		if err := do(); err != nil && !errors.Is(err, http.ErrServerClosed) {
			l.failed <- err
		}
	})
}

var errEnding = errors.New("shutting down")

func (l *life) ready() error {
	switch {
	case l.ending.Load():
		return errEnding
	case l.Admin.Ready != nil:
		return l.Admin.Ready()
	}
	return nil
}

// end goes on accepting until it is quiet where that is asked for, stops
// accepting, finishes the calls, finishes and saves any refresh, stops looking at
// the store, and ends the probes. Saving has its time kept for it; what the calls
// do not need of theirs goes to it too, and what saving does not need to calls
// that are still open.
func (l *life) end(again <-chan os.Signal, stopKeeping func()) error {
	l.Logger.Info("shutting down", "in_flight", l.Calls.InFlight())
	l.ending.Store(true)
	// Detached from the signal that brought us here: without time of its own a
	// pair that is on its way would be lost.
	whole, cancel := context.WithTimeout(context.Background(), l.Timeout)
	patience, hurry := context.WithCancel(whole)
	first, stop := context.WithTimeout(patience, l.Timeout-l.FinishTime)
	defer stop()
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	watching.Go(func() {
		select {
		case <-again:
			l.Logger.Warn("second signal: waiting for no more calls")
			hurry()
		case <-whole.Done():
		}
	})

	l.Calls.Linger(first, l.Linger)
	_ = l.calls.Shutdown(first)
	err := l.finish(whole)
	if l.calls.Shutdown(patience) != nil {
		l.Logger.Warn("calls were cut", "in_flight", l.Calls.InFlight())
		_ = l.calls.Close()
	}
	stopKeeping()
	_ = l.admin.Close()
	l.running.Wait()
	l.Logger.Info("ended")
	return err
}

func (l *life) finish(ctx context.Context) error {
	if l.Finish == nil {
		return nil
	}
	return l.Finish(ctx)
}
