package tokens

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var errInjected = errors.New("injected")

// fakeDisk carries out the steps of durable writes on a real folder, notes them,
// and can let one fail or cut the power at it. When lazy it keeps in its cache
// what was not synced, as a disk may: content until Sync, renames and removals
// until the folder is synced.
type fakeDisk struct {
	lazy bool
	fail int // the step that fails, counted from 1; 0: none
	cut  bool
	step int
	done []string
	late []func() error
}

func (d *fakeDisk) ops() fileOps {
	return fileOps{
		create: func(name string) (durableFile, error) {
			if err := d.do("create"); err != nil {
				return nil, err
			}
			file, err := osOps.create(name)
			return &fakeFile{disk: d, file: file}, err
		},
		rename:  func(from, to string) error { return d.later("rename", func() error { return os.Rename(from, to) }) },
		remove:  func(name string) error { return d.later("remove", func() error { return os.Remove(name) }) },
		syncDir: d.syncDir,
	}
}

// do notes a step and reports whether it is to fail.
func (d *fakeDisk) do(step string) error {
	d.step++
	if d.step == d.fail || d.cut && d.fail != 0 && d.step > d.fail {
		return errInjected
	}
	d.done = append(d.done, step)
	return nil
}

func (d *fakeDisk) later(step string, do func() error) error {
	switch err := d.do(step); {
	case err != nil:
		return err
	case d.lazy:
		d.late = append(d.late, do)
		return nil
	default:
		return do()
	}
}

func (d *fakeDisk) syncDir(string) error {
	if err := d.do("sync folder"); err != nil {
		return err
	}
	late := d.late
	d.late = nil
	for _, do := range late {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

type fakeFile struct {
	disk  *fakeDisk
	file  durableFile
	cache bytes.Buffer
}

func (f *fakeFile) Write(b []byte) (int, error) {
	if err := f.disk.do("write"); err != nil {
		n, _ := f.file.Write(b[:len(b)/2]) // as a full disk does
		return n, err
	}
	f.cache.Write(b)
	if f.disk.lazy {
		return len(b), nil
	}
	_, err := f.cache.WriteTo(f.file)
	return len(b), err
}

func (f *fakeFile) Sync() error {
	if err := f.disk.do("sync"); err != nil {
		return err
	}
	_, err := f.cache.WriteTo(f.file)
	return err
}

func (f *fakeFile) Close() error { return errors.Join(f.disk.do("close"), f.file.Close()) }

func TestSaveSyncsTheFileThenItsNameInTheFolder(t *testing.T) {
	disk := &fakeDisk{}
	f := newTestFile(t, newDir(t), disk)
	disk.done = nil
	saveNext(t, f, "acme", 0)
	want := []string{"create", "write", "sync", "close", "rename", "sync folder"}
	if !slices.Equal(disk.done, want) {
		t.Errorf("Save did %q, want %q", disk.done, want)
	}
}

// TestPowerCutAtEachStepLeavesOneRecordWhole cuts the power at step 1, 2, ... of
// a Save until one gets through, on a disk that had written everything and on
// one that had written only what it was told to.
func TestPowerCutAtEachStepLeavesOneRecordWhole(t *testing.T) {
	for _, lazy := range []bool{false, true} {
		atEachStep(t, func(k int) (landed bool) {
			dir := newDir(t)
			disk := &fakeDisk{lazy: lazy, cut: true}
			f := newTestFile(t, dir, disk)
			first := saveNext(t, f, "acme", 0)
			disk.step, disk.fail = 0, k
			err := f.Save(t.Context(), "acme", nextAfter(first))
			landed = err == nil

			after := newTestFile(t, dir, nil)
			rec, loadErr := after.Load(t.Context(), "acme")
			switch {
			case loadErr != nil:
				t.Errorf("lazy %v, cut at step %d: Load = %v", lazy, k, loadErr)
			case landed && rec.Version != 2:
				t.Errorf("lazy %v, cut at step %d: Save = nil, but version %d is there", lazy, k, rec.Version)
			}
			wantFiles(t, dir, lockName, "acme.record")
			saveNext(t, after, "acme", rec.Version)
			return landed
		})
	}
}

// TestFailedStepLeavesNothingBehind is a full or broken disk: the step fails and
// the process lives on.
func TestFailedStepLeavesNothingBehind(t *testing.T) {
	atEachStep(t, func(k int) (landed bool) {
		dir := newDir(t)
		disk := &fakeDisk{}
		f := newTestFile(t, dir, disk)
		rec := nextAfter(saveNext(t, f, "acme", 0))
		disk.step, disk.fail = 0, k
		err := f.Save(t.Context(), "acme", rec)
		if landed = err == nil; !landed && !errors.Is(err, errInjected) {
			t.Errorf("step %d failed: Save = %v", k, err)
		}
		wantFiles(t, dir, lockName, "acme.record")
		renamed := slices.Contains(disk.done[len(disk.done)-min(k, len(disk.done)):], "rename")
		if got, err := f.Load(t.Context(), "acme"); err != nil || got.Version == 2 != renamed {
			t.Errorf("step %d failed: version %d, error %v; renamed: %v", k, got.Version, err, renamed)
		}
		disk.fail = 0
		if err := f.Save(t.Context(), "acme", rec); err != nil {
			t.Errorf("step %d failed: the same save again = %v", k, err)
		}
		return landed
	})
}

// atEachStep runs try for step 1, 2, ... until one landed.
func atEachStep(t *testing.T, try func(k int) (landed bool)) {
	t.Helper()
	for k := 1; !try(k); k++ {
		if k == 20 {
			t.Fatal("no write landed in 20 steps")
		}
	}
}

func TestRetryOfASaveSyncsTheFolderAgain(t *testing.T) {
	disk := &fakeDisk{}
	f := newTestFile(t, newDir(t), disk)
	rec := nextAfter(saveNext(t, f, "acme", 0))
	disk.step, disk.fail = 0, 6
	if err := f.Save(t.Context(), "acme", rec); !errors.Is(err, errInjected) {
		t.Fatalf("Save with a folder that cannot be synced = %v", err)
	}
	disk.done = nil
	if err := f.Save(t.Context(), "acme", rec); err != nil || !slices.Equal(disk.done, []string{"sync folder"}) {
		t.Errorf("Save again = %v after %q, want nil after the folder's sync", err, disk.done)
	}
}

func TestFolderIsMadePrivate(t *testing.T) {
	dir := newDir(t)
	saveNext(t, newTestFile(t, dir, nil), "acme", 0)
	for name, want := range map[string]fs.FileMode{".": 0o700, "acme.record": 0o600, lockName: 0o600} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("mode of %s is %v (%v), want %v", name, info.Mode().Perm(), err, want)
		}
	}
}

func TestFolderThatOthersCanEnterIsRefused(t *testing.T) {
	for _, mode := range []fs.FileMode{0o755, 0o710, 0o701, 0o770} {
		dir := newDir(t)
		mustDo(t, os.Mkdir(dir, 0o700))
		mustDo(t, os.Chmod(dir, mode))
		_, err := NewFile(dir)
		if err == nil || !strings.Contains(err.Error(), "chmod 0700 "+dir) {
			t.Errorf("NewFile on a folder of mode %v = %v, want advice to chmod", mode, err)
		}
		wantFiles(t, dir)
	}
}

func TestFolderOfOursThatAMountOpenedIsClosedAgain(t *testing.T) {
	dir := newDir(t)
	saveNext(t, newTestFile(t, dir, nil), "acme", 0)
	mustDo(t, os.Chmod(dir, 0o770|fs.ModeSetgid))
	if rec, err := newTestFile(t, dir, nil).Load(t.Context(), "acme"); err != nil || rec.Version != 1 {
		t.Errorf("Load = version %d, %v", rec.Version, err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode is %v (%v), want 0700", info.Mode().Perm(), err)
	}
}

func TestPathWithASlipIsNotAnEmptyStore(t *testing.T) {
	dir := t.TempDir()
	mustDo(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	for _, name := range []string{"no/such/folder", "file", "file/below"} {
		if _, err := NewFile(filepath.Join(dir, name)); err == nil {
			t.Errorf("NewFile(%q) is taken for a store", name)
		}
	}
}

func TestUnfinishedFilesOfAKilledProcessAreRemoved(t *testing.T) {
	dir := newDir(t)
	saveNext(t, newTestFile(t, dir, nil), "acme", 0)
	mustDo(t, os.WriteFile(filepath.Join(dir, ".acme.record.ABC.tmp"), []byte("half"), 0o600))
	mustDo(t, os.WriteFile(filepath.Join(dir, "notes.tmp"), []byte("not ours"), 0o600))
	newTestFile(t, dir, nil)
	wantFiles(t, dir, lockName, "acme.record", "notes.tmp")
}

func TestSaveGivesUpWaitingForTheLockWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := newDir(t)
		f := newTestFile(t, dir, nil)
		rec := nextAfter(saveNext(t, f, "acme", 0))
		other, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR, 0)
		mustDo(t, err)
		mustDo(t, syscall.Flock(int(other.Fd()), syscall.LOCK_EX))

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		late := make(chan error, 1)
		go func() { late <- f.Save(ctx, "acme", rec) }() // one waits for the lock, one for its turn
		if err := f.Save(ctx, "acme", rec); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Save while another process holds the lock = %v, want DeadlineExceeded", err)
		}
		if err := <-late; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Save behind it = %v, want DeadlineExceeded", err)
		}
		f.folder.turn <- struct{}{}
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := f.Save(ctx, "acme", rec); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Save while another of this process holds the turn = %v, want DeadlineExceeded", err)
		}
		<-f.folder.turn
		if got, err := f.Load(t.Context(), "acme"); err != nil || got.Version != 1 {
			t.Errorf("Load = version %d, %v; want version 1, without the lock", got.Version, err)
		}
		if _, err := NewFile(dir); err == nil || !strings.Contains(err.Error(), "held by another process") {
			t.Errorf("NewFile while another process holds the lock = %v", err)
		}

		go func() { late <- f.Save(t.Context(), "acme", rec) }()
		time.Sleep(time.Second)
		mustDo(t, other.Close())
		if err := <-late; err != nil {
			t.Errorf("Save after the lock was released = %v", err)
		}
	})
}

// newDir returns the path of a folder that is not there.
func newDir(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "store")
}

// newTestFile opens the store in dir on disk, on the real one if that is nil.
func newTestFile(t *testing.T, dir string, disk *fakeDisk) *File {
	t.Helper()
	ops := osOps
	if disk != nil {
		ops = disk.ops()
	}
	f, err := newFile(dir, ops)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// nextAfter returns a record to be saved on one that was saved.
func nextAfter(saved Record) Record {
	next := saved
	next.Seen.Version, next.Version = saved.Version, saved.Version+1
	next.Attempt = fmt.Sprintf("%s-%d", saved.Attempt, next.Version)
	return next
}

func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	mustDo(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, want) {
		t.Errorf("files %q, want %q", names, want)
	}
}

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
