package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener in memory, so that a whole life fits into a bubble.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close may be called once, as Serve does.
func (p *pipes) Close() error {
	close(p.closed)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

// get asks for path through p and returns the status; 0 when there is no answer.
func (p *pipes) get(path string) int {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			select {
			case p.conns <- theirs:
				return ours, nil
			case <-p.closed:
				return nil, net.ErrClosed
			}
		},
	}
	r, _ := http.NewRequest(http.MethodGet, "http://localhost"+path, nil)
	res, err := transport.RoundTrip(r)
	if err != nil {
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// stubUpstream answers 200 once the time has passed.
type stubUpstream time.Duration

func (u stubUpstream) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-time.After(time.Duration(u)):
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// lived is a running Serve, in a bubble, that notes what happens when.
type lived struct {
	t            *testing.T
	calls, admin *pipes
	signals      chan os.Signal
	log          *logBuffer
	ended        chan error
}

// live starts Serve in front of an upstream that takes its time. Timeout is 30
// seconds, of which calls leave 25 to Finish.
func live(t *testing.T, upstream time.Duration, change func(*ServeOptions)) *lived {
	t.Helper()
	l := &lived{t, newPipes(), newPipes(), make(chan os.Signal, 2), &logBuffer{}, make(chan error, 1)}
	h, err := New(Options{
		Upstream: &url.URL{Scheme: "http", Host: "upstream"}, Transport: stubUpstream(upstream),
		Connections: func(context.Context, string) (Source, error) {
			return &fakeSource{access: []string{firstAccess}}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	o := ServeOptions{
		Calls: h, CallListener: l.calls, AdminListener: l.admin,
		Timeout: 30 * time.Second, FinishTime: 25 * time.Second, Logger: slog.New(slog.NewTextHandler(l.log, nil)),
	}
	if change != nil {
		change(&o)
	}
	go func() { l.ended <- Serve(t.Context(), l.signals, o) }()
	synctest.Wait()
	return l
}

// later makes a call whose status comes when there is one.
func (l *lived) later() <-chan int {
	status := make(chan int, 1)
	go func() { status <- l.calls.get("/v1/x") }()
	synctest.Wait()
	return status
}

// end sends a signal and returns how long it took to end, and with what.
func (l *lived) end() (time.Duration, error) {
	l.t.Helper()
	began := time.Now()
	l.signals <- syscall.SIGTERM
	err := <-l.ended
	return time.Since(began), err
}

func TestSignalFinishesCallsThenRefreshesThenWhatRunsBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, order := time.Now(), ""
		l := live(t, 3*time.Second, func(o *ServeOptions) {
			o.Finish = func(ctx context.Context) error {
				order += fmt.Sprintf("%d open calls, ", o.Calls.InFlight())
				if end, ok := ctx.Deadline(); !ok || end.Sub(began) != 30*time.Second {
					t.Errorf("refreshes have until %v", end)
				}
				time.Sleep(7 * time.Second)
				order += "refreshes, "
				return nil
			}
			o.Keep = func(ctx context.Context) error {
				<-ctx.Done()
				order += "store"
				return nil
			}
		})
		call := l.later()
		took, err := l.end() // package http looks twice a second whether calls have ended
		if took < 10*time.Second || took > 11*time.Second || err != nil {
			t.Errorf("it ended after %v with %v", took, err)
		}
		if status := <-call; status != 200 {
			t.Errorf("the open call got %d", status)
		}
		if want := "0 open calls, refreshes, store"; order != want {
			t.Errorf("got %s, want %s", order, want)
		}
	})
}

func TestOpenCallsLeaveTimeToRefreshesAndAreCutAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var finishing time.Time
		l := live(t, time.Hour, func(o *ServeOptions) {
			o.Finish = func(context.Context) error {
				finishing = time.Now()
				return nil
			}
		})
		call := l.later()
		signalled := time.Now()
		if took, err := l.end(); took != 30*time.Second || err != nil {
			t.Errorf("it ended after %v with %v", took, err)
		}
		if waited := finishing.Sub(signalled); waited != 5*time.Second {
			t.Errorf("refreshes waited %v for a call", waited)
		}
		if status := <-call; status != 0 {
			t.Errorf("the call got %d", status)
		}
		if !strings.Contains(l.log.String(), "calls were cut") {
			t.Errorf("it was not told:\n%s", l.log)
		}
	})
}

func TestSecondSignalCutsCallsAndNoRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := live(t, time.Hour, func(o *ServeOptions) {
			o.Linger = time.Second
			o.Finish = func(ctx context.Context) error {
				select {
				case <-time.After(20 * time.Second):
					return nil
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
		})
		call := l.later()
		l.signals <- syscall.SIGINT
		synctest.Wait()
		if took, err := l.end(); took != 20*time.Second || err != nil {
			t.Errorf("it ended after %v with %v", took, err)
		}
		if status := <-call; status != 0 {
			t.Errorf("the call got %d", status)
		}
	})
}

func TestLingeringSidecarServesAndIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := live(t, 0, func(o *ServeOptions) { o.Linger = 2 * time.Second })
		if status := l.admin.get("/readyz"); status != 200 {
			t.Errorf("ready before the end: %d", status)
		}
		l.signals <- syscall.SIGTERM
		time.Sleep(time.Second)
		if status := l.calls.get("/v1/x"); status != 200 {
			t.Errorf("a call while it lingers got %d", status)
		}
		if status := l.admin.get("/readyz"); status != 503 {
			t.Errorf("ready while it lingers: %d", status)
		}
		began := time.Now()
		if err := <-l.ended; err != nil || time.Since(began) != 2*time.Second {
			t.Errorf("it ended after %v with %v", time.Since(began), err)
		}
		if status := l.calls.get("/v1/x"); status != 0 {
			t.Errorf("a call after the end got %d", status)
		}
	})
}

func TestWhatWasLostAndWhatFailedIsReturned(t *testing.T) {
	errLost, errKept := errors.New("a refresh was lost"), errors.New("looking failed")
	synctest.Test(t, func(t *testing.T) {
		l := live(t, 0, func(o *ServeOptions) {
			o.Finish = func(context.Context) error { return errLost }
			o.Keep = func(context.Context) error { return errKept }
		})
		if err := <-l.ended; !errors.Is(err, errLost) || !errors.Is(err, errKept) {
			t.Errorf("it ended with %v", err)
		}
	})
}

func TestServerThatFailsEndsTheLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		finished := false
		l := live(t, 0, func(o *ServeOptions) {
			o.Finish = func(context.Context) error {
				finished = true
				return nil
			}
			o.AdminListener = &brokenListener{o.AdminListener}
		})
		if err := <-l.ended; !errors.Is(err, errBroken) || !finished {
			t.Errorf("it ended with %v, refreshes finished: %t", err, finished)
		}
	})
}

var errBroken = errors.New("broken listener")

type brokenListener struct{ net.Listener }

func (*brokenListener) Accept() (net.Conn, error) { return nil, errBroken }
