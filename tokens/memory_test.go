package tokens

import (
	"context"
	"crypto/rand"
	"maps"
	"testing"
	"testing/synctest"
)

// NewRun makes m another run, as if its process had been restarted.
func (m *Memory) NewRun() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.run = rand.Text()
}

// Rollback returns a function that takes the records back to what they are now.
func (m *Memory) Rollback() (back func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	records := maps.Clone(m.records)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.records = records
	}
}

func TestEachMemoryIsARunOfItsOwn(t *testing.T) {
	one, _ := NewMemory().Load(t.Context(), "acme")
	two, _ := NewMemory().Load(t.Context(), "acme")
	if one.Seen.Run == two.Seen.Run {
		t.Error("two Memories share a run")
	}
}

func TestSlowWatcherDelaysNobodyAndMissesNoLastChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		ctx, cancel := context.WithCancel(t.Context())
		hold, told := make(chan struct{}), map[string]int{}
		slow := func(connection string) { told[connection]++; <-hold }
		quick := map[string]int{}
		done := make(chan error, 2)
		go func() { done <- m.Watch(ctx, slow) }()
		go func() { done <- m.Watch(ctx, func(connection string) { quick[connection]++ }) }()
		synctest.Wait()
		for version := range uint64(100) {
			saveNext(t, m, "acme", version)
			saveNext(t, m, "zebra", version)
			synctest.Wait()
		}
		close(hold)
		synctest.Wait()
		if told["acme"] != 1 || told["zebra"] != 1 {
			t.Errorf("a watcher that was busy for 100 changes was told %v, want each connection once", told)
		}
		if quick["acme"] != 100 {
			t.Errorf("a quick watcher was told %d times beside a slow one, want 100", quick["acme"])
		}
		cancel()
		<-done
		<-done
		if n := len(m.changes.watchers); n != 0 {
			t.Errorf("%d watchers stay after their contexts ended", n)
		}
	})
}

// saveNext saves the version above seen, with a sealed pair that is none.
func saveNext(t *testing.T, s Store, connection string, seen uint64) Record {
	t.Helper()
	rec, _ := s.Load(t.Context(), connection)
	rec = Record{
		Version: seen + 1, Attempt: rand.Text(), Seen: Seen{seen, rec.Seen.Run},
		State: StateOK, Generation: seen + 1, Sealed: []byte{sealFormat},
	}
	if err := s.Save(t.Context(), connection, rec); err != nil {
		t.Fatalf("save %q version %d: %v", connection, rec.Version, err)
	}
	return rec
}
