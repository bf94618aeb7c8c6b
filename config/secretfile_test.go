package config

import (
	"os"
	"slices"
	"strings"
	"testing"
)

const (
	keyA = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
	keyB = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="
)

func TestExactlyOneLineBreakIsCutOffASecretFile(t *testing.T) {
	for content, want := range map[string]string{
		"secret": "secret", "secret\n": "secret", "secret\r\n": "secret", " secret ": " secret ", "s#e: c": "s#e: c",
	} {
		path := write(t, "secret", content)
		c, err := Load("", complete("PLEO_SIDECAR_CONNECTIONS_SEED_REFRESH_TOKEN_FILE="+path))
		if got := c.Connections.SeedRefreshToken.Reveal(); err != nil || got != want {
			t.Errorf("%q: got %q, %v", content, got, err)
		}
	}
}

func TestASecretFileHoldsOneSecret(t *testing.T) {
	for content, want := range map[string]string{
		"":                             "is empty",
		"\n":                           "is empty",
		"\r\n":                         "is empty",
		"hunter2\n\n":                  "must not contain line breaks or other control characters",
		"hunter2\nhunter2\n":           "must not contain line breaks or other control characters",
		"hunter2\x00":                  "must not contain line breaks or other control characters",
		strings.Repeat("hunter2", 2e5): "is longer than 1MiB",
	} {
		path := write(t, "secret", content)
		_, err := Load("", complete("PLEO_SIDECAR_CALLERS_TOKEN_FILE="+path))
		if err == nil || err.Error() != "callers.token_file: "+path+": "+want+" (from PLEO_SIDECAR_CALLERS_TOKEN_FILE)" {
			t.Errorf("%.20q: got %v, want %s", content, err, want)
		}
	}
}

func TestEverySecretCanComeFromAFile(t *testing.T) {
	path := write(t, "secret", keyA+"\n")
	var environ []string
	for _, k := range keys {
		if k.secret() {
			environ = append(environ, variable(k.path+fileSuffix)+"="+path)
		}
	}
	c, err := Load("", append(environ, "PLEO_SIDECAR_OAUTH_CLIENT_ID=client"))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		switch v := k.field(&c).Interface().(type) {
		case Secret:
			if v.Reveal() != keyA {
				t.Errorf("%s: got %q", k.path, v.Reveal())
			}
		case []Secret:
			if len(v) != 1 || v[0].Reveal() != keyA {
				t.Errorf("%s: got %d", k.path, len(v))
			}
		}
	}
	if c.OAuth.ClientSecretFile != path {
		t.Errorf("the path is lost: %q", c.OAuth.ClientSecretFile)
	}
}

func TestKeysFileHoldsOneKeyALine(t *testing.T) {
	path := write(t, "keys", keyA+"\r\n\n"+keyB+"\n")
	c := mustLoad(t, "oauth: {client_id: a, client_secret: b}\nstore: {encryption: {keys_file: "+path+"}}")
	var got []string
	for _, k := range c.Store.Encryption.Keys {
		got = append(got, k.Reveal())
	}
	if !slices.Equal(got, []string{keyA, keyB}) {
		t.Errorf("got %q", got)
	}
}

func TestMistakesInAKeysFileAreNamedThere(t *testing.T) {
	for content, want := range map[string]string{
		keyA + "\n" + keyA: "store.encryption.keys_file: key 2 repeats key 1",
		keyA + "\nhunter2": "store.encryption.keys_file: key 2 is not standard Base64 of 32 bytes: run pleo-sidecar keygen",
		"\n\n":             "store.encryption.keys_file: FILE: is empty",
	} {
		path := write(t, "keys", content)
		_, err := Load(write(t, "config.yaml", "oauth: {client_id: a, client_secret: b}\nstore: {encryption: {keys_file: "+path+"}}"), nil)
		if err == nil || err.Error() != strings.ReplaceAll(want, "FILE", path) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestValueAndFileTogetherAreRefusedWhereverTheyComeFrom(t *testing.T) {
	path := write(t, "secret", "file\n")
	const clash = "oauth.client_secret_file: must not be given together with oauth.client_secret"
	base := []string{"PLEO_SIDECAR_OAUTH_CLIENT_ID=a", "PLEO_SIDECAR_STORE_KIND=memory"}
	for name, test := range map[string]struct {
		text    string
		environ []string
		want    string // the clash if empty
	}{
		"both in the file":             {"oauth: {client_secret: a, client_secret_file: " + path + "}", nil, ""},
		"value in the environment":     {"oauth: {client_secret_file: " + path + "}", []string{"PLEO_SIDECAR_OAUTH_CLIENT_SECRET=env"}, ""},
		"file in the environment":      {"oauth: {client_secret: a}", []string{"PLEO_SIDECAR_OAUTH_CLIENT_SECRET_FILE=" + path}, ""},
		"environment replaces value":   {"oauth: {client_secret: a}", []string{"PLEO_SIDECAR_OAUTH_CLIENT_SECRET=env"}, "env"},
		"environment replaces file":    {"oauth: {client_secret_file: /absent}", []string{"PLEO_SIDECAR_OAUTH_CLIENT_SECRET_FILE=" + path}, "file"},
		"empty ones are not given":     {"oauth: {client_secret: '', client_secret_file: " + path + "}", []string{"PLEO_SIDECAR_OAUTH_CLIENT_SECRET="}, "file"},
		"empty file setting and value": {"oauth: {client_secret: a, client_secret_file: ''}", nil, "a"},
	} {
		c, err := Load(write(t, "config.yaml", test.text), append(test.environ, base...))
		if test.want == "" {
			if err == nil || !strings.HasPrefix(err.Error(), clash) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: got %v", name, err)
			}
			continue
		}
		if err != nil || c.OAuth.ClientSecret.Reveal() != test.want {
			t.Errorf("%s: got %q, %v", name, c.OAuth.ClientSecret.Reveal(), err)
		}
	}
}

func TestPasswordOfRedisIsReadAnew(t *testing.T) {
	path := write(t, "password", "first\n")
	r := mustLoad(t, "store: {redis: {password_file: "+path+"}}", complete()...).Store.Redis
	if err := os.WriteFile(path, []byte("second\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := r.ReadPassword(); err != nil || got.Reveal() != "second" {
		t.Errorf("got %q, %v", got.Reveal(), err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got, err := r.ReadPassword(); err == nil || !got.IsZero() {
		t.Error("a password without its file")
	}
	r = Redis{Password: NewSecret("given")}
	if got, err := r.ReadPassword(); err != nil || got.Reveal() != "given" {
		t.Errorf("got %q, %v", got.Reveal(), err)
	}
}
