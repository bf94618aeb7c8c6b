package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"pleo-sidecar/tokens"
)

// Secrets of these tests. No log, metric or answer of ours may hold them.
const (
	firstAccess  = "access-one-3f9a"
	secondAccess = "access-two-77bc"
	thirdAccess  = "access-three-01de"
	callerSecret = "caller-secret-55aa"
)

var secrets = []string{firstAccess, secondAccess, thirdAccess, callerSecret, "refresh-of-"}

func newToken(access string) tokens.Token {
	return tokens.NewToken(tokens.Pair{
		Access:  tokens.NewSecret(access),
		Refresh: tokens.NewSecret("refresh-of-" + access),
		Issued:  time.Now(),
		End:     time.Now().Add(time.Hour),
	})
}

// fakeSource gives one access token after the other, a fresh one at each refresh
// of the current one, and the last for ever.
type fakeSource struct {
	mu        sync.Mutex
	access    []string
	tokenErr  error
	refresh   error
	asked     []string // access tokens that Refresh was asked about
	onRefresh func(context.Context)
}

func (s *fakeSource) Token(context.Context) (tokens.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tokenErr != nil {
		return tokens.Token{}, s.tokenErr
	}
	return newToken(s.access[0]), nil
}

func (s *fakeSource) Refresh(ctx context.Context, rejected tokens.Token) (tokens.Token, error) {
	if s.onRefresh != nil {
		s.onRefresh(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, rejected.Access().Reveal())
	if s.refresh != nil {
		return tokens.Token{}, s.refresh
	}
	if len(s.access) > 1 && rejected.Access().Reveal() == s.access[0] {
		s.access = s.access[1:]
	}
	return newToken(s.access[0]), nil
}

func (s *fakeSource) refreshes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// arrival is a request as the upstream saw it.
type arrival struct {
	method, uri, host string
	header            http.Header
	body              string
	length            int64
	encoding          []string
}

func (a arrival) bearer() string { return strings.TrimPrefix(a.header.Get("Authorization"), "Bearer ") }

// fakeUpstream records what arrives and answers by a function, 200 without one.
type fakeUpstream struct {
	url    *url.URL
	mu     sync.Mutex
	came   []arrival
	answer http.HandlerFunc
}

func newFakeUpstream(t testing.TB, answer http.HandlerFunc) *fakeUpstream {
	t.Helper()
	u := &fakeUpstream{answer: answer}
	server := &http.Server{Handler: u}
	u.url = &url.URL{Scheme: "http", Host: serve(t, server)}
	return u
}

func (u *fakeUpstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	u.mu.Lock()
	u.came = append(u.came, arrival{r.Method, r.RequestURI, r.Host, r.Header.Clone(), string(body), r.ContentLength, r.TransferEncoding})
	u.mu.Unlock()
	if u.answer != nil {
		u.answer(w, r)
	}
}

func (u *fakeUpstream) arrivals() []arrival {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.came
}

// only returns the one request that arrived.
func (u *fakeUpstream) only(t *testing.T) arrival {
	t.Helper()
	came := u.arrivals()
	if len(came) != 1 {
		t.Fatalf("%d requests arrived, want 1", len(came))
	}
	return came[0]
}

// accepts answers 401 to all but one access token.
func accepts(access string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+access {
			w.Header().Set("WWW-Authenticate", "Bearer realm=pleo")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, "token rejected")
		}
	}
}

// status answers with one status.
func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// serve runs server on a loopback port until the test ends.
func serve(t testing.TB, server *http.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return l.Addr().String()
}

// sidecar is a running Handler between a test and a fakeUpstream.
type sidecar struct {
	*Handler
	t      testing.TB
	addr   string
	source *fakeSource
	log    *logBuffer
	budget int64
	ended  chan struct{} // one value a call that has ended
}

// start runs a Handler in front of up, with one source under the names "" and
// "acme".
func start(t testing.TB, up *url.URL, source *fakeSource, change ...func(*Options)) *sidecar {
	t.Helper()
	log := &logBuffer{}
	transport := NewTransport(TransportOptions{})
	t.Cleanup(transport.CloseIdleConnections)
	o := Options{
		Upstream:     up,
		Transport:    transport,
		ReplayLimit:  1 << 10,
		ReplayBudget: 1 << 20,
		Logger:       slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Connections: func(_ context.Context, name string) (Source, error) {
			if name != "" && name != "acme" {
				return nil, tokens.ErrUnknownConnection
			}
			return source, nil
		},
	}
	for _, f := range change {
		f(&o)
	}
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	s := &sidecar{Handler: h, t: t, source: source, log: log, budget: o.ReplayBudget, ended: make(chan struct{}, 1000)}
	s.addr = serve(t, NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { s.ended <- struct{}{} }()
		h.ServeHTTP(w, r)
	}), o.Logger))
	t.Cleanup(func() {
		for _, secret := range secrets {
			if strings.Contains(log.String(), secret) {
				t.Errorf("the log holds the secret %q:\n%s", secret, log)
			}
		}
	})
	return s
}

// answered is a response with its content read.
type answered struct {
	*http.Response
	body string
}

// do sends r to the sidecar and reads the answer. Redirects are not followed.
func (s *sidecar) do(r *http.Request) answered {
	s.t.Helper()
	res, err := noFollow.RoundTrip(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answered{res, string(body)}
}

var noFollow = &http.Transport{DisableKeepAlives: true, DisableCompression: true}

// request makes a request to path; options change it.
func (s *sidecar) request(method, path string, body io.Reader) *http.Request {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.addr+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *sidecar) get(path string) answered {
	s.t.Helper()
	return s.do(s.request(http.MethodGet, path, nil))
}

// raw writes text as it is, and reads one answer.
func (s *sidecar) raw(text string) answered {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		s.t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return answered{res, string(body)}
}

// wantProblem checks that a is our answer of kind want.
func wantProblem(t *testing.T, a answered, want slug) {
	t.Helper()
	if got := slug(a.Header.Get("Pleo-Sidecar-Error")); got != want || a.StatusCode != problems[want].status {
		t.Errorf("got %d %q, want %d %q", a.StatusCode, got, problems[want].status, want)
	}
	if got := a.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q", got)
	}
	for _, secret := range secrets {
		if strings.Contains(a.body, secret) {
			t.Errorf("the document holds the secret %q", secret)
		}
	}
}

// wantUpstream checks that a is the upstream's answer, with nothing of ours.
func wantUpstream(t *testing.T, a answered, status int) {
	t.Helper()
	if a.StatusCode != status {
		t.Errorf("status %d, want %d: %s", a.StatusCode, status, a.body)
	}
	if got := a.Header.Get("Pleo-Sidecar-Error"); got != "" {
		t.Errorf("the upstream's answer carries Pleo-Sidecar-Error: %s", got)
	}
}

// logBuffer is a buffer that several goroutines write to.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// onlyReader hides everything of a reader but Read, so that its length is unknown.
type onlyReader struct{ io.Reader }

// waitEnd waits until a call has ended, which may be after the caller was answered.
func (s *sidecar) waitEnd() { <-s.ended }

// wantWholeBudget checks that all room for replays was given back, which may be a
// moment after the answer.
func (s *sidecar) wantWholeBudget() {
	s.t.Helper()
	left := &s.reverse.Transport.(*transport).replay.budget.left
	for end := time.Now().Add(5 * time.Second); left.Load() != s.budget; runtime.Gosched() {
		if time.Now().After(end) {
			s.t.Fatalf("budget %d, want %d", left.Load(), s.budget)
		}
	}
}

// cut writes text, ends its side of the network connection, and returns what
// comes back.
func (s *sidecar) cut(text string) string {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, text)
	_ = conn.(*net.TCPConn).CloseWrite()
	all, _ := io.ReadAll(conn)
	return string(all)
}
