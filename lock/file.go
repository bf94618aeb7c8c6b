package lock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// A waiter tries again after 5 ms, then after twice as long each time, up to
// 250 ms. The first is about as long as a save with its fsync takes, so a short
// holder costs little; the last is small beside a refresh, which is what is
// usually waited for, and costs four system calls a second.
const (
	firstPause = 5 * time.Millisecond
	longPause  = 250 * time.Millisecond
)

// File is a Locker for the processes of one machine. A lock is flock(2) on a
// file of its own, so the kernel frees it when its holder ends, kill -9
// included, and there is no lease to lose.
//
// Local file systems only: over NFS the mount options decide whether machines
// exclude each other, and a machine that dies may keep its locks for long.
//
// A lock file is never deleted. Between opening and locking it, a waiter holds
// a file without a lock; were the holder to unlink that file on release, the
// waiter would lock a file without a name, the next comer would create and lock
// another, and both would run.
type File struct {
	dir string
}

// NewFile returns a Locker with its lock files in dir, as <name>.lock. The
// folder is made when the first lock is taken. Nothing else may flock those
// files. After a release, or a kill, a file still names its last holder; only
// the kernel knows whether it is locked.
func NewFile(dir string) *File { return &File{dir: dir} }

// Do implements Locker.
func (l *File) Do(ctx context.Context, name string, fn func(ctx context.Context) error) error {
	if err := checkName(name); err != nil {
		return err
	}
	f, err := l.obtain(ctx, name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	// Close alone would not release while a child that another goroutine is
	// just forking still shares the open file; an unlock counts for both.
	defer func() { _ = flock(f, syscall.LOCK_UN) }()
	sign(f)
	return fn(ctx)
}

// obtain returns the lock file of name, locked. A file that lost its name while
// we waited for it excludes nobody who comes later, so it is opened again.
func (l *File) obtain(ctx context.Context, name string) (*os.File, error) {
	for {
		f, err := l.open(name)
		if err != nil {
			return nil, unavailable(name, err)
		}
		if err := waitFlock(ctx, name, f); err != nil {
			_ = f.Close()
			return nil, err
		}
		ours, err := f.Stat()
		if named, there := os.Lstat(f.Name()); err == nil && there == nil && os.SameFile(ours, named) {
			return f, nil
		}
		_ = f.Close()
	}
}

// open opens the lock file of name, each time anew: flock excludes by open
// file, so two callers in one process exclude each other like two processes.
func (l *File) open(name string) (*os.File, error) {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return nil, err
	}
	// O_NOFOLLOW: a link planted here would have sign overwrite its target.
	const flags = os.O_RDWR | os.O_CREATE | syscall.O_NOFOLLOW
	return os.OpenFile(filepath.Join(l.dir, name+".lock"), flags, 0o600)
}

// waitFlock locks f, trying until ctx ends. A flock that blocks would need no
// pauses, but it cannot be given up: its thread would stay behind and obtain
// the lock for nobody.
func waitFlock(ctx context.Context, name string, f *os.File) error {
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		if ctx.Err() != nil {
			return notHeld(ctx, name)
		}
		err := flock(f, syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		// Held, or a signal came first; all else means there is no flock here.
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return unavailable(name, err)
		}
		select {
		case <-time.After(jitter(pause)):
		case <-ctx.Done():
		}
	}
}

// jitter spreads waiters that began together: half of pause is certain, half is
// by chance.
func jitter(pause time.Duration) time.Duration {
	return pause/2 + rand.N(pause/2+1)
}

// flock applies how to f and names the file in its error.
func flock(f *os.File, how int) error {
	if err := syscall.Flock(int(f.Fd()), how); err != nil {
		return &os.PathError{Op: "flock", Path: f.Name(), Err: err}
	}
	return nil
}

// sign writes the holder into the lock file, for people who look there. Nothing
// reads it, so a full disk is no reason not to run.
func sign(f *os.File) {
	text := fmt.Sprintf("pid %d since %s\n", os.Getpid(), time.Now().UTC().Format(time.RFC3339))
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(text), 0)
	}
}
