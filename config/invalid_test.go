package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// complete is an environment that gives what has no default.
func complete(more ...string) []string {
	return append([]string{
		"PLEO_SIDECAR_OAUTH_CLIENT_ID=client",
		"PLEO_SIDECAR_OAUTH_CLIENT_SECRET=secret",
		"PLEO_SIDECAR_STORE_ENCRYPTION_KEYS=AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
	}, more...)
}

// Each file of testdata/invalid-*.yaml says in its first lines what must be said
// about it, all of it and in that order. The environment is complete unless the
// file says otherwise.
func TestMistakesAreNamedExactly(t *testing.T) {
	files, err := filepath.Glob("testdata/invalid-*.yaml")
	if err != nil || len(files) < 100 {
		t.Fatalf("found %d files, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(file, "testdata/invalid-"), ".yaml")
		t.Run(name, func(t *testing.T) {
			want, bare := expectation(t, file)
			environ := complete()
			if bare {
				environ = nil
			}
			_, err := Load(file, environ)
			if err == nil {
				t.Fatal("accepted")
			}
			if err.Error() != want {
				t.Errorf("got\n%s\nwant\n%s", err, want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("repeats what may be a secret")
			}
		})
	}
}

// expectation reads the comments at the head of a file.
func expectation(t *testing.T, file string) (want string, bare bool) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if mistake, ok := strings.CutPrefix(line, "# want: "); ok {
			lines = append(lines, strings.TrimSuffix(mistake, "\n"))
		}
		bare = bare || line == "# environment: empty\n"
	}
	return strings.Join(lines, "\n"), bare
}
