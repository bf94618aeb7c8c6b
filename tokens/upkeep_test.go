package tokens

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pleo-sidecar/lock"
	"pleo-sidecar/tokens/pleosim"
)

// put saves a grant under a name, as an import would, issued at a time.
func (f *fleet) put(name string, issued time.Time) {
	f.t.Helper()
	rec := firstRecord(NewSecret(f.sim.Grant()), issued)
	rec.Version, rec.Attempt, rec.Epoch = 1, newID(), 1
	rec.Seen = Seen{Run: f.shelf.runID()}
	if err := f.shelf.save(name, rec); err != nil {
		f.t.Fatal(err)
	}
}

// One record cannot be opened. All others were loaded again each second for it,
// and the log took a line each time.
func TestDamagedRecordDoesNotMakeTheOthersLoadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		for i := range 20 {
			f.put(fmt.Sprintf("c%d", i), time.Now())
		}
		store := &slowStore{fail: func(name string) error {
			if name == "c7" {
				return ErrSealed
			}
			return nil
		}}
		f.tune = func(o *Options) { store.Store = o.Store; o.Store = store }
		f.start("a")
		time.Sleep(10 * time.Minute)
		store.mu.Lock()
		defer store.mu.Unlock()
		if store.loads["c3"] > 5 {
			t.Errorf("a good record was loaded %d times in 10 minutes", store.loads["c3"])
		}
		if n := strings.Count(f.logs.String(), "trying again until it can"); n != 1 {
			t.Errorf("%d log lines for one damaged record in 10 minutes", n)
		}
	})
}

// Thirty records cannot be opened; a rotation elsewhere of a good one is noticed
// at once all the same.
func TestDamagedRecordsDoNotDelayTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		for i := range 30 {
			f.put(fmt.Sprintf("bad%d", i), time.Now())
		}
		f.tune = func(o *Options) {
			o.Store = &slowStore{Store: o.Store, fail: func(name string) error {
				if strings.HasPrefix(name, "bad") {
					return ErrSealed
				}
				return nil
			}}
		}
		a, b := f.start("a"), f.start("b")
		a.mustCall()
		time.Sleep(time.Minute)
		f.shelf.mu.Lock()
		for i := range 30 {
			for _, changed := range f.shelf.watchers {
				changed(fmt.Sprintf("bad%d", i)) // something happens to each of them
			}
		}
		f.shelf.mu.Unlock()
		time.Sleep(100 * time.Millisecond)
		if _, err := a.source.Refresh(context.Background(), a.source.view.Load().token); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for b.source.remembered().Generation != 2 && time.Since(began) < time.Hour {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("b noticed the rotation after %v", took)
		}
	})
}

// The connections were not kept alive for two days (a week end without pods). At
// the start all are due: they must not all be refreshed at the same moment.
func TestOverdueKeepAliveIsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		for i := range 200 {
			f.put(fmt.Sprintf("c%d", i), time.Now())
		}
		time.Sleep(48 * time.Hour)
		meter := &meter{}
		f.wire = meter.wire
		f.sim.Token.Always(pleosim.Fault{Delay: 200 * time.Millisecond})
		f.start("a")
		time.Sleep(2 * time.Hour)
		if most := meter.peak(); most > 50 {
			t.Errorf("%d network connections to Pleo at once", most)
		}
	})
}

// A store restarted: one introspection a connection, spread (rule 11).
func TestResolvingAfterARestartIsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		for i := range 200 {
			f.put(fmt.Sprintf("c%d", i), time.Now())
		}
		meter := &meter{}
		f.wire = meter.wire
		f.sim.Introspect.Always(pleosim.Fault{Delay: 200 * time.Millisecond})
		f.start("a")
		time.Sleep(time.Minute)
		f.shelf.failover(0)
		time.Sleep(time.Hour)
		if most := meter.peak(); most > 50 {
			t.Errorf("%d network connections to Pleo at once", most)
		}
	})
}

// meter counts network connections.
type meter struct {
	mu        sync.Mutex
	now, most int
}

func (m *meter) peak() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.most
}

func (m *meter) wire(_ string, dial wireFunc) wireFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.now++
		m.most = max(m.most, m.now)
		return &metered{Conn: conn, m: m}, nil
	}
}

type metered struct {
	net.Conn
	m    *meter
	once sync.Once
}

func (c *metered) Close() error {
	c.once.Do(func() {
		c.m.mu.Lock()
		defer c.m.mu.Unlock()
		c.m.now--
	})
	return c.Conn.Close()
}

// SIGTERM comes while the claim is being saved. It lands, nothing is sent, and
// the next pod need not wait for a request that never was.
func TestCloseDuringTheClaimTakesItBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		store := &slowStore{}
		f.tune = func(o *Options) { store.Store = o.Store; o.Store = store }
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		store.set(100 * time.Millisecond)
		go func() { _, _ = a.call() }()
		time.Sleep(150 * time.Millisecond) // loaded, and now saving the claim
		if got := f.record().State; got != StateClaimed {
			t.Fatalf("record is %s, want claimed", got)
		}
		if err := a.stop(); err != nil {
			t.Fatal(err)
		}
		if rec := f.record(); rec.State != StateOK || rec.Doubt {
			t.Errorf("record is %s, doubt %v; want the claim taken back: nothing was sent", rec.State, rec.Doubt)
		}
	})
}

// A record that cannot be opened can be replaced by a login (Seal says so).
func TestReplaceWorksOverARecordThatCannotBeOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		memory := NewMemory()
		f.tune = func(o *Options) { o.Store, o.Index = Seal(memory, testRing(t, 1)), memory }
		a := f.start("a")
		a.mustCall()
		f.tune = func(o *Options) { o.Store, o.Index = Seal(memory, testRing(t, 2)), memory } // the key is lost
		b := f.start("b")
		if err := b.conns.Replace(context.Background(), "default", NewSecret(f.sim.Grant())); err != nil {
			t.Errorf("Replace: %v", err)
		}
	})
}

// A pair that lost to a tombstone leaves no copy on the disk.
func TestSupersededPairLeavesTheSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		spool := newTestSpool(t, newDir(t), nil, 1)
		f.tune = func(o *Options) { o.Spool = spool }
		a := f.start("a")
		a.mustCall()
		f.tune = nil
		b := f.start("b")
		time.Sleep(20 * time.Minute)
		f.sim.On(pleosim.AtToken, pleosim.AfterRotate, func(pleosim.Event) {
			if err := b.conns.Forget(context.Background(), "default"); err != nil {
				t.Error(err)
			}
			synctest.Wait() // a has seen the tombstone
		})
		_, _ = a.call()
		time.Sleep(time.Minute)
		if entries, err := spool.All(); err != nil || len(entries) != 0 {
			t.Errorf("spool holds %d pairs (%v) of a forgotten connection", len(entries), err)
		}
	})
}

// Without introspection, the first token of a dead grant is known to be spent by
// its place in the record alone.
func TestImportOfATokenKnownToBeSpentIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		f.tune = func(o *Options) { o.Endpoint = f.endpointWithoutIntrospection() }
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		f.sim.Revoke("")
		a.mustFail(ErrLoginRequired)
		err := a.conns.Import(context.Background(), "default", f.seed)
		synctest.Wait()
		t.Logf("Import: %v; record %s, root is seed %v", err, f.record().State, f.record().Root == FingerprintOf(f.seed))
		if err == nil && f.record().State != StateOK {
			t.Errorf("Import said nothing, and the record is %s", f.record().State)
		}
	})
}

// The client is mended; the pair was never spent, whatever the policy.
func TestMendedClientNeedsNoLoginUnderAnyPolicy(t *testing.T) {
	for _, policy := range []Policy{Retry, Stop} {
		t.Run(string(policy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, pleosim.Options{})
				f.tune = func(o *Options) {
					o.Endpoint = f.endpointWithoutIntrospection()
					o.OnLostAnswer = policy
				}
				a := f.start("a")
				a.mustCall()
				f.sim.SetClientSecret("another-secret")
				time.Sleep(20 * time.Minute)
				a.mustFail(ErrClientRejected)
				f.sim.SetClientSecret("pleosim-secret")
				f.tune = func(o *Options) {
					o.OnLostAnswer = policy
					e, err := NewEndpoint(EndpointOptions{
						TokenURL: "http://" + pleosim.AuthAddr + "/oauth/token",
						ClientID: "pleosim-client", ClientSecret: NewSecret("mended-secret"), Dial: f.pipes.DialContext,
					})
					if err != nil {
						t.Fatal(err)
					}
					o.Endpoint = e
				}
				f.sim.SetClientSecret("mended-secret")
				f.start("b").eventually(20 * time.Second)
			})
		})
	}
}

// A store that refuses every write as a conflict, although nothing changes (two
// servers behind one address): not asked without a pause.
func TestConflictWithoutAChangeIsNotRetriedAtOnce(t *testing.T) {
	f := newFleet(t, pleosim.Options{})
	store := &refuser{}
	f.tune = func(o *Options) { store.Store = o.Store; o.Store = store }
	p := f.start("a")
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, _ = p.source.Token(ctx)
	store.mu.Lock()
	n := store.saves
	store.mu.Unlock()
	if n > 50 {
		t.Errorf("%d saves in one second", n)
	}
	p.kill()
}

type refuser struct {
	Store
	mu    sync.Mutex
	saves int
}

func (r *refuser) Save(ctx context.Context, name string, rec Record) error {
	r.mu.Lock()
	r.saves++
	r.mu.Unlock()
	return ErrConflict
}

// A spooled pair is taken up while a caller's flight waits for quiet: it ends that
// flight's doubt. The flight gave the grant up, with the newest pair in memory.
func TestSpooledPairEndsTheDoubtOfAFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		dir := newDir(t)
		f.tune = func(o *Options) { o.Spool = newTestSpool(t, dir, nil, 1) }
		a := f.start("a")
		a.mustCall()
		time.Sleep(20 * time.Minute)
		f.sim.On(pleosim.AtToken, pleosim.AfterRotate, func(pleosim.Event) { a.store.cut(errors.New("i/o timeout")) })
		a.mustCall()
		synctest.Wait() // a new token serves before it is saved
		a.kill()
		time.Sleep(20 * time.Minute) // the spooled access token has ended
		own := newDir(t)
		f.tune = func(o *Options) { o.Spool = newTestSpool(t, own, nil, 1) }
		b := f.start("b")
		go func() { _, _ = b.call() }()
		time.Sleep(100 * time.Millisecond)
		if err := os.Rename(filepath.Join(dir, "default.spool"), filepath.Join(own, "default.spool")); err != nil {
			t.Fatal(err)
		}
		b.conns.unspool(context.Background()) // as Run does, once it comes to it
		began := time.Now()
		b.eventually(20 * time.Second)
		if waited := time.Since(began); waited > testQuiet+deadPause {
			t.Errorf("served after %v", waited)
		}
		if strings.Contains(f.logs.String(), "grant is dead") {
			t.Error("the grant was given up while its newest pair was in memory")
		}
	})
}

// The spool is read while a flight spools its new pair: the pair that is read is
// the one before, and must not take the place of the new one.
func TestOlderSpooledPairDoesNotReplaceTheHeldOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, pleosim.Options{})
		var p *pod
		var armed atomic.Bool
		ops := osOps
		ops.rename = func(from, to string) error {
			if armed.CompareAndSwap(true, false) {
				p.store.cut(errors.New("i/o timeout"))
				p.conns.unspool(context.Background()) // Run's goroutine, at this moment
				p.store.mend()
			}
			return osOps.rename(from, to)
		}
		spool, err := newSpool(newDir(t), testRing(t, 1), ops)
		if err != nil {
			t.Fatal(err)
		}
		f.tune = func(o *Options) { o.Spool = spool }
		p = f.start("a")
		p.mustCall()
		time.Sleep(20 * time.Minute)
		armed.Store(true)
		p.mustCall()
		time.Sleep(time.Second)
		if rec := f.record(); rec.Generation != 2 {
			t.Errorf("record has generation %d, doubt %v; want 2: the pair that was issued last", rec.Generation, rec.Doubt)
		}
		time.Sleep(20 * time.Minute)
		p.mustCall()
	})
}

// The whole protocol with a lock that queues: flights leave the line, nothing
// stands still.
func TestRandomFleetsWithALock(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+uint64(*schedules)/2; seed++ {
		ok := t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newChaos(t, seed)
				c.lock = lock.NewLocal()
				c.play()
			})
		})
		if !ok {
			t.FailNow()
		}
	}
}
