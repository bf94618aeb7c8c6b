package tokens

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// rotate takes the pair that answered claim: it serves here at once, for the old
// one is dead, and is saved until it lands (rule 7). An error means that after
// ended first.
func (s *Source) rotate(after context.Context, f *flight, claim Record, token Token) error {
	if token.Refresh().IsZero() {
		// Only a withdrawn page of Pleo's allows this; then the old one lives on.
		s.opts.Log.LogAttrs(after, slog.LevelWarn, "answer without a refresh token; keeping the old one", slog.String("connection", s.name))
		token = token.withRefresh(claim.Token.Refresh())
	}
	rec := claim
	rec.State, rec.Claim, rec.Tries, rec.Doubt = StateOK, Claim{}, 0, false
	rec.Generation++
	rec.Previous, rec.Current = claim.Current, FingerprintOf(token.Refresh())
	rec.Token = token
	s.mu.Lock()
	f.rotated = true
	s.holdLocked(&rec)
	s.mu.Unlock()
	if s.opts.Spool != nil {
		if err := s.opts.Spool.Put(s.name, rec); err != nil {
			s.opts.Log.LogAttrs(after, slog.LevelError, "pair could not be spooled; it is in memory only until saved",
				slog.String("connection", s.name), slog.Any("err", err))
		}
	}
	return s.saveHeld(after, f, claim)
}

// hold makes rec the pair that serves although the store has it not yet; nil
// ends that.
func (s *Source) hold(rec *Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holdLocked(rec)
}

func (s *Source) holdLocked(rec *Record) {
	now := time.Now()
	s.held = rec
	s.schedule(s.current(), now) // of memory's pair again when none is held
	if rec != nil {
		s.used.Store(false)
		s.rejected = Token{} // what was issued since, even the same again, was not rejected yet
	}
	s.update(now)
}

// errUnsaved ends the saving of a pair with the process. What the spool has is
// saved by the next one.
var errUnsaved = errors.New("tokens: a pair was issued and could not be saved before the process ended")

// holding reports whether a pair waits to be saved.
func (s *Source) holding() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held != nil
}

// takeUp holds a spooled pair, unless a newer one was obtained or seen since the
// spool was read: its place in the spool is taken then.
func (s *Source) takeUp(rec *Record) {
	s.mu.Lock()
	if s.held == nil && beats(*rec, s.memory) {
		s.holdLocked(rec)
	}
	s.mu.Unlock()
	s.tick()
}

// saveHeld saves the pair that is held: over own, the claim that obtained it,
// then over any older record, in doubt (rules LateDoubt and LateGen), for as long
// as it takes. It gives the pair up only to a newer one, a new grant or a
// tombstone. own is zero when a former process made the claim.
func (s *Source) saveHeld(ctx context.Context, f *flight, own Record) error {
	s.mu.Lock()
	pair := *s.held
	s.mu.Unlock()
	on := own
	for n := 0; ; n++ {
		var err error
		if on.Exists() || on.Seen.Run != "" {
			rec := pair
			rec.Doubt = markOf(on) != markOf(own)
			err = s.landHeld(ctx, f, s.follow(rec, on))
			if err == nil {
				f.result = resultRotated
				return nil
			}
		}
		if err == nil || errors.Is(err, ErrConflict) {
			on, err = s.load(ctx)
			if err == nil {
				s.remember(on) // before anything is decided
				if !beats(pair, on) {
					s.hold(nil)
					s.unspool(ctx, on) // what was spooled is of no more use
					f.result = resultSuperseded
					return nil
				}
				if n < freeRounds {
					continue
				}
			} else {
				on = Record{} // unknown: look again before the next write
			}
		}
		s.troubled(f, err)
		if pause(ctx, min(backoff(n), storeRetry)) != nil {
			return fmt.Errorf("%w: %w", errUnsaved, err)
		}
	}
}

// landHeld saves rec, the same attempt until its outcome is known, and makes it
// memory.
func (s *Source) landHeld(ctx context.Context, f *flight, rec Record) error {
	for n := 0; ; n++ {
		err := s.save(ctx, rec)
		if err == nil {
			s.written(rec)
			s.hold(nil)
			return nil
		}
		if errors.Is(err, ErrConflict) {
			return err
		}
		s.troubled(f, storeError("save the new pair", err))
		if n == 0 {
			s.opts.Log.LogAttrs(ctx, slog.LevelError, "new pair is not saved yet; holding it until the store takes it",
				slog.String("connection", s.name), slog.Any("err", err))
		}
		if pause(ctx, min(backoff(n), storeRetry)) != nil {
			return err
		}
	}
}

// beats reports whether an answered pair must be saved over what the store
// holds: nothing, an older generation of its grant, or an older grant.
func beats(pair, stored Record) bool {
	switch {
	case !stored.Exists():
		return true
	case pair.Root == stored.Root:
		return pair.Generation > stored.Generation
	}
	return pair.Epoch > stored.Epoch
}

// follow returns rec as the successor of the record that on is: its version
// above both the stored one and the newest remembered, else the others would
// take it for a store gone back in time.
func (s *Source) follow(rec, on Record) Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec.Seen, rec.Run = on.Seen, on.Seen.Run
	rec.Version = max(on.Seen.Version, s.memory.Version) + 1
	rec.Attempt = newID()
	return rec
}

// written takes a record that was saved into memory, and returns it as a load
// would.
func (s *Source) written(rec Record) Record {
	rec.Seen = Seen{Version: rec.Version, Run: rec.Run}
	s.remember(rec)
	return rec
}

// load looks at the store. A connection without a record is no error: its
// record is zero but for Seen. With an error that is ErrSealed comes the record
// without its pair.
func (s *Source) load(ctx context.Context) (Record, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	rec, err := s.opts.Store.Load(ctx, s.name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		s.opts.Metrics.storeErrors["load"].Inc()
		return rec, storeError("load the record", err)
	}
	return rec, nil
}

// look loads the record outside any flight, to learn what others did.
func (s *Source) look(ctx context.Context) error {
	rec, err := s.load(ctx)
	if err != nil {
		return err
	}
	s.remember(rec)
	s.unspool(ctx, rec)
	return nil
}

func (s *Source) save(ctx context.Context, rec Record) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err := s.opts.Store.Save(ctx, s.name, rec)
	switch {
	case errors.Is(err, ErrConflict):
		s.opts.Metrics.conflicts.Inc()
	case err != nil:
		s.opts.Metrics.storeErrors["save"].Inc()
	}
	return err
}

// openGate lets calls through on the old token while a claim stands whose
// answer is lost.
func (s *Source) openGate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.gateEnd = now
	s.update(now)
}
