package e2e

import (
	"bufio"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pleo-sidecar/tokens/pleosim"
)

const redisPassword = "opensesame"

// redisServer is a redis-server on the loopback, started or not.
type redisServer struct {
	*world
	program, dir, port string
}

// redis has the processes to come share a Redis as a user with no more than the
// documented rights, whose password is in a file. It skips the test where there is
// no redis-server.
func (w *world) redis() redisServer {
	w.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		w.Skip("no redis-server on the PATH")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	_ = l.Close()
	dir := w.TempDir()
	if err := os.WriteFile(dir+"/password", []byte(redisPassword+"\n"), 0o600); err != nil {
		w.Fatal(err)
	}
	w.with("STORE_KIND=redis", "STORE_REDIS_ADDRS="+addr,
		"STORE_REDIS_USERNAME=sidecar", "STORE_REDIS_PASSWORD_FILE="+dir+"/password")
	return redisServer{w, program, dir, port}
}

// start starts it until the end of the test. Somebody else may have its port for
// a moment.
func (s redisServer) start() {
	s.Helper()
	until(s.T, s.run)
}

// run reports whether it now takes network connections.
func (s redisServer) run() bool {
	s.Helper()
	const rights = "on >" + redisPassword + " resetkeys ~pleo-sidecar:* resetchannels &pleo-sidecar:* -@all" +
		" +hello +auth +ping +eval +info +hgetall +hmget +hset +persist +exists +publish +subscribe +scan" + // the store
		" +client|setname +evalsha +script|load +get +mget +mset +msetnx +getrange +pexpire +pttl +del" // the lock
	config := "bind 127.0.0.1\nport " + s.port + "\ndir " + s.dir + "\nsave \"\"\nappendonly yes\n" +
		"maxmemory-policy noeviction\nuser default off\nuser sidecar " + rights + "\n"
	if err := os.WriteFile(s.dir+"/conf", []byte(config), 0o600); err != nil {
		s.Fatal(err)
	}
	server := exec.CommandContext(s.Context(), s.program, s.dir+"/conf")
	out, err := server.StdoutPipe()
	if err != nil {
		s.Fatal(err)
	}
	if err := server.Start(); err != nil {
		s.Fatal(err)
	}
	var rest sync.WaitGroup
	end := sync.OnceFunc(func() {
		_ = server.Process.Kill()
		rest.Wait()
		_ = server.Wait()
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.Contains(lines.Text(), "eady to accept connections") {
			rest.Go(func() { _, _ = io.Copy(io.Discard, out) })
			s.Cleanup(end)
			return true
		}
	}
	end()
	return false
}

// TestLoadThroughRedisPresentsEveryTokenOnce has two processes serve one
// connection while its tokens live two seconds.
func TestLoadThroughRedisPresentsEveryTokenOnce(t *testing.T) {
	w := newWorld(t, pleosim.Options{AccessLife: 2 * time.Second}).with("REFRESH_LEAD=600ms",
		"REFRESH_SEND_WINDOW=500ms", "REFRESH_NETWORK_LIFE=1500ms", "REFRESH_TIMEOUT=2s", "LOG_LEVEL=info")
	w.redis().start()
	w.Token.Always(pleosim.Fault{Delay: 200 * time.Millisecond})
	w.grantTo("default")
	pods := []*sidecar{w.start(), w.start()}
	statuses := make([]map[string]int, len(pods))
	var loading sync.WaitGroup
	for i, s := range pods {
		loading.Go(func() { statuses[i] = s.load(16, *loadTime) })
	}
	loading.Wait()
	for _, s := range pods {
		s.stop()
	}
	for i, seen := range statuses {
		if !slices.Equal(slices.Collect(maps.Keys(seen)), []string{"200"}) {
			t.Errorf("process %d answered %v, want nothing but 200", i, seen)
		}
	}
	grant := w.Ledger().Grants[0]
	for i, refresh := range grant.RefreshTokens {
		if n := len(refresh.Presented); n > 1 || n == 0 && i < len(grant.RefreshTokens)-1 {
			t.Errorf("refresh token %d was presented %d times", refresh.Ordinal, n)
		}
	}
	if least := int(*loadTime / (2 * time.Second)); grant.Rotations < least {
		t.Errorf("%d rotations, want at least %d", grant.Rotations, least)
	}
	t.Logf("%v across %d rotations", statuses, grant.Rotations)
	if code, out := w.run("", "check"); !strings.Contains(out, "warn  store: maxmemory-policy") || strings.Contains(out, "fail") {
		t.Errorf("check ended with %d: %s", code, out)
	}
}

// An import by any process, here one of its own, revives a connection in all.
func TestImportThroughRedisRevivesEveryProcess(t *testing.T) {
	w := newWorld(t, pleosim.Options{})
	w.redis().start()
	w.grantTo("default")
	first, second := w.start(), w.start()
	first.want(whoami, 200)
	second.want(whoami, 200)
	w.Revoke("")
	until(t, func() bool { return first.get(whoami).slug() == "login-required" })
	until(t, func() bool { return second.get(whoami).slug() == "login-required" })
	w.grantTo("default")
	until(t, func() bool { return first.get(whoami).status == 200 })
	until(t, func() bool { return second.get(whoami).status == 200 })
	first.stop()
	second.stop()
}

// A process that starts before its Redis is not ready until Redis answers.
func TestRedisThatIsAwayAtTheStartIsWaitedFor(t *testing.T) {
	w := newWorld(t, pleosim.Options{})
	server := w.redis()
	s := w.start()
	if r := get(s.Context(), s.admin+"/readyz"); r.status != 503 {
		t.Errorf("ready although the store never answered: status %d", r.status)
	}
	if r := s.get(whoami); r.slug() != "store-unavailable" {
		t.Errorf("status %d %s, want 503 store-unavailable", r.status, r.slug())
	}
	server.start()
	w.grantTo("default")
	until(t, func() bool { return s.get(whoami).status == 200 })
	if r := get(s.Context(), s.admin+"/readyz"); r.status != 200 {
		t.Errorf("not ready although the store answers: status %d", r.status)
	}
	s.stop()
}
