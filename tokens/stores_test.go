package tokens_test

import (
	"os"
	"path/filepath"
	"testing"

	"pleo-sidecar/tokens"
	"pleo-sidecar/tokens/storetest"
)

func TestMemoryIsAStore(t *testing.T) {
	storetest.Run(t, memoryBackend(tokens.NewMemory()))
}

func TestMemoryKeepsWhatOthersSealed(t *testing.T) {
	b := memoryBackend(tokens.NewMemory())
	b.Bare = true
	storetest.Run(t, b)
}

func TestSealedMemoryIsAStore(t *testing.T) {
	storetest.Run(t, sealed(t, memoryBackend(tokens.NewMemory())))
}

func TestFileIsAStore(t *testing.T) {
	t.Parallel() // waits for looks at the folder
	storetest.Run(t, fileBackend(t))
}

func TestSealedFileIsAStoreAndShowsNoToken(t *testing.T) {
	t.Parallel()
	storetest.Run(t, sealed(t, fileBackend(t)))
}

func memoryBackend(m *tokens.Memory) storetest.Backend {
	return storetest.Backend{
		Open:     func(*testing.T) tokens.Store { return m },
		Index:    func(*testing.T) tokens.Index { return m },
		NewRun:   func(*testing.T) { m.NewRun() },
		Rollback: func(*testing.T) func() { return m.Rollback() },
	}
}

// fileBackend opens stores on one folder that is scanned for tokens in the end.
func fileBackend(t *testing.T) storetest.Backend {
	dir := filepath.Join(t.TempDir(), "store")
	open := func(t *testing.T) *tokens.File {
		f, err := tokens.NewFile(dir)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	t.Cleanup(func() { wantNoToken(t, dir) })
	return storetest.Backend{
		Bare:  true,
		Open:  func(t *testing.T) tokens.Store { return open(t) },
		Index: func(t *testing.T) tokens.Index { return open(t) },
		Rollback: func(t *testing.T) func() {
			backup := t.TempDir()
			must(t, os.CopyFS(filepath.Join(backup, "b"), os.DirFS(dir)))
			return func() {
				must(t, os.Rename(dir, filepath.Join(backup, "lost")))
				must(t, os.Rename(filepath.Join(backup, "b"), dir))
			}
		},
		Unreachable: func(t *testing.T) func() {
			must(t, os.Rename(dir, dir+"-away"))
			must(t, os.Mkdir(dir, 0o700)) // the empty mount point
			return func() {
				must(t, os.Remove(dir))
				must(t, os.Rename(dir+"-away", dir))
			}
		},
	}
}

// sealed wraps the stores of b.
func sealed(t *testing.T, b storetest.Backend) storetest.Backend {
	keys := keyring(t)
	open := b.Open
	b.Bare = false
	b.Open = func(t *testing.T) tokens.Store { return tokens.Seal(open(t), keys) }
	return b
}

func keyring(t *testing.T) *tokens.Keyring {
	t.Helper()
	key, err := tokens.NewKey()
	must(t, err)
	ring, err := tokens.NewKeyring(key)
	must(t, err)
	return ring
}

// wantNoToken reads every file under dir.
func wantNoToken(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) < 2 {
		t.Errorf("%d files to scan for tokens, want some", len(entries))
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		must(t, err)
		if form := storetest.Reveals(data); form != "" {
			t.Errorf("%s shows a token, %s", e.Name(), form)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
