package tokens

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Errors of Import and Replace.
var (
	// ErrLivingGrant says that the connection has a grant that still works, and
	// that Import does not replace one.
	ErrLivingGrant = errors.New("tokens: connection has a living grant")
	// ErrSpentToken says that the authorization server does not know the refresh
	// token as active: it was used, expired, revoked, or is another client's.
	ErrSpentToken = errors.New("tokens: refresh token is not active")
)

// plant makes the first record of a connection from its seed (rule 10). absent
// is what the store showed: no record, and none in memory.
func (s *Source) plant(ctx context.Context, f *flight, absent Record) error {
	// The store may have been emptied while the seed's first rotation was on its
	// way; on a store of one machine, emptying it and restarting takes longer.
	// Counted from this flight's first look: one absence looks like the next, and
	// what was between two of them may have gone unseen.
	if f.absent.IsZero() {
		f.absent = time.Now()
	}
	if ripe := f.absent.Add(s.opts.Timing.quiet()); s.opts.SharedStore && time.Now().Before(ripe) {
		return s.await(ctx, ripe, func() bool { return markOf(s.memory) == markOf(absent) })
	}
	rec := firstRecord(s.seed(), time.Now())
	if s.opts.Endpoint.Introspects() {
		active, err := s.introspectTwice(ctx, rec)
		if err != nil {
			return err
		}
		if !active {
			rec = rec.wipe(StateLoginRequired, "the configured seed is spent, expired or revoked")
		}
	}
	_, err := s.replace(ctx, rec, absent)
	return err
}

// firstRecord is the record of a grant of which only a refresh token is known.
// Its pair counts as issued now, so that an unused one is kept alive in time.
func firstRecord(refresh Secret, now time.Time) Record {
	fp := FingerprintOf(refresh)
	return Record{
		State: StateOK, Root: fp, Current: fp,
		Token: NewToken(Pair{Refresh: refresh, Issued: now, End: now}),
	}
}

// Import installs a refresh token that was obtained elsewhere. A living grant is
// not replaced (ErrLivingGrant), and one that stands on this very token is left
// alone: a repeated import would put a spent token in a newer one's place. The
// token is introspected first where that is configured: ErrSpentToken when it is
// not active. Processes that share the store go on with it by themselves.
func (c *Connections) Import(ctx context.Context, name string, refresh Secret) error {
	return c.install(ctx, name, refresh, func(rec Record) error {
		if rec.Living() {
			return fmt.Errorf("import into connection %q: %w", name, ErrLivingGrant)
		}
		return nil
	})
}

// Replace is Import, but takes the place of a living grant, whose tokens are
// forgotten and not revoked.
func (c *Connections) Replace(ctx context.Context, name string, refresh Secret) error {
	return c.install(ctx, name, refresh, func(Record) error { return nil })
}

func (c *Connections) install(ctx context.Context, name string, refresh Secret, allow func(Record) error) error {
	if !ValidConnection(name) {
		return fmt.Errorf("import into connection %q: %w", name, ErrUnknownConnection)
	}
	if refresh.IsZero() {
		return fmt.Errorf("import into connection %q: %w: it is empty", name, ErrSpentToken)
	}
	s := c.passing(name)
	first := firstRecord(refresh, time.Now())
	vouched := false
	return s.overwrite(ctx, func(rec Record) (Record, error) {
		if rec.StandsOn(first.Root) {
			return Record{}, errUnchanged
		}
		if err := allow(rec); err != nil {
			return Record{}, err
		}
		if first.Root != rec.Current && (first.Root == rec.Root || first.Root == rec.Previous) {
			return Record{}, fmt.Errorf("import into connection %q: %w", name, ErrSpentToken) // rotated away
		}
		if !vouched && c.opts.Endpoint.Introspects() {
			active, err := s.introspectTwice(ctx, first)
			if err != nil {
				return Record{}, fmt.Errorf("import into connection %q: %w", name, err)
			}
			if !active {
				return Record{}, fmt.Errorf("import into connection %q: %w", name, ErrSpentToken)
			}
			vouched = true
		}
		next := first
		next.Epoch = nextEpoch(time.Now(), rec, s.remembered())
		if rec.Current == first.Current {
			// Given up, and active after all: the same grant, where it stood.
			next.Root, next.Epoch, next.Generation = rec.Root, rec.Epoch, rec.Generation
			next.Previous, next.Doubt = rec.Previous, true
		}
		return next, nil
	})
}

// Forget wipes a connection's secrets and leaves a tombstone, so that neither a
// seed nor another process's memory brings it back. It revokes nothing at Pleo:
// do that first. ErrUnknownConnection when there is nothing to forget.
func (c *Connections) Forget(ctx context.Context, name string) error {
	if !ValidConnection(name) {
		return fmt.Errorf("forget connection %q: %w", name, ErrUnknownConnection)
	}
	s := c.passing(name)
	return s.overwrite(ctx, func(rec Record) (Record, error) {
		switch {
		case !rec.Exists():
			return Record{}, fmt.Errorf("forget connection %q: %w", name, ErrUnknownConnection)
		case rec.State == StateForgotten:
			return Record{}, errUnchanged
		}
		// A root of its own: a late answer of the old grant meets another grant
		// with a greater epoch, and gives up.
		tomb := Record{Root: Fingerprint(newID()), Epoch: nextEpoch(time.Now(), rec, s.remembered())}
		return tomb.wipe(StateForgotten, "disconnected"), nil
	})
}

// errUnchanged ends overwrite without a write.
var errUnchanged = errors.New("tokens: nothing to change")

// overwrite saves what change makes of the stored record, whatever its state,
// until it lands (rule 10).
func (s *Source) overwrite(ctx context.Context, change func(Record) (Record, error)) error {
	for {
		stored, err := s.load(ctx)
		sealed := errors.Is(err, ErrSealed) // its key is lost: it can be replaced, not used
		if err != nil && !sealed {
			return err
		}
		if !sealed && !s.remember(stored) {
			if err := s.repair(ctx, stored); err != nil {
				return err
			}
			continue
		}
		rec, err := change(stored)
		if errors.Is(err, errUnchanged) {
			return nil
		}
		if err != nil {
			return err
		}
		rec = s.follow(rec, stored)
		err = s.replaceExactly(ctx, rec)
		if err == nil {
			s.unspool(ctx, rec)
		}
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

// passing returns the source of name, or one for this occasion only: an import
// that is refused leaves nothing behind.
func (c *Connections) passing(name string) *Source {
	if s, ok := c.sources.Load(name); ok {
		return s.(*Source)
	}
	s := newSource(&c.opts, name)
	s.closed = true // no flights
	return s
}
