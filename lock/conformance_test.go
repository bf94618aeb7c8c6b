package lock_test

import (
	"os"
	"path/filepath"
	"testing"

	"pleo-sidecar/lock"
	"pleo-sidecar/lock/locktest"
)

func TestLocalConforms(t *testing.T) {
	locktest.Run(t, func(*testing.T) locktest.Backend {
		l := lock.NewLocal()
		return locktest.Backend{New: func() lock.Locker { return l }}
	})
}

func TestZeroLocalConforms(t *testing.T) {
	locktest.Run(t, func(*testing.T) locktest.Backend {
		var l lock.Local
		return locktest.Backend{New: func() lock.Locker { return &l }}
	})
}

func TestFileConforms(t *testing.T) {
	locktest.Run(t, func(t *testing.T) locktest.Backend {
		dir := filepath.Join(t.TempDir(), "state", "locks")
		return locktest.Backend{
			New: func() lock.Locker { return lock.NewFile(dir) },
			// A folder that has become a file fails for root as well.
			Break: func() {
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(dir, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}
