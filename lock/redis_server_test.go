package lock

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// rights are the least that a lock needs of its Redis user, as the README has
// them.
const rights = "on >password resetkeys ~pleo-sidecar:* resetchannels -@all +hello +auth +ping +client|setname" +
	" +eval +evalsha +script|load +get +mget +mset +msetnx +getrange +pexpire +pttl +del"

// processLease is the lease of a helper process that holds a lock.
const processLease = time.Second

// Server is a real Redis on a socket of its own.
type Server struct {
	socket string
	Stop   func()
}

// StartServer starts a Redis that ends with the test, which it skips where none
// is installed.
func StartServer(t *testing.T) *Server {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not on the PATH")
	}
	// Not t.TempDir: a test's name is too long for the path of a socket.
	dir, err := os.MkdirTemp("", "redis")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &Server{socket: filepath.Join(dir, "socket")}
	cmd := exec.Command(program, "--port", "0", "--unixsocket", s.socket, "--dir", dir, "--save", "", "--appendonly", "no")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.Stop = sync.OnceFunc(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	t.Cleanup(s.Stop)
	awaitReady(t, out)
	if err := s.Admin(t).Do(t.Context(), append([]any{"acl", "setuser", "sidecar"}, fields(rights)...)...).Err(); err != nil {
		t.Fatal(err)
	}
	return s
}

// awaitReady waits until a Redis says that it accepts connections.
func awaitReady(t *testing.T, out io.Reader) {
	t.Helper()
	said := bufio.NewScanner(out)
	for said.Scan() {
		if strings.Contains(said.Text(), "eady to accept connections") {
			go io.Copy(io.Discard, out)
			return
		}
	}
	t.Fatal("redis-server ended")
}

func fields(text string) (words []any) {
	for word := range strings.FieldsSeq(text) {
		words = append(words, word)
	}
	return words
}

// Admin returns a client that may do everything.
func (s *Server) Admin(t *testing.T) *redis.Client {
	return NewTestClient(t, &redis.Options{Network: "unix", Addr: s.socket})
}

// User returns a client with the least rights.
func (s *Server) User(t *testing.T) *redis.Client {
	return NewTestClient(t, &redis.Options{Network: "unix", Addr: s.socket, Username: "sidecar", Password: "password"})
}

// NewTestClient returns a client with the settings of the sidecar, closed with
// the test.
func NewTestClient(t *testing.T, opts *redis.Options) *redis.Client {
	client := newClient(opts)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func newClient(opts *redis.Options) *redis.Client {
	opts.MaxRetries, opts.DialerRetries = -1, 1
	opts.ContextTimeoutEnabled = true
	opts.DisableIdentity = true
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return redis.NewClient(opts)
}

func TestRedisUserNeedsNoFurtherRights(t *testing.T) {
	s := StartServer(t)
	l := NewRedis(s.User(t), RedisOptions{Holder: "pod-1"})
	h, err := l.obtain(t.Context(), "acme")
	if err != nil {
		t.Fatalf("obtain = %v", err)
	}
	if err := h.extendOnce(t.Context()); err != nil {
		t.Errorf("extend = %v", err)
	}
	if _, err := l.try(t.Context(), "acme", h.lock.Token()); err != nil {
		t.Errorf("obtain again with the same token = %v", err)
	}
	if who, _, err := l.Holder(t.Context(), "acme"); who != "pod-1" || err != nil {
		t.Errorf("Holder = %q, %v", who, err)
	}
	if err := h.lock.Release(t.Context()); err != nil {
		t.Errorf("release = %v", err)
	}
	foreign := NewRedis(s.User(t), RedisOptions{KeyPrefix: "foreign"})
	if err := foreign.Do(t.Context(), "acme", nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Do outside the user's keys = %v, want ErrUnavailable", err)
	}
}

// holdInRedis holds a lock until its input ends, or says why it lost it.
func holdInRedis(socket string) error {
	client := newClient(&redis.Options{Network: "unix", Addr: socket})
	l := NewRedis(client, RedisOptions{Lease: processLease, Holder: "helper"})
	return l.Do(context.Background(), "acme", func(ctx context.Context) error {
		fmt.Println("held")
		end := make(chan struct{})
		go func() { defer close(end); _, _ = io.Copy(io.Discard, os.Stdin) }()
		select {
		case <-ctx.Done():
			fmt.Println(context.Cause(ctx))
		case <-end:
		}
		return nil
	})
}

func TestKilledHoldersLeaseEnds(t *testing.T) {
	s := StartServer(t)
	holder, _, _ := startTask(t, "hold-redis", s.socket)
	l := NewRedis(s.User(t), RedisOptions{Holder: "next"})
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	if who, _, err := l.Holder(t.Context(), "acme"); who != "helper" || err != nil {
		t.Fatalf("Holder after the kill = %q, %v; want the dead one", who, err)
	}
	err := l.Do(t.Context(), "acme", func(context.Context) error { return nil })
	if late := time.Since(killed); err != nil || late > processLease+longPause+2*time.Second {
		t.Errorf("Do = %v, %v after the kill; want one lease of %v", err, late, processLease)
	}
}

// A process that is paused for longer than its lease goes on beside the next
// holder: it is told at once, and its release takes nothing away.
func TestPausedHolderIsToldAndEvictsNobody(t *testing.T) {
	s := StartServer(t)
	holder, _, said := startTask(t, "hold-redis", s.socket)
	if err := holder.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	l := NewRedis(s.User(t), RedisOptions{Holder: "next"})
	err := l.Do(t.Context(), "acme", func(context.Context) error {
		if err := holder.Process.Signal(syscall.SIGCONT); err != nil {
			return err
		}
		if line, err := said.ReadString('\n'); line != ErrLost.Error()+"\n" {
			t.Errorf("the paused holder says %q, %v; want that it lost the lock", line, err)
		}
		if err := holder.Wait(); err != nil {
			t.Errorf("the paused holder: %v", err)
		}
		who, _, err := l.Holder(t.Context(), "acme")
		if who != "next" {
			t.Errorf("held by %q after the late release, want the next holder", who)
		}
		return err
	})
	if err != nil {
		t.Errorf("Do = %v", err)
	}
}
