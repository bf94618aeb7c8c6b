package tokens

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	mathrand "math/rand/v2"
	"time"

	"pleo-sidecar/lock"
)

// Policy says what to do about a lost answer where introspection cannot tell
// (rule 4).
type Policy string

// The policies of refresh.on_lost_answer.
const (
	// Retry presents the refresh token once more, when no introspection is
	// configured: a gamble, taken once for each grant's generation.
	Retry Policy = "retry"
	// Stop requires a login then.
	Stop Policy = "stop"
	// Never requires a login after every lost answer, whatever introspection
	// says: the only policy that a request outliving the quiet time cannot break.
	Never Policy = "never"
)

// Timing is every duration of the protocol. The configuration checks them
// together; a zero field has the default named beside it.
type Timing struct {
	// Lead is how long before a token's end a connection in use is refreshed,
	// at most a third of its life. Default 120 s: quiet time and send window (70 s)
	// fit in, so a lost request costs callers nothing.
	Lead time.Duration
	// Timeout bounds connecting, and how long a claim holds back callers.
	// Default 20 s. Reading the answer goes on after it, until quiet is over.
	Timeout time.Duration
	// MaxWait bounds how long a call waits for a token. Default 15 s, below the
	// usual 30 s of HTTP clients.
	MaxWait time.Duration
	// KeepAlive is the age of a pair at which an idle connection is refreshed,
	// so that its refresh token never ages out. Default 24 h; Pleo promises at
	// least 60 days and says not to rely on it.
	KeepAlive time.Duration
	// SendWindow is the time from before the claim is saved to the last byte
	// written (rule 2.0). Default 5 s.
	SendWindow time.Duration
	// NetworkLife is the longest life of a request after its last byte was
	// written: above TCP_USER_TIMEOUT plus the longest buffering of any proxy on
	// the way (rule 2.0). Default 60 s.
	NetworkLife time.Duration
	// Attempts bounds the tries of one refresh when nothing was spent. Default 4.
	Attempts int
}

func (t Timing) withDefaults() Timing {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&t.Lead, 120*time.Second)
	def(&t.Timeout, 20*time.Second)
	def(&t.MaxWait, 15*time.Second)
	def(&t.KeepAlive, 24*time.Hour)
	def(&t.SendWindow, 5*time.Second)
	def(&t.NetworkLife, 60*time.Second)
	if t.Attempts == 0 {
		t.Attempts = 4
	}
	return t
}

// quiet is how long a record in doubt must rest before it is resolved: until no
// request that the claim's owner may have sent can still reach the server.
func (t Timing) quiet() time.Duration { return t.SendWindow + t.NetworkLife }

// gate is how long a claim holds back new calls: whoever waits longer than a
// caller may, or than a refresh takes, is better off with the old token.
func (t Timing) gate() time.Duration { return min(t.Timeout, t.MaxWait) }

const (
	// brake is the age below which a rejected token is not refreshed: a 401 on
	// it is no matter of age, and a refresh would kill the token of everyone else
	// (design, "The brake").
	brake = 5 * time.Second
	// deadPause lies between the two introspections that must agree before a
	// grant is given up (rule Dead twice): an introspection may lag behind a
	// rotation by replication, seldom by seconds.
	deadPause = 2 * time.Second
	// storeTimeout bounds one look at the store. A store that is up answers in
	// milliseconds; one second more and callers had better be told.
	storeTimeout = 2 * time.Second
	// storeRetry is how soon an absent store is asked again after a refresh gave
	// up on it, so that service resumes within two seconds of its return.
	storeRetry = time.Second
	// firstBackoff and maxBackoff bound the pause between tries; it doubles.
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 30 * time.Second
	// resolveSpread is the time over which connections that nobody waits for are
	// resolved after a restart of the store (rule 11).
	resolveSpread = time.Minute
	// freeRounds is how often a flight may begin anew without a pause: more often
	// than any race of pods makes it.
	freeRounds = 8
	// wallCheck is how often a serving token is held against the wall clock: the
	// monotonic clock, which timers follow, stops while a machine is suspended.
	wallCheck = time.Minute
	// jitterShare spreads timers of a fleet: each fires up to a tenth early.
	jitterShare = 0.1
)

// Options are what the connections of a process share. Store, Locker and
// Endpoint are required.
type Options struct {
	Store    Store
	Index    Index // nil: changes by other processes are seen only when a token is needed
	Locker   lock.Locker
	Endpoint *Endpoint
	Spool    *Spool // nil: an unsaved pair lives in memory only

	// Default is the connection of calls that name none. It may be without a
	// record; every other connection begins with an import or a login.
	Default string
	// Seed is the first refresh token of Default, used only while the store has
	// never held that connection. Empty: none.
	Seed Secret
	// SharedStore says that other machines write to Store: a seed then waits
	// one quiet time (rule SeedQuiet).
	SharedStore bool

	Pod          string // name of this process, shown in claims
	Timing       Timing
	OnLostAnswer Policy       // "" is Retry
	Log          *slog.Logger // nil discards
	Metrics      *Metrics     // nil counts nothing that anyone sees
}

func (o Options) withDefaults() (Options, error) {
	if o.Store == nil || o.Locker == nil || o.Endpoint == nil {
		return o, errors.New("tokens: store, locker and endpoint are required")
	}
	if o.Default != "" && !ValidConnection(o.Default) {
		return o, fmt.Errorf("tokens: %q is not a connection name", o.Default)
	}
	if !o.Seed.IsZero() && o.Default == "" {
		return o, errors.New("tokens: a seed needs a default connection")
	}
	if o.OnLostAnswer == "" {
		o.OnLostAnswer = Retry
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	o.Timing = o.Timing.withDefaults()
	return o, nil
}

// backoff returns the pause before try n+1, n counted from 0: doubling, bounded,
// and shortened by up to a half at random, so that a fleet does not march.
func backoff(n int) time.Duration {
	d := time.Duration(float64(firstBackoff) * math.Pow(2, float64(min(n, 16))))
	d = min(d, maxBackoff)
	return d - mathrand.N(d/2)
}

// early returns d shortened by a random share of up to a tenth.
func early(d time.Duration) time.Duration {
	return d - time.Duration(float64(d)*jitterShare*mathrand.Float64())
}

// newID returns 128 random bits as text, for attempts, claims and the root of a
// tombstone.
func newID() string { return rand.Text() }
