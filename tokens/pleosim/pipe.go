package pleosim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
)

// The addresses at which the program listens and [Sim.Pipes] answers. They are
// loopback, so that http:// is allowed to them.
const (
	AuthAddr  = "127.0.0.1:9080"
	APIAddr   = "127.0.0.1:9081"
	FilesAddr = "127.0.0.1:9082"
)

// Pipes serves the three hosts at their default addresses in memory and returns
// a transport that reaches them and nothing else. Real HTTP servers run over
// net.Pipe, so it works in a testing/synctest bubble. The TB's Cleanup ends it.
func (s *Sim) Pipes(t TB) *http.Transport {
	t.Helper()
	listeners := map[string]*pipeListener{}
	tr := &http.Transport{DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		l := listeners[addr]
		if l == nil {
			return nil, fmt.Errorf("dial %s: nothing listens there", addr)
		}
		return l.dial(ctx)
	}}
	var servers []*http.Server
	var running sync.WaitGroup
	for addr, handler := range map[string]http.Handler{AuthAddr: s.Auth(), APIAddr: s.API(), FilesAddr: s.Files()} {
		l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
		listeners[addr] = l
		server := &http.Server{Handler: handler}
		servers = append(servers, server)
		running.Go(func() { _ = server.Serve(l) })
	}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		for _, server := range servers {
			_ = server.Close()
		}
		running.Wait()
	})
	return tr
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.closed:
	case <-ctx.Done():
	}
	return nil, errors.New("dial: connection refused")
}

// Accept implements net.Listener.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
