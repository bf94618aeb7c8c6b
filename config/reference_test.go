package config

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// reference is the file that documents every setting.
const reference = "../config.example.yaml"

func TestTheReferenceHasEverySettingAndNoOther(t *testing.T) {
	documented, _ := walkReference(t)
	for _, path := range under("") {
		if !slices.Contains(documented, path) {
			t.Errorf("%s is not documented", path)
		}
	}
	for _, path := range documented {
		if _, ok := keyAt(path); !ok {
			t.Errorf("%s is documented and does not exist", path)
		}
	}
	if !slices.Equal(documented, under("")) {
		t.Error("the order is not that of the fields")
	}
}

func TestTheReferenceSaysSomethingAboutEverySetting(t *testing.T) {
	if _, silent := walkReference(t); len(silent) > 0 {
		t.Errorf("nothing about %v", silent)
	}
}

func TestTheReferenceShowsTheDefaults(t *testing.T) {
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	found := &mistakes{}
	values, ok := document{reference, found}.decode(text)
	if !ok || len(*found) > 0 {
		t.Fatal(found.err())
	}
	base := defaults()
	for _, k := range keys {
		var shown any = values
		for name := range strings.SplitSeq(k.path, ".") {
			shown = shown.(map[string]any)[name]
		}
		want := k.field(&base)
		if k.list() && reflect.ValueOf(shown).Len()+want.Len() == 0 {
			continue // nil and empty are the same list
		}
		if !reflect.DeepEqual(shown, want.Interface()) {
			t.Errorf("%s: the file shows %v, the default is %v", k.path, shown, want)
		}
	}
}

func TestTheReferenceLoadsOnceTheRequiredIsGiven(t *testing.T) {
	c, err := Load(reference, complete())
	if err != nil {
		t.Fatal(err)
	}
	if w := c.Warnings(); len(w) > 0 {
		t.Errorf("warns about its own defaults: %q", w)
	}
	_, err = Load(reference, nil)
	want := `oauth.client_id: is required
oauth.client_secret: is required, as a value or as a file
store.encryption.keys: must not be empty for store kind file: run pleo-sidecar keygen`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestTheReferenceNamesThePresets(t *testing.T) {
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	p := presets["production"]
	for _, url := range []string{p.authorization, p.token, p.introspection, p.upstream, presets["staging"].upstream} {
		if !strings.Contains(string(text), "Empty: "+url) && !strings.Contains(string(text), "or "+url) {
			t.Errorf("does not say that the default is %s", url)
		}
	}
}

// walkReference returns the paths of the settings in the reference, and those of
// them that have no comment.
func walkReference(t *testing.T) (documented, silent []string) {
	t.Helper()
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	var walk func(prefix string, n *yaml.Node)
	walk = func(prefix string, n *yaml.Node) {
		for i := 0; i < len(n.Content); i += 2 {
			name, value := n.Content[i], n.Content[i+1]
			path := prefix + name.Value
			if value.Kind == yaml.MappingNode {
				walk(path+".", value)
				continue
			}
			documented = append(documented, path)
			if name.HeadComment+value.LineComment == "" {
				silent = append(silent, path)
			}
		}
	}
	walk("", root.Content[0])
	return documented, silent
}
