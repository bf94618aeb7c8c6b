package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pleo-sidecar/tokens/pleosim"
)

// patience is how long a test waits for what must happen. It is long, because
// machines that test are busy, and costs nothing when all is well.
const patience = 30 * time.Second

// world is one Pleo, one store folder, and whoever uses them.
type world struct {
	*testing.T
	*pleo
	dir string
	env []string // of every process, later entries win

	mu     sync.Mutex
	output bytes.Buffer // all that any process ever wrote
}

func newWorld(t *testing.T, o pleosim.Options) *world {
	t.Parallel()
	dir := t.TempDir()
	p := newPleo(t, t, o)
	t.Cleanup(func() {
		if err := p.Ledger().Clean(); err != nil {
			t.Error(err)
		}
	})
	env := append(p.environ(newKey(t)),
		"PATH="+os.Getenv("PATH"), "PLEO_SIDECAR_STORE_FILE_DIR="+dir+"/tokens", "PLEO_SIDECAR_LOG_LEVEL=debug")
	return &world{T: t, pleo: p, dir: dir, env: env}
}

// with adds settings for the processes to come.
func (w *world) with(settings ...string) *world {
	for _, s := range settings {
		w.env = append(w.env, "PLEO_SIDECAR_"+s)
	}
	return w
}

func (w *world) command(args ...string) *exec.Cmd {
	// Killed at the end of the test if it is still there.
	c := exec.CommandContext(w.Context(), binary(), args...)
	c.Dir, c.Env = w.dir, w.env
	return c
}

// Write keeps what processes write.
func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.output.Write(p)
}

// written is all that any process has written so far.
func (w *world) written() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Clone(w.output.Bytes())
}

// run runs a command to its end and returns its exit code and what it wrote.
func (w *world) run(stdin string, args ...string) (code int, out string) {
	w.Helper()
	c := w.command(args...)
	c.Stdin = strings.NewReader(stdin)
	text, err := c.CombinedOutput()
	_, _ = w.Write(text)
	if c.ProcessState == nil {
		w.Fatal(err)
	}
	return c.ProcessState.ExitCode(), string(text)
}

// grantTo makes a grant and imports it into a connection.
func (w *world) grantTo(connection string) (refresh string) {
	w.Helper()
	refresh = w.Grant()
	w.importInto(connection, refresh)
	return refresh
}

func (w *world) importInto(connection, refresh string) {
	w.Helper()
	if code, out := w.run(refresh+"\n", "import", connection); code != 0 {
		w.Fatalf("import ended with %d: %s", code, out)
	}
}

// sidecar is a running serve.
type sidecar struct {
	*world
	cmd            *exec.Cmd
	callers, admin string // URLs
	ended          chan struct{}

	mu    sync.Mutex
	lines []map[string]any
	news  chan struct{} // closed and replaced at each line
}

// start runs serve and waits until it serves.
func (w *world) start() *sidecar {
	w.Helper()
	s := &sidecar{world: w, cmd: w.command("serve"), ended: make(chan struct{}), news: make(chan struct{})}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		w.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		w.Fatal(err)
	}
	go func() {
		defer close(s.ended)
		s.read(stderr)
		_ = s.cmd.Wait()
	}()
	w.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.ended
	})
	line := s.await("serving")
	s.callers, s.admin = "http://"+line["listen"].(string), "http://"+line["admin"].(string)
	return s
}

func (s *sidecar) read(stderr io.Reader) {
	lines := bufio.NewScanner(io.TeeReader(stderr, s.world))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := map[string]any{}
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			line["msg"] = lines.Text()
		}
		s.mu.Lock()
		s.lines = append(s.lines, line)
		close(s.news)
		s.news = make(chan struct{})
		s.mu.Unlock()
	}
}

// await returns the first line of the log with that message, as soon as it is
// there.
func (s *sidecar) await(message string) map[string]any {
	s.Helper()
	timeout := time.After(patience)
	for {
		s.mu.Lock()
		i := slices.IndexFunc(s.lines, func(line map[string]any) bool { return line["msg"] == message })
		lines, news := s.lines, s.news
		s.mu.Unlock()
		if i >= 0 {
			return lines[i]
		}
		select {
		case <-news:
		case <-s.ended:
			s.Fatalf("ended without saying %q:\n%s", message, s.written())
		case <-timeout:
			s.Fatalf("never said %q:\n%s", message, s.written())
		}
	}
}

// signal sends SIGTERM.
func (s *sidecar) signal() {
	s.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.Fatal(err)
	}
}

// wait waits for the end and returns the exit code, -1 for a process that was
// killed.
func (s *sidecar) wait() int {
	s.Helper()
	select {
	case <-s.ended:
	case <-time.After(patience):
		s.Fatalf("still runs:\n%s", s.written())
	}
	return s.cmd.ProcessState.ExitCode()
}

// stop ends it and demands exit code 0.
func (s *sidecar) stop() {
	s.Helper()
	s.signal()
	if code := s.wait(); code != 0 {
		s.Fatalf("exit code %d after SIGTERM:\n%s", code, s.written())
	}
}

// response is an answer, read whole.
type response struct {
	status int
	header http.Header
	body   string
	err    error
}

// slug is the kind of an answer that is not Pleo's.
func (r response) slug() string { return r.header.Get("Pleo-Sidecar-Error") }

func (s *sidecar) get(path string) response { return get(s.Context(), s.callers+path) }

// getAs makes a call with a caller token.
func (s *sidecar) getAs(token, path string) response {
	return get(s.Context(), s.callers+path, "Authorization", "Bearer "+token)
}

// get makes a call, with a request field if two more arguments give one.
func get(ctx context.Context, url string, field ...string) response {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return response{err: err}
	}
	if len(field) == 2 {
		r.Header.Set(field[0], field[1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	res, err := transport.RoundTrip(r)
	if err != nil {
		return response{err: err}
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return response{res.StatusCode, res.Header, string(body), err}
}

// later makes a call in the background.
func (s *sidecar) later(path string) <-chan response {
	done := make(chan response, 1)
	go func() { done <- s.get(path) }()
	return done
}

// want makes a call and demands a status.
func (s *sidecar) want(path string, status int) response {
	s.Helper()
	r := s.get(path)
	if r.err != nil || r.status != status {
		s.Fatalf("GET %s: status %d, %v, want %d: %s\n%s", path, r.status, r.err, status, r.body, s.written())
	}
	return r
}

// receive waits for what must come.
func receive[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(patience):
		t.Fatal("waited in vain")
	}
	return v
}

// arrival returns a channel that receives whenever a request arrives at place.
func (w *world) arrival(place pleosim.Place, point pleosim.Point) <-chan struct{} {
	came := make(chan struct{}, 100)
	w.On(place, point, func(pleosim.Event) { came <- struct{}{} })
	return came
}

// until asks again, until condition holds. It is for what no log line tells.
func until(t *testing.T, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}
