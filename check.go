package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pleo-sidecar/config"
	"pleo-sidecar/proxy"
	"pleo-sidecar/tokens"
)

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
	ready := true
	for _, at := range folders(c.Store) {
		_, err := os.Stat(at.dir)
		switch {
		case err == nil:
			ready = !f.fail(at.key, writable(at.dir), "serve must be able to write there") && ready
		case !f.fail(at.key, writable(filepath.Dir(at.dir)), "the folder above must be there, for serve to make this one"):
			f.ok(at.key, fmt.Sprintf("%q is not there yet: serve makes it", at.dir))
			ready = false
		default:
			ready = false
		}
	}
	if !ready {
		return // nothing is made here
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
	if !f.fail("introspection", clientRejected(err), "without it a lost answer is left to refresh.on_lost_answer; none in oauth.introspection_url switches it off") {
		f.ok("introspection", "client id and secret are accepted")
	}
}
