package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// pkg is what go list tells of a package.
type pkg struct {
	ImportPath    string
	Dir           string
	Standard      bool
	GoFiles       []string
	Imports, Deps []string
	TestImports   []string
	XTestImports  []string
}

const module = "pleo-sidecar"

// listed returns the packages that the patterns of go list stand for.
func listed(t *testing.T, args ...string) map[string]pkg {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json"}, args...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]pkg{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
}

// ours returns those of paths that belong to this module.
func ours(paths []string) (found []string) {
	for _, path := range paths {
		if path == module || strings.HasPrefix(path, module+"/") {
			found = append(found, path)
		}
	}
	return found
}

// TestArrows holds which package may import which of ours. The reasons are those
// of the design: each part can be read, tested and replaced alone.
func TestArrows(t *testing.T) {
	may := map[string][]string{
		module: {module + "/config", module + "/lock", module + "/proxy", module + "/tokens"},
		// Imports nothing of ours, so that what an operator may say is no
		// package's options, and the other way round.
		module + "/config": nil,
		module + "/lock":   nil,
		module + "/tokens": {module + "/lock"},
		// Knows tokens, and neither locks nor configuration.
		module + "/proxy": {module + "/tokens"},
		// For tests.
		module + "/lock/locktest":    {module + "/lock"},
		module + "/tokens/storetest": {module + "/tokens"},
		module + "/tokens/pleosim":   nil,
		module + "/proxy/e2e":        nil,
	}
	for path, p := range listed(t, module+"/...") {
		if strings.HasPrefix(path, module+"/tokens/pleosim/cmd/") {
			continue // programs of their own
		}
		allowed, known := may[path]
		if !known {
			t.Errorf("%s has no sentence in the design", path)
		}
		for _, imported := range ours(p.Imports) {
			if !slices.Contains(allowed, imported) {
				t.Errorf("%s must not import %s", path, imported)
			}
		}
	}
}

func TestNobodyButMainReadsTheConfiguration(t *testing.T) {
	for path, p := range listed(t, module+"/...") {
		for _, imports := range [][]string{p.Imports, p.TestImports, p.XTestImports} {
			if slices.Contains(imports, module+"/config") && path != module {
				t.Errorf("%s imports config", path)
			}
		}
	}
}

func TestProductLinksNothingMadeForTests(t *testing.T) {
	for path := range listed(t, "-deps", module) {
		for _, forTests := range []string{"testing", module + "/tokens/pleosim", module + "/tokens/storetest", module + "/lock/locktest"} {
			if path == forTests {
				t.Errorf("the product links %s", path)
			}
		}
	}
}

func TestSimulatorStandsOnTheStandardLibraryAlone(t *testing.T) {
	for path, p := range listed(t, "-deps", module+"/tokens/pleosim/cmd/pleosim") {
		if !p.Standard && !strings.HasPrefix(path, module+"/tokens/pleosim") {
			t.Errorf("pleosim links %s", path)
		}
	}
}

// TestLibrariesStayWhereTheyAreWrapped holds who may import a library: each is
// known to one package, so that it can be judged, and replaced, there.
func TestLibrariesStayWhereTheyAreWrapped(t *testing.T) {
	const metrics = "github.com/prometheus/client_golang"
	may := map[string][]string{
		"github.com/spf13/viper":   {module + "/config"},
		"go.yaml.in/yaml/v3":       {module + "/config"},
		metrics:                    {module, module + "/tokens", module + "/proxy"},
		"github.com/redis":         {module, module + "/tokens", module + "/lock"},
		"github.com/bsm":           {module + "/lock"},
		"github.com/google/go-cmp": {module + "/tokens/storetest"},
	}
	for path, p := range listed(t, module+"/...") {
		for _, imported := range p.Imports {
			if !strings.Contains(strings.Split(imported, "/")[0], ".") || len(ours([]string{imported})) > 0 {
				continue // standard library, or ours
			}
			allowed := false
			for library, users := range may {
				allowed = allowed || strings.HasPrefix(imported, library) && slices.Contains(users, path)
			}
			if !allowed {
				t.Errorf("%s must not import %s", path, imported)
			}
		}
	}
}
