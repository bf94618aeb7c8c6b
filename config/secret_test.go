package config

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// canary is the text of every secret in these tests.
const canary = "c4nary.c4nary.c4nary"

// secretive returns a configuration with a canary in every secret.
func secretive() Config {
	c := Default()
	for _, k := range keys {
		switch k.typ {
		case secretType:
			k.field(&c).Set(reflect.ValueOf(NewSecret(canary)))
		case secretsType:
			k.field(&c).Set(reflect.ValueOf([]Secret{NewSecret(canary), NewSecret(canary)}))
		}
	}
	return c
}

// leaks reports whether text holds the canary in any usual disguise.
func leaks(text string) bool {
	text = strings.ToLower(text)
	for _, form := range []string{
		canary,
		fmt.Sprintf("%x", canary),
		fmt.Sprintf("% x", canary),
		strings.Trim(fmt.Sprint([]byte(canary)), "[]"),
		strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(canary)), "="),
	} {
		if strings.Contains(text, strings.ToLower(form)) {
			return true
		}
	}
	return false
}

// hidden holds secrets where package fmt calls no methods.
type hidden struct {
	one  Secret
	many []Secret
	at   *Secret
	all  Config
	any  any
	by   map[string]Secret
}

func TestSecretsDoNotPrintUnderAnyVerb(t *testing.T) {
	c, s := secretive(), NewSecret(canary)
	values := map[string]any{
		"secret": s, "pointer": &s, "list": []Secret{s}, "key": map[Secret]int{s: 1},
		"config": c, "config pointer": &c, "oauth": c.OAuth,
		"unexported": hidden{s, []Secret{s}, &s, c, s, map[string]Secret{"a": s}},
	}
	for name, v := range values {
		for _, verb := range "vTtbcdoOqxXUeEfFgGsp" {
			for _, flags := range []string{"", "+", "#", " ", "0", "-30", "5.2"} {
				format := "%" + flags + string(verb)
				if text := fmt.Sprintf(format, v); leaks(text) {
					t.Errorf("%s of %s: %s", format, name, text)
				}
			}
		}
	}
}

func TestSecretsDoNotPrintInAnyEncoding(t *testing.T) {
	c := secretive()
	encodings := map[string]func(v any) ([]byte, error){
		"json": json.Marshal,
		"yaml": yaml.Marshal,
		"xml":  xml.Marshal,
		"gob": func(v any) ([]byte, error) {
			var b bytes.Buffer
			err := gob.NewEncoder(&b).Encode(v)
			return b.Bytes(), err
		},
	}
	for name, encode := range encodings {
		for _, v := range []any{c, &c, c.OAuth, []Secret{NewSecret(canary)}} {
			text, err := encode(v)
			if leaks(string(text)) || err != nil && leaks(err.Error()) {
				t.Errorf("%s: %s, %v", name, text, err)
			}
		}
	}
}

func TestSecretsDoNotPrintInLogs(t *testing.T) {
	var b bytes.Buffer
	for _, h := range []slog.Handler{slog.NewJSONHandler(&b, nil), slog.NewTextHandler(&b, nil)} {
		log := slog.New(h)
		s := NewSecret(canary)
		log.Info("test", "config", secretive(), "secret", s, "pointer", &s, "list", []Secret{s},
			slog.Group("group", "secret", s), "unexported", hidden{one: s, all: secretive()})
		log.With("secret", s).Error("test", "err", fmt.Errorf("with %v and %w", s, fmt.Errorf("%q", s)))
	}
	if leaks(b.String()) || !strings.Contains(b.String(), redacted) {
		t.Error(b.String())
	}
}

func TestASecretShowsWhetherItIsThere(t *testing.T) {
	for _, test := range []struct {
		secret       Secret
		text, inJSON string
	}{
		{NewSecret(canary), "[redacted]", `"[redacted]"`},
		{NewSecret(""), "", `""`},
		{Secret{}, "", `""`},
	} {
		inJSON, err := json.Marshal(test.secret)
		if got := fmt.Sprint(test.secret); got != test.text || string(inJSON) != test.inJSON || err != nil {
			t.Errorf("got %q and %s, %v", got, inJSON, err)
		}
		if test.secret.IsZero() != (test.text == "") {
			t.Errorf("%q: IsZero is %v", test.text, test.secret.IsZero())
		}
	}
	if got := NewSecret(canary).Reveal(); got != canary {
		t.Errorf("revealed %q", got)
	}
}

func TestSecretsDoNotShowInMistakes(t *testing.T) {
	for _, k := range keys {
		if !k.secret() {
			continue
		}
		section, name := "", k.path
		if i := strings.LastIndexByte(k.path, '.'); i >= 0 {
			section, name = k.path[:i], k.path[i+1:]
		}
		for _, value := range []string{canary, `"` + canary + `\n"`, "[" + canary + "]", "{" + canary + ": 1}", "[{a: " + canary + "}]", "*" + canary, "!!int " + canary, "!" + canary + " x", canary + ": " + canary, "'" + canary} {
			text := "listen: 8080\n" + nest(section, name+": "+value)
			for _, environ := range [][]string{nil, {k.variable() + "=" + canary + "\n"}} {
				if _, err := Load(write(t, "config.yaml", text), environ); err == nil || leaks(err.Error()) {
					t.Errorf("%s: %v", value, err)
				}
			}
		}
	}
}

// nest puts a line under a section, which may be one of a section.
func nest(section, line string) string {
	var text strings.Builder
	indent := ""
	for name := range strings.SplitSeq(section, ".") {
		text.WriteString(indent + name + ":\n")
		indent += "  "
	}
	return text.String() + indent + line + "\n"
}

// A secret given in place of its file is not repeated; what can only be a path is.
func TestSecretInPlaceOfItsFileIsNotRepeated(t *testing.T) {
	for path, want := range map[string]string{
		"rt-canary-9f2c": "", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=": "", "a~b+c/d.e": "", "/oneelement": "",
		"absent/secret": "", "/run/secrets/absent": "/run/secrets/absent: ", "testdata/absent": "testdata/absent: ",
	} {
		if got := shown(path); got != want {
			t.Errorf("shown(%q) = %q, want %q", path, got, want)
		}
	}
}
