// Pleo-sidecar is an authenticating reverse proxy that runs beside an app: it
// adds Pleo's bearer token to each call and keeps that token fresh.
//
// This file holds the commands, one function each; the wiring, which turns the
// configuration into the parts of the program; and the one mapping from errors to
// exit codes. What the parts do is the matter of their packages.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/redis/go-redis/v9"

	"pleo-sidecar/config"
	"pleo-sidecar/lock"
	"pleo-sidecar/proxy"
	"pleo-sidecar/tokens"
)

func main() {
	// Package net/http tells it what an upstream sent unasked and, under
	// GODEBUG=http2debug, every field of every request.
	stdlog.SetOutput(io.Discard)
	redis.SetLogger(silent{})
	in := &config.Invocation{Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	os.Exit(conclude(in.Stderr, program.Run(context.Background(), in, os.Args[1:])))
}

// silent keeps go-redis off standard error: what it would write, it also returns.
type silent struct{}

// Printf discards.
func (silent) Printf(context.Context, string, ...any) {}

var program = config.Program{
	About: "Pleo-sidecar adds Pleo's bearer token to the calls of an app, and keeps it fresh.",
	Commands: []config.Command{
		{Name: "serve", About: "forward calls with the token attached (the default)", Run: serve},
		{Name: "import", Operand: "[connection]", About: "install a refresh token, read from standard input", Run: importToken,
			Flags: []config.Flag{{Name: "replace", About: "take the place of a grant that still works; it is not revoked at Pleo"}}},
		{Name: "status", About: "show the state of every connection", Run: status,
			Flags: []config.Flag{{Name: "json", About: "for programs"}}},
		{Name: "check", About: "check the configuration and its surroundings", Run: check},
		{Name: "keygen", About: "print a new key for store.encryption.keys", Run: keygen},
		{Name: "healthcheck", About: "ask a running serve whether it is ready", Run: healthcheck},
		{Name: "version", About: "print the version", Run: printVersion},
	},
	Notes: "Every command takes --config and --help. Exit codes: 0 well, 1 failed,\n2 wrong usage or configuration, 3 login required.",
}

// serve runs the sidecar until a signal comes.
func serve(ctx context.Context, in *config.Invocation) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	signal.Ignore(syscall.SIGPIPE) // who reads the log may go: a pair on its way must not go with it
	defer signal.Stop(signals)
	c, err := in.Load()
	if err != nil {
		return err
	}
	log := c.Log.Logger(in.Stderr)
	s, err := openStorage(c, log)
	if err != nil {
		return err
	}
	defer s.close()
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	all, err := newConnections(c, s, log, tokens.NewMetrics(metrics))
	if err != nil {
		return err
	}
	metrics.MustRegister(all)
	handler, err := newHandler(c, all, log, metrics)
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
	known, err := startable(ctx, s, log)
	if err != nil {
		return err
	}
	for _, warning := range c.Warnings() {
		log.Warn("configuration is doubtful", "reason", warning)
	}
	name, _ := versions()
	log.Info("serving", "listen", calls.Addr().String(), "admin", admin.Addr().String(), "upstream", c.Upstream.URL,
		"environment", c.Environment, "store", c.Store.Kind, "connections", known, "version", name)
	return proxy.Serve(ctx, signals, proxy.ServeOptions{
		Calls: handler, CallListener: calls,
		Admin: proxy.AdminOptions{Ready: answered(all), Metrics: metrics}, AdminListener: admin,
		Keep: all.Run, Finish: all.Close, FinishTime: c.Refresh.Timeout + config.SaveTime,
		Linger: c.Shutdown.Linger, Timeout: c.Shutdown.Timeout, Logger: log,
	})
}

// startable refuses a store of which no pair can be opened, tells of single
// records, and returns how many connections there are. A store on another machine
// may be away: it is ready when the store has answered.
func startable(ctx context.Context, s storage, log *slog.Logger) (int, error) {
	all, err := tokens.Survey(ctx, s.store, s.index)
	if err != nil && s.shared {
		log.Warn("store cannot be read yet; not ready until it can", "err", err)
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	broken, err := tokens.Startable(all)
	for _, err := range broken {
		log.Error("connection cannot be loaded", "err", err)
	}
	return len(all), err
}

// answered returns what tells whether calls can be served: from the store's first
// answer on.
func answered(all *tokens.Connections) func() error {
	return func() error {
		if !all.Reached() {
			return errors.New("the store has not answered yet")
		}
		return nil
	}
}

// importToken installs the refresh token on standard input.
func importToken(ctx context.Context, in *config.Invocation) error {
	c, err := in.Load()
	if err != nil {
		return err
	}
	name := cmp.Or(in.Operand, c.Connections.Default)
	if !tokens.ValidConnection(name) { // not repeated: it may be the token
		return config.Usage("import: a connection name is 1 to 63 of a-z, 0-9, - and _, beginning and ending with a letter or digit")
	}
	text, err := in.Input("refresh token (it shows as you type): ", 2*tokens.MaxRefreshToken)
	if err != nil {
		return fmt.Errorf("read refresh token: %w", err)
	}
	refresh, err := tokens.ParseRefreshToken(text)
	if err != nil {
		return config.Usage("import: standard input %v", err)
	}
	s, err := openLasting(c)
	if err != nil {
		return err
	}
	defer s.close()
	all, err := newConnections(c, s, nil, nil)
	if err != nil {
		return err
	}
	rec, err := s.store.Load(ctx, name)
	if err != nil && !errors.Is(err, tokens.ErrNotFound) {
		return fmt.Errorf("load connection %q from %s: %w", name, s.index, err)
	}
	install, done := all.Import, "installed"
	if in.Has("replace") {
		install = all.Replace
	}
	if rec.StandsOn(tokens.FingerprintOf(refresh)) {
		done = "left alone: the connection already stands on its grant"
	}
	if err := errors.Join(install(ctx, name, refresh), all.Close(ctx)); err != nil {
		return tokens.ClientRejected(err)
	}
	_, err = fmt.Fprintf(in.Stdout, "connection %q: refresh token %s %s\n", name, tokens.ShortFingerprint(refresh), done)
	return err
}

// status shows every connection. Its error tells which of them need a person.
func status(ctx context.Context, in *config.Invocation) error {
	c, err := in.Load("store", "connections")
	if err != nil {
		return err
	}
	s, err := openLasting(c)
	if err != nil {
		return err
	}
	defer s.close()
	found, err := tokens.Survey(ctx, s.store, s.index)
	if err != nil {
		return err
	}
	seeded := len(found) == 0 && !c.Connections.SeedRefreshToken.IsZero() // by the first serve
	if len(found) == 0 {
		found = []tokens.Surveyed{{Connection: c.Connections.Default}}
	}
	all := make([]tokens.Status, len(found))
	var wrong []error
	for i, f := range found {
		all[i] = f.Status()
		if !seeded {
			wrong = append(wrong, f.Trouble())
		}
	}
	if in.Has("json") {
		out := json.NewEncoder(in.Stdout)
		out.SetIndent("", "  ")
		err = out.Encode(all)
	} else {
		err = tokens.WriteTable(in.Stdout, all, time.Now())
	}
	return errors.Join(append(wrong, err)...)
}

// check looks at the configuration and what it names.
func check(ctx context.Context, in *config.Invocation) error {
	c, err := in.Load()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	say := func(found ...tokens.Finding) {
		for _, f := range found {
			tell(in.Stdout, f)
			if f.Err != nil {
				err = errCheck
			}
		}
	}
	say(tokens.Finding{What: "configuration", Text: "complete, for environment " + c.Environment})
	for _, warning := range c.Warnings() {
		say(tokens.Finding{What: "configuration", Doubtful: true, Text: warning})
	}
	say(checkStore(ctx, c)...)
	say(proxy.CheckHost(ctx, "authorization server", c.OAuth.TokenURL, c.OAuth.Roots())...)
	say(proxy.CheckHost(ctx, "upstream", c.Upstream.URL, c.Upstream.Roots())...)
	if e, wrong := newEndpoint(c.OAuth, nil); wrong != nil {
		say(tokens.Finding{What: "oauth", Err: wrong})
	} else {
		say(tokens.CheckClient(ctx, e))
	}
	return err
}

// checkStore looks at folders, key ring, locks and records.
func checkStore(ctx context.Context, c config.Config) (found []tokens.Finding) {
	ready := true
	for _, at := range folders(c.Store) {
		f, writable := tokens.CheckFolder(at.key, at.dir)
		found, ready = append(found, f...), ready && writable
	}
	if !ready {
		return found // nothing is made here
	}
	s, err := openStorage(c, nil)
	if err != nil {
		return append(found, tokens.Finding{What: "store", Err: err, Advice: "serve refuses to start like this"})
	}
	defer s.close()
	if s.keys != nil {
		found = append(found, tokens.Finding{What: "key ring", Text: fmt.Sprintf("key ids %v; the first seals", s.keys)})
	}
	found = append(found, tokens.CheckLock(ctx, s.locker, c.Connections.Default)...)
	return append(found, tokens.CheckStore(ctx, s.store, s.index)...)
}

// tell writes a finding, with what to do about it.
func tell(w io.Writer, f tokens.Finding) {
	switch {
	case f.Err != nil:
		_, hint := outcome(f.Err)
		_, _ = fmt.Fprintf(w, "fail  %s: %s\n      %s\n", f.What, plain(f.Err), cmp.Or(hint, f.Advice))
	case f.Doubtful:
		_, _ = fmt.Fprintf(w, "warn  %s: %s\n", f.What, f.Text)
	default:
		_, _ = fmt.Fprintf(w, "ok    %s: %s\n", f.What, f.Text)
	}
}

func keygen(_ context.Context, in *config.Invocation) error {
	key, err := tokens.NewKey()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(in.Stdout, key.Reveal())
	return err
}

// healthcheck asks the admin listener of the configuration, on this machine.
func healthcheck(ctx context.Context, in *config.Invocation) error {
	c, err := in.Load("admin")
	if err != nil {
		return err
	}
	if _, port, _ := net.SplitHostPort(c.Admin.Listen); port == "0" {
		return mistake("admin.listen", "must name a port for healthcheck")
	}
	return proxy.AskReady(ctx, c.Admin.Listen)
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

func printVersion(_ context.Context, in *config.Invocation) error {
	name, revision := versions()
	_, err := fmt.Fprintf(in.Stdout, "pleo-sidecar %s (revision %s, %s %s/%s)\n", name, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

func secret(s config.Secret) tokens.Secret { return tokens.NewSecret(s.Reveal()) }

// storage is where tokens live, and what keeps its users apart.
type storage struct {
	store  tokens.Store
	index  tokens.Index
	locker lock.Locker
	spool  *tokens.Spool   // nil: none
	keys   *tokens.Keyring // nil: none
	shared bool            // with other machines
	opened []io.Closer
}

// close closes the network connections of s, when nothing uses them any more.
func (s storage) close() {
	for _, c := range s.opened {
		_ = c.Close()
	}
}

// openStorage opens the store of c. Folders that are missing are made. log may be
// nil.
func openStorage(c config.Config, log *slog.Logger) (s storage, err error) {
	var keys []tokens.Secret
	for _, key := range c.Store.Encryption.Keys {
		keys = append(keys, secret(key))
	}
	if len(keys) > 0 || c.Store.SpoolDir != "" {
		if s.keys, err = tokens.NewKeyring(keys...); err != nil {
			return s, mistake("store.encryption.keys", "%s", plain(err))
		}
	}
	if c.Store.SpoolDir != "" {
		if s.spool, err = tokens.NewSpool(c.Store.SpoolDir, s.keys); err != nil {
			return s, fmt.Errorf("store.spool_dir: %w", err)
		}
	}
	switch c.Store.Kind {
	case "memory":
		m := tokens.NewMemory()
		s.store, s.index, s.locker = m, m, lock.NewLocal()
		return s, nil
	case "file":
		f, err := tokens.NewFile(c.Store.File.Dir)
		if err != nil {
			return s, fmt.Errorf("store.file.dir: %w", err)
		}
		s.store, s.index, s.locker = tokens.Seal(f, s.keys), f, lock.NewFile(c.Store.File.Dir)
		return s, nil
	case "redis":
		return s.inRedis(c, log)
	}
	return s, mistake("store.kind", "is %s, which no store is", c.Store.Kind)
}

// inRedis returns s with its records and locks in the Redis of c, each over
// network connections of its own: a lock that cannot be extended in time is lost.
func (s storage) inRedis(c config.Config, log *slog.Logger) (storage, error) {
	r := c.Store.Redis
	trust, err := r.TLS.Client()
	if err != nil {
		return s, mistake("store.redis.tls", "%v", err)
	}
	o := tokens.RedisOptions{
		Mode: tokens.RedisMode(r.Mode), Addrs: r.Addrs, MasterName: r.MasterName, Username: r.Username, DB: r.DB,
		KeyPrefix: r.KeyPrefix, TLS: trust, WaitReplicas: r.WaitReplicas, Log: log,
	}
	if !r.Password.IsZero() {
		o.Password = func(context.Context) (tokens.Secret, error) {
			password, err := r.ReadPassword()
			return secret(password), err
		}
	}
	records, err := tokens.NewRedis(o)
	if err != nil {
		return s, mistake("store.redis", "%s", plain(err))
	}
	locks := records.NewClient()
	s.store, s.index, s.shared, s.opened = tokens.Seal(records, s.keys), records, true, []io.Closer{records, locks}
	s.locker = lock.NewRedis(locks, lock.RedisOptions{KeyPrefix: r.KeyPrefix, Lease: 3 * c.Refresh.Timeout, Log: log})
	return s, nil
}

// folder is one that openStorage would make.
type folder struct{ key, dir string }

func folders(c config.Store) (all []folder) {
	if c.Kind == "file" {
		all = append(all, folder{"store.file.dir", c.File.Dir})
	}
	if c.SpoolDir != "" {
		all = append(all, folder{"store.spool_dir", c.SpoolDir})
	}
	return all
}

// openLasting opens a store for a command that works beside serve. It makes no
// folder: started in another place, or by another user, it would make a wrong one.
func openLasting(c config.Config) (storage, error) {
	if c.Store.Kind == "memory" {
		return storage{}, mistake("store.kind", "is memory, which only serve itself can see")
	}
	for _, f := range folders(c.Store) {
		if _, err := os.Stat(f.dir); errors.Is(err, fs.ErrNotExist) {
			return storage{}, fmt.Errorf("%s: %w: serve makes it; a relative path begins where a program is started", f.key, err)
		}
	}
	return openStorage(c, nil)
}

func newEndpoint(c config.OAuth, log *slog.Logger) (*tokens.Endpoint, error) {
	version, _ := versions()
	e, err := tokens.NewEndpoint(tokens.EndpointOptions{
		TokenURL: c.TokenURL, IntrospectionURL: c.IntrospectionURL, RedirectURL: c.RedirectURL,
		ClientID: c.ClientID, ClientSecret: secret(c.ClientSecret), ClientAuth: tokens.ClientAuth(c.ClientAuth),
		RootCAs: c.Roots(), Version: version, Log: log,
		Proxy: func(u *url.URL) (*url.URL, error) { return http.ProxyFromEnvironment(&http.Request{URL: u}) },
	})
	if err != nil {
		return nil, mistake("oauth", "%v", err)
	}
	return e, nil
}

func newConnections(c config.Config, s storage, log *slog.Logger, metrics *tokens.Metrics) (*tokens.Connections, error) {
	e, err := newEndpoint(c.OAuth, log)
	if err != nil {
		return nil, err
	}
	pod, _ := os.Hostname() // only for people to read
	return tokens.New(tokens.Options{
		Store: s.store, Index: s.index, Locker: s.locker, Endpoint: e, Spool: s.spool, SharedStore: s.shared,
		Default: c.Connections.Default, Seed: secret(c.Connections.SeedRefreshToken),
		Timing: tokens.Timing{
			Lead: c.Refresh.Lead, Timeout: c.Refresh.Timeout, MaxWait: c.Refresh.MaxWait, KeepAlive: c.Refresh.KeepAlive,
			SendWindow: c.Refresh.SendWindow, NetworkLife: c.Refresh.NetworkLife, Attempts: c.Refresh.Attempts,
		},
		OnLostAnswer: tokens.Policy(c.Refresh.OnLostAnswer), Pod: pod, Log: log, Metrics: metrics,
	})
}

func newHandler(c config.Config, all *tokens.Connections, log *slog.Logger, metrics prometheus.Registerer) (*proxy.Handler, error) {
	upstream, err := url.Parse(c.Upstream.URL)
	if err != nil {
		return nil, err
	}
	transport := proxy.NewTransport(proxy.TransportOptions{RootCAs: c.Upstream.Roots()})
	transport.ResponseHeaderTimeout = c.Upstream.ResponseHeaderTimeout // 0 has no bound
	return proxy.New(proxy.Options{
		Upstream: upstream, Transport: transport, Connections: proxy.Sources(all.Open), DefaultConnection: c.Connections.Default,
		ReplayLimit: int64(c.Upstream.ReplayLimit), ReplayBudget: int64(c.Upstream.ReplayBudget),
		Listen: c.Listen, Hosts: c.Callers.Hosts, CallerToken: secret(c.Callers.Token),
		Logger: log, Metrics: metrics,
	})
}

var errCheck = errors.New("check found what keeps the sidecar from working: see above")

// mistake is a configuration that the packages it goes to refuse.
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
	{config.ErrUsage, 2, "pleo-sidecar help"},
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
