package lock

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"
)

const (
	// defaultLease is three times the default time-out of a refresh.
	defaultLease = time.Minute

	// shortestLease is above any sane round trip. Under 1 ms, redislock reports
	// a lock for which Redis keeps no key.
	shortestLease = 100 * time.Millisecond

	// longestTrip bounds one exchange with Redis if the client does not: two of
	// the read time-outs it should have.
	longestTrip = 2 * time.Second
)

// RedisOptions are what the locks of one Redis share.
type RedisOptions struct {
	// KeyPrefix begins every key: <prefix>:{<name>}:lock. The braces keep a lock
	// in the hash slot of its connection. Empty: pleo-sidecar.
	KeyPrefix string

	// Lease is how long Redis keeps a lock whose holder is silent, and so how
	// long others wait for one that died. It should be three times the longest
	// work that ends by itself. Zero: a minute. The least is 100 ms.
	Lease time.Duration

	// Holder names this process to people who ask who holds a lock. Empty: the
	// host name, which in Kubernetes is the pod's.
	Holder string

	Log *slog.Logger // nil discards
}

// Redis is a Locker for all processes that share a Redis. A lock is a key that
// ends with its lease unless its holder extends it, which Do does while its
// function runs: every third of the lease, and after a failure ten times as
// often. The function's context ends with ErrLost at once when Redis says that
// the lock is another's, and a sixth of the lease before its end while Redis
// says nothing.
//
// A caller that gives up waiting may be kept for three exchanges with Redis, each
// bounded by the client and by 2 s: an unanswered request may have obtained the
// lock, which would then be nobody's until its lease ends.
type Redis struct {
	client redis.UniversalClient
	locks  *redislock.Client
	opts   RedisOptions
	trip   time.Duration // the longest exchange
}

// NewRedis returns a Locker with its locks in the Redis of client. The client
// should neither retry by itself nor read from replicas.
func NewRedis(client redis.UniversalClient, opts RedisOptions) *Redis {
	if opts.KeyPrefix == "" {
		opts.KeyPrefix = "pleo-sidecar"
	}
	if opts.Lease == 0 {
		opts.Lease = defaultLease
	}
	opts.Lease = max(opts.Lease, shortestLease)
	if opts.Holder == "" {
		host, _ := os.Hostname()
		opts.Holder = cmp.Or(host, "unnamed")
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	trip := min(opts.Lease/6, longestTrip)
	return &Redis{client: client, locks: redislock.New(client), opts: opts, trip: trip}
}

// Do implements Locker.
func (l *Redis) Do(ctx context.Context, name string, fn func(ctx context.Context) error) error {
	if err := checkName(name); err != nil {
		return err
	}
	h, err := l.obtain(ctx, name)
	if err != nil {
		return err
	}
	defer h.release(ctx)
	held, stop := h.keep(ctx)
	defer stop()
	return fn(held)
}

// Holder says which process holds the lock called name, and since when. Nobody
// is "". It is for people to read: by then the lock may have changed hands.
func (l *Redis) Holder(ctx context.Context, name string) (who string, since time.Time, err error) {
	if err := checkName(name); err != nil {
		return "", time.Time{}, err
	}
	value, err := l.client.Get(ctx, l.key(name)).Result()
	if errors.Is(err, redis.Nil) {
		return "", time.Time{}, nil
	}
	if err != nil {
		return "", time.Time{}, fmt.Errorf("read holder of %q: %w: %w", name, ErrUnavailable, err)
	}
	_, signature, _ := strings.Cut(value, " ")
	end := max(strings.LastIndex(signature, sinceMark), 0)
	since, err = time.Parse(time.RFC3339, strings.TrimPrefix(signature[end:], sinceMark))
	if err != nil {
		// Neither value nor cause is repeated: who else wrote there is unknown.
		return "", time.Time{}, fmt.Errorf("read holder of %q: key %q is not of this kind", name, l.key(name))
	}
	return signature[:end], since, nil
}

// sinceMark stands between the holder and the time in the value of a lock.
const sinceMark = " since "

// signature follows the token of a lock in its value.
func (l *Redis) signature() string {
	return " " + l.opts.Holder + sinceMark + time.Now().UTC().Format(time.RFC3339)
}

func (l *Redis) key(name string) string { return l.opts.KeyPrefix + ":{" + name + "}:lock" }

// obtain tries to hold the lock called name until ctx ends. It does not leave
// the waiting to redislock, which gives up after one lease.
func (l *Redis) obtain(ctx context.Context, name string) (*hold, error) {
	token := rand.Text()
	for pause := firstPause; ctx.Err() == nil; pause = min(2*pause, longPause) {
		h, err := l.try(ctx, name, token)
		switch {
		case err == nil && ctx.Err() == nil && time.Now().Before(h.sure):
			return h, nil
		case err == nil:
			// Obtained for nobody, or so slowly that its lease is in doubt.
			h.release(ctx)
		case ctx.Err() == nil && !errors.Is(err, redislock.ErrNotObtained):
			return nil, unavailable(name, err)
		}
		select {
		case <-time.After(jitter(pause)):
		case <-ctx.Done():
		}
	}
	return nil, notHeld(ctx, name)
}

// try asks for the lock, and once more if no answer came: the question may have
// obtained the lock all the same, and the same token obtains it again. Without
// that, a cut network connection would block the name for a lease.
func (l *Redis) try(ctx context.Context, name, token string) (*hold, error) {
	signed := &redislock.Options{Token: token, Metadata: l.signature()}
	h, err := l.ask(ctx, name, signed)
	if err == nil || errors.Is(err, redislock.ErrNotObtained) {
		return h, err
	}
	return l.ask(ctx, name, signed)
}

// ask asks for the lock once. It is detached from ctx, since an exchange that
// is broken off leaves open who holds the lock.
func (l *Redis) ask(ctx context.Context, name string, signed *redislock.Options) (*hold, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.trip)
	defer cancel()
	// Counted from before the question: Redis begins to count later than this.
	sure := l.sureFrom(time.Now())
	lock, err := l.locks.Obtain(ctx, l.key(name), l.opts.Lease, signed)
	if err != nil {
		return nil, err
	}
	return &hold{l: l, lock: lock, sure: sure, log: l.opts.Log.With(slog.String("connection", name))}, nil
}

// sureFrom returns when a lease that was asked for at the given time gets into
// doubt: a sixth before its end, so that the function can still stop in time. A
// lease of a minute leaves Redis half of it to come back, and the holder 10 s.
func (l *Redis) sureFrom(asked time.Time) time.Time {
	return asked.Add(l.opts.Lease - l.opts.Lease/6)
}

// hold is one lease of one lock.
type hold struct {
	l    *Redis
	lock *redislock.Lock
	sure time.Time // when it gets into doubt unless extended, on the monotonic clock
	log  *slog.Logger
}

// keep returns the context of a function that runs under h, and extends the
// lease until stop. The end of ctx does not stop that: the function may need
// the lock to finish.
func (h *hold) keep(ctx context.Context) (held context.Context, stop func()) {
	held, end := context.WithCancelCause(ctx)
	work, quit := context.WithCancel(context.WithoutCancel(ctx))
	lose := func() { end(ErrLost); quit() }
	// A timer of its own, so that no exchange that hangs can delay the verdict.
	doubt := time.AfterFunc(time.Until(h.sure), lose)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if !h.extend(work, doubt) {
			lose()
		}
	}()
	return held, func() {
		end(nil)
		quit()
		<-done
		doubt.Stop()
		if errors.Is(context.Cause(held), ErrLost) {
			h.log.LogAttrs(ctx, slog.LevelWarn, "lock was lost while it was in use")
		}
	}
}

// extend extends the lease again and again, and puts doubt off each time. It
// returns true when ctx ends, false when the lock is another's.
func (h *hold) extend(ctx context.Context, doubt *time.Timer) bool {
	pause, failed := h.l.opts.Lease/3, false
	for {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return true
		}
		asked := time.Now()
		err := h.extendOnce(ctx)
		switch {
		case err == nil:
			doubt.Reset(time.Until(h.l.sureFrom(asked)))
			pause, failed = h.l.opts.Lease/3, false
		case errors.Is(err, redislock.ErrNotObtained):
			return false
		case ctx.Err() == nil:
			if !failed {
				h.log.LogAttrs(ctx, slog.LevelWarn, "lock cannot be extended; trying again", slog.Any("err", err))
			}
			pause, failed = h.l.opts.Lease/30, true
		}
	}
}

func (h *hold) extendOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, h.l.trip)
	defer cancel()
	return h.lock.Refresh(ctx, h.l.opts.Lease, nil)
}

// release gives the lock back, whether or not ctx has ended. Redis deletes the
// key only while it is still this hold's, so a late release takes nothing from
// the next holder.
func (h *hold) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.l.trip)
	defer cancel()
	switch err := h.lock.Release(ctx); {
	case err == nil:
	case errors.Is(err, redislock.ErrLockNotHeld):
		// Lost before, or released by an exchange whose answer was lost.
		h.log.LogAttrs(ctx, slog.LevelDebug, "lock was not held at its release")
	default:
		h.log.LogAttrs(ctx, slog.LevelWarn, "lock not released; it ends with its lease", slog.Any("err", err))
	}
}
