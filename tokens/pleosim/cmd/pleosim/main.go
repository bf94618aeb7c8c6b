// Pleosim is a Pleo to try pleo-sidecar against: an authorization server, a
// resource API and a file host on loopback, and below /sim/ on the first of
// them the means to make things go wrong. See the README beside the package.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"pleo-sidecar/tokens/pleosim"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// settings are the flags.
type settings struct {
	auth, api, files string
	unsafeListen     bool
	grantFile        string
	quiet            bool
	delay            time.Duration
	options          pleosim.Options
}

// parse reads the flags; each default is what the simulator's package says.
func parse(args []string, stderr io.Writer) (settings, error) {
	var c settings
	o := &c.options
	f := flag.NewFlagSet("pleosim", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&c.auth, "auth", pleosim.AuthAddr, "`address` of the authorization server; port 0 picks one")
	f.StringVar(&c.api, "api", pleosim.APIAddr, "`address` of the resource API")
	f.StringVar(&c.files, "files", pleosim.FilesAddr, "`address` of the file host")
	f.BoolVar(&c.unsafeListen, "unsafe-listen", false, "listen elsewhere than on loopback; whoever reaches /sim/ owns every grant")
	f.StringVar(&c.grantFile, "grant-file", "", "make a grant and write its refresh token to this `file` (mode 0600)")
	f.BoolVar(&c.quiet, "quiet", false, "do not say what happens")
	f.DurationVar(&c.delay, "delay", 0, "delay before every token request is worked on")
	f.StringVar(&o.ClientID, "client-id", "pleosim-client", "OAuth client id")
	f.StringVar(&o.ClientSecret, "client-secret", "pleosim-secret", "OAuth client secret")
	f.StringVar(&o.ClientAuth, "client-auth", "basic", "client authentication: basic or post; the other is refused")
	f.DurationVar(&o.AccessLife, "token-life", 15*time.Minute, "life of an access token")
	f.Uint64Var(&o.Seed, "seed", 0, "seed of tokens, chances and hostility; 0 draws one")
	f.BoolVar(&o.Hostile, "hostile", false, "add legal oddities and delays by the seed")
	f.BoolVar(&o.AutoConsent, "auto-consent", false, "approve logins without a page")
	f.BoolVar(&o.StringExpiresIn, "string-expires-in", false, `answer expires_in as "900"`)
	f.BoolVar(&o.OmitRefreshToken, "omit-refresh-token", false, "leave refresh_token out of refresh answers; the old one stays good")
	f.StringVar(&o.RefusalCode, "refusal-code", "", "error `code` for a dead refresh token (default invalid_grant)")
	f.DurationVar(&o.Skew, "skew", 0, "added to the Date field of answers")
	f.Func("redirect-url", "accepted redirect URI, exact; repeatable (default any)", func(url string) error {
		o.RedirectURLs = append(o.RedirectURLs, url)
		return nil
	})
	if err := f.Parse(args); err != nil {
		return c, err
	}
	if f.NArg() > 0 || o.ClientAuth != "basic" && o.ClientAuth != "post" {
		f.Usage()
		return c, errors.New("wrong usage")
	}
	return c, nil
}

// run is the program until ctx ends: 0 well, 1 violations, 2 wrong usage or no
// place to listen.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	if !c.quiet {
		c.options.Log = func(line string) {
			_, _ = fmt.Fprintf(stderr, "%s %s\n", time.Now().Format("15:04:05.000"), line)
		}
	}
	sim := pleosim.New(nil, c.options)
	if err := serve(ctx, c, sim, stdout); err != nil {
		_, _ = fmt.Fprintf(stderr, "pleosim: %v\n", err)
		return 2
	}
	for _, line := range sim.Ledger().Summary() {
		_, _ = fmt.Fprintln(stdout, line)
	}
	if len(sim.Violations()) > 0 {
		return 1
	}
	return 0
}

// serve listens, says where, and serves until ctx ends.
func serve(ctx context.Context, c settings, sim *pleosim.Sim, stdout io.Writer) error {
	control, strict := sim.Control(), sim.Auth()
	auth := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/sim/") {
			control.ServeHTTP(w, r)
			return
		}
		strict.ServeHTTP(w, r)
	})
	hosts := []struct {
		name, addr string
		handler    http.Handler
	}{{"auth", c.auth, auth}, {"api", c.api, sim.API()}, {"files", c.files, sim.Files()}}

	if c.delay > 0 {
		sim.Token.Always(pleosim.Fault{Delay: c.delay})
	}
	ready, failed := "pleosim ready", make(chan error, len(hosts))
	for _, host := range hosts {
		l, err := listen(ctx, host.addr, c.unsafeListen)
		if err != nil {
			return err
		}
		url := "http://" + l.Addr().String()
		if host.name == "files" {
			sim.SetFilesURL(url)
		}
		ready += " " + host.name + "=" + url
		server := &http.Server{Handler: host.handler, ReadHeaderTimeout: time.Minute}
		defer func() { _ = server.Close() }()
		go func() { failed <- server.Serve(l) }()
	}
	defer sim.Close()
	if c.grantFile != "" {
		if err := writeSecret(c.grantFile, sim.Grant()); err != nil {
			return err
		}
	}
	// One line for scripts: everything before it has happened.
	_, _ = fmt.Fprintf(stdout, "%s seed=%d\n", ready, sim.Ledger().Seed)
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// listen refuses what is not loopback: the control API gives grants away.
func listen(ctx context.Context, addr string, anywhere bool) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	ip := net.ParseIP(host)
	if !anywhere && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("listen %s: not loopback, and -unsafe-listen is not set", addr)
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", addr)
}

// writeSecret replaces a file, so that an older one's mode does not stay.
func writeSecret(path, secret string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile(path, []byte(secret+"\n"), 0o600)
}
