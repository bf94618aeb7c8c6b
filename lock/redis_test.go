package lock

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// acmeKey is the key of the lock that most tests use.
const acmeKey = "pleo-sidecar:{acme}:lock"

// fakeServer is a Redis in memory on the clock of a bubble. A fault stands
// between it and every client.
type fakeServer struct {
	*miniredis.Miniredis
	t *testing.T

	mu    sync.Mutex // guards fault
	fault fault
}

// fault stands in for the exchange of one command, "obtain", "extend" or
// "release". It has the exchange by calling pass.
type fault func(ctx context.Context, cmd string, pass func() error) error

// inBubble runs test in a bubble with a Redis in it.
func inBubble(t *testing.T, test func(t *testing.T, s *fakeServer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{Miniredis: miniredis.NewMiniRedis(), t: t}
		t.Cleanup(s.Close)
		s.ClockTTL(true)
		test(t, s)
	})
}

// locker returns a Locker with a client of its own, as a process has.
func (s *fakeServer) locker(opts RedisOptions) *Redis {
	client := NewTestClient(s.t, &redis.Options{Addr: "127.0.0.1:1", Dialer: func(context.Context, string, string) (net.Conn, error) {
		return s.Dial()
	}})
	client.AddHook(s)
	return NewRedis(client, opts)
}

// breakWith puts fault before every command from then on. Nil mends all.
func (s *fakeServer) breakWith(fault fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

func (s *fakeServer) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s *fakeServer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (s *fakeServer) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		s.mu.Lock()
		fault := s.fault
		s.mu.Unlock()
		pass := func() error { return next(ctx, cmd) }
		// The scripts differ in how many arguments follow their key.
		script, ok := map[int]string{7: "obtain", 6: "extend", 5: "release"}[len(cmd.Args())]
		if fault == nil || !ok {
			return pass()
		}
		return fault(ctx, script, pass)
	}
}

// learnScripts makes the server know the scripts, so that each command is one
// exchange.
func (s *fakeServer) learnScripts() {
	s.t.Helper()
	err := s.locker(RedisOptions{}).Do(s.t.Context(), "acme", func(context.Context) error {
		time.Sleep(defaultLease / 2)
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// dropAnswers lets count commands cmd through and loses their answers.
func dropAnswers(cmd string, count int) fault {
	return func(_ context.Context, got string, pass func() error) error {
		err := pass()
		if got == cmd && count > 0 {
			count--
			return io.ErrUnexpectedEOF
		}
		return err
	}
}

func content(context.Context) error { return nil }

func TestRedisLeaseIsExtendedWhileItsFunctionRuns(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer) {
		err := s.locker(RedisOptions{}).Do(t.Context(), "acme", func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 3*defaultLease)
			defer cancel()
			err := s.locker(RedisOptions{}).Do(ctx, "acme", content)
			if !errors.Is(err, ErrNotHeld) || !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				t.Errorf("Do beside a holder = %v, its context ended with %v", err, context.Cause(ctx))
			}
			return nil
		})
		if err != nil || s.Exists(acmeKey) {
			t.Errorf("Do = %v, key left behind: %v", err, s.Exists(acmeKey))
		}
	})
}

func TestRedisLeaseIsExtendedForACallerThatGaveUp(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer) {
		ctx, cancel := context.WithCancel(t.Context())
		err := s.locker(RedisOptions{}).Do(ctx, "acme", func(context.Context) error {
			cancel()
			time.Sleep(3 * defaultLease)
			if !s.Exists(acmeKey) {
				t.Error("the lease ended while its function ran")
			}
			return nil
		})
		if err != nil || s.Exists(acmeKey) {
			t.Errorf("Do = %v, key left behind: %v", err, s.Exists(acmeKey))
		}
	})
}

// Without a deadline redislock would wait for one lease.
func TestRedisWaitsForLongerThanALease(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer) {
		const held = 3 * defaultLease
		go s.locker(RedisOptions{}).Do(t.Context(), "acme", func(context.Context) error {
			time.Sleep(held)
			return nil
		})
		synctest.Wait()
		start, asked := time.Now(), s.CommandCount()
		err := s.locker(RedisOptions{}).Do(context.Background(), "acme", content)
		if late := time.Since(start) - held; err != nil || late < 0 || late > longPause {
			t.Errorf("Do = %v, %v after the release; want at most %v", err, late, longPause)
		}
		if n, most := s.CommandCount()-asked, int(2*held/longPause)*3; n > most {
			t.Errorf("%d commands in %v, want at most %d", n, held, most)
		}
	})
}

func TestRedisLostLeaseIsNoticedWithinAThird(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer) {
		l, next := s.locker(RedisOptions{}), s.locker(RedisOptions{Holder: "next"})
		err := l.Do(t.Context(), "acme", func(ctx context.Context) error {
			s.Del(acmeKey)
			lost := time.Now()
			free := make(chan struct{})
			go next.Do(context.Background(), "acme", func(context.Context) error { <-free; return nil })
			t.Cleanup(func() { close(free) })
			<-ctx.Done()
			if after := time.Since(lost); after > defaultLease/3 || !errors.Is(context.Cause(ctx), ErrLost) {
				t.Errorf("the context ended with %v after %v", context.Cause(ctx), after)
			}
			return nil
		})
		// The release comes late: it must not evict the next holder.
		if who, _, holderErr := l.Holder(t.Context(), "acme"); err != nil || who != "next" || holderErr != nil {
			t.Errorf("Do = %v, then held by %q, %v; want the next holder", err, who, holderErr)
		}
	})
}

func TestRedisSilenceEndsTheContextBeforeTheLease(t *testing.T) {
	for name, fault := range map[string]func() error{
		"errors": func() error { return io.ErrUnexpectedEOF },
		"hangs":  func() error { time.Sleep(10 * defaultLease); return io.ErrUnexpectedEOF },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *fakeServer) {
				var logged bytes.Buffer
				l := s.locker(RedisOptions{Log: slog.New(slog.NewTextHandler(&logged, nil))})
				err := l.Do(t.Context(), "acme", func(ctx context.Context) error {
					start := time.Now()
					var asked atomic.Int32
					s.breakWith(func(context.Context, string, func() error) error { asked.Add(1); return fault() })
					<-ctx.Done()
					if got, want := time.Since(start), defaultLease-defaultLease/6; got != want || !errors.Is(context.Cause(ctx), ErrLost) {
						t.Errorf("the context ended with %v after %v, want ErrLost after %v", context.Cause(ctx), got, want)
					}
					if !s.Exists(acmeKey) {
						t.Error("the lease had ended before the context did")
					}
					time.Sleep(time.Second) // an attempt may have begun at that very instant
					before := asked.Load()
					time.Sleep(defaultLease)
					if n := asked.Load() - before; n != 0 {
						t.Errorf("%d attempts to extend a lost lease", n)
					}
					return nil
				})
				if err != nil {
					t.Errorf("Do = %v, want nil: the function ran and was content", err)
				}
				if n := strings.Count(logged.String(), "cannot be extended"); name == "errors" && n != 1 {
					t.Errorf("logged %d times that the lock cannot be extended, want once", n)
				}
				if !strings.Contains(logged.String(), "lock was lost") || !strings.Contains(logged.String(), "connection=acme") {
					t.Errorf("logged %q, want that the lock was lost", logged.String())
				}
			})
		})
	}
}

func TestRedisThatComesBackInTimeKeepsTheLease(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer) {
		err := s.locker(RedisOptions{}).Do(t.Context(), "acme", func(ctx context.Context) error {
			for range 5 {
				s.breakWith(func(context.Context, string, func() error) error { return io.ErrUnexpectedEOF })
				time.Sleep(defaultLease * 3 / 4)
				s.breakWith(nil)
				time.Sleep(defaultLease / 20)
			}
			return context.Cause(ctx)
		})
		if err != nil {
			t.Errorf("the context ended with %v, though each silence was shorter than a lease", err)
		}
	})
}

func TestRedisStopsExtendingWhenDoReturns(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer) {
		l := s.locker(RedisOptions{})
		if err := l.Do(t.Context(), "acme", content); err != nil {
			t.Fatal(err)
		}
		before := s.CommandCount()
		time.Sleep(10 * defaultLease)
		if after := s.CommandCount(); after != before {
			t.Errorf("%d commands after Do had returned", after-before)
		}
	})
}

func TestRedisExchangeThatHangsIsGivenUp(t *testing.T) {
	for _, cmd := range []string{"obtain", "extend", "release"} {
		t.Run(cmd, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *fakeServer) {
				hung := false
				s.breakWith(func(ctx context.Context, got string, pass func() error) error {
					if got != cmd || hung {
						return pass()
					}
					hung = true
					<-ctx.Done()
					return ctx.Err()
				})
				start := time.Now()
				err := s.locker(RedisOptions{}).Do(t.Context(), "acme", func(ctx context.Context) error {
					time.Sleep(2 * defaultLease)
					return context.Cause(ctx)
				})
				if late := time.Since(start) - 2*defaultLease; err != nil || !hung || late > longestTrip {
					t.Errorf("Do = %v, %v late; want %v at most", err, late, longestTrip)
				}
			})
		})
	}
}

func TestRedisDoWaitsForAnExtensionUnderWay(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer) {
		var asked, answered bool
		s.breakWith(func(_ context.Context, cmd string, pass func() error) error {
			if cmd == "extend" {
				asked = true
				time.Sleep(time.Second)
				answered = true
			}
			return pass()
		})
		err := s.locker(RedisOptions{}).Do(t.Context(), "acme", func(context.Context) error {
			time.Sleep(defaultLease/3 + time.Millisecond)
			return nil
		})
		if err != nil || !asked || !answered || s.Exists(acmeKey) {
			t.Errorf("Do = %v, extension begun %v, ended %v, key left behind: %v", err, asked, answered, s.Exists(acmeKey))
		}
	})
}

// An extension counts from before its question: one whose answer took long
// leaves less of the lease than a whole one.
func TestRedisSlowExtensionPutsDoubtOffByLess(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer) {
		s.learnScripts()
		const slow = defaultLease / 4
		extended := 0
		err := s.locker(RedisOptions{}).Do(t.Context(), "acme", func(ctx context.Context) error {
			start := time.Now()
			s.breakWith(func(_ context.Context, _ string, pass func() error) error {
				if extended++; extended > 1 {
					return io.ErrUnexpectedEOF
				}
				err := pass()
				time.Sleep(slow)
				return err
			})
			<-ctx.Done()
			if got, want := time.Since(start), defaultLease/3+defaultLease-defaultLease/6; got != want {
				t.Errorf("the context ended after %v, want %v", got, want)
			}
			return nil
		})
		if err != nil {
			t.Errorf("Do = %v", err)
		}
	})
}

func TestRedisLostAnswersAreAskedForAgain(t *testing.T) {
	for _, cmd := range []string{"obtain", "extend", "release"} {
		t.Run(cmd, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *fakeServer) {
				s.learnScripts()
				s.breakWith(dropAnswers(cmd, 1))
				start := time.Now()
				err := s.locker(RedisOptions{}).Do(t.Context(), "acme", func(ctx context.Context) error {
					time.Sleep(2 * defaultLease)
					return context.Cause(ctx)
				})
				if took := time.Since(start) - 2*defaultLease; err != nil || took != 0 || s.Exists(acmeKey) {
					t.Errorf("Do = %v, %v late, key left behind: %v", err, took, s.Exists(acmeKey))
				}
			})
		})
	}
}

func TestRedisWithoutAnswerRunsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer) {
		s.learnScripts()
		s.breakWith(dropAnswers("obtain", 2))
		err := s.locker(RedisOptions{}).Do(t.Context(), "acme", func(context.Context) error {
			t.Error("the function ran")
			return nil
		})
		if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrNotHeld) {
			t.Errorf("Do = %v, want ErrUnavailable alone", err)
		}
	})
}

// The answer comes when the caller has gone: its lock must not stay behind.
func TestRedisAnswerForACallerThatGaveUpIsReleased(t *testing.T) {
	for name, count := range map[string]int{"in time": 0, "lost once": 1} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *fakeServer) {
				s.learnScripts()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				drop := dropAnswers("obtain", count)
				s.breakWith(func(exchange context.Context, cmd string, pass func() error) error {
					err := drop(exchange, cmd, pass)
					<-ctx.Done()
					return err
				})
				err := s.locker(RedisOptions{}).Do(ctx, "acme", nil)
				if !errors.Is(err, ErrNotHeld) || errors.Is(err, ErrUnavailable) || s.Exists(acmeKey) {
					t.Errorf("Do = %v, key left behind: %v; want ErrNotHeld and no key", err, s.Exists(acmeKey))
				}
			})
		})
	}
}

func TestRedisAwayTellsACallerWhoseContextEndedJustThat(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s.breakWith(func(context.Context, string, func() error) error {
			<-ctx.Done()
			return context.DeadlineExceeded
		})
		err := s.locker(RedisOptions{}).Do(ctx, "acme", nil)
		if !errors.Is(err, ErrNotHeld) || errors.Is(err, ErrUnavailable) {
			t.Errorf("Do = %v, want ErrNotHeld alone", err)
		}
	})
}

// The lease runs from before the question: an answer that took most of it is a
// lock that another may hold by the time the function begins.
func TestRedisAnswerThatTookTheLeaseRunsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer) {
		s.learnScripts()
		slow := 3
		s.breakWith(func(_ context.Context, cmd string, pass func() error) error {
			err := pass()
			if cmd == "obtain" && slow > 0 {
				slow--
				time.Sleep(defaultLease * 9 / 10)
			}
			return err
		})
		err := s.locker(RedisOptions{}).Do(t.Context(), "acme", func(ctx context.Context) error {
			if ttl := s.TTL(acmeKey); slow != 0 || ttl != defaultLease || ctx.Err() != nil {
				t.Errorf("the function runs with %v left of its lease, context %v", ttl, ctx.Err())
			}
			return nil
		})
		if err != nil {
			t.Errorf("Do = %v", err)
		}
	})
}

func TestRedisKeySaysWhoHoldsItAndEndsByItself(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer) {
		l := s.locker(RedisOptions{KeyPrefix: "other", Lease: time.Second, Holder: "pod-1 since ever"})
		if who, since, err := l.Holder(t.Context(), "acme"); who != "" || !since.IsZero() || err != nil {
			t.Errorf("Holder of a free lock = %q, %v, %v", who, since, err)
		}
		err := l.Do(t.Context(), "acme", func(context.Context) error {
			if ttl := s.TTL("other:{acme}:lock"); ttl != time.Second {
				t.Errorf("the key ends after %v, want its lease", ttl)
			}
			now := time.Now().Truncate(time.Second)
			who, since, err := s.locker(RedisOptions{KeyPrefix: "other"}).Holder(t.Context(), "acme")
			if who != "pod-1 since ever" || !since.Equal(now) {
				t.Errorf("Holder = %q since %v, want pod-1 since %v", who, since, now)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestRedisHolderRepeatsNoForeignValue(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer) {
		l := s.locker(RedisOptions{})
		for _, value := range []string{"", "secret", "secret secret", "secret since secret", "a secret since 2026"} {
			if err := s.Set(acmeKey, value); err != nil {
				t.Fatal(err)
			}
			who, _, err := l.Holder(t.Context(), "acme")
			if who != "" || err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("Holder of %q = %q, %v; want an error without the value", value, who, err)
			}
		}
		if _, _, err := l.Holder(t.Context(), "../acme"); !errors.Is(err, ErrName) {
			t.Errorf("Holder of a malformed name = %v, want ErrName", err)
		}
		s.SetError("LOADING")
		if _, _, err := l.Holder(t.Context(), "acme"); !errors.Is(err, ErrUnavailable) {
			t.Errorf("Holder without a Redis = %v, want ErrUnavailable", err)
		}
	})
}

func TestRedisLeaseIsNeverTooShortForAKey(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer) {
		for lease, want := range map[time.Duration]time.Duration{0: time.Minute, 1: shortestLease, -1: shortestLease} {
			err := s.locker(RedisOptions{Lease: lease}).Do(t.Context(), "acme", func(context.Context) error {
				if got := s.TTL(acmeKey); got != want {
					t.Errorf("lease of %v: the key ends after %v, want %v", lease, got, want)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
	})
}
