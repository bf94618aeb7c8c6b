package tokens_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisServer is a real redis-server on a unix socket, and on a loopback port if
// it has one.
type redisServer struct {
	*redis.Client // as the default user, who may do everything
	dir           string
	socket        string
	sentinel      bool
	process       *exec.Cmd
	output        sync.WaitGroup
}

// startRedis starts a redis-server with lines of configuration, which ends with
// the test. It skips the test where there is none.
func startRedis(t *testing.T, config ...string) *redisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("no redis-server on the PATH")
	}
	dir, err := os.MkdirTemp("", "redis") // a socket's path must be short
	must(t, err)
	s := &redisServer{dir: dir, socket: filepath.Join(dir, "s"), sentinel: slices.ContainsFunc(config, isSentinel)}
	s.Client = redis.NewClient(&redis.Options{Network: "unix", Addr: s.socket, MaxRetries: -1, DisableIdentity: true})
	if !slices.ContainsFunc(config, func(line string) bool { return strings.HasPrefix(line, "port ") }) {
		config = append(config, "port 0")
	}
	config = append(config, "unixsocket "+s.socket, "dir "+dir, "daemonize no", "bind 127.0.0.1")
	if !s.sentinel {
		config = append(config, `save ""`, "repl-diskless-sync-delay 0", "repl-ping-replica-period 1")
	}
	must(t, os.WriteFile(filepath.Join(dir, "conf"), []byte(strings.Join(config, "\n")), 0o600))
	s.start(t)
	t.Cleanup(func() {
		_ = s.Close()
		s.kill()
		_ = os.RemoveAll(dir)
	})
	return s
}

func isSentinel(line string) bool { return strings.HasPrefix(line, "sentinel ") }

// start returns when the server takes network connections.
func (s *redisServer) start(t *testing.T) {
	t.Helper()
	args := []string{filepath.Join(s.dir, "conf")}
	if s.sentinel {
		args = append(args, "--sentinel")
	}
	s.process = exec.Command("redis-server", args...)
	out, err := s.process.StdoutPipe()
	must(t, err)
	must(t, s.process.Start())
	lines := bufio.NewScanner(out)
	var said []string
	for lines.Scan() {
		said = append(said, lines.Text())
		if strings.Contains(lines.Text(), "eady to accept connections") || strings.Contains(lines.Text(), "+monitor master") {
			s.output.Go(func() { _, _ = io.Copy(io.Discard, out) })
			return
		}
	}
	t.Fatalf("redis-server ended: %s", strings.Join(said, "\n"))
}

// kill ends the server at once, as a crash does.
func (s *redisServer) kill() {
	_ = s.process.Process.Kill()
	s.output.Wait()
	_ = s.process.Wait()
}

// freeze stops the server without closing anything.
func (s *redisServer) freeze(t *testing.T) (thaw func()) {
	t.Helper()
	must(t, s.process.Process.Signal(syscall.SIGSTOP))
	return func() { must(t, s.process.Process.Signal(syscall.SIGCONT)) }
}

// restart ends the server and starts it again with its data.
func (s *redisServer) restart(t *testing.T) {
	t.Helper()
	must(t, s.Save(t.Context()).Err())
	s.kill()
	s.start(t)
}

// backup returns a function that starts the server again with the present data.
func (s *redisServer) backup(t *testing.T) (back func()) {
	t.Helper()
	must(t, s.Save(t.Context()).Err())
	dump, err := os.ReadFile(filepath.Join(s.dir, "dump.rdb"))
	must(t, err)
	return func() {
		s.kill()
		must(t, os.WriteFile(filepath.Join(s.dir, "dump.rdb"), dump, 0o600))
		s.start(t)
	}
}

// info returns what the server tells of itself.
func (s *redisServer) info(t *testing.T, section, name string) string {
	t.Helper()
	text, err := s.Info(t.Context(), section).Result()
	must(t, err)
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// replicate makes s a replica of the server at port, and returns when it has all.
func (s *redisServer) replicate(t *testing.T, port int) {
	t.Helper()
	must(t, s.ReplicaOf(t.Context(), "127.0.0.1", fmt.Sprint(port)).Err())
	eventually(t, "the replica has all", func() bool { return s.info(t, "replication", "master_link_status") == "up" })
}

// eventually returns when ok does; it is for what other processes do.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.After(20 * time.Second)
	for again := time.Tick(10 * time.Millisecond); !ok(); {
		select {
		case <-again:
		case <-end:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// freePorts returns ports that were free a moment ago.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		defer func() { _ = l.Close() }()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// redisLink is the way to a Redis, which can be cut and can lose replies.
type redisLink struct {
	losing atomic.Int32 // replies to saves that are still to be lost
	saves  atomic.Int32 // sent
	waits  atomic.Int32 // sent behind a save, by the same network connection

	mu    sync.Mutex
	isCut bool
	conns map[*redisConn]struct{}
}

func (l *redisLink) dial(ctx context.Context, network, address string) (net.Conn, error) {
	l.mu.Lock()
	cut := l.isCut
	l.mu.Unlock()
	if cut {
		return nil, errors.New("cut off")
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &redisConn{Conn: conn, link: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil {
		l.conns = make(map[*redisConn]struct{})
	}
	l.conns[c] = struct{}{}
	return c, nil
}

func (l *redisLink) cut() (mend func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut = true
	for c := range maps.Keys(l.conns) {
		_ = c.Conn.Close()
	}
	clear(l.conns)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.isCut = false
	}
}

type redisConn struct {
	net.Conn
	link *redisLink
	lose atomic.Bool
}

// SyscallConn lets go-redis see that the server has closed an idle connection.
func (c *redisConn) SyscallConn() (syscall.RawConn, error) {
	return c.Conn.(syscall.Conn).SyscallConn()
}

func (c *redisConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("'PERSIST'")) { // only the save script has it
		c.link.saves.Add(1)
		if bytes.Contains(b, []byte("\r\nWAIT\r\n")) {
			c.link.waits.Add(1)
		}
		c.lose.Store(c.link.losing.Add(-1) >= 0)
	}
	return c.Conn.Write(b)
}

// Read loses a reply after the server has sent it: what it answers was done.
func (c *redisConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.lose.Load() && err == nil {
		_ = c.Close()
		return 0, io.EOF
	}
	return n, err
}

// go-redis logs what it also returns.
func init() { redis.SetLogger(silent{}) }

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
