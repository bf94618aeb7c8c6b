package tokens

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Connections are the connections of a process, each with its Source. It is safe
// for concurrent use. Run must run for changes by other processes to be noticed,
// and for idle connections to be kept alive; Close must be called at the end.
type Connections struct {
	opts    Options
	sources sync.Map // name to *Source; reads take no lock
	reached atomic.Bool

	mu     sync.Mutex
	closed bool
}

// New returns the connections of o. It does no I/O.
func New(o Options) (*Connections, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Connections{opts: o}, nil
}

// Open returns the source of a connection, "" being the default one. Once opened
// it costs one lookup. ErrUnknownConnection when the store has never held such a
// connection (of a tombstone, the source's Token says so); ErrStoreUnavailable when it could not be
// asked. The default connection always opens: its Token says what it lacks.
func (c *Connections) Open(ctx context.Context, name string) (*Source, error) {
	if name == "" {
		name = c.opts.Default
	}
	if s, ok := c.sources.Load(name); ok {
		return s.(*Source), nil
	}
	if !ValidConnection(name) {
		return nil, fmt.Errorf("open connection %q: %w", name, ErrUnknownConnection)
	}
	bounded, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	rec, err := c.opts.Store.Load(bounded, name)
	switch {
	case err == nil, errors.Is(err, ErrNotFound) && name == c.opts.Default:
		s := c.source(name)
		s.remember(rec)
		c.reached.Store(true)
		s.compareSeed(ctx, rec)
		return s, nil
	case errors.Is(err, ErrNotFound):
		return nil, ErrUnknownConnection
	case name == c.opts.Default:
		return c.source(name), nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx) // the caller left; no fault of the store
	}
	c.opts.Metrics.storeErrors["load"].Inc()
	return nil, unavailable(storeError("load the record", err), storeRetry)
}

// source returns the source of name, made where there is none.
func (c *Connections) source(name string) *Source {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.sources.Load(name); ok {
		return s.(*Source)
	}
	s := newSource(&c.opts, name)
	s.closed = c.closed
	c.sources.Store(name, s)
	return s
}

// compareSeed tells the operator of a seed that is not the grant in the store.
func (s *Source) compareSeed(ctx context.Context, rec Record) {
	if s.seed().IsZero() || !rec.Exists() || FingerprintOf(s.seed()) == rec.Root {
		return
	}
	s.opts.Log.LogAttrs(ctx, slog.LevelWarn,
		"configured seed is not the grant in the store and is ignored; to replace the grant on purpose, run: pleo-sidecar import --replace",
		slog.String("connection", s.name), slog.String("state", string(rec.State)))
}

// Reached reports whether the store has answered since the process started:
// from then on connections can be served.
func (c *Connections) Reached() bool { return c.reached.Load() }

// watchRetry is how soon a look at the store that failed is repeated.
const watchRetry = time.Second

// Run opens every connection of the store, saves what a former process left in
// the spool, and keeps up with changes by other processes, until ctx ends; it
// returns nil then. A store that is away is asked again, and so is a record that
// cannot be read; each is told once.
func (c *Connections) Run(ctx context.Context) error {
	c.unspool(ctx)
	if c.opts.Index == nil {
		<-ctx.Done()
		return nil
	}
	changes := newDirty()
	changes.add("") // at first all of them
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		for ctx.Err() == nil {
			if err := c.opts.Index.Watch(ctx, changes.add); err != nil {
				c.opts.Log.LogAttrs(ctx, slog.LevelWarn, "watching the store ended; beginning again", slog.Any("err", err))
				_ = pause(ctx, watchRetry)
				changes.add("") // whatever was missed
			}
		}
	})
	c.keepUp(ctx, changes)
	return nil
}

// keepUp looks at what changed until ctx ends. What fails is looked at again
// with the next round, which does not hold up the others.
func (c *Connections) keepUp(ctx context.Context, changes *dirty) {
	failing := map[string]bool{}
	var retry <-chan time.Time // nil while nothing fails
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes.signal:
		case <-retry:
			retry = nil
			for name := range failing {
				changes.add(name)
			}
		}
		for _, name := range changes.take() {
			err := c.catchUp(ctx, name, changes)
			if err != nil && !failing[name] && ctx.Err() == nil {
				c.opts.Log.LogAttrs(ctx, slog.LevelError, "store cannot be read; trying again until it can",
					slog.String("connection", name), slog.Any("err", err))
			}
			if err != nil {
				failing[name] = true
			} else {
				delete(failing, name)
			}
		}
		if len(failing) > 0 && retry == nil {
			retry = time.After(watchRetry)
		}
	}
}

// catchUp looks at one connection; "" stands for all, and adds each to changes.
func (c *Connections) catchUp(ctx context.Context, name string, changes *dirty) error {
	if name != "" {
		return c.lookAt(ctx, name)
	}
	names, err := c.opts.Index.List(ctx)
	if err != nil {
		c.opts.Metrics.storeErrors["list"].Inc()
		return err
	}
	c.reached.Store(true)
	for _, name := range names {
		changes.add(name)
	}
	if c.opts.Default != "" {
		changes.add(c.opts.Default)
	}
	c.sources.Range(func(name, _ any) bool {
		changes.add(name.(string)) // a record that vanished is in no list
		return true
	})
	return nil
}

func (c *Connections) lookAt(ctx context.Context, name string) error {
	if s, ok := c.sources.Load(name); ok {
		return s.(*Source).look(ctx)
	}
	_, err := c.Open(ctx, name)
	if errors.Is(err, ErrUnknownConnection) {
		return nil
	}
	return err
}

// Close stops what was not sent, and waits until every refresh that was sent is
// answered and saved. When ctx ends first it gives up on them and returns the
// cause. Sources give no new tokens after it but those in memory.
func (c *Connections) Close(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	var all []*Source
	c.sources.Range(func(_, value any) bool {
		all = append(all, value.(*Source))
		return true
	})
	for _, s := range all {
		s.shut(func(f *flight) { f.stop(errClosed) })
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, s := range all {
			s.flights.Wait()
		}
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	for _, s := range all {
		s.shut(func(f *flight) { f.abandon(context.Cause(ctx)) })
	}
	<-done
	return fmt.Errorf("wait for refreshes to be saved: %w", context.Cause(ctx))
}

// shut keeps flights from starting and does end to the one that runs.
func (s *Source) shut(end func(*flight)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.timer.Stop()
	if s.flight != nil {
		end(s.flight)
	}
}

// dirty is a set of names with a signal that it is not empty.
type dirty struct {
	mu     sync.Mutex
	names  map[string]struct{}
	signal chan struct{}
}

func newDirty() *dirty {
	return &dirty{names: map[string]struct{}{}, signal: make(chan struct{}, 1)}
}

func (d *dirty) add(name string) {
	d.mu.Lock()
	d.names[name] = struct{}{}
	d.mu.Unlock()
	select {
	case d.signal <- struct{}{}:
	default:
	}
}

func (d *dirty) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := make([]string, 0, len(d.names))
	for name := range d.names {
		names = append(names, name)
	}
	clear(d.names)
	return names
}

// unspool takes up the pairs that a former process could not save, or not for
// certain.
func (c *Connections) unspool(ctx context.Context) {
	if c.opts.Spool == nil {
		return
	}
	entries, err := c.opts.Spool.All()
	if err != nil {
		c.opts.Log.LogAttrs(ctx, slog.LevelError, "spool cannot be read whole; what is readable is used", slog.Any("err", err))
	}
	for _, entry := range entries {
		s := c.source(entry.Connection)
		if stored, err := s.load(ctx); err == nil {
			s.remember(stored)
			if !beats(entry.Record, stored) {
				s.unspool(ctx, stored)
				continue
			}
		}
		s.takeUp(&entry.Record)
	}
}

// unspool removes what the spool holds of the connection if the stored record
// has replaced it for good.
func (s *Source) unspool(ctx context.Context, stored Record) {
	if s.opts.Spool == nil {
		return
	}
	if err := s.opts.Spool.Remove(s.name, stored); err != nil {
		s.opts.Log.LogAttrs(ctx, slog.LevelError, "spool file cannot be removed", slog.String("connection", s.name), slog.Any("err", err))
	}
}
