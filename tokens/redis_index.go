package tokens

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// scanCount is how many keys one step of a scan looks at: a fraction of a
	// millisecond in which Redis does nothing else.
	scanCount = 1000
	// redisProbe is how long a silent subscription is trusted. Each probe is one
	// command of an idle process.
	redisProbe = 15 * time.Second
	// redisPoll is how often Watch says that anything may have changed, for what
	// a subscription lost without breaking.
	redisPoll = 5 * time.Minute
	// redisRest bounds the pause between two tries to subscribe.
	redisRest = 15 * time.Second
)

// List implements Index. In a cluster it is an error if one master does not
// answer: half a list would look like records that vanished.
func (r *Redis) List(ctx context.Context) ([]string, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var mu sync.Mutex
	var names []string
	pattern := globEscaper.Replace(r.options.KeyPrefix) + ":{*}:record"
	err := r.eachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
		keys, err := scan(ctx, master, pattern)
		mu.Lock()
		defer mu.Unlock()
		for _, key := range keys {
			if name, ok := r.connectionOf(key); ok {
				names = append(names, name)
			}
		}
		return err
	})
	if err != nil {
		return nil, redisError(ctx, "list", pattern, err)
	}
	slices.Sort(names)
	return slices.Compact(names), nil // a scan may show a key twice
}

var globEscaper = strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `\`, `\\`)

// connectionOf is the inverse of key.
func (r *Redis) connectionOf(key string) (string, bool) {
	name := strings.TrimSuffix(strings.TrimPrefix(key, r.options.KeyPrefix+":{"), "}:record")
	return name, ValidConnection(name) && r.key(name) == key
}

// scan returns the keys of one server. It stays on one network connection: after
// a failover between two steps, the cursor would be that of another server.
func scan(ctx context.Context, server *redis.Client, pattern string) ([]string, error) {
	conn := server.Conn()
	defer func() { _ = conn.Close() }() // gives it back to the pool
	var all []string
	for cursor := uint64(0); ; {
		keys, next, err := conn.Scan(ctx, cursor, pattern, scanCount).Result()
		if err != nil {
			return nil, err
		}
		all = append(all, keys...)
		if cursor = next; cursor == 0 {
			return all, nil
		}
	}
}

// Watch implements Index. It is told of each change by the channel, and tells of
// any of them each time it has subscribed and every five minutes besides. It goes
// on by itself when Redis is back.
func (r *Redis) Watch(ctx context.Context, changed func(connection string)) error {
	w := &redisWatch{redis: r, changed: changed, polled: time.Now()}
	for n := 0; ctx.Err() == nil; n++ {
		err := w.listen(ctx)
		if ctx.Err() != nil {
			break
		}
		if w.subscribed || n == 0 {
			n = 0
			r.log.LogAttrs(ctx, slog.LevelWarn, "redis tells of no changes; subscribing again until it does", slog.Any("err", err))
		}
		w.subscribed, w.interrupted = false, true
		w.poll()
		_ = pause(ctx, min(backoff(n), redisRest))
	}
	return nil
}

// redisWatch is one call of Watch.
type redisWatch struct {
	redis       *Redis
	changed     func(connection string)
	polled      time.Time // when last anything may have changed
	subscribed  bool
	interrupted bool // and not subscribed since
}

// listen subscribes and tells of changes until that fails.
func (w *redisWatch) listen(ctx context.Context) error {
	sub := w.redis.client.Subscribe(ctx)
	defer func() { _ = sub.Close() }()
	// A read ends with its network connection, not with ctx.
	stop := context.AfterFunc(ctx, func() { _ = sub.Close() })
	defer stop()
	if err := sub.Subscribe(ctx, w.redis.channel()); err != nil {
		return redisError(ctx, "subscribe to", w.redis.channel(), err)
	}
	patience := redisTimeout // an answer is due
	for {
		message, err := sub.ReceiveTimeout(ctx, patience)
		switch {
		case err == nil:
			patience = redisProbe
			w.hear(ctx, message)
		case patience == redisProbe && timedOut(err):
			if err := sub.Ping(ctx); err != nil {
				return redisError(ctx, "probe", w.redis.channel(), err)
			}
			patience = redisTimeout
		default:
			return redisError(ctx, "listen to", w.redis.channel(), err)
		}
		w.poll()
	}
}

func (w *redisWatch) hear(ctx context.Context, message any) {
	switch m := message.(type) {
	case *redis.Subscription:
		w.subscribed = true
		if w.interrupted {
			w.interrupted = false
			w.redis.log.LogAttrs(ctx, slog.LevelInfo, "redis tells of changes again")
		}
		w.any() // what changed before it listened
	case *redis.Message:
		if ValidConnection(m.Payload) {
			w.changed(m.Payload)
		}
	}
}

func (w *redisWatch) poll() {
	if time.Since(w.polled) >= redisPoll {
		w.any()
	}
}

func (w *redisWatch) any() {
	w.polled = time.Now()
	w.changed("")
}

func timedOut(err error) bool {
	netErr, ok := errors.AsType[net.Error](err)
	return ok && netErr.Timeout()
}
