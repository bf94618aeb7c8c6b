package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"pleo-sidecar/config"
	"pleo-sidecar/lock"
	"pleo-sidecar/proxy"
	"pleo-sidecar/tokens"
)

func secret(s config.Secret) tokens.Secret { return tokens.NewSecret(s.Reveal()) }

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
func openLasting(c config.Store) (storage, error) {
	if c.Kind == "memory" {
		return storage{}, mistake("store.kind", "is memory, which only serve itself can see")
	}
	for _, f := range folders(c) {
		if _, err := os.Stat(f.dir); errors.Is(err, fs.ErrNotExist) {
			return storage{}, fmt.Errorf("%s: %w: serve makes it; a relative path begins where a program is started", f.key, err)
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
	pod, _ := os.Hostname() // only for people to read
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
	open := func(ctx context.Context, name string) (proxy.Source, error) {
		s, err := all.Open(ctx, name)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	return proxy.New(proxy.Options{
		Upstream: upstream, Transport: transport, Connections: open, DefaultConnection: c.Connections.Default,
		ReplayLimit: int64(c.Upstream.ReplayLimit), ReplayBudget: int64(c.Upstream.ReplayBudget),
		Listen: c.Listen, Hosts: c.Callers.Hosts, CallerToken: secret(c.Callers.Token),
		Logger: log, Metrics: metrics,
	})
}
