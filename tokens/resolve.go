package tokens

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// resolve finds out whether the refresh token of a record in doubt was spent
// (rule 4). onward: it was not, as far as can be known, and may be presented.
func (s *Source) resolve(ctx context.Context, f *flight, rec Record) (outcome, error) {
	if s.restLeft(rec) > 0 {
		return again, s.rest(ctx, rec)
	}
	alive, err := s.judge(ctx, rec)
	if err != nil {
		return again, err
	}
	if !alive {
		return again, s.die(ctx, rec, s.verdict())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settled = markOf(rec)
	// Not before the old access token can no longer serve: until then presenting
	// gains nothing, and a request that is out after all may yet be answered.
	if s.serves(rec.Token, time.Now()) || !f.wanted {
		f.result = resultPostponed
		return landed, nil
	}
	return onward, nil
}

// rest waits until quiet is over, another record stands, or a pair is held that
// must be saved first.
func (s *Source) rest(ctx context.Context, rec Record) error {
	return s.await(ctx, time.Now().Add(s.restLeft(rec)), func() bool { return markOf(s.memory) == markOf(rec) })
}

// await waits until then, or until what stands says of memory is no longer so, or
// until a pair is held that must be saved first. stands is called with mu held.
func (s *Source) await(ctx context.Context, then time.Time, stands func() bool) error {
	timer := time.NewTimer(time.Until(then))
	defer timer.Stop()
	for {
		s.mu.Lock()
		changed, on := s.changed, stands() && s.held == nil
		s.mu.Unlock()
		if !on {
			return nil
		}
		select {
		case <-timer.C:
			return nil
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// restLeft is how much of rec's quiet time remains, counted from this process's
// first sight of it in its run: whoever claimed it in a former run could not do so
// later.
func (s *Source) restLeft(rec Record) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opts.Timing.quiet() - time.Since(s.sight.at)
}

// judge decides whether the refresh token of rec may be presented after all.
func (s *Source) judge(ctx context.Context, rec Record) (alive bool, err error) {
	switch {
	case s.opts.OnLostAnswer == Never && rec.State != StateClientRejected:
		return false, nil
	case !s.opts.Endpoint.Introspects(): // a refused client's request was answered: it spent nothing
		return rec.State == StateClientRejected || s.opts.OnLostAnswer == Retry && rec.Tries < 1, nil
	}
	return s.introspectTwice(ctx, rec)
}

// verdict says why judge gave a grant up.
func (s *Source) verdict() string {
	switch {
	case s.opts.OnLostAnswer == Never:
		return "the answer to a refresh may be lost, and refresh.on_lost_answer is never"
	case !s.opts.Endpoint.Introspects():
		return "the answer to a refresh was lost, and there is no introspection to ask whether its token is spent"
	}
	return "introspection says that the refresh token is spent, expired or revoked"
}

// introspectTwice asks whether the refresh token of rec is active, and once more
// seconds later before it believes that it is not (rule Dead twice).
func (s *Source) introspectTwice(ctx context.Context, rec Record) (active bool, err error) {
	for n := range 2 {
		if n > 0 {
			if err := pause(ctx, deadPause); err != nil {
				return false, err
			}
		}
		bounded, cancel := context.WithTimeout(ctx, s.opts.Timing.Timeout)
		active, err = s.opts.Endpoint.Introspect(bounded, rec.Token.Refresh())
		cancel()
		if err != nil {
			return false, fmt.Errorf("introspect the refresh token: %w", err)
		}
		if active {
			return true, nil
		}
	}
	return false, nil
}

// repair writes the newest record this process remembers over an older one in
// the store (rule 9): the store went back in time. What is written is in doubt,
// for a request that the lost records told of may still be out.
func (s *Source) repair(ctx context.Context, stored Record) error {
	s.mu.Lock()
	rec := s.memory
	s.mu.Unlock()
	rec.Doubt = rec.Living()
	landed, err := s.replace(ctx, rec, stored)
	if !landed {
		return err // another pod was first, or the look was stale
	}
	s.opts.Metrics.rollbacks.Inc()
	s.opts.Log.LogAttrs(ctx, slog.LevelError, "store went back in time; repaired from memory, in doubt until resolved",
		slog.String("connection", s.name), slog.Uint64("version", stored.Version),
		slog.Uint64("remembered", rec.Version), slog.String("run", stored.Seen.Run))
	return nil
}

// replace saves rec over the record that on is, and reports whether it landed. A
// conflict is no error: another wrote first, and rule 1 follows.
func (s *Source) replace(ctx context.Context, rec, on Record) (landed bool, err error) {
	err = s.replaceExactly(ctx, s.follow(rec, on))
	if errors.Is(err, ErrConflict) {
		return false, nil
	}
	return err == nil, err
}

// replaceExactly saves rec by compare-and-swap and takes it into memory. An
// unknown outcome is tried again, the same attempt, a few times.
func (s *Source) replaceExactly(ctx context.Context, rec Record) error {
	for n := 0; ; n++ {
		err := s.save(ctx, rec)
		switch {
		case err == nil:
			s.written(rec)
			return nil
		case errors.Is(err, ErrConflict):
			return err
		case n+1 >= s.opts.Timing.Attempts || pause(ctx, backoff(n)) != nil:
			return storeError("save the record", err)
		}
	}
}
