package tokens

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// spooled returns a living record with a pair that names it.
func spooled(root Fingerprint, epoch int64, generation, version uint64) Record {
	return Record{
		Version: version, Attempt: "attempt", Run: "run", State: StateOK,
		Root: root, Epoch: epoch, Generation: generation,
		Token: NewToken(Pair{Access: NewSecret("access-secret"), Refresh: NewSecret("refresh-secret")}),
	}
}

func newTestSpool(t *testing.T, dir string, disk *fakeDisk, keys ...byte) *Spool {
	t.Helper()
	ops := osOps
	if disk != nil {
		ops = disk.ops()
	}
	s, err := newSpool(dir, testRing(t, keys...), ops)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSpooledPairOutlivesItsProcess(t *testing.T) {
	dir := newDir(t)
	s := newTestSpool(t, dir, nil, 1)
	rec := spooled("root", 5, 3, 9)
	rec.Doubt, rec.Seen = true, Seen{8, "run"}
	mustDo(t, s.Put("acme-b", rec))
	mustDo(t, s.Put("acme", rec))
	entries, err := newTestSpool(t, dir, nil, 2, 1).All()
	if err != nil || len(entries) != 2 || entries[0].Connection != "acme" || entries[1].Connection != "acme-b" {
		t.Fatalf("All = %v, %v", entries, err)
	}
	got := entries[0].Record
	if got.Root != "root" || got.Epoch != 5 || got.Generation != 3 || got.Version != 9 || !got.Doubt || got.Run != "run" ||
		!got.Token.Refresh().Equal(rec.Token.Refresh()) || !got.Token.Access().Equal(rec.Token.Access()) || got.Sealed != nil {
		t.Errorf("All returns %+v", got)
	}
}

func TestSpoolShowsNoToken(t *testing.T) {
	dir := newDir(t)
	mustDo(t, newTestSpool(t, dir, nil, 1).Put("acme", spooled("root", 1, 1, 1)))
	data, err := os.ReadFile(filepath.Join(dir, "acme.spool"))
	if err != nil || strings.Contains(string(data), "secret") || strings.Contains(string(data), "c2VjcmV0") {
		t.Errorf("spool file: %s, %v", data, err)
	}
}

func TestSpoolKeepsTheNewestPair(t *testing.T) {
	for _, row := range []struct {
		what      string
		kept, put Record
		wantPut   bool
	}{
		{"next generation", spooled("a", 1, 1, 9), spooled("a", 1, 2, 3), true},
		{"former generation", spooled("a", 1, 2, 3), spooled("a", 1, 1, 9), false},
		{"same generation, later version", spooled("a", 1, 1, 3), spooled("a", 1, 1, 4), true},
		{"same generation, former version", spooled("a", 1, 1, 4), spooled("a", 1, 1, 3), false},
		{"newer grant", spooled("a", 1, 7, 7), spooled("b", 2, 0, 1), true},
		{"former grant", spooled("b", 2, 0, 1), spooled("a", 1, 7, 7), false},
	} {
		s := newTestSpool(t, newDir(t), nil, 1)
		mustDo(t, s.Put("acme", row.kept))
		mustDo(t, s.Put("acme", row.put))
		want := row.kept
		if row.wantPut {
			want = row.put
		}
		entries, err := s.All()
		if err != nil || len(entries) != 1 || entries[0].Record.Root != want.Root || entries[0].Record.Version != want.Version {
			t.Errorf("%s: All = %+v, %v", row.what, entries, err)
		}
	}
}

func TestSpooledPairIsRemovedOnceItIsReplaced(t *testing.T) {
	kept := spooled("a", 5, 3, 9)
	tombstone := Record{Version: 10, State: StateForgotten, Root: "random", Epoch: 6}
	for _, row := range []struct {
		what   string
		stored Record
		want   bool
	}{
		{"the same pair", kept, false},
		{"the same pair, claimed", spooled("a", 5, 3, 12), false},
		{"the same pair, wiped", kept.wipe(StateLoginRequired, "invalid_grant"), false},
		{"the pair before", spooled("a", 5, 2, 99), false},
		{"the next pair", spooled("a", 5, 4, 1), true},
		{"a newer grant", spooled("b", 6, 0, 1), true},
		{"a former grant", spooled("b", 4, 9, 99), false},
		{"a tombstone", tombstone, true},
		{"no record", Record{}, false},
	} {
		dir := newDir(t)
		s := newTestSpool(t, dir, nil, 1)
		mustDo(t, s.Put("acme", kept))
		mustDo(t, s.Put("acme2", kept))
		mustDo(t, s.Remove("acme", row.stored))
		want := []string{lockName, "acme.spool", "acme2.spool"}
		if row.want {
			want = []string{lockName, "acme2.spool"}
		}
		wantFiles(t, dir, want...)
		mustDo(t, s.Remove("absent", row.stored))
	}
}

func TestDamagedSpoolFilesAreNamedAndLeftAlone(t *testing.T) {
	dir := newDir(t)
	s := newTestSpool(t, dir, nil, 1)
	mustDo(t, s.Put("good", spooled("a", 1, 1, 1)))
	mustDo(t, newTestSpool(t, dir, nil, 7).Put("foreign", spooled("a", 1, 1, 1)))
	mustDo(t, os.WriteFile(filepath.Join(dir, "broken.spool"), []byte("{"), 0o600))
	entries, err := s.All()
	if len(entries) != 1 || entries[0].Connection != "good" {
		t.Errorf("All = %+v", entries)
	}
	for _, name := range []string{"broken.spool", "foreign.spool"} {
		if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, name)) {
			t.Errorf("All = %v, which does not name %s", err, name)
		}
		if err := s.Remove(strings.TrimSuffix(name, spoolSuffix), spooled("b", 9, 9, 9)); err == nil {
			t.Errorf("Remove of %s = nil", name)
		}
	}
	if !errors.Is(err, ErrSealed) {
		t.Errorf("All = %v, want ErrSealed among it", err)
	}
	wantFiles(t, dir, lockName, "broken.spool", "foreign.spool", "good.spool")
}

// TestDamagedSpoolFileDoesNotCostThePair holds that a pair is kept even where a
// file lies that cannot be read, and that the file is kept too.
func TestDamagedSpoolFileDoesNotCostThePair(t *testing.T) {
	dir := newDir(t)
	mustDo(t, newTestSpool(t, dir, nil, 7).Put("acme", spooled("a", 1, 1, 1)))
	s := newTestSpool(t, dir, nil, 1)
	mustDo(t, s.Put("acme", spooled("a", 1, 2, 2)))
	entries, err := s.All()
	if len(entries) != 1 || entries[0].Record.Generation != 2 {
		t.Errorf("All = %+v", entries)
	}
	if err == nil || !strings.Contains(err.Error(), "moved aside") {
		t.Errorf("All = %v, want a word on the file moved aside", err)
	}
	files, readErr := filepath.Glob(filepath.Join(dir, "acme"+asideSuffix+"*"))
	if readErr != nil || len(files) != 1 {
		t.Errorf("moved aside: %q, %v", files, readErr)
	}
}

func TestSpoolRefusesWhatIsNoPair(t *testing.T) {
	dir := newDir(t)
	s := newTestSpool(t, dir, nil, 1)
	wiped := spooled("a", 1, 1, 1).wipe(StateLoginRequired, "invalid_grant")
	bare := spooled("a", 1, 1, 1)
	bare.Token = Token{}
	for _, rec := range []Record{wiped, bare, {}} {
		if err := s.Put("acme", rec); err == nil {
			t.Errorf("Put of a record in state %q without a pair = nil", rec.State)
		}
	}
	if err := s.Put("../acme", spooled("a", 1, 1, 1)); err == nil {
		t.Error("Put under a name that is no connection = nil")
	}
	wantFiles(t, dir, lockName)
}

func TestPutIsDurable(t *testing.T) {
	disk := &fakeDisk{}
	s := newTestSpool(t, newDir(t), disk, 1)
	disk.done = nil
	mustDo(t, s.Put("acme", spooled("a", 1, 1, 1)))
	if want := []string{"create", "write", "sync", "close", "rename", "sync folder"}; !slices.Equal(disk.done, want) {
		t.Errorf("Put did %q, want %q", disk.done, want)
	}
	disk.done = nil
	mustDo(t, s.Remove("acme", spooled("a", 1, 2, 2)))
	if want := []string{"remove", "sync folder"}; !slices.Equal(disk.done, want) {
		t.Errorf("Remove did %q, want %q", disk.done, want)
	}
}

// TestPowerCutAtEachStepKeepsOneSpooledPair cuts the power at step 1, 2, ... of a
// Put, on a disk that had written only what it was told to.
func TestPowerCutAtEachStepKeepsOneSpooledPair(t *testing.T) {
	atEachStep(t, func(k int) (landed bool) {
		dir := newDir(t)
		disk := &fakeDisk{lazy: true, cut: true}
		s := newTestSpool(t, dir, disk, 1)
		mustDo(t, s.Put("acme", spooled("a", 1, 1, 1)))
		disk.step, disk.fail = 0, k
		landed = s.Put("acme", spooled("a", 1, 2, 2)) == nil
		entries, err := newTestSpool(t, dir, nil, 1).All()
		if err != nil || len(entries) != 1 || landed && entries[0].Record.Generation != 2 {
			t.Errorf("cut at step %d, landed %v: All = %+v, %v", k, landed, entries, err)
		}
		return landed
	})
}
