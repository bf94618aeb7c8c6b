package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pleo-sidecar/tokens"
)

// processes is how many stores are open on the same records in a race.
const processes = 4

func (b Backend) fleet(t *testing.T) []tokens.Store {
	all := make([]tokens.Store, processes)
	for i := range all {
		all[i] = b.open(t)
	}
	return all
}

func racersOnOneVersion(t *testing.T, b Backend) {
	const racers = 100
	stores, name, ctx := b.fleet(t), connection(), soon(t)
	for range 3 { // on absent, then on records
		loaded := mustLoad(t, stores[0], name)
		var landed atomic.Pointer[tokens.Record]
		var all sync.WaitGroup
		for i := range racers {
			rec := b.next(loaded)
			all.Go(func() {
				err := stores[i%processes].Save(ctx, name, rec)
				switch {
				case err == nil && landed.Swap(&rec) != nil:
					t.Error("two saves landed on one version")
				case err != nil && !errors.Is(err, tokens.ErrConflict):
					t.Errorf("Save in a race = %v, want nil or ErrConflict", err)
				}
			})
		}
		all.Wait()
		if landed.Load() == nil {
			t.Fatal("no save landed")
		}
		wantRecord(t, mustLoad(t, stores[1], name), *landed.Load())
	}
}

// racersOnACounter has every racer write until one write of its own has landed,
// so that each lost or doubled update shows in the sum.
func racersOnACounter(t *testing.T, b Backend) {
	const racers = 20
	stores, name, ctx := b.fleet(t), connection(), soon(t)
	var all sync.WaitGroup
	for i := range racers {
		all.Go(func() {
			if err := increment(ctx, stores[i%processes], b, name); err != nil {
				t.Errorf("increment: %v", err)
			}
		})
	}
	all.Wait()
	if rec := mustLoad(t, stores[0], name); rec.Generation != racers || rec.Version != racers {
		t.Errorf("after %d updates: generation %d, version %d", racers, rec.Generation, rec.Version)
	}
}

func increment(ctx context.Context, s tokens.Store, b Backend, name string) error {
	for {
		loaded, err := s.Load(ctx, name)
		if err != nil && !errors.Is(err, tokens.ErrNotFound) {
			return err
		}
		if err := s.Save(ctx, name, b.next(loaded)); !errors.Is(err, tokens.ErrConflict) {
			return err
		}
	}
}

func (b Backend) index(t *testing.T) tokens.Index {
	if b.Index == nil {
		t.Skip("no index of these records")
	}
	return b.Index(t)
}

func listNames(t *testing.T, b Backend) {
	index, s, name := b.index(t), b.open(t), connection()
	names := []string{name, name + "-b", name + "b", name + "_b"}
	for _, name := range names {
		rec := b.next(mustLoad(t, s, name))
		rec.State, rec.Token, rec.Sealed = tokens.StateForgotten, tokens.Token{}, nil // tombstones count
		save(t, s, name, rec)
	}
	listed, err := index.List(soon(t))
	if err != nil {
		t.Fatalf("List = %v", err)
	}
	for _, name := range names {
		if !slices.Contains(listed, name) {
			t.Errorf("List lacks %q", name)
		}
	}
	if !slices.IsSorted(listed) || len(slices.Compact(slices.Clone(listed))) != len(listed) {
		t.Errorf("List = %q, want each name once, in order", listed)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := index.List(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("List after its context ended = %v, want context.Canceled", err)
	}
}

// watchTells changes a record, through another store than is watched, until the
// watcher tells of it. Then the last of a burst must be told too: whoever loads
// when told ends up with it.
func watchTells(t *testing.T, b Backend) {
	index, s, name := b.index(t), b.open(t), connection()
	ctx, cancel := context.WithCancel(soon(t))
	told := make(chan struct{}, 1)
	var byName atomic.Bool
	var watching sync.WaitGroup
	watching.Go(func() {
		err := index.Watch(ctx, func(connection string) {
			if connection != name && connection != "" {
				return
			}
			byName.Store(byName.Load() || connection == name)
			select {
			case told <- struct{}{}:
			default:
			}
		})
		if err != nil {
			t.Errorf("Watch = %v", err)
		}
	})
	defer watching.Wait()
	defer cancel()
	for again := time.Tick(50 * time.Millisecond); !byName.Load(); {
		save(t, s, name, b.next(mustLoad(t, s, name)))
		select {
		case <-told:
		case <-again:
		case <-ctx.Done():
			t.Fatal("Watch did not tell of a change")
		}
	}
	var last tokens.Record
	for range 5 {
		last = save(t, s, name, b.next(mustLoad(t, s, name)))
	}
	for {
		select {
		case <-told:
		case <-ctx.Done():
			t.Fatal("Watch did not tell of the last change")
		}
		if mustLoad(t, s, name).Version == last.Version {
			return
		}
	}
}

func watchEnds(t *testing.T, b Backend) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	index := b.index(t)
	go func() { ended <- index.Watch(ctx, func(string) {}) }()
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Watch after its context ended = %v, want nil", err)
		}
	case <-soon(t).Done():
		t.Error("Watch goes on after its context ended")
	}
}
