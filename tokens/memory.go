package tokens

import (
	"bytes"
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"sync"
)

// Memory is a Store and an Index in the memory of this process: for tests, and
// for a sidecar whose grants may die with it. It keeps tokens in the clear,
// where they are anyway. Each Memory is a run of its own.
type Memory struct {
	changes changes

	mu      sync.Mutex
	run     string
	records map[string]Record
}

// NewMemory returns an empty Memory.
func NewMemory() *Memory {
	return &Memory{run: rand.Text(), records: make(map[string]Record)}
}

// String names the store for messages.
func (m *Memory) String() string { return "memory" }

// Load implements Store.
func (m *Memory) Load(ctx context.Context, connection string) (Record, error) {
	if err := checkName(connection); err != nil {
		return Record{}, err
	}
	if ctx.Err() != nil {
		return Record{}, context.Cause(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	rec, ok := m.records[connection]
	rec.Sealed = bytes.Clone(rec.Sealed)
	rec.Seen = Seen{Version: rec.Version, Run: m.run}
	if !ok {
		return rec, ErrNotFound
	}
	return rec, nil
}

// Save implements Store.
func (m *Memory) Save(ctx context.Context, connection string, rec Record) error {
	if err := checkSave(connection, rec); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := m.swap(connection, rec); err != nil {
		return err
	}
	m.changes.tell(connection)
	return nil
}

func (m *Memory) swap(connection string, rec Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	write, err := mustWrite(rec, m.records[connection], m.run)
	if err != nil || !write {
		return err
	}
	rec.Run, rec.Seen = m.run, Seen{}
	rec.Sealed = bytes.Clone(rec.Sealed)
	m.records[connection] = rec
	return nil
}

// List implements Index.
func (m *Memory) List(ctx context.Context) ([]string, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.records)), nil
}

// Watch implements Index. Like every Watch here it begins with changed(""), for
// what changed before it listened.
func (m *Memory) Watch(ctx context.Context, changed func(connection string)) error {
	w := m.changes.join()
	defer m.changes.leave(w)
	changed("")
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
			m.changes.pass(w, changed)
		}
	}
}

// changes tells the watchers of one store which connections changed. A watcher
// runs in its own caller's goroutine; the one who tells only leaves a note, so a
// slow watcher delays nobody and misses no last change: notes are a set, and the
// wake-up is left after the note. The zero changes is ready.
type changes struct {
	mu       sync.Mutex
	watchers map[*watcher]struct{}
}

type watcher struct {
	noted map[string]struct{} // guarded by changes.mu
	wake  chan struct{}       // holds one wake-up while noted is not empty
}

func (c *changes) join() *watcher {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watchers == nil {
		c.watchers = make(map[*watcher]struct{})
	}
	w := &watcher{noted: make(map[string]struct{}), wake: make(chan struct{}, 1)}
	c.watchers[w] = struct{}{}
	return w
}

func (c *changes) leave(w *watcher) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.watchers, w)
}

func (c *changes) tell(connection string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.watchers {
		w.noted[connection] = struct{}{}
		select {
		case w.wake <- struct{}{}:
		default: // not yet awake for an earlier note: it will find this one too
		}
	}
}

// pass hands the notes left for w to changed, outside the mutex.
func (c *changes) pass(w *watcher, changed func(connection string)) {
	c.mu.Lock()
	noted := w.noted
	w.noted = make(map[string]struct{})
	c.mu.Unlock()
	for _, connection := range slices.Sorted(maps.Keys(noted)) {
		changed(connection)
	}
}
