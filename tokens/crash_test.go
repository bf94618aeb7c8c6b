package tokens

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pleo-sidecar/tokens/pleosim"
)

// crasher counts the operations of a pod on store and network, each before and
// after it takes effect, and ends the pod at the k-th.
type crasher struct {
	mu    sync.Mutex
	armed bool
	count int
	at    int
	pod   *pod
	ops   []string
}

func (c *crasher) point(op string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.armed {
		return nil
	}
	c.count++
	c.ops = append(c.ops, op)
	if c.count < c.at {
		return nil
	}
	c.pod.store.die()
	return errDead
}

func (c *crasher) wire(pod string, dial wireFunc) wireFunc {
	if pod != "a" {
		return dial
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if err := c.point("before dial " + address); err != nil {
			return nil, err
		}
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if err := c.point("after dial"); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return &wireConn{conn, c.point}, nil
	}
}

func (c *crasher) arm(p *pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pod, c.armed = p, true
	p.store.setBefore(func(op string, _ Record) error { return c.point("before " + op) })
	p.store.setAfter(func(op string, _ Record) error { return c.point("after " + op) })
}

// TestCrashAtEveryOperation visits every point of a refresh at which a process
// can die: the refresh token is never presented twice, and the connection goes on
// unless the pair died with the process.
func TestCrashAtEveryOperation(t *testing.T) {
	faults := map[string]pleosim.Fault{
		"plain":           {},
		"lost answer":     pleosim.LoseAnswer(),
		"cut unread":      pleosim.CutUnread(),
		"bad gateway":     pleosim.AnswerOnly(http.StatusBadGateway),
		"late rotation":   pleosim.RotateLater(time.Second),
		"proxy's refusal": pleosim.ProxyForbids(),
	}
	for name, fault := range faults {
		for _, company := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, company %v", name, company), func(t *testing.T) {
				points := 0
				for k := 1; ; k++ {
					ended := false
					synctest.Test(t, func(t *testing.T) { ended = crashAt(t, k, fault, company) })
					if ended || t.Failed() {
						break
					}
					points = k
				}
				if points < 10 {
					t.Errorf("only %d crash points were visited", points)
				}
			})
		}
	}
}

// crashAt ends pod a at its k-th operation, and reports whether the refresh was
// over before that.
func crashAt(t *testing.T, k int, fault pleosim.Fault, company bool) (ended bool) {
	f := newFleet(t, pleosim.Options{})
	c := &crasher{at: k}
	f.wire = c.wire
	a := f.start("a")
	a.mustCall()
	var b *pod
	if company {
		b = f.start("b")
	}
	time.Sleep(20 * time.Minute)
	f.sim.Token.Next(fault)
	c.arm(a)
	go func() { _, _ = a.call() }()
	time.Sleep(10 * time.Second)
	c.mu.Lock()
	ended = c.count < k
	c.mu.Unlock()
	a.kill()
	if b == nil {
		b = f.start("b")
	}
	b.settles(fmt.Sprintf("after %v", c.ops[max(0, len(c.ops)-2):]))
	return ended
}

// settles fails the test unless calls are served within two quiet times, or a
// login is required and the newest pair is nowhere but in a dead process.
func (p *pod) settles(when string) {
	p.t.Helper()
	var err error
	for begun := time.Now(); time.Since(begun) < 2*testQuiet+5*time.Second; time.Sleep(100 * time.Millisecond) {
		var status int
		if status, err = p.call(); status == http.StatusOK {
			return
		}
		if errors.Is(err, ErrLoginRequired) {
			if rec := p.record(); int(rec.Generation) == p.rotations() {
				p.t.Errorf("login required %s, although the newest pair was saved", when)
			}
			return
		}
	}
	p.t.Errorf("no call is served %s: %v", when, err)
}

var schedules = flag.Int("schedules", 80, "random schedules of a fleet to try")
var firstSeed = flag.Uint64("seed", 1, "seed of the first schedule; a failure names its own")

// TestRandomFleetsNeverPresentATokenTwice throws crashes, pauses, cuts, lost
// replies, lost events, failovers, a slow and failing token endpoint, logins and
// repeated imports at fleets that have no lock.
func TestRandomFleetsNeverPresentATokenTwice(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+uint64(*schedules); seed++ {
		ok := t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newChaos(t, seed).play() })
		})
		if !ok {
			t.Fatalf("repeat with: go test ./tokens -run %s -seed %d -schedules 1", t.Name(), seed)
		}
	}
}

// chaos is one schedule. Its choices come from the seed; goroutines that race
// for the shelf do so in the scheduler's order.
type chaos struct {
	*fleet
	mu     sync.Mutex
	rand   *rand.Rand
	pods   []*pod
	losses int // events after which a login may rightly be required
	names  int
	calm   bool // nothing stumbles any more
	calls  sync.WaitGroup
}

func newChaos(t *testing.T, seed uint64) *chaos {
	c := &chaos{rand: rand.New(rand.NewPCG(seed, 1))}
	c.fleet = newFleet(t, pleosim.Options{Seed: seed, AccessLife: 30 * time.Second, Hostile: seed%2 == 0})
	c.tune = func(o *Options) {
		o.Timing.Lead = 10 * time.Second
		o.SharedStore = true
	}
	c.wire = func(_ string, dial wireFunc) wireFunc {
		return func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &wireConn{conn, c.stumble}, nil
		}
	}
	return c
}

func (c *chaos) n(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rand.IntN(n)
}

// stumble is a pause of the process, or an error, at an operation.
func (c *chaos) stumble(string) error {
	c.mu.Lock()
	calm := c.calm
	c.mu.Unlock()
	if calm {
		return nil
	}
	switch c.n(60) {
	case 0:
		time.Sleep(time.Duration(c.n(4000)) * time.Millisecond) // longer than quiet, at times
	case 1:
		return errors.New("connection reset by peer")
	}
	return nil
}

func (c *chaos) play() {
	for range 2 + c.n(4) {
		c.add()
	}
	for range 150 {
		time.Sleep(time.Duration(c.n(1500)) * time.Millisecond)
		c.act()
	}
	c.settle()
}

func (c *chaos) add() {
	c.names++
	p := c.start(fmt.Sprintf("pod%d", c.names))
	trip := func(string, Record) error {
		if c.n(80) == 0 {
			return errors.New("i/o timeout")
		}
		return c.stumble("")
	}
	p.store.setBefore(trip)
	p.store.setAfter(trip)
	c.pods = append(c.pods, p)
}

func (c *chaos) act() {
	p := c.pods[c.n(len(c.pods))]
	switch c.n(24) {
	case 0:
		c.losses++
		p.kill()
		c.drop(p)
		c.add()
	case 1:
		c.calls.Go(func() { _ = p.stop() })
		c.drop(p)
		c.add()
	case 2:
		p.store.deafen()
		c.calls.Go(func() {
			time.Sleep(time.Duration(c.n(10000)) * time.Millisecond)
			p.store.listen()
		})
	case 3:
		c.losses++
		c.shelf.failover(c.n(3))
	case 4:
		c.sim.Token.Next(pleosim.Fault{Delay: time.Duration(c.n(1900)) * time.Millisecond, After: c.n(2) == 0})
	case 5:
		c.sim.Token.Next(pleosim.AnswerOnly(http.StatusBadGateway))
	case 6:
		c.losses++
		c.sim.Token.Next([]pleosim.Fault{pleosim.LoseAnswer(), pleosim.WorkThenAnswer(504), pleosim.RotateLater(time.Second),
			{Garble: pleosim.GarbleTruncated}}[c.n(4)])
	case 7:
		c.sim.Token.Next([]pleosim.Fault{pleosim.CutUnread(), pleosim.ProxyForbids()}[c.n(2)])
	case 8:
		c.sim.Introspect.Next(pleosim.Fault{Status: 500})
	case 9:
		if c.n(4) == 0 {
			c.losses++
			c.shelf.flush()
		}
	case 10:
		if c.n(4) == 0 {
			fresh := NewSecret(c.sim.Grant())
			c.calls.Go(func() { _ = p.conns.Replace(context.Background(), "default", fresh) })
		}
	case 11:
		c.calls.Go(func() { _ = p.conns.Import(context.Background(), "default", c.seed) })
	default:
		for range 1 + c.n(5) {
			c.calls.Go(func() { _, _ = p.call() })
		}
	}
}

// settle takes all faults away; then calls are served by every pod, or a login
// is required for a reason, and heals all of them.
func (c *chaos) settle() {
	c.calls.Wait()
	c.sim.Token.Clear()
	c.sim.Introspect.Clear()
	for _, p := range c.pods {
		p.store.setBefore(nil)
		p.store.setAfter(nil)
		p.store.listen()
	}
	c.mu.Lock()
	c.calm = true
	c.mu.Unlock()
	time.Sleep(3*testQuiet + time.Minute)
	if _, err := c.pods[0].call(); errors.Is(err, ErrLoginRequired) {
		if c.losses == 0 {
			c.t.Error("login required although nothing was ever lost")
		}
		if err := c.pods[0].conns.Import(context.Background(), "default", NewSecret(c.sim.Grant())); err != nil {
			c.t.Errorf("import: %v", err)
		}
		synctest.Wait()
	}
	for _, p := range c.pods {
		p.eventually(2*testQuiet + 10*time.Second)
	}
}

func (c *chaos) drop(p *pod) {
	c.pods = slices.DeleteFunc(c.pods, func(q *pod) bool { return q == p })
}
