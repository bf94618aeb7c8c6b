// Demo shows pleo-sidecar at work: a simulated Pleo whose tokens live for
// seconds, the real program between it and a few callers that know no OAuth, and
// a line in plain words each time the token is replaced. It runs the programs
// pleosim and pleo-sidecar that lie beside it.
//
// With -once it ends by itself, and its exit status tells whether the promise
// held: no caller saw a 401, and no refresh token was presented twice.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// once is how many rotations end a demo with -once: the first token, one after a
// 401, one ahead of the end, one more after a 401.
const once = 4

// patience is how long a program may take to start, on a machine that is busy.
const patience = 20 * time.Second

func main() {
	// The kernel ends a child when the thread that started it does (see belong),
	// and the main thread is the one that lasts.
	runtime.LockOSThread()
	// A reader that leaves is met as a failed write, so that there is time to tidy up.
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	ends := flags.Bool("once", false, "end by itself, with a status that tells whether all went well")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil || flags.NArg() > 0 {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := demo(ctx, *ends, stdout); err != nil {
		_, _ = fmt.Fprintf(stderr, "demo: %v\n", err)
		return 1
	}
	return 0
}

// demo plays the whole story, and leaves no process and no file behind.
func demo(ctx context.Context, ends bool, out io.Writer) (err error) {
	own, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "pleo-sidecar-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	s := &stage{bin: filepath.Dir(own), dir: dir}
	defer func() { err = errors.Join(err, s.clear()) }()
	if err := s.set(ctx); err != nil {
		return err
	}
	t := newTale(out, s)
	t.opening()
	if !ends {
		t.invitation()
	}
	t.tell(ctx, ends)
	return t.verdict()
}
