// Pleo-sidecar is an authenticating reverse proxy that runs beside an app: it
// adds Pleo's bearer token to each call and keeps that token fresh.
//
// This file holds the commands, the one mapping from errors to exit codes, and
// the wiring: one short function turns a part of the configuration into the
// options of a package. `pleo-sidecar help` lists the commands.
package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"pleo-sidecar/config"
	"pleo-sidecar/lock"
	"pleo-sidecar/proxy"
	"pleo-sidecar/tokens"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// command is one command: what help says of it, and what it does.
type command struct {
	name, operand, about string
	run                  func(context.Context, *invocation) error
	flags                func(*flag.FlagSet, *invocation) // beside --config; nil: none
}

// commands are all commands but help. The first is the default.
var commands = []command{
	{name: "serve", about: "forward calls with the token attached (the default)", run: serve},
	{name: "import", operand: "[connection]", about: "install a refresh token, read from standard input", run: importToken,
		flags: func(f *flag.FlagSet, in *invocation) {
			f.BoolVar(&in.replace, "replace", false, "take the place of a grant that still works; it is not revoked at Pleo")
		}},
	{name: "status", about: "show the state of every connection", run: status,
		flags: func(f *flag.FlagSet, in *invocation) {
			f.BoolVar(&in.json, "json", false, "for programs")
		}},
	{name: "check", about: "check the configuration and its surroundings", run: check},
	{name: "keygen", about: "print a new key for store.encryption.keys", run: keygen},
	{name: "healthcheck", about: "ask a running serve whether it is ready", run: healthcheck},
	{name: "version", about: "print the version", run: printVersion},
}

// invocation is one run of a command: what it was given, and where it writes.
type invocation struct {
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer

	config        string // path from --config; "" when there is none
	operand       string // "" when there is none
	replace, json bool
}

// run runs the command that args name and returns the exit code.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	in := &invocation{environ: environ, stdin: stdin, stdout: stdout, stderr: stderr}
	c := commands[0]
	switch {
	case len(args) == 0:
	case slices.Contains([]string{"help", "-h", "-help", "--help"}, args[0]):
		help(stdout)
		return 0
	case !strings.HasPrefix(args[0], "-"):
		i := slices.IndexFunc(commands, func(c command) bool { return c.name == args[0] })
		if i < 0 { // not repeated: it may be a token in the wrong place
			return conclude(stderr, usage("unknown command"))
		}
		c, args = commands[i], args[1:]
	}
	err := in.parse(c, args)
	if err == nil {
		err = c.run(ctx, in)
	}
	return conclude(stderr, err)
}

// parse reads the arguments of c. Flags may stand behind the operand too.
func (in *invocation) parse(c command, args []string) error {
	f := flag.NewFlagSet(c.name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&in.config, "config", "", "configuration `file` (or PLEO_SIDECAR_CONFIG; else config.yaml if there is one)")
	if c.flags != nil {
		c.flags(f, in)
	}
	var operands []string
	for err := f.Parse(args); ; err = f.Parse(f.Args()[1:]) {
		switch {
		case errors.Is(err, flag.ErrHelp):
			_, _ = fmt.Fprintf(in.stdout, "usage: pleo-sidecar %s\n\n%s\n\n", strings.TrimSpace(c.name+" [flags] "+c.operand), c.about)
			f.SetOutput(in.stdout)
			f.PrintDefaults()
			return err
		case err != nil:
			return usage("%s: %v", c.name, err)
		case f.NArg() == 0:
			if len(operands) > 1 || len(operands) == 1 && c.operand == "" {
				return usage("%s: too many arguments", c.name)
			}
			in.operand = strings.Join(operands, "")
			return nil
		}
		operands = append(operands, f.Arg(0))
	}
}

func help(w io.Writer) {
	_, _ = fmt.Fprint(w, "Pleo-sidecar adds Pleo's bearer token to the calls of an app, and keeps it fresh.\n\nusage: pleo-sidecar [command] [flags]\n\n")
	for _, c := range commands {
		_, _ = fmt.Fprintf(w, "  %-21s %s\n", c.name+" "+c.operand, c.about)
	}
	_, _ = fmt.Fprint(w, "\nEvery command takes --config and --help. Exit codes: 0 well, 1 failed,\n2 wrong usage or configuration, 3 login required.\n")
}

// Errors of this file that decide about the exit code.
var (
	errUsage = errors.New("wrong usage")
	errCheck = errors.New("check found what keeps the sidecar from working: see above")
)

func usage(format string, args ...any) error {
	return fmt.Errorf(format+" (%w)", append(args, errUsage)...)
}

// mistake is a configuration that this file refuses.
func mistake(key, format string, args ...any) error {
	return &config.Error{Mistakes: []config.Mistake{{Path: key, Text: fmt.Sprintf(format, args...)}}}
}

// outcomes is the one mapping from errors to exit codes and hints. The first
// that matches counts; what matches none is 1 and explains itself.
var outcomes = []struct {
	err  error
	code int
	hint string
}{
	{errUsage, 2, "pleo-sidecar help"},
	{tokens.ErrLoginRequired, 3, "grant access at Pleo again, then: pleo-sidecar import CONNECTION < FILE, with the refresh token in FILE"},
	{tokens.ErrLivingGrant, 1, "to put another grant in its place on purpose, add --replace"},
	{tokens.ErrSpentToken, 1, "a refresh token works once, for one client, in one environment: take the newest one"},
	{tokens.ErrSealed, 1, "put the key that sealed it into store.encryption.keys, at any place; nothing was changed"},
	{tokens.ErrClientRejected, 1, "correct oauth.client_id and oauth.client_secret; every grant is kept"},
	{syscall.EADDRINUSE, 1, "another program listens there, perhaps another serve: stop it, or give another port"},
	{syscall.ENOSPC, 1, "free space on the disk; what was stored before is still there"},
	{fs.ErrPermission, 1, "the user that runs this has no right to it: see its owner and mode, or take a port above 1023"},
}

// outcome returns the exit code of err and what to do about it.
func outcome(err error) (code int, hint string) {
	if _, ok := errors.AsType[*config.Error](err); ok {
		return 2, "config.example.yaml explains every key"
	}
	for _, o := range outcomes {
		if errors.Is(err, o.err) {
			return o.code, o.hint
		}
	}
	return 1, ""
}

// conclude writes err, each of its lines as one message, and returns the exit
// code.
func conclude(w io.Writer, err error) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	code, hint := outcome(err)
	for line := range strings.Lines(plain(err) + "\n") {
		_, _ = fmt.Fprint(w, "pleo-sidecar: "+line)
	}
	if hint != "" {
		_, _ = fmt.Fprintln(w, "hint: "+hint)
	}
	return code
}

// plain returns the text of err without the package prefixes of sentinels, which
// help who reads a log and nobody else.
func plain(err error) string {
	text := ": " + err.Error()
	for _, prefix := range []string{": tokens: ", ": lock: ", ": proxy: "} {
		text = strings.ReplaceAll(text, prefix, ": ")
	}
	return text[2:]
}

// load reads the configuration, whole or only the sections that a command needs.
func (in *invocation) load(sections ...string) (config.Config, error) {
	path := in.config
	for _, entry := range in.environ {
		if value, ok := strings.CutPrefix(entry, "PLEO_SIDECAR_CONFIG="); ok && in.config == "" {
			path = value
		}
	}
	if _, err := os.Stat("config.yaml"); path == "" && !errors.Is(err, fs.ErrNotExist) {
		path = "config.yaml"
	}
	if len(sections) > 0 {
		return config.LoadOnly(path, in.environ, sections...)
	}
	return config.Load(path, in.environ)
}

// newLogger never fails: the configuration has been checked.
func newLogger(c config.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level))
	if c.Format == "text" {
		return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
	}
	seconds := func(_ []string, a slog.Attr) slog.Attr { // JSON would show nanoseconds
		if a.Value.Kind() == slog.KindDuration {
			a.Value = slog.Float64Value(a.Value.Duration().Seconds())
		}
		return a
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: seconds}))
}

func secret(s config.Secret) tokens.Secret { return tokens.NewSecret(s.Reveal()) }

// rootsOf reads the certificate authorities of a ca_file; nil are the system's.
func rootsOf(key, path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, mistake(key, "%v", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, mistake(key, "%s: holds no certificate in PEM", path)
	}
	return roots, nil
}

// storage is where tokens live, and what keeps its users apart.
type storage struct {
	store  tokens.Store
	index  tokens.Index
	locker lock.Locker
	spool  *tokens.Spool // nil: none
	keys   *tokens.Keyring
	where  string // for messages
}

// openStorage opens the store of c. Folders that are missing are made.
func openStorage(c config.Store) (s storage, err error) {
	var keys []tokens.Secret
	for _, key := range c.Encryption.Keys {
		keys = append(keys, secret(key))
	}
	if len(keys) > 0 || c.SpoolDir != "" {
		if s.keys, err = tokens.NewKeyring(keys...); err != nil {
			return s, mistake("store.encryption.keys", "%s", plain(err))
		}
	}
	switch c.Kind {
	case "memory":
		m := tokens.NewMemory()
		s.store, s.index, s.locker, s.where = m, m, lock.NewLocal(), "memory"
	case "file":
		f, err := tokens.NewFile(c.File.Dir)
		if err != nil {
			return s, fmt.Errorf("store.file.dir: %w", err)
		}
		s.store, s.index, s.locker = tokens.Seal(f, s.keys), f, lock.NewFile(c.File.Dir)
		s.where = fmt.Sprintf("folder %q", c.File.Dir)
	default:
		return s, mistake("store.kind", "is %s, and this build has no such store: use file", c.Kind)
	}
	if c.SpoolDir != "" {
		if s.spool, err = tokens.NewSpool(c.SpoolDir, s.keys); err != nil {
			return s, fmt.Errorf("store.spool_dir: %w", err)
		}
	}
	return s, nil
}

// openLasting opens a store for a command that works beside serve. It makes no
// folder: started in another place, or by another user, it would make a wrong one.
func openLasting(c config.Store) (storage, error) {
	if c.Kind == "memory" {
		return storage{}, mistake("store.kind", "is memory, which only serve itself can see")
	}
	for key, dir := range map[string]string{"store.file.dir": c.File.Dir, "store.spool_dir": c.SpoolDir} {
		if _, err := os.Stat(dir); dir != "" && errors.Is(err, fs.ErrNotExist) {
			return storage{}, fmt.Errorf("%s: %w: serve makes it; a relative path begins where a program is started", key, err)
		}
	}
	return openStorage(c)
}

// entry is one connection as the store shows it.
type entry struct {
	name   string
	record tokens.Record
	err    error // why there is no record
}

// survey loads every connection, once.
func (s storage) survey(ctx context.Context) ([]entry, error) {
	names, err := s.index.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list connections in %s: %w", s.where, err)
	}
	entries := make([]entry, len(names))
	for i, name := range names {
		rec, err := s.load(ctx, name)
		entries[i] = entry{name, rec, err}
	}
	return entries, nil
}

func (s storage) load(ctx context.Context, name string) (tokens.Record, error) {
	rec, err := s.store.Load(ctx, name)
	if err != nil {
		err = fmt.Errorf("load connection %q from %s: %w", name, s.where, err)
	}
	return rec, err
}

func endpointOptions(c config.OAuth, log *slog.Logger) (tokens.EndpointOptions, error) {
	roots, err := rootsOf("oauth.ca_file", c.CAFile)
	v, _ := versions()
	return tokens.EndpointOptions{
		TokenURL: c.TokenURL, IntrospectionURL: c.IntrospectionURL, RedirectURL: c.RedirectURL,
		ClientID: c.ClientID, ClientSecret: secret(c.ClientSecret), ClientAuth: tokens.ClientAuth(c.ClientAuth),
		RootCAs: roots, Version: v, Log: log,
		Proxy: func(u *url.URL) (*url.URL, error) { return http.ProxyFromEnvironment(&http.Request{URL: u}) },
	}, err
}

func newEndpoint(c config.OAuth, log *slog.Logger) (*tokens.Endpoint, error) {
	o, err := endpointOptions(c, log)
	if err != nil {
		return nil, err
	}
	e, err := tokens.NewEndpoint(o)
	if err != nil {
		return nil, mistake("oauth", "%v", err)
	}
	return e, nil
}

func timing(c config.Refresh) tokens.Timing {
	return tokens.Timing{
		Lead: c.Lead, Timeout: c.Timeout, MaxWait: c.MaxWait, KeepAlive: c.KeepAlive,
		SendWindow: c.SendWindow, NetworkLife: c.NetworkLife, Attempts: c.Attempts,
	}
}

func newConnections(c config.Config, s storage, log *slog.Logger, metrics *tokens.Metrics) (*tokens.Connections, error) {
	e, err := newEndpoint(c.OAuth, log)
	if err != nil {
		return nil, err
	}
	pod, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	return tokens.New(tokens.Options{
		Store: s.store, Index: s.index, Locker: s.locker, Endpoint: e, Spool: s.spool,
		Default: c.Connections.Default, Seed: secret(c.Connections.SeedRefreshToken),
		Pod: pod, Timing: timing(c.Refresh), OnLostAnswer: tokens.Policy(c.Refresh.OnLostAnswer),
		Log: log, Metrics: metrics,
	})
}

func newHandler(c config.Config, all *tokens.Connections, log *slog.Logger, metrics prometheus.Registerer) (*proxy.Handler, error) {
	upstream, err := url.Parse(c.Upstream.URL)
	if err != nil {
		return nil, err
	}
	roots, err := rootsOf("upstream.ca_file", c.Upstream.CAFile)
	if err != nil {
		return nil, err
	}
	transport := proxy.NewTransport(proxy.TransportOptions{RootCAs: roots})
	transport.ResponseHeaderTimeout = c.Upstream.ResponseHeaderTimeout // 0 has no bound
	return proxy.New(proxy.Options{
		Upstream: upstream, Transport: transport, DefaultConnection: c.Connections.Default,
		Connections: func(ctx context.Context, name string) (proxy.Source, error) { return all.Open(ctx, name) },
		ReplayLimit: int64(c.Upstream.ReplayLimit), ReplayBudget: int64(c.Upstream.ReplayBudget),
		Listen: c.Listen, Hosts: c.Callers.Hosts, CallerToken: secret(c.Callers.Token),
		Logger: log, Metrics: metrics,
	})
}

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

// importToken installs the refresh token on standard input.
func importToken(ctx context.Context, in *invocation) error {
	c, err := in.load()
	if err != nil {
		return err
	}
	name := cmp.Or(in.operand, c.Connections.Default)
	if !tokens.ValidConnection(name) { // not repeated: it may be the token
		return usage("import: a connection name is 1 to 63 of a-z, 0-9, - and _, beginning and ending with a letter or digit")
	}
	refresh, err := readToken(in)
	if err != nil {
		return err
	}
	s, err := openLasting(c.Store)
	if err != nil {
		return err
	}
	all, err := newConnections(c, s, nil, nil)
	if err != nil {
		return err
	}
	install, done := all.Import, "installed"
	if in.replace {
		install = all.Replace
	}
	rec, err := s.load(ctx, name)
	if err != nil && !errors.Is(err, tokens.ErrNotFound) {
		return err
	}
	if fp := tokens.FingerprintOf(refresh); rec.Living() && (fp == rec.Root || fp == rec.Current || fp == rec.Previous) {
		done = "left alone: the connection already stands on its grant"
	}
	err = errors.Join(install(ctx, name, refresh), all.Close(ctx))
	if failed, ok := errors.AsType[*tokens.EndpointError](err); ok && failed.Class == tokens.ClientRefused {
		err = fmt.Errorf("%w: %w", tokens.ErrClientRejected, err)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(in.stdout, "connection %q: refresh token %s %s\n", name, tokens.ShortFingerprint(refresh), done)
	return err
}

// readToken reads one line that is one token. No error repeats any of it.
func readToken(in *invocation) (tokens.Secret, error) {
	const longest = 64 << 10 // bytes; tokens seen have up to some thousand
	terminal := false
	if f, ok := in.stdin.(*os.File); ok {
		info, err := f.Stat()
		terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	if terminal {
		_, _ = fmt.Fprint(in.stderr, "refresh token (it shows as you type): ")
	}
	r := bufio.NewReader(io.LimitReader(in.stdin, longest+1))
	line, err := r.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return tokens.Secret{}, fmt.Errorf("read refresh token: %w", err)
	}
	token := strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	more := false
	if !terminal {
		_, err := r.Peek(1)
		more = err == nil
	}
	switch {
	case token == "":
		return tokens.Secret{}, usage("import: standard input is empty: it takes the refresh token")
	case more || len(line) > longest || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return tokens.Secret{}, usage("import: standard input must be one refresh token on one line")
	}
	return tokens.NewSecret(token), nil
}

// connectionStatus is what status tells of a connection.
type connectionStatus struct {
	Connection  string    `json:"connection"`
	State       string    `json:"state"` // of tokens.State, or none, or unreadable
	Version     uint64    `json:"version"`
	Generation  uint64    `json:"generation"`
	InDoubt     bool      `json:"in_doubt"`
	Token       string    `json:"token"` // fingerprint of the access token, "" for none
	ExpiresAt   time.Time `json:"expires_at,omitzero"`
	RefreshedAt time.Time `json:"refreshed_at,omitzero"`
	Reason      string    `json:"reason"`
}

func statusOf(e entry) connectionStatus {
	r := e.record
	st := connectionStatus{
		Connection: e.name, State: string(r.State), Version: r.Version, Generation: r.Generation,
		InDoubt: r.Doubt, Token: r.Token.String(), RefreshedAt: r.Token.Issued(), Reason: r.Reason,
	}
	if st.Token != "" {
		st.ExpiresAt = r.Token.End()
	}
	if e.err != nil {
		st.State, st.Reason = "unreadable", plain(e.err)
	}
	return st
}

// status shows every connection. Its error tells which of them need a person.
func status(ctx context.Context, in *invocation) error {
	c, err := in.load("store", "connections")
	if err != nil {
		return err
	}
	s, err := openLasting(c.Store)
	if err != nil {
		return err
	}
	entries, err := s.survey(ctx)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		entries = []entry{{name: c.Connections.Default, record: tokens.Record{State: "none", Reason: "no grant yet"}}}
	}
	var wrong []error
	all := make([]connectionStatus, len(entries))
	for i, e := range entries {
		all[i] = statusOf(e)
		unmade := e.record.State == "none" && c.Connections.SeedRefreshToken.IsZero()
		if e.record.State == tokens.StateLoginRequired || unmade {
			e.err = fmt.Errorf("connection %q: %w", e.name, tokens.ErrLoginRequired)
		}
		wrong = append(wrong, e.err)
	}
	if in.json {
		out := json.NewEncoder(in.stdout)
		out.SetIndent("", "  ")
		err = out.Encode(all)
	} else {
		err = writeTable(in.stdout, all, time.Now())
	}
	return errors.Join(append(wrong, err)...)
}

func writeTable(w io.Writer, all []connectionStatus, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "CONNECTION\tSTATE\tVERSION\tGENERATION\tEXPIRES IN\tREFRESHED\tREASON")
	for _, st := range all {
		expires, refreshed := "-", "-"
		if left := st.ExpiresAt.Sub(now).Round(time.Second); !st.ExpiresAt.IsZero() {
			expires = cmp.Or(max(left, 0).String(), "0s")
		}
		if !st.RefreshedAt.IsZero() {
			refreshed = max(now.Sub(st.RefreshedAt).Round(time.Second), 0).String() + " ago"
		}
		if st.InDoubt {
			st.State += ", in doubt"
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%s\t%s\n", st.Connection, st.State, st.Version, st.Generation,
			expires, refreshed, cmp.Or(st.Reason, "-"))
	}
	return t.Flush()
}

// findings writes what check finds, a line each, with what to do about it.
type findings struct {
	w      io.Writer
	failed bool
}

func (f *findings) ok(what, detail string) { _, _ = fmt.Fprintf(f.w, "ok    %s: %s\n", what, detail) }

func (f *findings) warn(what, detail string) {
	_, _ = fmt.Fprintf(f.w, "warn  %s: %s\n", what, detail)
}

// fail notes err and reports whether there was one; advice is for errors without
// a hint of their own.
func (f *findings) fail(what string, err error, advice string) bool {
	if err == nil {
		return false
	}
	f.failed = true
	_, hint := outcome(err)
	_, _ = fmt.Fprintf(f.w, "fail  %s: %s\n      %s\n", what, plain(err), cmp.Or(hint, advice))
	return true
}

// check looks at the configuration and what it names. It spends no token and
// changes nothing that is stored.
func check(ctx context.Context, in *invocation) error {
	c, err := in.load()
	if err != nil {
		return err
	}
	f := &findings{w: in.stdout}
	f.ok("configuration", "complete, for environment "+c.Environment)
	for _, warning := range c.Warnings() {
		f.warn("configuration", warning)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	checkStore(ctx, f, c)
	checkHost(ctx, f, "authorization server", c.OAuth.TokenURL, "oauth.ca_file", c.OAuth.CAFile)
	checkHost(ctx, f, "upstream", c.Upstream.URL, "upstream.ca_file", c.Upstream.CAFile)
	checkClient(ctx, f, c.OAuth)
	if f.failed {
		return errCheck
	}
	return nil
}

// checkStore tries folders, keys, locks and every record.
func checkStore(ctx context.Context, f *findings, c config.Config) {
	for key, dir := range map[string]string{"store.file.dir": c.Store.File.Dir, "store.spool_dir": c.Store.SpoolDir} {
		if dir == "" || key == "store.file.dir" && c.Store.Kind != "file" {
			continue
		}
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			if !f.fail(key, writable(filepath.Dir(dir)), "the folder above must be there, for serve to make this one") {
				f.ok(key, fmt.Sprintf("%q is not there yet: serve makes it", dir))
			}
			return
		}
		if f.fail(key, writable(dir), "serve must be able to write there") {
			return
		}
	}
	s, err := openStorage(c.Store)
	if f.fail("store", err, "serve refuses to start like this") {
		return
	}
	if s.keys != nil {
		f.ok("key ring", "key ids "+s.keys.String()+"; the first seals")
	}
	if c.Store.Kind == "file" {
		held, cancel := context.WithTimeout(ctx, 5*time.Second) // a refresh is seldom as long
		err := s.locker.Do(held, c.Connections.Default, func(context.Context) error { return nil })
		cancel()
		f.fail("lock", err, "a refresh is running, or the file system has no locks (flock)")
	}
	entries, err := s.survey(ctx)
	if f.fail("store", err, "the folder must be readable") {
		return
	}
	f.ok("store", fmt.Sprintf("%s, %d connections", s.where, len(entries)))
	for _, e := range entries {
		what := fmt.Sprintf("connection %q", e.name)
		switch {
		case f.fail(what, e.err, "restore the file from a backup, or move it away and log in again"):
		case e.record.State == tokens.StateLoginRequired, e.record.State == tokens.StateClientRejected:
			f.warn(what, strings.ReplaceAll(string(e.record.State), "_", " ")+": "+e.record.Reason)
		}
	}
}

// writable makes a file in dir and removes it.
func writable(dir string) error {
	probe, err := os.CreateTemp(dir, ".check-*.tmp")
	if err != nil {
		return err
	}
	_, err = probe.WriteString("probe")
	return errors.Join(err, probe.Close(), os.Remove(probe.Name()))
}

// checkHost asks a host for its header, with no token: name, network, TLS, clock.
func checkHost(ctx context.Context, f *findings, what, where, key, caFile string) {
	roots, err := rootsOf(key, caFile)
	if f.fail(what, err, "") {
		return
	}
	date, err := dateOf(ctx, where, roots)
	if f.fail(what, err, "DNS, the way there (HTTPS_PROXY, firewall) and the certificates must be right; a TLS proxy on the way needs "+key) {
		return
	}
	f.ok(what, where+" answers")
	// Headers show whole seconds. Tokens are timed by our own clock alone; a wrong
	// one misleads who reads the log, and who orders logins of several machines.
	const tolerable = 30 * time.Second
	if off := time.Since(date).Round(time.Second); !date.IsZero() && off.Abs() > tolerable {
		f.warn("clock", fmt.Sprintf("%v away from that of the %s: let NTP set it", off.Abs(), what))
	}
}

// dateOf returns what the clock of a host shows, zero if it does not tell.
func dateOf(ctx context.Context, where string, roots *x509.CertPool) (time.Time, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, where, nil)
	if err != nil {
		return time.Time{}, err
	}
	r.URL.Path, r.URL.RawPath, r.URL.RawQuery = "/", "", ""
	if _, err := http.ProxyFromEnvironment(r); err != nil {
		return time.Time{}, errors.New("the proxy setting is not a URL") // the cause would quote its password
	}
	transport := proxy.NewTransport(proxy.TransportOptions{RootCAs: roots})
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(r) // one request: redirects are not followed
	if err != nil {
		return time.Time{}, err
	}
	_ = res.Body.Close()
	date, _ := http.ParseTime(res.Header.Get("Date"))
	return date, nil
}

// checkClient introspects a text that is no token: it spends nothing, and only
// an accepted client gets an answer.
func checkClient(ctx context.Context, f *findings, c config.OAuth) {
	e, err := newEndpoint(c, nil)
	if f.fail("oauth", err, "") {
		return
	}
	if !e.Introspects() {
		f.warn("introspection", "is switched off, so client id and secret were not tried")
		return
	}
	_, err = e.Introspect(ctx, tokens.NewSecret(rand.Text()))
	if failed, ok := errors.AsType[*tokens.EndpointError](err); ok && failed.Class == tokens.ClientRefused {
		err = fmt.Errorf("%w: %w", tokens.ErrClientRejected, err)
	}
	if !f.fail("introspection", err, "without it a lost answer is left to refresh.on_lost_answer; none in oauth.introspection_url switches it off") {
		f.ok("introspection", "client id and secret are accepted")
	}
}

func keygen(_ context.Context, in *invocation) error {
	key, err := tokens.NewKey()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(in.stdout, key.Reveal())
	return err
}

// healthcheck asks the admin listener of the configuration, on this machine.
func healthcheck(ctx context.Context, in *invocation) error {
	c, err := in.load("admin")
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(c.Admin.Listen)
	if err != nil || port == "0" {
		return mistake("admin.listen", "must name a port for healthcheck")
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "localhost"
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // Docker gives three
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return err
	}
	res, err := new(http.Transport).RoundTrip(r) // through no proxy
	if err != nil {
		return fmt.Errorf("ask %s: %w", r.URL, err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, 200))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("ask %s: not ready: %q", r.URL, strings.TrimSpace(string(text)))
	}
	return err
}

// version is set by -ldflags "-X main.version=..."; without, the build tells.
var version string

// versions returns the version of this build and the revision of its source.
func versions() (name, revision string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return cmp.Or(version, "devel"), "unknown"
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	name = cmp.Or(version, strings.Trim(info.Main.Version, "()"), "devel")
	return name, cmp.Or(settings["vcs.revision"], "unknown")
}

func printVersion(_ context.Context, in *invocation) error {
	name, revision := versions()
	_, err := fmt.Fprintf(in.stdout, "pleo-sidecar %s (revision %s, %s %s/%s)\n", name, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
