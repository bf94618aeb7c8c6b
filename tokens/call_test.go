package tokens

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

// stall reads n bytes of what is sent, then nothing until the other side goes.
func stall(n int64) func(net.Conn) {
	return func(conn net.Conn) {
		_, _ = io.CopyN(io.Discard, conn, n)
		_ = conn.SetWriteDeadline(time.Now().Add(time.Hour))
		_, _ = conn.Write([]byte("H")) // nobody reads it: waits until the pipe is closed
	}
}

func TestEndOfContextStopsWriting(t *testing.T) {
	for _, secure := range []bool{false, true} {
		for _, test := range []struct {
			name string
			read int64
			want Class
		}{
			{"before the first byte", 0, Unsent},
			{"after the first byte", 1, InDoubt},
			{"in the middle", 150, InDoubt},
		} {
			t.Run(test.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					e := stalling(t, secure, stall(test.read))
					r, err := e.Connect(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					defer cancel()
					start := time.Now()
					err = r.Send(ctx, NewSecret(testRefresh))
					wantClass(t, err, test.want)
					if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 5*time.Second {
						t.Errorf("Send ended after %v with %v", time.Since(start), err)
					}
					if _, err := r.call.wire.Conn.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
						t.Errorf("the connection is still open: %v", err)
					}
					_, err = r.Answer(t.Context())
					wantClass(t, err, test.want)
					_ = r.Close()
				})
			})
		}
	}
}

// stalling is an endpoint over pipes; serve gets the connection, under TLS when
// secure, once the handshake is done.
func stalling(t *testing.T, secure bool, serve func(net.Conn)) *Endpoint {
	if !secure {
		return newTestEndpoint(t, pipeTo(t, serve))
	}
	ca := newAuthority(t)
	return newTestEndpoint(t, pipeTo(t, func(conn net.Conn) {
		if ca.handshake(conn, "auth.example") == nil {
			serve(conn) // below TLS: what it reads are bytes of records
		}
	}), ca.secure("auth.example"))
}

func TestCancelledContextStopsAtOnce(t *testing.T) {
	cause := errors.New("lease lost")
	for _, test := range []struct {
		name  string
		want  Class
		serve func(net.Conn)
		do    func(context.Context, *Endpoint) error
	}{
		{"writing", InDoubt, stall(10), func(ctx context.Context, e *Endpoint) error {
			_, err := refreshOnce(ctx, e, testRefresh)
			return err
		}},
		{"reading the head", InDoubt, func(conn net.Conn) {
			_, _ = readRequest(conn)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
			_, _ = conn.Read(make([]byte, 1))
		}, func(ctx context.Context, e *Endpoint) error {
			_, err := refreshOnce(ctx, e, testRefresh)
			return err
		}},
		{"reading the body", InDoubt, func(conn net.Conn) {
			_, _ = readRequest(conn)
			_, _ = io.WriteString(conn, head("200")+goodBody[:20])
			_, _ = conn.Read(make([]byte, 1))
		}, func(ctx context.Context, e *Endpoint) error {
			_, err := e.Exchange(ctx, NewSecret("code"), NewSecret("verifier"))
			return err
		}},
		{"introspecting", InDoubt, func(conn net.Conn) {
			_, _ = readRequest(conn)
			_, _ = conn.Read(make([]byte, 1))
		}, func(ctx context.Context, e *Endpoint) error {
			_, err := e.Introspect(ctx, NewSecret(testRefresh))
			return err
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newTestEndpoint(t, pipeTo(t, test.serve))
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Second, func() { cancel(cause) })
				start := time.Now()
				err := test.do(ctx, e)
				wantClass(t, err, test.want)
				if !errors.Is(err, cause) || time.Since(start) != time.Second {
					t.Errorf("ended after %v with %v", time.Since(start), err)
				}
			})
		})
	}
}

func TestDeadContextSendsNothing(t *testing.T) {
	// This connection knows no deadlines and takes whatever is written.
	e := newTestEndpoint(t, func(context.Context, string, string) (net.Conn, error) { return cannedConn{}, nil })
	r, err := e.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("lease lost")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	err = r.Send(ctx, NewSecret(testRefresh))
	if wantClass(t, err, Unsent); !errors.Is(err, cause) {
		t.Errorf("error %v, want %v", err, cause)
	}
	if n := r.call.wire.out.Load(); n != 0 {
		t.Errorf("%d bytes were sent", n)
	}
}

func TestSendWindowEndsByEitherClock(t *testing.T) {
	now := time.Now()
	ctx, cancel := context.WithDeadline(context.WithoutCancel(t.Context()), now.Add(time.Minute))
	defer cancel()
	for _, test := range []struct {
		name string
		now  time.Time
		want bool
	}{
		{"both before", now.Add(59 * time.Second), false},
		{"both over", now.Add(time.Minute), true},
		{"monotonic over", stepWall(now.Add(time.Minute), -time.Hour), true},
		{"wall over, as after a suspend", stepWall(now, time.Minute), true},
		{"wall set back", stepWall(now, -time.Hour), false},
	} {
		if got := over(ctx, test.now); got != test.want {
			t.Errorf("%s: over = %t", test.name, got)
		}
	}
	if over(context.WithoutCancel(t.Context()), now) {
		t.Error("over without a deadline")
	}
}

// stepWall moves the wall clock of t by whole seconds and not the monotonic
// one, which package time does for no one: its first word holds the wall's
// seconds above 30 bits of nanoseconds.
func stepWall(t time.Time, step time.Duration) time.Time {
	word := (*uint64)(unsafe.Pointer(&t))
	*word += uint64(int64(step/time.Second)) << 30 // wraps for a step back
	return t
}

// slowDeadline takes a second to hear of a deadline in the past.
type slowDeadline struct {
	net.Conn
	last time.Time
}

func (s *slowDeadline) SetDeadline(end time.Time) error {
	if !end.IsZero() {
		time.Sleep(time.Second)
	}
	s.last = end
	return nil
}

func TestLateEndOfContextDoesNotReachTheNextStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &slowDeadline{}
		ctx, cancel := context.WithCancel(t.Context())
		if err := newWire(conn).during(ctx, func() error { cancel(); return nil }); err != nil {
			t.Errorf("what succeeded ended with %v", err)
		}
		time.Sleep(time.Minute)
		if !conn.last.IsZero() {
			t.Errorf("a deadline of %v was left behind", conn.last)
		}
	})
}

func TestPairIsReadBeforeTheConnectionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTestEndpoint(t, pipeTo(t, func(conn net.Conn) {
			_, _ = readRequest(conn)
			_, _ = io.WriteString(conn, head("200")+goodBody) // and never closes it
			_, _ = conn.Read(make([]byte, 1))
		}))
		start := time.Now()
		if _, err := refreshOnce(t.Context(), e, testRefresh); err != nil || time.Since(start) != 0 {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

func TestLargeTokenIsSentWhole(t *testing.T) {
	long := strings.Repeat("~", 1<<20)
	var got string
	e := newTestEndpoint(t, pipeTo(t, answering(json200(goodBody), func(s string) { got = s })))
	if _, err := refreshOnce(t.Context(), e, long); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(got, "&refresh_token="+long) {
		t.Errorf("%d bytes arrived", len(got))
	}
}

// writes counts how often something is written.
type writes struct {
	net.Conn
	n *atomic.Int64
}

func (w writes) Write(p []byte) (int, error) {
	w.n.Add(1)
	return w.Conn.Write(p)
}

func TestRequestIsOneWrite(t *testing.T) {
	ca := newAuthority(t)
	var n atomic.Int64
	pipe := pipeTo(t, ca.serve("auth.example", answering(json200(goodBody))))
	e := newTestEndpoint(t, func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := pipe(ctx, network, address)
		return writes{conn, &n}, err
	}, ca.secure("auth.example"))
	r, err := e.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	before := n.Load()
	if err := r.Send(t.Context(), NewSecret(strings.Repeat("x", 15<<10))); err != nil {
		t.Fatal(err)
	}
	if got := n.Load() - before; got != 1 {
		t.Errorf("%d writes, want 1", got)
	}
}

// lingering remembers how closing was set.
type lingering struct {
	net.Conn
	seconds *atomic.Int64
}

func (l lingering) SetLinger(seconds int) error {
	l.seconds.Store(int64(seconds))
	return nil
}

func TestConnectionIsResetUnlessAnsweredWhole(t *testing.T) {
	for raw, want := range map[string]int64{
		json200(goodBody):                     -1,
		head("400") + `{"error":"x"}`:         -1,
		"":                                    0,
		head("200") + goodBody[:20]:           0,
		head("403") + "<html>":                0,
		"HTTP/1.1 200 OK\r\nContent-Length: ": 0,
	} {
		var linger atomic.Int64
		linger.Store(99)
		pipe := pipeTo(t, answering(raw))
		e := newTestEndpoint(t, func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := pipe(ctx, network, address)
			return lingering{conn, &linger}, err
		})
		r, err := e.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := linger.Load(); got != 0 {
			t.Errorf("connected: linger = %d, want 0", got)
		}
		if err := r.Send(t.Context(), NewSecret(testRefresh)); err != nil {
			t.Fatal(err)
		}
		_, _ = r.Answer(t.Context())
		if got := linger.Load(); got != want {
			t.Errorf("%q: linger = %d, want %d", raw, got, want)
		}
		_ = r.Close()
	}
}

// TestBytesInTheKernelDieWithTheConnection fills the buffers of a real network
// connection: what waits in them must not be delivered after Send gave up.
func TestBytesInTheKernelDieWithTheConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	e := newTestEndpoint(t, nil, func(o *EndpointOptions) { o.TokenURL = "http://" + l.Addr().String() })
	r, err := e.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = server.Read(make([]byte, 1))
		cancel()
	}()
	wantClass(t, r.Send(ctx, NewSecret(strings.Repeat("x", 16<<20))), InDoubt)
	written := r.call.wire.out.Load()
	got, err := io.Copy(io.Discard, server)
	if err == nil || got+1 >= written {
		t.Errorf("%d of %d written bytes arrived, then %v; want a reset", got, written, err)
	}
}
