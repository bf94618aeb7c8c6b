package tokens

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestRecordFileIsReadable(t *testing.T) {
	dir := newDir(t)
	saveNext(t, newTestFile(t, dir, nil), "acme", 0)
	data, err := os.ReadFile(filepath.Join(dir, "acme.record"))
	mustDo(t, err)
	for _, line := range []string{`"connection": "acme",`, `"version": 1,`, `"state": "ok",`, `"run": "file",`} {
		if !strings.Contains(string(data), "\n  "+line+"\n") {
			t.Errorf("record file lacks the line %s:\n%s", line, data)
		}
	}
}

func TestFileRefusesATokenInTheClear(t *testing.T) {
	f := newTestFile(t, newDir(t), nil)
	rec := nextAfter(saveNext(t, f, "acme", 0))
	rec.Token, rec.Sealed = NewToken(Pair{Refresh: NewSecret("r")}), nil
	if err := f.Save(t.Context(), "acme", rec); err == nil || !strings.Contains(err.Error(), "would store tokens in the clear") {
		t.Errorf("Save of a token that nobody sealed = %v", err)
	}
}

func TestRecordFileRemovedByHandIsNotFound(t *testing.T) {
	dir := newDir(t)
	f := newTestFile(t, dir, nil)
	saveNext(t, f, "acme", 0)
	mustDo(t, os.Remove(filepath.Join(dir, "acme.record")))
	if _, err := f.Load(t.Context(), "acme"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Load = %v, want ErrNotFound", err)
	}
}

func TestFolderThatWentAwayIsNotAnEmptyStore(t *testing.T) {
	dir := newDir(t)
	f := newTestFile(t, dir, nil)
	saveNext(t, f, "acme", 0)
	mustDo(t, os.Rename(dir, dir+"-away"))
	for _, state := range []string{"missing", "empty"} {
		if _, err := f.Load(t.Context(), "acme"); err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), dir) {
			t.Errorf("folder %s: Load = %v, want an error that names it", state, err)
		}
		if _, err := f.List(t.Context()); err == nil {
			t.Errorf("folder %s: List = nil", state)
		}
		if state == "missing" {
			mustDo(t, os.Mkdir(dir, 0o700))
		}
	}
}

// TestDamagedRecordIsAnErrorThatNamesItsFile holds that damage is never taken
// for absence and never overwritten.
func TestDamagedRecordIsAnErrorThatNamesItsFile(t *testing.T) {
	dir := newDir(t)
	f := newTestFile(t, dir, nil)
	rec := saveNext(t, f, "acme", 0)
	name := filepath.Join(dir, "acme.record")
	good, err := os.ReadFile(name)
	mustDo(t, err)
	edit := func(from, to string) []byte {
		if !bytes.Contains(good, []byte(from)) {
			t.Fatalf("no %q in the record", from)
		}
		return bytes.Replace(good, []byte(from), []byte(to), 1)
	}
	damaged := map[string][]byte{
		"unknown field":      edit(`"doubt"`, `"extra": 1, "doubt"`),
		"missing field":      edit(`  "doubt": false,`, ``),
		"repeated field":     edit(`"doubt": false`, `"doubt": true, "doubt": false`),
		"field in capitals":  edit(`"doubt"`, `"Doubt"`),
		"null for a field":   edit(`"doubt": false`, `"doubt": null`),
		"other connection":   edit(`"acme"`, `"acme2"`),
		"other format":       edit(`"format": 1`, `"format": 2`),
		"unknown state":      edit(`"ok"`, `"okay"`),
		"version 0":          edit(`"version": 1`, `"version": 0`),
		"version with a dot": edit(`"version": 1`, `"version": 1.0`),
		"not base64":         edit(`"AQ=="`, `"AQ="`),
		"data after it":      append(bytes.Clone(good), "{}"...),
		"null":               []byte("null"),
		"zeros":              make([]byte, len(good)),
		"too large":          append(bytes.Clone(good), bytes.Repeat([]byte(" "), maxRecord)...),
	}
	copied := damaged["other connection"]
	for n := range len(good) - 1 { // the last byte is a newline that nobody needs
		damaged["truncated to "+string(good[:n])] = good[:n]
	}
	for what, data := range damaged {
		mustDo(t, os.WriteFile(name, data, 0o600))
		_, err := f.Load(t.Context(), "acme")
		if err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: Load = %v, want an error that names the file", what, err)
		}
		for _, rec := range []Record{nextAfter(rec), {Version: 1, Attempt: "a", State: StateOK, Seen: Seen{Run: fileRun}}} {
			if err := f.Save(t.Context(), "acme", rec); err == nil || errors.Is(err, ErrConflict) {
				t.Errorf("%s: Save = %v, want a refusal", what, err)
			}
		}
		if left, err := os.ReadFile(name); err != nil || !bytes.Equal(left, data) {
			t.Errorf("%s: the file was changed (%v)", what, err)
		}
	}
	mustDo(t, os.WriteFile(name, copied, 0o600))
	if _, err := f.Load(t.Context(), "acme"); err == nil || !strings.Contains(err.Error(), "another connection") {
		t.Errorf("Load of a file copied from another connection = %v", err)
	}
	mustDo(t, os.WriteFile(name, good, 0o600))
	saveNext(t, f, "acme", 1)
}

func TestRecordThatIsNoFileIsRefused(t *testing.T) {
	dir := newDir(t)
	f := newTestFile(t, dir, nil)
	saveNext(t, f, "real", 0)
	mustDo(t, os.Symlink("real.record", filepath.Join(dir, "link.record")))
	mustDo(t, os.Symlink("nowhere", filepath.Join(dir, "dangling.record")))
	mustDo(t, os.Mkdir(filepath.Join(dir, "folder.record"), 0o700))
	mustDo(t, syscall.Mkfifo(filepath.Join(dir, "pipe.record"), 0o600))
	for _, connection := range []string{"link", "dangling", "folder", "pipe"} {
		if _, err := f.Load(t.Context(), connection); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("Load of a %s = %v", connection, err)
		}
		rec := Record{Version: 1, Attempt: "a", State: StateOK, Seen: Seen{Run: fileRun}, Sealed: []byte{1}}
		if err := f.Save(t.Context(), connection, rec); err == nil {
			t.Errorf("Save over a %s landed", connection)
		}
	}
}

func TestListLeavesOutWhatIsNoRecord(t *testing.T) {
	dir := newDir(t)
	f := newTestFile(t, dir, nil)
	saveNext(t, f, "acme-b", 0)
	saveNext(t, f, "acme", 0)
	for _, name := range []string{"README", "UP.record", ".record", "x.record.bak", "a.spool"} {
		mustDo(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	if names, err := f.List(t.Context()); err != nil || !slices.Equal(names, []string{"acme", "acme-b"}) {
		t.Errorf("List = %q, %v", names, err)
	}
}

func TestWatchTellsOwnSavesAtOnceAndOthersWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := newDir(t)
		f, other := newTestFile(t, dir, nil), newTestFile(t, dir, nil)
		saveNext(t, f, "acme", 0)
		told := watchAll(t, f)
		wantTold(t, told, "")
		time.Sleep(3 * watchEvery)
		wantTold(t, told, "acme") // may have changed while Watch began

		saveNext(t, f, "acme", 1)
		wantTold(t, told, "acme")
		time.Sleep(3 * watchEvery)
		wantTold(t, told, "acme", "acme")

		saveNext(t, other, "zebra", 0)
		wantTold(t, told)
		time.Sleep(watchEvery)
		wantTold(t, told, "zebra")
		time.Sleep(10 * watchEvery)
		wantTold(t, told, "zebra") // once more, and never again

		mustDo(t, os.Remove(filepath.Join(dir, "zebra.record")))
		time.Sleep(watchEvery)
		wantTold(t, told, "zebra")
	})
}

func TestWatchOutlivesAFolderThatGoesAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := newDir(t)
		f := newTestFile(t, dir, nil)
		told := watchAll(t, f)
		wantTold(t, told, "")
		mustDo(t, os.Rename(dir, dir+"-away"))
		time.Sleep(3 * watchEvery)
		wantTold(t, told)
		mustDo(t, os.Rename(dir+"-away", dir))
		time.Sleep(3 * watchEvery)
		wantTold(t, told, "")
	})
}

// watchAll collects what Watch tells until the test ends.
func watchAll(t *testing.T, f *File) chan string {
	told := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.Watch(ctx, func(connection string) { told <- connection }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Watch = %v", err)
		}
	})
	return told
}

// wantTold takes what was told so far.
func wantTold(t *testing.T, told chan string, want ...string) {
	t.Helper()
	synctest.Wait()
	var got []string
	for len(told) > 0 {
		got = append(got, <-told)
	}
	if !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

// TestChangeBehindTheSameStampIsTold is what a coarse clock and a reused inode
// can do: two changes, one stamp.
func TestChangeBehindTheSameStampIsTold(t *testing.T) {
	s := stamp{modified: time.Unix(1, 0), size: 7, inode: 3, again: true}
	look := func() map[string]stamp { return map[string]stamp{"acme": s} }
	before := map[string]stamp{}
	for n, want := range []int{1, 1, 0, 0} {
		after := look()
		if got := compareStamps(before, after); len(got) != want {
			t.Errorf("look %d tells of %q, want %d", n, got, want)
		}
		before = after
	}
	for _, change := range []func(){
		func() { s.modified = time.Unix(1, 1) }, func() { s.size++ }, func() { s.inode++ },
	} {
		change()
		after := look()
		if got := compareStamps(before, after); !slices.Equal(got, []string{"acme"}) {
			t.Errorf("a changed stamp tells of %q", got)
		}
		before = look()
		before["acme"] = stamp{s.modified, s.size, s.inode, false}
	}
}

// inChild is the name of the variable that tells a copy of the test program
// which part of a test to play, and on which folder.
const inChild = "TOKENS_TEST_CHILD"

// child returns a copy of this program that runs the same test again.
func child(t *testing.T, dir string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), inChild+"="+dir, "GORACE=atexit_sleep_ms=0") // or each child ends a second late
	return cmd
}

func TestFullDiskKeepsTheOldRecord(t *testing.T) {
	if dir := os.Getenv(inChild); dir != "" {
		saveOnAFullDisk(t, dir)
		return
	}
	dir := newDir(t)
	if out, err := child(t, dir).CombinedOutput(); err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	wantFiles(t, dir, lockName, "acme.record")
	if rec, err := newTestFile(t, dir, nil).Load(t.Context(), "acme"); err != nil || rec.Version != 1 {
		t.Errorf("Load = version %d, %v; want version 1", rec.Version, err)
	}
}

// saveOnAFullDisk fills it by a limit on the size of files, which the kernel
// enforces for root as well; the signal that it sends is ignored so that the
// write fails.
func saveOnAFullDisk(t *testing.T, dir string) {
	f := newTestFile(t, dir, nil)
	rec := nextAfter(saveNext(t, f, "acme", 0))
	rec.Sealed = make([]byte, 16<<10)
	signal.Ignore(syscall.SIGXFSZ)
	mustDo(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 4096, Max: 4096}))
	if err := f.Save(t.Context(), "acme", rec); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("Save on a full disk = %v, want EFBIG", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "acme.record")); errors.Is(err, fs.ErrNotExist) {
		t.Error("the record is gone")
	}
}

func TestSeveralProcessesShareOneFolder(t *testing.T) {
	const processes, writes = 3, 30
	if dir := os.Getenv(inChild); dir != "" {
		f := newTestFile(t, dir, nil)
		for range writes {
			increment(t, f)
		}
		return
	}
	dir := newDir(t)
	f := newTestFile(t, dir, nil)
	var children []*exec.Cmd
	for range processes {
		cmd := child(t, dir)
		cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
		mustDo(t, cmd.Start())
		children = append(children, cmd)
	}
	for _, cmd := range children {
		if err := cmd.Wait(); err != nil {
			t.Errorf("child: %v", err)
		}
	}
	if rec, err := f.Load(t.Context(), "acme"); err != nil || rec.Generation != processes*writes {
		t.Errorf("after %d updates: generation %d, %v", processes*writes, rec.Generation, err)
	}
}

// increment raises the generation by one, however often others come first.
func increment(t *testing.T, s Store) {
	t.Helper()
	for {
		rec, err := s.Load(t.Context(), "acme")
		if err != nil && !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		rec.State, rec.Sealed = StateOK, []byte{sealFormat}
		rec.Version, rec.Attempt = rec.Seen.Version+1, rand.Text()
		rec.Generation++
		err = s.Save(t.Context(), "acme", rec)
		if err == nil {
			return
		}
		if !errors.Is(err, ErrConflict) {
			t.Fatal(err)
		}
	}
}

// TestKilledProcessLeavesAWholeRecordAndNoLock kills a process in the middle of
// its saves: each version that it reported stands, and others go on.
func TestKilledProcessLeavesAWholeRecordAndNoLock(t *testing.T) {
	if dir := os.Getenv(inChild); dir != "" {
		for f := newTestFile(t, dir, nil); ; {
			increment(t, f)
			os.Stdout.WriteString("saved\n")
		}
	}
	dir := newDir(t)
	for range 5 {
		cmd := child(t, dir)
		out, err := cmd.StdoutPipe()
		mustDo(t, err)
		mustDo(t, cmd.Start())
		for n, lines := 0, bufio.NewScanner(out); n < 5 && lines.Scan(); n++ {
		}
		mustDo(t, cmd.Process.Kill())
		_ = cmd.Wait() // says that it was killed
	}
	f := newTestFile(t, dir, nil)
	wantFiles(t, dir, lockName, "acme.record")
	rec, err := f.Load(t.Context(), "acme")
	if err != nil || rec.Generation < 25 {
		t.Errorf("Load = generation %d, %v; want 25 at least", rec.Generation, err)
	}
	increment(t, f)
}
