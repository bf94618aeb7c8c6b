package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"pleo-sidecar/config"
	"pleo-sidecar/proxy"
	"pleo-sidecar/tokens"
)

// service is a running serve.
type service struct {
	log          *slog.Logger
	connections  *tokens.Connections
	handler      *proxy.Handler
	calls, admin *http.Server
	ending       atomic.Bool

	running sync.WaitGroup // of the goroutines below
	failed  chan error     // why one of them ended by itself
}

// newService builds the graph. It does no I/O but to read certificates.
func newService(c config.Config, s storage, log *slog.Logger) (*service, error) {
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	all, err := newConnections(c, s, log, tokens.NewMetrics(metrics))
	if err != nil {
		return nil, err
	}
	metrics.MustRegister(all)
	handler, err := newHandler(c, all, log, metrics)
	if err != nil {
		return nil, err
	}
	v := &service{log: log, connections: all, handler: handler, failed: make(chan error, 3)}
	v.calls = proxy.NewServer(handler, log)
	v.admin = proxy.NewServer(proxy.NewAdmin(proxy.AdminOptions{Ready: v.ready, Metrics: metrics}), log)
	return v, nil
}

// ready is nil while calls can be served.
func (v *service) ready() error {
	switch {
	case v.ending.Load():
		return errors.New("shutting down")
	case !v.connections.Reached():
		return errors.New("the store has not answered yet")
	}
	return nil
}

// start runs do until the service ends; do ends by itself only when it fails.
func (v *service) start(do func() error) {
	v.running.Go(func() {
		if err := do(); err != nil && !errors.Is(err, http.ErrServerClosed) {
			v.failed <- err
		}
	})
}

// serve runs the sidecar until a signal comes.
func serve(ctx context.Context, in *invocation) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	c, err := in.load()
	if err != nil {
		return err
	}
	log := newLogger(c.Log, in.stderr)
	s, err := openStorage(c.Store)
	if err != nil {
		return err
	}
	v, err := newService(c, s, log)
	if err != nil {
		return err
	}
	calls, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer func() { _ = calls.Close() }()
	admin, err := net.Listen("tcp", c.Admin.Listen)
	if err != nil {
		return fmt.Errorf("admin.listen: %w", err)
	}
	defer func() { _ = admin.Close() }()
	known, err := s.startable(ctx, log)
	if err != nil {
		return err
	}
	for _, warning := range c.Warnings() {
		log.Warn("configuration is doubtful", "reason", warning)
	}

	keeping, stopKeeping := context.WithCancel(ctx)
	v.start(func() error { return v.admin.Serve(admin) })
	v.start(func() error { return v.connections.Run(keeping) })
	v.start(func() error { return v.calls.Serve(calls) })
	name, _ := versions()
	log.Info("serving", "listen", calls.Addr().String(), "admin", admin.Addr().String(), "upstream", c.Upstream.URL,
		"environment", c.Environment, "store", c.Store.Kind, "connections", known, "version", name)
	select {
	case <-signals:
	case <-ctx.Done():
	case err = <-v.failed:
	}
	return errors.Join(err, v.shutdown(c, stopKeeping, signals))
}

// startable refuses a store of which no pair can be opened: with a wrong key
// every call would fail, and a person would log in again for nothing. It returns
// how many connections there are.
func (s storage) startable(ctx context.Context, log *slog.Logger) (int, error) {
	entries, err := s.survey(ctx)
	if err != nil {
		return 0, err
	}
	var broken []error
	opened := 0
	for _, e := range entries {
		switch {
		case e.err != nil:
			broken = append(broken, e.err)
		case e.record.Living():
			opened++
		}
	}
	if opened == 0 && len(broken) > 0 {
		return 0, broken[0]
	}
	for _, err := range broken {
		log.Error("connection cannot be loaded", "err", err)
	}
	return len(entries), nil
}

// shutdown ends the service in the order that loses nothing: it goes on
// accepting until it is quiet where that is asked for, stops accepting, finishes
// the calls, finishes and saves any refresh, stops looking at the store, and
// ends the probes. The saving has its time kept for it; what the calls do not
// need goes to both. A second signal ends the waiting for calls, and nothing else.
func (v *service) shutdown(c config.Config, stopKeeping func(), again <-chan os.Signal) error {
	v.log.Info("shutting down", "in_flight", v.handler.InFlight())
	v.ending.Store(true)
	// Detached from the signal that brought us here: without time of its own a
	// pair that is on its way would be lost.
	whole, cancel := context.WithTimeout(context.Background(), c.Shutdown.Timeout)
	patience, hurry := context.WithCancel(whole)
	first, stop := context.WithTimeout(patience, c.Shutdown.Timeout-c.Refresh.Timeout-config.SaveTime)
	defer stop()
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	watching.Go(func() {
		select {
		case <-again:
			v.log.Warn("second signal: waiting for no more calls")
			hurry()
		case <-whole.Done():
		}
	})

	v.handler.Linger(first, c.Shutdown.Linger)
	_ = v.calls.Shutdown(first)
	err := v.connections.Close(whole)
	if v.calls.Shutdown(patience) != nil {
		v.log.Warn("calls were cut", "in_flight", v.handler.InFlight())
		_ = v.calls.Close()
	}
	stopKeeping()
	_ = v.admin.Close()
	v.running.Wait()
	v.log.Info("ended")
	return err
}
