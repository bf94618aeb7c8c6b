package tokens

import (
	"context"
	"errors"
	"log/slog"
	mathrand "math/rand/v2"
	"time"

	"pleo-sidecar/lock"
)

// flight is the one running refresh, or resolution of doubt, of a connection in
// this process. Nobody's leaving ends it: callers wait on Source.changed and
// their own context.
type flight struct {
	reason  string
	replace Token // the keeper's: good, but to be replaced all the same; else zero

	// Guarded by Source.mu.
	wanted  bool   // a token is wanted, not only an end of doubt
	waiters int    // callers that waited for it
	leave   func() // ends waiting in line for the lock; nil before and after
	rotated bool   // a new pair came of it
	trouble error  // what keeps it from getting on, for callers who give up

	stop    context.CancelCauseFunc // ends what comes before the sending
	abandon context.CancelCauseFunc // ends what comes after, too

	// For the one log event; touched by the flight alone.
	begun    time.Time
	lockWait time.Duration
	tries    int
	from, to Record
	result   string
	absent   time.Time   // when it first found no record
	on       Fingerprint // of the refresh token at the last look
}

// Reasons of a flight, as they are logged.
const (
	reasonExpiry    = "expiry"
	reasonRejected  = "401"
	reasonLogin     = "login" // the first access token of a seed, an import or a login
	reasonKeepAlive = "keep_alive"
	reasonResolve   = "resolve" // doubt: a lost answer, or a store that restarted
	reasonRepair    = "repair"  // the store is older than memory
	reasonSpool     = "spool"   // a pair that a former process could not save
)

func reasonFor(refused Token) string {
	if refused.IsZero() {
		return reasonExpiry
	}
	return reasonRejected
}

// start begins a flight. Callers hold mu and have seen that none runs.
func (s *Source) start(reason string, replace Token) *flight {
	// Detached from every caller: one who leaves after the claim was sent would
	// take with him the only copy of the answer.
	after, abandon := context.WithCancelCause(context.Background())
	before, stop := context.WithCancelCause(after)
	if reason == reasonExpiry && s.current().Access().IsZero() {
		reason = reasonLogin
	}
	f := &flight{reason: reason, replace: replace, stop: stop, abandon: abandon, begun: time.Now(), from: s.memory, on: s.memory.Current}
	s.flight = f
	s.flights.Add(1)
	go func() {
		defer s.flights.Done()
		s.land(f, s.fly(before, after, f))
		abandon(nil)
	}()
	return f
}

// fly runs the protocol under the lock. before ends when the process begins to
// shut down, after when it gives up waiting.
func (s *Source) fly(before, after context.Context, f *flight) error {
	if f.reason == reasonSpool {
		return s.saveHeld(after, f, Record{}) // needs no lock: nothing is presented
	}
	if f.reason == reasonResolve && f.from.Run != f.from.Seen.Run {
		// Nobody waits, and a store that restarted leaves every connection in doubt
		// at once: take a place in a minute, and not under the lock.
		then := time.Now().Add(s.restLeft(f.from) + mathrand.N(resolveSpread))
		_ = s.await(before, then, func() bool { return !f.wanted && markOf(s.memory) == markOf(f.from) })
	}
	line, leave := context.WithCancel(before)
	defer leave()
	s.queue(f, leave)
	err := s.opts.Locker.Do(line, s.name, func(held context.Context) error {
		s.queue(f, nil)
		f.lockWait = time.Since(f.begun)
		s.opts.Metrics.lockWait.Observe(f.lockWait.Seconds())
		return s.protocol(held, after, f)
	})
	switch {
	case err == nil:
		return nil
	case line.Err() != nil && before.Err() == nil:
		return nil // left the line: another pod's refresh has come
	case errors.Is(err, lock.ErrLost):
		s.opts.Metrics.lockLost.Inc()
	case errors.Is(err, lock.ErrUnavailable):
		return storeError("obtain the lock", err)
	}
	return err
}

// queue notes that f waits in line for the lock (leave ends that) or no more
// (nil). A flight that has what it wants leaves at once.
func (s *Source) queue(f *flight, leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.leave = leave
	if leave != nil && s.satisfied(f, time.Now()) {
		leave()
	}
}

// satisfied reports whether f need not go on: the record in memory is beyond
// doubt and has what is wanted, or nothing can. Callers hold mu.
func (s *Source) satisfied(f *flight, now time.Time) bool {
	if s.behind || doubtful(s.memory) || s.memory.Seen.Run == "" {
		return false
	}
	return !f.wanted || s.final(s.memory) != nil || s.good(s.memory, f, now)
}

// good reports whether rec has a token that f need not replace (rule 3). Callers
// hold mu.
func (s *Source) good(rec Record, f *flight, now time.Time) bool {
	return s.serves(rec.Token, now) && !refusedBy(f.replace, rec.Token)
}

// doubtful reports whether rec may stand on a spent refresh token, and must be
// resolved before it is presented (rule 4).
func doubtful(rec Record) bool {
	if !rec.Living() {
		return false
	}
	return rec.State == StateClaimed || rec.Doubt || rec.Run != rec.Seen.Run
}

// protocol takes steps until one ends the flight or the attempts are used up.
// ctx ends when the lock is lost.
func (s *Source) protocol(ctx, after context.Context, f *flight) error {
	for failed, round := 0, 0; ; round++ {
		next, err := s.step(ctx, after, f)
		switch {
		case next == landed:
			return err
		case ctx.Err() != nil:
			return errors.Join(context.Cause(ctx), err)
		case err == nil && round < freeRounds:
			continue
		case err == nil: // the store says yes and no: do not ask it in a loop
			if pause(ctx, backoff(round-freeRounds)) != nil {
				return context.Cause(ctx)
			}
			continue
		}
		failed++
		if failed >= s.opts.Timing.Attempts {
			return err
		}
		s.opts.Log.LogAttrs(ctx, slog.LevelWarn, "refresh attempt came to nothing", slog.String("connection", s.name),
			slog.String("reason", f.reason), slog.Int("attempt", failed), slog.Any("err", err))
		s.troubled(f, err)
		// Another pair meanwhile, a login even, ends the pause: it was the old one's.
		until := time.Now().Add(max(backoff(failed), RetryAfter(err)))
		if s.await(ctx, until, func() bool { return s.memory.Current == f.on }) != nil {
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

func (s *Source) troubled(f *flight, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.trouble = err
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// land ends f: callers go on, the next flight is held off after a failure.
func (s *Source) land(f *flight, err error) {
	final := errors.Is(err, ErrLoginRequired) || errors.Is(err, ErrClientRejected) || errors.Is(err, ErrUnknownConnection)
	s.mu.Lock()
	now := time.Now()
	s.flight = nil
	switch {
	case err == nil || final || s.memory.Current != f.on: // what failed concerned another pair
		s.failures, s.retryAt, s.lastErr = 0, time.Time{}, nil
	default:
		s.failures++
		s.lastErr, s.retryAt = err, now.Add(s.holdOff(err))
		if !s.serves(s.current(), now) {
			s.used.Store(false) // nobody is served: the next caller asks, not the keeper
		}
		if f.reason == reasonKeepAlive {
			s.keepAt = now.Add(early(min(s.opts.Timing.KeepAlive/10, time.Hour)))
		}
	}
	s.update(now)
	f.to = s.memory
	waiters := f.waiters
	s.mu.Unlock()
	s.report(f, waiters, err)
}

// holdOff is how long no flight starts after one that failed with err. Callers
// hold mu.
func (s *Source) holdOff(err error) time.Duration {
	if errors.Is(err, ErrStoreUnavailable) {
		return storeRetry
	}
	// A flight has made several tries: begin where it left off.
	return max(backoff(s.failures+s.opts.Timing.Attempts), RetryAfter(err))
}
