package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzLoad feeds the loader with broken files. It must not panic, must answer
// the same each time, and must not repeat a secret of the file, whatever
// surrounds it.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/invalid-*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, reference) {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ReplaceAll(text, "hunter2", canary)
		load := func() (Config, error) {
			found := &mistakes{}
			values, ok := document{"config.yaml", found}.decode([]byte(text))
			if !ok {
				return Config{}, found.err()
			}
			return assemble(values, complete(), nil, found)
		}
		c, err := load()
		if err == nil {
			checkFuzzed(t, c)
			return
		}
		if leaks(err.Error()) && !namesFile(c) {
			t.Errorf("repeats the secret: %v", err)
		}
		if strings.TrimSpace(err.Error()) == "" {
			t.Error("an error without words")
		}
		if _, again := load(); again == nil || again.Error() != err.Error() {
			t.Errorf("once\n%v\nthen\n%v", err, again)
		}
	})
}

// namesFile reports whether the secret stands where the path of a file belongs.
// That is repeated: a file that is not there cannot be found otherwise.
func namesFile(c Config) bool {
	for _, k := range keys {
		if strings.HasSuffix(k.path, fileSuffix) && leaks(k.field(&c).String()) {
			return true
		}
	}
	return false
}

// checkFuzzed checks promises about whatever is accepted.
func checkFuzzed(t *testing.T, c Config) {
	t.Helper()
	r := c.Refresh
	if r.SendWindow <= 0 || r.SendWindow >= r.Timeout || r.Timeout > r.Quiet() {
		t.Errorf("accepted limits that contradict each other: %+v", r)
	}
	if c.Callers.Token.IsZero() && !loopbackAddress(c.Listen) {
		t.Errorf("accepted %s without a token", c.Listen)
	}
	if strings.HasPrefix(c.OAuth.TokenURL, "http:") && !strings.Contains(c.OAuth.TokenURL, "localhost") &&
		!strings.Contains(c.OAuth.TokenURL, "127.") && !strings.Contains(c.OAuth.TokenURL, "::1") {
		t.Errorf("accepted %s", c.OAuth.TokenURL)
	}
	c.Warnings()
}
