// Pleo-sidecar is an authenticating reverse proxy that runs beside an app: it
// adds Pleo's bearer token to each call and keeps that token fresh.
//
// main.go holds the commands and the one mapping from errors to exit codes;
// graph.go turns the configuration into the parts of the program, one short
// function each; serve.go runs them, and ends them in the order that loses
// nothing; connections.go and check.go are the commands that work beside serve.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"pleo-sidecar/config"
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

// Errors of the commands themselves.
var (
	errUsage = errors.New("wrong usage")
	errCheck = errors.New("check found what keeps the sidecar from working: see above")
)

func usage(format string, args ...any) error {
	return fmt.Errorf(format+" (%w)", append(args, errUsage)...)
}

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
	switch ip, _ := netip.ParseAddr(host); {
	case host == "", ip == netip.IPv4Unspecified():
		host = "127.0.0.1"
	case ip == netip.IPv6Unspecified():
		host = "::1"
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
