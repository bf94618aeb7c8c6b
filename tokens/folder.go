package tokens

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// lockName is the file that processes lock (flock(2)) while they change the
	// folder. It also marks the folder as ours: without it, a record file that is
	// missing means that another folder stands in its place, such as the mount
	// point of a volume that went away.
	lockName = ".store.lock"
	// tempSuffix ends the names of files that are not yet whole.
	tempSuffix = ".tmp"

	// lockPoll is the longest wait between two tries for the lock. Others hold it
	// for one write, a few milliseconds; flock(2) could wait, but not give up.
	lockPoll = 20 * time.Millisecond
	// lockPatience is how long callers without a context of their own wait.
	lockPatience = 10 * time.Second
)

// folder is a private folder on a local disk whose files change whole or not at
// all, for several processes. File and Spool stand on it.
type folder struct {
	dir string
	ops fileOps
	// turn is held by the one goroutine of this process that waits for the lock
	// or holds it: a channel, because waiting for it can be given up.
	turn chan struct{}
}

// fileOps are the steps of a durable write. They are apart so that a test can
// see their order and let any of them fail.
type fileOps struct {
	create  func(name string) (durableFile, error)
	rename  func(from, to string) error
	remove  func(name string) error
	syncDir func(name string) error
}

type durableFile interface {
	io.WriteCloser
	Sync() error
}

var osOps = fileOps{
	create: func(name string) (durableFile, error) {
		return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	},
	rename:  os.Rename,
	remove:  os.Remove,
	syncDir: syncDir,
}

func syncDir(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// openFolder returns the folder dir, made if it is missing (the folder above
// must exist: a path with a slip in it shall not become a new, empty store), and
// freed of the unfinished files of processes that were killed.
func openFolder(dir string, ops fileOps) (*folder, error) {
	f := &folder{dir: dir, ops: ops, turn: make(chan struct{}, 1)}
	if err := f.prepare(); err != nil {
		return nil, fmt.Errorf("open folder %q: %w", dir, err)
	}
	return f, nil
}

func (f *folder) prepare() error {
	switch err := os.Mkdir(f.dir, 0o700); {
	case err == nil:
		if err := f.ops.syncDir(filepath.Dir(f.dir)); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	if err := f.closeToOthers(); err != nil {
		return err
	}
	mark, err := os.OpenFile(f.path(lockName), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	if err := mark.Close(); err != nil {
		return err
	}
	return f.clean()
}

// closeToOthers refuses a folder that others can enter, unless it is ours
// already: Kubernetes opens each folder of a volume to the pod's fsGroup when it
// mounts it, ours as well, and that is mended.
func (f *folder) closeToOthers() error {
	info, err := os.Stat(f.dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return errors.New("not a folder")
	case info.Mode().Perm()&0o077 == 0:
		return nil
	}
	if _, err := os.Lstat(f.path(lockName)); err == nil && os.Chmod(f.dir, 0o700) == nil {
		return nil
	}
	return fmt.Errorf("mode %#o lets others in: give a folder of its own, or run chmod 0700 %s", info.Mode().Perm(), f.dir)
}

// clean removes unfinished files. Under the lock none of them is being written.
func (f *folder) clean() error {
	unlock, err := f.lockPatiently()
	if err != nil {
		return err
	}
	defer unlock()
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasPrefix(name, ".") && strings.HasSuffix(name, tempSuffix) {
			if err := f.ops.remove(f.path(name)); err != nil {
				return err
			}
		}
	}
	return f.ops.syncDir(f.dir)
}

func (f *folder) path(name string) string { return filepath.Join(f.dir, name) }

// lock waits until this goroutine is the only one of all processes that may
// change the folder.
func (f *folder) lock(ctx context.Context) (unlock func(), err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case f.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	file, err := f.flock(ctx)
	if err != nil {
		<-f.turn
		return nil, err
	}
	return func() {
		_ = file.Close() // which unlocks
		<-f.turn
	}, nil
}

// lockPatiently is lock for callers that cannot be cancelled.
func (f *folder) lockPatiently() (unlock func(), err error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), lockPatience,
		fmt.Errorf("lock %q: held by another process for %v", f.path(lockName), lockPatience))
	defer cancel()
	return f.lock(ctx)
}

func (f *folder) flock(ctx context.Context) (*os.File, error) {
	// Without O_CREATE: see lockName.
	file, err := os.OpenFile(f.path(lockName), os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	for wait := time.Millisecond; ; wait = min(2*wait, lockPoll) {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = file.Close()
			return nil, fmt.Errorf("lock %q: %w", file.Name(), err)
		}
		select {
		case <-time.After(wait/2 + mathrand.N(wait/2)): // jitter: two waiters do not stay in step
		case <-ctx.Done():
			_ = file.Close()
			return nil, context.Cause(ctx)
		}
	}
}

// read returns a whole file. Its error is fs.ErrNotExist only if the folder is
// there and the file is not.
func (f *folder) read(name string) ([]byte, error) {
	// O_NOFOLLOW: a link would let others choose the file. O_NONBLOCK: a pipe in
	// its place must not hold us; it has no meaning for a regular file.
	file, err := os.OpenFile(f.path(name), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if _, gone := os.Lstat(f.path(lockName)); gone != nil {
			return nil, fmt.Errorf("folder %q is not there or is another one: %s is missing", f.dir, lockName)
		}
	}
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("read %q: not a regular file", file.Name())
	case info.Size() > maxRecord:
		return nil, fmt.Errorf("read %q: damaged: larger than %d bytes", file.Name(), maxRecord)
	}
	return io.ReadAll(io.LimitReader(file, maxRecord+1))
}

// replace puts data in the place of the file, durably: after a crash at any
// point the file holds what it held or data, and data once replace returned nil.
// An error of the last step leaves open which. The caller holds the lock.
func (f *folder) replace(name string, data []byte) error {
	temp := f.path("." + name + "." + rand.Text() + tempSuffix)
	err := f.write(temp, data)
	if err == nil {
		err = f.ops.rename(temp, f.path(name))
	}
	if err != nil {
		_ = f.ops.remove(temp) // what stays is removed by the next openFolder
		return err
	}
	return f.sync()
}

func (f *folder) write(temp string, data []byte) error {
	file, err := f.ops.create(temp)
	if err != nil {
		return err
	}
	if _, err := file.Write(data); err != nil {
		return errors.Join(err, file.Close())
	}
	// Before the rename, or a power cut leaves the new name on an empty file.
	if err := file.Sync(); err != nil {
		return errors.Join(err, file.Close())
	}
	return file.Close()
}

// sync makes renames durable.
func (f *folder) sync() error { return f.ops.syncDir(f.dir) }

// list returns the entries whose names are a connection name and suffix.
func (f *folder) list(suffix string) ([]fs.DirEntry, error) {
	if _, err := os.Lstat(f.path(lockName)); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, err
	}
	var found []fs.DirEntry
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if ok && ValidConnection(name) {
			found = append(found, e)
		}
	}
	return found, nil
}
