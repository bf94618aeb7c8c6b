package lock

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// helperEnv makes this test binary a process that uses a lock: "hold DIR" says
// so and keeps the lock until its input ends, "count DIR" counts to countTo,
// "hold-redis SOCKET" holds one that can be lost.
const helperEnv = "PLEO_SIDECAR_LOCK_TEST_HELPER"

// countTo is how often a counting process takes the lock.
const countTo = 25

func TestMain(m *testing.M) {
	task, dir, ok := strings.Cut(os.Getenv(helperEnv), " ")
	if !ok {
		os.Exit(m.Run())
	}
	run := map[string]func(string) error{"hold": holdUntilEOF, "count": countUnderLock, "hold-redis": holdInRedis}[task]
	if err := run(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func holdUntilEOF(dir string) error {
	return NewFile(dir).Do(context.Background(), "acme", func(context.Context) error {
		fmt.Println("held")
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	})
}

// countUnderLock adds one to a number in a file, by reading and writing it:
// two processes inside at once lose a count.
func countUnderLock(dir string) error {
	counter := filepath.Join(dir, "counter")
	for range countTo {
		err := NewFile(dir).Do(context.Background(), "acme", func(context.Context) error {
			n := 0
			if text, err := os.ReadFile(counter); err == nil {
				n, _ = strconv.Atoi(string(text))
			}
			return os.WriteFile(counter, []byte(strconv.Itoa(n+1)), 0o600)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// helper returns this test binary as a process with the given task.
func helper(t *testing.T, task, dir string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	// The race detector would keep each process for a second after its end.
	cmd.Env = append(os.Environ(), helperEnv+"="+task+" "+dir, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	return cmd
}

// startHolder starts a process that holds the lock when this returns, and
// returns it with the input whose end makes it release.
func startHolder(t *testing.T, dir string) (*exec.Cmd, io.Closer) {
	t.Helper()
	cmd, in, _ := startTask(t, "hold", dir)
	return cmd, in
}

// startTask is startHolder for any task that holds a lock and says so. It also
// returns what the process says further.
func startTask(t *testing.T, task, where string) (*exec.Cmd, io.Closer, *bufio.Reader) {
	t.Helper()
	cmd := helper(t, task, where)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	said := bufio.NewReader(out)
	if line, err := said.ReadString('\n'); line != "held\n" {
		t.Fatalf("the helper says %q, %v", line, err)
	}
	return cmd, in, said
}

func TestKilledHolderFreesItsFile(t *testing.T) {
	dir := t.TempDir()
	holder, _ := startHolder(t, dir)
	wantHeldElsewhere(t, dir)

	done := wait(t, dir)
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	if err := <-done; err != nil {
		t.Fatalf("Do after the kill = %v", err)
	}
	// The exact bound is held in a bubble; this allows for a busy machine.
	if late := time.Since(killed); late > longPause+2*time.Second {
		t.Errorf("obtained %v after the kill, want about %v at most", late, longPause)
	}
}

func TestProcessThatReturnsFreesItsFile(t *testing.T) {
	dir := t.TempDir()
	_, in := startHolder(t, dir)
	wantHeldElsewhere(t, dir)

	done := wait(t, dir)
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("Do after the release = %v", err)
	}
}

func TestProcessesTakeTurns(t *testing.T) {
	const processes = 4
	dir := t.TempDir()
	var running []*exec.Cmd
	for range processes {
		cmd := helper(t, "count", dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, cmd)
	}
	for _, cmd := range running {
		if err := cmd.Wait(); err != nil {
			t.Errorf("helper: %v", err)
		}
	}
	got, err := os.ReadFile(filepath.Join(dir, "counter"))
	if want := strconv.Itoa(processes * countTo); err != nil || string(got) != want {
		t.Errorf("counted %s, %v; want %s", got, err, want)
	}
}

// wantHeldElsewhere fails the test if the lock is free.
func wantHeldElsewhere(t *testing.T, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*firstPause)
	defer cancel()
	err := NewFile(dir).Do(ctx, "acme", func(context.Context) error { return nil })
	if !errors.Is(err, ErrNotHeld) {
		t.Fatalf("Do beside another process = %v, want ErrNotHeld", err)
	}
}

// wait begins to wait for the lock and tells how that ended.
func wait(t *testing.T, dir string) <-chan error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	done := make(chan error, 1)
	go func() {
		done <- NewFile(dir).Do(ctx, "acme", func(context.Context) error { return nil })
	}()
	return done
}
