// Package storetest holds every tokens.Store to the same contract. A store runs
// the suite bare and under tokens.Seal; what a backend cannot show (a restart, a
// rollback, an outage) is skipped with a word.
package storetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"pleo-sidecar/tokens"
)

// patience bounds every wait of the suite for something that must happen. It is
// long because nothing that works waits for it.
const patience = 20 * time.Second

// Backend is what the suite needs to know of the records under test.
type Backend struct {
	// Open returns one more store on the same records, as another process would
	// have it. Never nil.
	Open func(t *testing.T) tokens.Store

	// Bare says that the stores keep sealed bytes and take no token in the
	// clear, because nothing seals for them: the suite then saves bytes.
	Bare bool

	// Index returns an index of the same records; nil skips what it promises.
	Index func(t *testing.T) tokens.Index

	// NewRun makes the records those of another run, as a restart of the store's
	// process does; nil if a run never ends.
	NewRun func(t *testing.T)

	// Rollback returns a function that takes the records back to what they were
	// when Rollback was called; nil if the test cannot.
	Rollback func(t *testing.T) (back func())

	// Unreachable cuts the stores off from the records until mend is called; nil
	// if nothing can.
	Unreachable func(t *testing.T) (mend func())
}

// Run runs the suite on b. Each statement uses connections of its own.
func Run(t *testing.T, b Backend) {
	for _, s := range []struct {
		name  string
		check func(*testing.T, Backend)
	}{
		{"AbsentIsNotFoundAndNamesTheRun", absentIsNotFound},
		{"FirstSaveLandsOnAbsent", firstSaveLands},
		{"LoadReturnsWhatWasSaved", loadReturnsWhatWasSaved},
		{"TokensAreOpaqueBytes", tokensAreOpaque},
		{"BigTokensAreKept", bigTokens},
		{"CallersKeepTheirRecord", callersKeepTheirRecord},
		{"ConnectionsAreApart", connectionsAreApart},
		{"VersionsMayJump", versionsMayJump},
		{"StaleVersionConflictsAndWritesNothing", staleVersionConflicts},
		{"SaveOnAbsentConflictsWithARecord", absentConflictsWithRecord},
		{"SaveOnARecordConflictsWithAbsent", recordConflictsWithAbsent},
		{"AnotherRunConflicts", anotherRunConflicts},
		{"SameAttemptAgainIsNoConflict", sameAttemptAgain},
		{"SameAttemptAfterAnotherWriteConflicts", sameAttemptTooLate},
		{"MistakesAreRefused", mistakesAreRefused},
		{"BadNamesAreRefused", badNames},
		{"EndedContextEndsLoadAndSave", endedContext},
		{"OneOfAHundredRacersLands", racersOnOneVersion},
		{"NoUpdateIsLostInARace", racersOnACounter},
		{"ListNamesEveryConnectionInOrder", listNames},
		{"WatchTellsTheLastChange", watchTells},
		{"WatchEndsWithItsContext", watchEnds},
		{"NewRunIsSeenAndConflicts", newRun},
		{"SaveOnALostVersionConflicts", rollback},
		{"UnreachableIsNeitherAbsentNorConflict", unreachable},
	} {
		t.Run(s.name, func(t *testing.T) { s.check(t, b) })
	}
}

// open returns a store of b that fails the test when it lets a token be printed.
func (b Backend) open(t *testing.T) tokens.Store { return discreet{b.Open(t), t} }

// next returns a record to be saved on the one that was loaded, with every field
// set. Generation counts the records of this connection.
func (b Backend) next(loaded tokens.Record) tokens.Record {
	rec := tokens.Record{
		Version: loaded.Seen.Version + 1, Attempt: rand.Text(), Seen: loaded.Seen,
		State: tokens.StateClaimed, Doubt: true,
		Root: "00112233445566778899aabbccddeeff", Epoch: 1_700_000_000_123, Generation: loaded.Generation + 1,
		Current: tokens.Fingerprint(rand.Text()), Previous: loaded.Current,
		Claim: tokens.Claim{ID: rand.Text(), Pod: `pod "0" <é>`}, Tries: 2,
		Client: "ffeeddccbbaa99887766554433221100", Reason: "none & nothing",
	}
	return b.withPair(rec, pair())
}

// withPair puts p into rec in the form that b takes.
func (b Backend) withPair(rec tokens.Record, p tokens.Pair) tokens.Record {
	rec.Token, rec.Sealed = tokens.NewToken(p), nil
	if b.Bare {
		rec.Token, rec.Sealed = tokens.Token{}, []byte("sealed\x00\xff"+strings.Repeat("s", len(p.Scope))+rand.Text())
	}
	return rec
}

// pair returns tokens that nobody else has, and that are told from other text.
func pair() tokens.Pair {
	issued := time.Date(2030, 1, 2, 3, 4, 5, 678_901_234, time.UTC)
	return tokens.Pair{
		Access:  tokens.NewSecret("access-" + Canary + rand.Text()),
		Refresh: tokens.NewSecret("refresh-" + Canary + rand.Text()),
		Issued:  issued, End: issued.Add(time.Hour), Scope: "export:read users:read",
	}
}

// connection returns a name that no other statement uses.
func connection() string { return "c-" + strings.ToLower(rand.Text()) }

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// discreet fails the test when an error or a record of the store prints a token.
type discreet struct {
	tokens.Store
	t *testing.T
}

func (d discreet) Load(ctx context.Context, connection string) (tokens.Record, error) {
	rec, err := d.Store.Load(ctx, connection)
	d.check(err)
	if form := Reveals(fmt.Appendf(nil, "%v %+v %#v", rec, rec, rec)); form != "" {
		d.t.Errorf("a loaded record prints a token, %s", form)
	}
	return rec, err
}

func (d discreet) Save(ctx context.Context, connection string, rec tokens.Record) error {
	err := d.Store.Save(ctx, connection, rec)
	d.check(err)
	return err
}

func (d discreet) check(err error) {
	if err == nil {
		return
	}
	if form := Reveals([]byte(err.Error())); form != "" {
		d.t.Errorf("an error shows a token, %s", form)
	}
}
