package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"pleo-sidecar/tokens/pleosim"
)

func TestFullDiskIsOneClearMessageAndCostsNothing(t *testing.T) {
	w := newWorld(t, pleosim.Options{})
	disk := smallDisk(t)
	w.with("STORE_FILE_DIR=" + filepath.Join(disk, "tokens"))
	w.start().stop()
	w.grantTo("default")
	fillers := fill(t, disk)

	code, out := w.run(w.Grant(), "import", "acme")
	if code != 1 || !strings.Contains(out, "no space left on device") || !strings.Contains(out, "hint: free space on the disk") ||
		strings.Count(out, "pleo-sidecar: ") != 1 || !strings.Contains(out, disk) {
		t.Errorf("import ended with %d: %s", code, out)
	}
	if code, out := w.run("", "check"); code != 1 || !strings.Contains(out, "fail  store.file.dir: ") {
		t.Errorf("check ended with %d: %s", code, out)
	}
	s := w.start()
	if r := s.want(whoami, 503); r.slug() != "store-unavailable" {
		t.Errorf("got %q: %s", r.slug(), r.body)
	}
	if n := w.presentations(); n != 0 {
		t.Errorf("%d refresh tokens presented that could not be saved", n)
	}

	for _, name := range fillers {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	until(t, func() bool { return s.get(whoami).status == 200 })
	s.stop()
	if n := w.presentations(); n != 1 {
		t.Errorf("%d presentations", n)
	}
}

// smallDisk mounts a file system of 256 KiB, which only root can.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k,mode=0700"); err != nil {
		t.Skipf("a full disk needs the right to mount a small one: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill leaves no room on a disk, and returns what to remove to have it back.
func fill(t *testing.T, disk string) []string {
	t.Helper()
	name := filepath.Join(disk, "filler")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for chunk := make([]byte, 4<<10); err == nil; {
		_, err = file.Write(chunk)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return []string{name}
}
