package lock_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"pleo-sidecar/lock"
	"pleo-sidecar/lock/locktest"
)

func TestLocalConforms(t *testing.T) {
	locktest.Run(t, func(*testing.T) locktest.Backend {
		l := lock.NewLocal()
		return locktest.Backend{New: func() lock.Locker { return l }}
	})
}

func TestZeroLocalConforms(t *testing.T) {
	locktest.Run(t, func(*testing.T) locktest.Backend {
		var l lock.Local
		return locktest.Backend{New: func() lock.Locker { return &l }}
	})
}

func TestFileConforms(t *testing.T) {
	locktest.Run(t, func(t *testing.T) locktest.Backend {
		dir := filepath.Join(t.TempDir(), "state", "locks")
		return locktest.Backend{
			New: func() lock.Locker { return lock.NewFile(dir) },
			// A folder that has become a file fails for root as well.
			Break: func() {
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(dir, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

// conformingLease is one that the suite can tell from a lock never released.
const conformingLease = 4 * time.Second

// redisBackend runs the suite on the Redis that client reaches. Each Locker has
// a client of its own, as each process has. Admin may do what Lockers may not.
func redisBackend(t *testing.T, admin *redis.Client, client func() *redis.Client, away func()) locktest.Backend {
	return locktest.Backend{
		New: func() lock.Locker {
			return lock.NewRedis(client(), lock.RedisOptions{Lease: conformingLease, Holder: t.Name()})
		},
		Lose: func(name string) {
			if n, err := admin.Del(context.Background(), "pleo-sidecar:{"+name+"}:lock").Result(); n != 1 || err != nil {
				t.Errorf("DEL = %d, %v; want the key of the lock", n, err)
			}
		},
		Break: away,
	}
}

func TestRedisConforms(t *testing.T) {
	locktest.Run(t, func(t *testing.T) locktest.Backend {
		t.Parallel() // those that lose a lease wait a third of it
		m := miniredis.RunT(t)
		m.ClockTTL(true)
		addr := m.Addr() // which m forgets when it is closed
		client := func() *redis.Client { return lock.NewTestClient(t, &redis.Options{Addr: addr}) }
		return redisBackend(t, client(), client, m.Close)
	})
}

// The Lockers run as the user whose rights the README names.
func TestRedisConformsOnARealServer(t *testing.T) {
	locktest.Run(t, func(t *testing.T) locktest.Backend {
		t.Parallel()
		s := lock.StartServer(t)
		return redisBackend(t, s.Admin(t), func() *redis.Client { return s.User(t) }, s.Stop)
	})
}
