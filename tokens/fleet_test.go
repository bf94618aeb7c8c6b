package tokens

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pleo-sidecar/lock"
	"pleo-sidecar/lock/locktest"
	"pleo-sidecar/tokens/pleosim"
)

// A fleet is some pods, one shelf that they share as their store, and one
// simulated Pleo, in a bubble of virtual time. The simulator fails the test by
// itself when a refresh token is presented twice.
type fleet struct {
	t     *testing.T
	sim   *pleosim.Sim
	pipes *http.Transport
	shelf *shelf
	lock  lock.Locker
	seed  Secret
	tune  func(*Options)
	wire  func(pod string, dial wireFunc) wireFunc // faults between pods and Pleo
	logs  *logBuffer
}

type wireFunc = func(ctx context.Context, network, address string) (net.Conn, error)

const (
	testSend  = 500 * time.Millisecond
	testNet   = 2 * time.Second
	testQuiet = testSend + testNet
)

// newFleet returns a fleet without pods whose grant was made by hand. A Locker
// that locks nothing is the default: the compare-and-swap alone must do.
func newFleet(t *testing.T, o pleosim.Options) *fleet {
	t.Helper()
	logs := &logBuffer{}
	o.Log = func(line string) { fmt.Fprintln(logs, "pleo:", line) }
	sim := pleosim.New(t, o)
	f := &fleet{
		t: t, sim: sim, pipes: sim.Pipes(t), shelf: newShelf(), lock: locktest.None{},
		seed: NewSecret(sim.Grant()), logs: logs,
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(logs.String())
		}
		for _, secret := range sim.Secrets() {
			if strings.Contains(logs.String(), secret) {
				t.Error("a secret is in the log")
			}
		}
	})
	return f
}

// logBuffer is a log that several goroutines write.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// pod is one process of a fleet.
type pod struct {
	*fleet
	name   string
	conns  *Connections
	source *Source
	store  *handle
	run    context.CancelFunc
	done   chan struct{}
}

// start brings up a pod. It has the seed, and no record but what the shelf holds.
func (f *fleet) start(name string) *pod {
	f.t.Helper()
	p := &pod{fleet: f, name: name, store: &handle{shelf: f.shelf}, done: make(chan struct{})}
	dial := wireFunc(f.pipes.DialContext)
	if f.wire != nil {
		dial = f.wire(name, dial)
	}
	log := slog.New(slog.NewJSONHandler(f.logs, &slog.HandlerOptions{Level: slog.LevelDebug})).With("pod", name)
	endpoint, err := NewEndpoint(EndpointOptions{
		TokenURL:         "http://" + pleosim.AuthAddr + "/oauth/token",
		IntrospectionURL: "http://" + pleosim.AuthAddr + "/oauth/token/introspect",
		ClientID:         "pleosim-client", ClientSecret: NewSecret("pleosim-secret"),
		Dial: dial, Log: log,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	o := Options{
		Store: p.store, Index: p.store, Locker: f.lock, Endpoint: endpoint,
		Default: "default", Seed: f.seed, Pod: name, Log: log,
		Timing: Timing{
			Lead: time.Minute, Timeout: 2 * time.Second, MaxWait: 5 * time.Second,
			SendWindow: testSend, NetworkLife: testNet,
		},
	}
	if f.tune != nil {
		f.tune(&o)
	}
	if p.conns, err = New(o); err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.run = cancel
	go func() {
		defer close(p.done)
		_ = p.conns.Run(ctx)
	}()
	if p.source, err = p.conns.Open(context.Background(), ""); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(p.kill)
	return p
}

// kill ends a pod as kill -9 would: nothing that it has not done is done.
func (p *pod) kill() {
	p.store.die()
	p.run()
	<-p.done
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = p.conns.Close(ctx)
}

// stop ends a pod as SIGTERM would.
func (p *pod) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := p.conns.Close(ctx)
	p.run()
	<-p.done
	return err
}

// call sends one API call as the proxy would: at most one more after a 401.
func (p *pod) call() (status int, err error) {
	token, err := p.source.Token(context.Background())
	if err != nil {
		return 0, err
	}
	if status, err = p.get(token); status != http.StatusUnauthorized || err != nil {
		return status, err
	}
	again, err := p.source.Refresh(context.Background(), token)
	if err != nil {
		return 0, err
	}
	if again.SameAccess(token) {
		return status, nil
	}
	return p.get(again)
}

func (p *pod) get(token Token) (int, error) {
	request, err := http.NewRequest(http.MethodGet, "http://"+pleosim.APIAddr+"/v2/employees", nil)
	if err != nil {
		return 0, err
	}
	token.Attach(request.Header)
	response, err := p.pipes.RoundTrip(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

// mustCall fails the test unless a call is served.
func (p *pod) mustCall() {
	p.t.Helper()
	if status, err := p.call(); status != http.StatusOK || err != nil {
		p.t.Fatalf("call through %s: status %d, %v; want 200", p.name, status, err)
	}
}

// mustFail fails the test unless a call is answered with want.
func (p *pod) mustFail(want error) {
	p.t.Helper()
	if status, err := p.call(); !errors.Is(err, want) {
		p.t.Fatalf("call through %s: status %d, %v; want %v", p.name, status, err, want)
	}
}

// eventually lets virtual time pass until a call is served.
func (p *pod) eventually(limit time.Duration) {
	p.t.Helper()
	var last error
	for begun := time.Now(); time.Since(begun) < limit; time.Sleep(100 * time.Millisecond) {
		status, err := p.call()
		if status == http.StatusOK {
			return
		}
		last = fmt.Errorf("status %d, %w", status, err)
	}
	p.t.Fatalf("no call through %s was served within %v: %v", p.name, limit, last)
}

// rotations is how often Pleo has rotated the first grant, once nothing moves.
func (f *fleet) rotations() int {
	synctest.Wait()
	return f.sim.Ledger().Grants[0].Rotations
}

// record is what the shelf holds of the default connection, once nothing moves:
// a new token serves before it is saved.
func (f *fleet) record() Record {
	synctest.Wait()
	rec, _ := f.shelf.load("default")
	return rec
}

// shelf is a store that several pods share, and that fails as Redis may: it
// restarts, loses its last writes, is emptied.
type shelf struct {
	mu       sync.Mutex
	run      int
	records  map[string]Record
	history  map[string][]Record // former contents, newest last
	watchers map[*handle]func(string)
}

func newShelf() *shelf {
	return &shelf{run: 1, records: map[string]Record{}, history: map[string][]Record{}, watchers: map[*handle]func(string){}}
}

func (s *shelf) runID() string { return fmt.Sprintf("run-%d", s.run) }

func (s *shelf) load(name string) (Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, ok := s.records[name]
	rec.Seen = Seen{Version: rec.Version, Run: s.runID()}
	if !ok {
		return rec, ErrNotFound
	}
	return rec, nil
}

func (s *shelf) save(name string, rec Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.records[name]
	switch {
	case rec.Version <= rec.Seen.Version || rec.Attempt == "":
		return fmt.Errorf("save version %d over %d: not a successor", rec.Version, rec.Seen.Version)
	case rec.Seen.Run != s.runID():
		return ErrConflict
	case old.Attempt == rec.Attempt:
		return nil
	case old.Version != rec.Seen.Version:
		return ErrConflict
	}
	s.history[name] = append(s.history[name], old)
	rec.Run, rec.Seen = s.runID(), Seen{}
	s.records[name] = rec
	for _, changed := range s.watchers {
		changed(name)
	}
	return nil
}

// failover makes the shelf another run that has lost the last n writes.
func (s *shelf) failover(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run++
	s.lose(n)
}

// rollback loses the last n writes within the same run, as a restored file does.
func (s *shelf) rollback(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lose(n)
}

// lose forgets the last n writes of each record. Callers hold mu.
func (s *shelf) lose(n int) {
	for name, history := range s.history {
		at := max(0, len(history)-n)
		if at == len(history) {
			continue
		}
		if old := history[at]; old.Exists() {
			s.records[name] = old
		} else {
			delete(s.records, name)
		}
		s.history[name] = history[:at]
	}
	s.wakeAll()
}

// flush empties the shelf without a restart, as FLUSHALL does.
func (s *shelf) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.records)
	clear(s.history)
	s.wakeAll()
}

func (s *shelf) wakeAll() {
	for _, changed := range s.watchers {
		changed("")
	}
}

// handle is one pod's way to the shelf. Its hooks may fail an operation before
// or after it took effect.
type handle struct {
	*shelf
	mu     sync.Mutex
	dead   bool
	deaf   bool // events do not arrive
	before func(op string, rec Record) error
	after  func(op string, rec Record) error
}

var errDead = errors.New("the process is dead")

func (h *handle) die() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dead = true
}

// listen ends deafness: as a store's client does that has subscribed again, it
// takes all records for changed.
func (h *handle) listen() {
	h.shelf.mu.Lock()
	defer h.shelf.mu.Unlock()
	h.deaf = false
	if changed := h.watchers[h]; changed != nil {
		changed("")
	}
}

// deafen loses events until listen.
func (h *handle) deafen() {
	h.shelf.mu.Lock()
	defer h.shelf.mu.Unlock()
	h.deaf = true
}

// cut fails every operation until mend.
func (h *handle) cut(err error) {
	h.setBefore(func(string, Record) error { return err })
}

func (h *handle) mend() { h.setBefore(nil) }

func (h *handle) setBefore(hook func(string, Record) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before = hook
}

func (h *handle) setAfter(hook func(string, Record) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.after = hook
}

func (h *handle) gate(pick func() func(string, Record) error, op string, rec Record) error {
	h.mu.Lock()
	dead, hook := h.dead, pick()
	h.mu.Unlock()
	if dead {
		return errDead
	}
	if hook == nil {
		return nil
	}
	return hook(op, rec)
}

func (h *handle) Load(_ context.Context, name string) (Record, error) {
	if err := h.gate(func() func(string, Record) error { return h.before }, "load", Record{}); err != nil {
		return Record{}, err
	}
	rec, err := h.shelf.load(name)
	if lost := h.gate(func() func(string, Record) error { return h.after }, "load", rec); lost != nil {
		return Record{}, lost
	}
	return rec, err
}

func (h *handle) Save(_ context.Context, name string, rec Record) error {
	op := "save " + string(rec.State)
	if err := h.gate(func() func(string, Record) error { return h.before }, op, rec); err != nil {
		return err
	}
	err := h.shelf.save(name, rec)
	if lost := h.gate(func() func(string, Record) error { return h.after }, op, rec); lost != nil {
		return lost
	}
	return err
}

func (h *handle) List(context.Context) ([]string, error) {
	h.shelf.mu.Lock()
	defer h.shelf.mu.Unlock()
	var names []string
	for name := range h.records {
		names = append(names, name)
	}
	return names, nil
}

func (h *handle) Watch(ctx context.Context, changed func(string)) error {
	h.shelf.mu.Lock()
	h.watchers[h] = func(name string) {
		if !h.deaf {
			changed(name)
		}
	}
	h.shelf.mu.Unlock()
	<-ctx.Done()
	h.shelf.mu.Lock()
	delete(h.watchers, h)
	h.shelf.mu.Unlock()
	return nil
}

// wireConn lets a test stop a network connection at each operation.
type wireConn struct {
	net.Conn
	point func(op string) error
}

func (c *wireConn) Read(p []byte) (int, error) {
	if err := c.point("before read"); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	if e := c.point("after read"); e != nil {
		return 0, e
	}
	return n, err
}

func (c *wireConn) Write(p []byte) (int, error) {
	if err := c.point("before write"); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if e := c.point("after write"); e != nil {
		return n, e
	}
	return n, err
}
