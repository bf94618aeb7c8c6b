package lock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestFileWaiterComesWithinOnePauseOfTheRelease(t *testing.T) {
	dir := t.TempDir()
	for _, held := range []time.Duration{time.Millisecond, 40 * time.Millisecond, time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			go NewFile(dir).Do(t.Context(), "acme", func(context.Context) error {
				time.Sleep(held)
				return nil
			})
			synctest.Wait()
			start := time.Now()
			err := NewFile(dir).Do(t.Context(), "acme", func(context.Context) error { return nil })
			late := time.Since(start) - held
			if most := min(max(firstPause, 2*held), longPause); err != nil || late < 0 || late > most {
				t.Errorf("held for %v: Do = %v, %v after the release; want at most %v", held, err, late, most)
			}
		})
	}
}

func TestFileWaiterLeavesWhenItsContextEnds(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		err := NewFile(dir).Do(t.Context(), "acme", func(context.Context) error {
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 1234567*time.Microsecond)
			defer cancel()
			err := NewFile(dir).Do(ctx, "acme", nil)
			if got := time.Since(start); got != 1234567*time.Microsecond {
				t.Errorf("left after %v, want at the deadline", got)
			}
			return err
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Do = %v, want the deadline", err)
		}
	})
}

func TestJitterKeepsHalfOfThePause(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 1000 {
		d := jitter(longPause)
		if d < longPause/2 || d > longPause {
			t.Fatalf("jitter(%v) = %v", longPause, d)
		}
		seen[d] = true
	}
	if len(seen) < 900 {
		t.Errorf("%d different pauses of 1000", len(seen))
	}
}

func TestFileModesAreForTheOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	err := NewFile(dir).Do(t.Context(), "acme", func(context.Context) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{
		filepath.Dir(dir):               0o700 | os.ModeDir,
		dir:                             0o700 | os.ModeDir,
		filepath.Join(dir, "acme.lock"): 0o600,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s: mode %v, want %v", path, info.Mode(), want)
		}
	}
}

func TestFileIsNeverReplaced(t *testing.T) {
	l := NewFile(t.TempDir())
	path := filepath.Join(l.dir, "acme.lock")
	var before os.FileInfo
	for range 3 {
		if err := l.Do(t.Context(), "acme", func(context.Context) error { return nil }); err != nil {
			t.Fatal(err)
		}
		after, err := os.Stat(path)
		if err != nil {
			t.Fatalf("after the release: %v", err)
		}
		if before != nil && !os.SameFile(before, after) {
			t.Error("the second Do locked another file than the first")
		}
		before = after
	}
}

func TestFileNamesItsLastHolder(t *testing.T) {
	l := NewFile(t.TempDir())
	path := filepath.Join(l.dir, "acme.lock")
	if err := os.WriteFile(path, []byte(strings.Repeat("a longer text\n", 9)), 0o600); err != nil {
		t.Fatal(err)
	}
	err := l.Do(t.Context(), "acme", func(context.Context) error {
		text, err := os.ReadFile(path)
		pid, since := 0, ""
		_, scanErr := fmt.Sscanf(string(text), "pid %d since %s\n", &pid, &since)
		if _, timeErr := time.Parse(time.RFC3339, since); scanErr != nil || timeErr != nil ||
			pid != os.Getpid() || strings.Count(string(text), "\n") != 1 {
			t.Errorf("the file says %q", text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestBadNameTouchesNoFile(t *testing.T) {
	top := t.TempDir()
	l := NewFile(filepath.Join(top, "locks"))
	for _, name := range []string{"../escape", "..", "", "a/b", "a.b"} {
		if err := l.Do(t.Context(), name, nil); !errors.Is(err, ErrName) {
			t.Errorf("Do(%q) = %v, want ErrName", name, err)
		}
	}
	left, err := os.ReadDir(top)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind %v, %v", left, err)
	}
}

func TestPlantedLinkIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(target, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(dir, "acme.lock")); err != nil {
		t.Fatal(err)
	}
	if err := NewFile(dir).Do(t.Context(), "acme", nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Do = %v, want ErrUnavailable", err)
	}
	if text, err := os.ReadFile(target); string(text) != "precious" {
		t.Errorf("the target holds %q, %v", text, err)
	}
}

// A child that shares the open file, as one between fork and exec does, must
// not keep the lock alive: close alone would leave it locked.
func TestReleaseCountsForADuplicateOfTheFile(t *testing.T) {
	l := NewFile(t.TempDir())
	duplicate := -1
	err := l.Do(t.Context(), "acme", func(context.Context) error {
		fd, err := descriptor(filepath.Join(l.dir, "acme.lock"))
		if err == nil {
			duplicate, err = syscall.Dup(fd)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(duplicate)
	ctx, cancel := context.WithTimeout(t.Context(), 2*longPause)
	defer cancel()
	if err := l.Do(ctx, "acme", func(context.Context) error { return nil }); err != nil {
		t.Errorf("Do beside a duplicate = %v, want the lock free", err)
	}
}

func TestFileIsClosedByHolderAndWaiter(t *testing.T) {
	l := NewFile(t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	err := l.Do(t.Context(), "acme", func(context.Context) error { return l.Do(ctx, "acme", nil) })
	if !errors.Is(err, ErrNotHeld) {
		t.Fatalf("Do within Do = %v, want ErrNotHeld", err)
	}
	if fd, err := descriptor(filepath.Join(l.dir, "acme.lock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("descriptor %d is still open, %v", fd, err)
	}
}

// descriptor finds this process's descriptor of the file at path.
func descriptor(path string) (int, error) {
	var want syscall.Stat_t
	if err := syscall.Stat(path, &want); err != nil {
		return -1, err
	}
	for fd := 3; fd < 1024; fd++ {
		var got syscall.Stat_t
		if syscall.Fstat(fd, &got) == nil && got.Dev == want.Dev && got.Ino == want.Ino {
			return fd, nil
		}
	}
	return -1, os.ErrNotExist
}

// Somebody cleaned the folder while a waiter had the file open. It must not hold
// what has lost its name: whoever comes next would hold another.
func TestFileThatWasRemovedExcludesAllTheSame(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		hold := func(d time.Duration) {
			_ = NewFile(dir).Do(t.Context(), "acme", func(context.Context) error {
				time.Sleep(d)
				return nil
			})
		}
		go hold(time.Second)
		synctest.Wait()
		go hold(10 * time.Second)
		time.Sleep(500 * time.Millisecond)
		if err := os.Remove(filepath.Join(dir, "acme.lock")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // the second holds
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := NewFile(dir).Do(ctx, "acme", func(context.Context) error { return nil })
		if !errors.Is(err, ErrNotHeld) {
			t.Errorf("Do = %v; two hold the lock at once", err)
		}
		time.Sleep(10 * time.Second)
	})
}
