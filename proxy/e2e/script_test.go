package e2e

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"pleo-sidecar/tokens/pleosim"
)

// TestCommands runs the scripts in testdata. Each has a Pleo of its own, a whole
// configuration in its environment, and these commands:
//
//	exits CODE PROGRAM...  runs a program that must end with that code
//	grant FILE             makes a grant and writes its refresh token
//	revoke                 revokes all grants
//	secret TEXT            changes the client secret at Pleo
//	presented N            demands that refresh tokens were presented so often
func TestCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata",
		RequireUniqueNames: true,
		Deadline:           time.Now().Add(2 * time.Minute), // a serve that should not have started runs for ever
		Setup:              func(e *testscript.Env) error { return setUp(t, e) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"grant": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(pleoOf(ts).Grant()+"\n"), 0o600))
			},
			"revoke": func(ts *testscript.TestScript, _ bool, _ []string) { pleoOf(ts).Revoke("") },
			"secret": func(ts *testscript.TestScript, _ bool, args []string) { pleoOf(ts).SetClientSecret(args[0]) },
			"presented": func(ts *testscript.TestScript, _ bool, args []string) {
				if got := strconv.Itoa(pleoOf(ts).presentations()); got != args[0] {
					ts.Fatalf("refresh tokens were presented %s times, want %s", got, args[0])
				}
			},
		},
	})
}

type pleoKey struct{}

func pleoOf(ts *testscript.TestScript) *pleo { return ts.Value(pleoKey{}).(*pleo) }

// deferrer lets a script's environment clean up like a test.
type deferrer struct{ *testscript.Env }

// Cleanup calls f when the script has ended.
func (d deferrer) Cleanup(f func()) { d.Defer(f) }

func setUp(t *testing.T, e *testscript.Env) error {
	p := newPleo(deferrer{e}, nil, pleosim.Options{})
	e.Values[pleoKey{}] = p
	e.Defer(func() {
		if err := p.Ledger().Clean(); err != nil {
			t.Errorf("%s: %v", e.WorkDir, err)
		}
	})
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	e.Defer(func() { _ = taken.Close() })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	_ = closed.Close()
	e.Vars = append(e.Vars, p.environ(newKey(t))...)
	e.Setenv("PATH", binDir+string(os.PathListSeparator)+os.Getenv("PATH"))
	e.Setenv("KEY", newKey(t))
	e.Setenv("TAKEN", taken.Addr().String())
	e.Setenv("CLOSED", closed.Addr().String())
	e.Setenv("READY", stubAdmin(e, http.StatusOK, "ok\n"))
	e.Setenv("UNREADY", stubAdmin(e, http.StatusServiceUnavailable, "the store has not answered yet\n"))
	return nil
}

// stubAdmin returns the address of a listener whose /readyz answers that.
func stubAdmin(e *testscript.Env, status int, text string) string {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	})
	server := httptest.NewServer(mux)
	e.Defer(server.Close)
	return server.Listener.Addr().String()
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARGUMENT...]")
	}
	code := 0
	err := ts.Exec(args[1], args[2:]...)
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		code, err = ended.ExitCode(), nil
	}
	ts.Check(err)
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}
