package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"pleo-sidecar/tokens"
)

func newRun(t *testing.T, b Backend) {
	if b.NewRun == nil {
		t.Skip("the run of this store never ends")
	}
	s, name, absent := b.open(t), connection(), connection()
	first := save(t, s, name, b.next(mustLoad(t, s, name)))
	before, none := mustLoad(t, s, name), mustLoad(t, s, absent)
	b.NewRun(t)
	after := mustLoad(t, s, name)
	if after.Seen.Run == before.Seen.Run || after.Run != before.Run {
		t.Errorf("after a restart: run %q, record of run %q; want another, and %q", after.Seen.Run, after.Run, before.Run)
	}
	wantConflict(t, s.Save(soon(t), name, b.next(before)))
	wantConflict(t, s.Save(soon(t), name, first)) // the attempt stands, but of a run that may have lost later ones
	wantConflict(t, s.Save(soon(t), absent, b.next(none)))
	wantRecord(t, mustLoad(t, s, name), first)
	again := b.next(after)
	again.Attempt = first.Attempt // of a former run: it says nothing
	save(t, s, name, again)
	wantRecord(t, mustLoad(t, s, name), again)
	if got := mustLoad(t, s, name); got.Run != after.Seen.Run {
		t.Errorf("a record saved after a restart is of run %q, want %q", got.Run, after.Seen.Run)
	}
}

func rollback(t *testing.T, b Backend) {
	if b.Rollback == nil {
		t.Skip("this store cannot be taken back")
	}
	s, name := b.open(t), connection()
	first := save(t, s, name, b.next(mustLoad(t, s, name)))
	back := b.Rollback(t)
	save(t, s, name, b.next(mustLoad(t, s, name)))
	lost := mustLoad(t, s, name)
	back()
	wantRecord(t, mustLoad(t, s, name), first)
	wantConflict(t, s.Save(soon(t), name, b.next(lost)))
	above := b.next(mustLoad(t, s, name))
	above.Version = lost.Version + 1
	save(t, s, name, above)
}

func unreachable(t *testing.T, b Backend) {
	if b.Unreachable == nil {
		t.Skip("nothing stands between this store and its records")
	}
	s, name, absent := b.open(t), connection(), connection()
	save(t, s, name, b.next(mustLoad(t, s, name)))
	loaded, none := mustLoad(t, s, name), mustLoad(t, s, absent)
	mend := b.Unreachable(t)
	for _, name := range []string{name, absent} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := s.Load(ctx, name); err == nil || errors.Is(err, tokens.ErrNotFound) {
			t.Errorf("Load while cut off = %v, want an error that is not ErrNotFound", err)
		}
		cancel()
	}
	rec, first := b.next(loaded), b.next(none)
	for name, rec := range map[string]tokens.Record{name: rec, absent: first} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if err := s.Save(ctx, name, rec); err == nil || errors.Is(err, tokens.ErrConflict) {
			t.Errorf("Save while cut off = %v, want an error that is not ErrConflict", err)
		}
		cancel()
	}
	mend()
	save(t, s, name, rec) // the same attempt finds out
	save(t, s, absent, first)
}
