package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// grace is how long a program may take to end once it was told to. The sidecar's
// own limit is shorter.
const grace = 15 * time.Second

// child is a program that this one started. It ends before this one does.
type child struct {
	name string
	cmd  *exec.Cmd
	tell context.CancelFunc // sends SIGTERM, and SIGKILL after grace
	done chan struct{}      // closed when the process is gone and its output read
	said lines
}

// start starts a program. hear is called with each line that it prints.
func start(hear func(line string), path string, args ...string) (*child, error) {
	ctx, cancel := context.WithCancel(context.Background())
	c := &child{name: path[strings.LastIndexByte(path, '/')+1:], tell: cancel, done: make(chan struct{})}
	c.cmd = exec.CommandContext(ctx, path, args...)
	c.cmd.Env = environment()
	c.cmd.SysProcAttr = belong()
	c.cmd.Cancel = func() error { return c.cmd.Process.Signal(syscall.SIGTERM) }
	c.cmd.WaitDelay = grace
	c.said.hear = hear
	c.cmd.Stdout, c.cmd.Stderr = &c.said, &c.said
	if err := c.cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w (make demo builds it)", c.name, err)
	}
	go func() {
		_ = c.cmd.Wait() // end looks at the state
		close(c.done)
	}()
	return c, nil
}

// end tells the program to end and waits until it is gone. An exit status other
// than 0 is an error, and shows what the program said last.
func (c *child) end() error {
	c.tell()
	<-c.done
	if !c.cmd.ProcessState.Success() {
		return fmt.Errorf("%s ended with %v; it said last:\n%s", c.name, c.cmd.ProcessState, c.said.last())
	}
	return nil
}

// await waits for a word that the program is to say while it starts.
func await[T any](ctx context.Context, c *child, word <-chan T) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var zero T
	select {
	case w := <-word:
		return w, nil
	case <-c.done:
		return zero, fmt.Errorf("start %s: it ended by itself", c.name)
	case <-ctx.Done():
		return zero, fmt.Errorf("start %s: %w", c.name, ctx.Err())
	}
}

// environment is ours without the settings of a sidecar, which would change what
// is shown.
func environment() []string {
	var kept []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "PLEO_SIDECAR_") {
			kept = append(kept, entry)
		}
	}
	return kept
}

// tailLines is how many lines of a program are kept to explain its end.
const tailLines = 10

// lines cuts what is written into lines.
type lines struct {
	hear func(string)

	mu   sync.Mutex
	rest []byte
	tail []string
}

// last returns the lines that were written last.
func (l *lines) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.tail, "\n")
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		l.rest = rest
		l.tail = append(l.tail, string(line))
		l.tail = l.tail[max(0, len(l.tail)-tailLines):]
		l.hear(string(line))
	}
}
