package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"pleo-sidecar/tokens"
)

func absentIsNotFound(t *testing.T, b Backend) {
	rec, err := b.open(t).Load(soon(t), connection())
	if !errors.Is(err, tokens.ErrNotFound) {
		t.Fatalf("Load of an absent connection = %v, want ErrNotFound", err)
	}
	if rec.Exists() || rec.Seen.Version != 0 || rec.Seen.Run == "" {
		t.Errorf("Load of an absent connection: version %d, seen %+v; want no record, seen in a run", rec.Version, rec.Seen)
	}
}

func firstSaveLands(t *testing.T, b Backend) {
	s, name := b.open(t), connection()
	rec := save(t, s, name, b.next(mustLoad(t, s, name)))
	got := mustLoad(t, b.open(t), name)
	if got.Seen.Version != rec.Version || got.Seen.Run != rec.Seen.Run || got.Run != rec.Seen.Run {
		t.Errorf("seen %+v, written in run %q; want version %d, both runs %q", got.Seen, got.Run, rec.Version, rec.Seen.Run)
	}
}

func loadReturnsWhatWasSaved(t *testing.T, b Backend) {
	s, other, name := b.open(t), b.open(t), connection()
	for _, state := range []tokens.State{
		tokens.StateOK, tokens.StateClaimed, tokens.StateLoginRequired, tokens.StateClientRejected, tokens.StateForgotten,
	} {
		rec := b.next(mustLoad(t, s, name))
		if rec.State = state; !rec.Living() {
			rec.Token, rec.Sealed = tokens.Token{}, nil
		}
		save(t, s, name, rec)
		wantRecord(t, mustLoad(t, s, name), rec)
		wantRecord(t, mustLoad(t, other, name), rec)
	}
	least := tokens.Record{Version: 99, Attempt: "a", State: tokens.StateForgotten, Seen: mustLoad(t, s, name).Seen}
	save(t, s, name, least)
	wantRecord(t, mustLoad(t, other, name), least)
}

func tokensAreOpaque(t *testing.T, b Backend) {
	s, name := b.open(t), connection()
	const odd = "\x00\xff\xfe\n\"\\ \u2028é{}" + Canary
	for _, p := range []tokens.Pair{
		{Access: tokens.NewSecret(odd), Refresh: tokens.NewSecret("r" + odd), Scope: odd},
		{Refresh: tokens.NewSecret("only " + Canary)},
		{Refresh: tokens.NewSecret("r"), Issued: time.Unix(-1, 1), End: time.Date(20_000, 1, 1, 0, 0, 0, 0, time.FixedZone("", 3600))},
	} {
		rec := b.withPair(b.next(mustLoad(t, s, name)), p)
		save(t, s, name, rec)
		wantRecord(t, mustLoad(t, b.open(t), name), rec)
	}
}

func bigTokens(t *testing.T, b Backend) {
	s, name := b.open(t), connection()
	big := strings.Repeat(Canary, 16<<10/len(Canary)+1)
	rec := b.withPair(b.next(mustLoad(t, s, name)), tokens.Pair{
		Access: tokens.NewSecret("a" + big), Refresh: tokens.NewSecret("r" + big), Scope: big,
	})
	save(t, s, name, rec)
	wantRecord(t, mustLoad(t, b.open(t), name), rec)
}

func callersKeepTheirRecord(t *testing.T, b Backend) {
	s, name := b.open(t), connection()
	rec := b.next(mustLoad(t, s, name))
	before := rec
	before.Sealed = bytes.Clone(rec.Sealed)
	save(t, s, name, rec)
	if diff := cmp.Diff(before, rec, exceptToken); diff != "" || !samePair(before.Token, rec.Token) {
		t.Errorf("Save changed the caller's record:\n%s", diff)
	}
	for i := range rec.Sealed {
		rec.Sealed[i] = 0
	}
	loaded := mustLoad(t, s, name)
	wantRecord(t, loaded, before)
	for i := range loaded.Sealed {
		loaded.Sealed[i] = 0
	}
	wantRecord(t, mustLoad(t, s, name), before)
}

func connectionsAreApart(t *testing.T, b Backend) {
	s, one := b.open(t), connection()
	kept := save(t, s, one, b.next(mustLoad(t, s, one)))
	for _, two := range []string{one + "0", one[:len(one)-1], one + "-record"} {
		if _, err := s.Load(soon(t), two); !errors.Is(err, tokens.ErrNotFound) {
			t.Errorf("a save of %q shows as %q: %v", one, two, err)
		}
		save(t, s, two, b.next(mustLoad(t, s, two)))
	}
	wantRecord(t, mustLoad(t, s, one), kept)
}

func versionsMayJump(t *testing.T, b Backend) {
	s, name := b.open(t), connection()
	for _, version := range []uint64{7, 8, 1 << 53, 1<<53 + 1, 1<<63 - 1} {
		rec := b.next(mustLoad(t, s, name))
		rec.Version = version
		save(t, s, name, rec)
		wantRecord(t, mustLoad(t, b.open(t), name), rec)
	}
}

func staleVersionConflicts(t *testing.T, b Backend) {
	s, name := b.open(t), connection()
	save(t, s, name, b.next(mustLoad(t, s, name)))
	stale := mustLoad(t, s, name)
	stands := save(t, b.open(t), name, b.next(mustLoad(t, s, name)))
	late := b.next(stale)
	late.Version += 10
	wantConflict(t, s.Save(soon(t), name, late))
	wantRecord(t, mustLoad(t, s, name), stands)
}

func absentConflictsWithRecord(t *testing.T, b Backend) {
	s, name := b.open(t), connection()
	absent := mustLoad(t, s, name)
	stands := save(t, s, name, b.next(absent))
	late := b.next(absent)
	late.Version = stands.Version + 1
	wantConflict(t, b.open(t).Save(soon(t), name, late))
	wantRecord(t, mustLoad(t, s, name), stands)
}

func recordConflictsWithAbsent(t *testing.T, b Backend) {
	s, name := b.open(t), connection()
	gone := mustLoad(t, s, name)
	gone.Seen.Version = 4
	wantConflict(t, s.Save(soon(t), name, b.next(gone)))
	if _, err := s.Load(soon(t), name); !errors.Is(err, tokens.ErrNotFound) {
		t.Errorf("after a conflict on an absent connection Load = %v, want ErrNotFound", err)
	}
}

func anotherRunConflicts(t *testing.T, b Backend) {
	s, name := b.open(t), connection()
	for range 2 { // on absent, then on a record
		rec := b.next(mustLoad(t, s, name))
		rec.Seen.Run = "another"
		wantConflict(t, s.Save(soon(t), name, rec))
		rec.Seen.Run = ""
		wantConflict(t, s.Save(soon(t), name, rec))
		save(t, s, name, b.next(mustLoad(t, s, name)))
	}
}

func sameAttemptAgain(t *testing.T, b Backend) {
	s, name := b.open(t), connection()
	for range 2 { // on absent, then on a record
		rec := save(t, s, name, b.next(mustLoad(t, s, name)))
		for _, again := range []tokens.Store{s, b.open(t)} {
			if err := again.Save(soon(t), name, rec); err != nil {
				t.Errorf("the same attempt again = %v, want nil", err)
			}
		}
		wantRecord(t, mustLoad(t, s, name), rec)
	}
}

func sameAttemptTooLate(t *testing.T, b Backend) {
	s, name := b.open(t), connection()
	first := save(t, s, name, b.next(mustLoad(t, s, name)))
	stands := save(t, s, name, b.next(mustLoad(t, s, name)))
	wantConflict(t, s.Save(soon(t), name, first))
	wantRecord(t, mustLoad(t, s, name), stands)
}

func mistakesAreRefused(t *testing.T, b Backend) {
	s, name := b.open(t), connection()
	stands := save(t, s, name, b.next(mustLoad(t, s, name)))
	for what, spoil := range map[string]func(*tokens.Record){
		"the version that was loaded": func(r *tokens.Record) { r.Version = r.Seen.Version },
		"version 0":                   func(r *tokens.Record) { r.Version = 0 },
		"no attempt":                  func(r *tokens.Record) { r.Attempt = "" },
		"no state":                    func(r *tokens.Record) { r.State = "" },
		"an unknown state":            func(r *tokens.Record) { r.State = "fine" },
	} {
		rec := b.next(mustLoad(t, s, name))
		spoil(&rec)
		if err := s.Save(soon(t), name, rec); err == nil || errors.Is(err, tokens.ErrConflict) {
			t.Errorf("Save with %s = %v, want a refusal", what, err)
		}
	}
	wantRecord(t, mustLoad(t, s, name), stands)
}

func badNames(t *testing.T, b Backend) {
	s := b.open(t)
	seen := mustLoad(t, s, connection())
	for _, name := range []string{
		"", "-", "_a", "a_", "-a", "a-", "A", "é", "a b", "a.b", ".", "..", "../a", "a/b", "/a", `a\b`,
		"a\x00", "a\n", "{a}", "a:b", "a*", strings.Repeat("n", 64), "refresh-" + Canary,
	} {
		if _, err := s.Load(soon(t), name); err == nil || errors.Is(err, tokens.ErrNotFound) {
			t.Errorf("Load(%q) = %v, want a refusal", name, err)
		}
		if err := s.Save(soon(t), name, b.next(seen)); err == nil || errors.Is(err, tokens.ErrConflict) {
			t.Errorf("Save(%q) = %v, want a refusal", name, err)
		}
	}
	for _, name := range []string{"z", "0", "9--__z", strings.Repeat("n", 63)} {
		save(t, s, name, b.next(mustLoad(t, s, name)))
	}
}

func endedContext(t *testing.T, b Backend) {
	s, name := b.open(t), connection()
	rec := b.next(mustLoad(t, s, name))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Load(ctx, name); !errors.Is(err, context.Canceled) || errors.Is(err, tokens.ErrNotFound) {
		t.Errorf("Load after its context ended = %v, want context.Canceled", err)
	}
	if err := s.Save(ctx, name, rec); !errors.Is(err, context.Canceled) || errors.Is(err, tokens.ErrConflict) {
		t.Errorf("Save after its context ended = %v, want context.Canceled", err)
	}
	save(t, s, name, rec)
}

// mustLoad returns the record of name, or the zero one that names the run.
func mustLoad(t *testing.T, s tokens.Store, name string) tokens.Record {
	t.Helper()
	rec, err := s.Load(soon(t), name)
	if err != nil && !errors.Is(err, tokens.ErrNotFound) {
		t.Fatalf("Load(%q) = %v", name, err)
	}
	return rec
}

func save(t *testing.T, s tokens.Store, name string, rec tokens.Record) tokens.Record {
	t.Helper()
	if err := s.Save(soon(t), name, rec); err != nil {
		t.Fatalf("Save(%q, version %d) = %v", name, rec.Version, err)
	}
	return rec
}

func wantConflict(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, tokens.ErrConflict) {
		t.Errorf("Save = %v, want ErrConflict", err)
	}
}

// wantRecord compares what was loaded with what was saved. The store sets Run
// and Seen; a Seal empties Sealed.
func wantRecord(t *testing.T, loaded, saved tokens.Record) {
	t.Helper()
	saved.Run, saved.Seen = loaded.Run, tokens.Seen{Version: saved.Version, Run: loaded.Seen.Run}
	if diff := cmp.Diff(saved, loaded, exceptToken, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("loaded (+) differs from saved (-):\n%s", diff)
	}
	if !samePair(saved.Token, loaded.Token) {
		t.Errorf("loaded pair %s differs from the saved one, %s", describe(loaded.Token), describe(saved.Token))
	}
}

// exceptToken leaves tokens to samePair, for cmp would print what is in them.
var exceptToken = cmpopts.IgnoreFields(tokens.Record{}, "Token")

func samePair(a, b tokens.Token) bool {
	return a.IsZero() == b.IsZero() && a.Access().Equal(b.Access()) && a.Refresh().Equal(b.Refresh()) &&
		a.Issued().Equal(b.Issued()) && a.End().Equal(b.End()) && a.Scope() == b.Scope()
}

func describe(t tokens.Token) string {
	return fmt.Sprintf("(access %v, refresh %s, issued %v, end %v)", t, tokens.ShortFingerprint(t.Refresh()), t.Issued(), t.End())
}
