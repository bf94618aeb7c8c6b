// Package e2e tests the program from outside: the built binary as a process,
// against a simulated Pleo on the loopback. It also holds what no single package
// can hold: the import arrows, and that every exported name is documented.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"pleo-sidecar/tokens"
	"pleo-sidecar/tokens/pleosim"
)

// binDir holds the binary under test, built once per run.
var binDir string

// testVersion is what the binary under test says it is.
const testVersion = "1.2.3-test"

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (code int, err error) {
	if binDir, err = os.MkdirTemp("", "pleo-sidecar-e2e-"); err != nil {
		return 1, err
	}
	defer os.RemoveAll(binDir)
	args := []string{"build", "-o", binDir, "-ldflags", "-X main.version=" + testVersion}
	if raceEnabled {
		args = append(args, "-race")
	}
	build := exec.CommandContext(context.Background(), "go", append(args, "pleo-sidecar")...)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return 1, fmt.Errorf("build the binary under test: %w", err)
	}
	// These tests mostly wait for processes: more of them at once than there are
	// processors take a third of the time.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

func binary() string { return filepath.Join(binDir, "pleo-sidecar") }

// pleo is a simulated Pleo that listens on the loopback.
type pleo struct {
	*pleosim.Sim
	authURL, apiURL string
}

// cleaner is what testing.T and a script's environment have in common.
type cleaner interface{ Cleanup(func()) }

func newPleo(t cleaner, tb pleosim.TB, o pleosim.Options) *pleo {
	p := &pleo{Sim: pleosim.New(tb, o)}
	listen := func(h http.Handler) string {
		server := httptest.NewServer(h)
		t.Cleanup(func() {
			server.CloseClientConnections()
			server.Close()
		})
		return server.URL
	}
	p.authURL, p.apiURL = listen(p.Auth()), listen(p.API())
	p.SetFilesURL(listen(p.Files()))
	t.Cleanup(p.Close) // first, so that nothing held keeps a server from closing
	return p
}

// environ is a complete configuration for p. Ports are chosen by the system.
func (p *pleo) environ(key string) []string {
	return []string{
		"PLEO_SIDECAR_LISTEN=127.0.0.1:0",
		"PLEO_SIDECAR_ADMIN_LISTEN=127.0.0.1:0",
		"PLEO_SIDECAR_UPSTREAM_URL=" + p.apiURL,
		"PLEO_SIDECAR_OAUTH_TOKEN_URL=" + p.authURL + "/oauth/token",
		"PLEO_SIDECAR_OAUTH_INTROSPECTION_URL=" + p.authURL + "/oauth/token/introspect",
		"PLEO_SIDECAR_OAUTH_CLIENT_ID=pleosim-client",
		"PLEO_SIDECAR_OAUTH_CLIENT_SECRET=pleosim-secret",
		"PLEO_SIDECAR_STORE_ENCRYPTION_KEYS=" + key,
	}
}

// presentations counts how often a refresh token reached the token endpoint.
func (p *pleo) presentations() (n int) {
	for _, g := range p.Ledger().Grants {
		for _, r := range g.RefreshTokens {
			n += len(r.Presented)
		}
	}
	return n
}

// newKey returns a key for store.encryption.keys.
func newKey(t interface{ Fatal(...any) }) string {
	key, err := tokens.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key.Reveal()
}
