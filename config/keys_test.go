package config

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
)

func TestEveryFieldHasAKeyOfItsOwn(t *testing.T) {
	form := regexp.MustCompile(`^[a-z_]+(\.[a-z_]+)*$`)
	seen := map[string]bool{}
	for _, k := range keys {
		if !form.MatchString(k.path) || seen[k.path] {
			t.Errorf("%q: no good path", k.path)
		}
		seen[k.path] = true
		if !keyName.MatchString(lastName(k.path)) {
			t.Errorf("%s: its name could not be repeated in a message", k.path)
		}
	}
	if len(keys) < 50 {
		t.Errorf("only %d settings", len(keys))
	}
}

func TestEveryFieldIsNamedLikeItsKey(t *testing.T) {
	for _, k := range keys {
		field := reflect.TypeFor[Config]().FieldByIndex(k.index).Name
		if !strings.EqualFold(field, strings.ReplaceAll(lastName(k.path), "_", "")) {
			t.Errorf("%s is the field %s", k.path, field)
		}
	}
}

// Two keys such as a.b_c and a_b.c would share a variable.
func TestNoTwoSettingsOrSectionsShareAVariable(t *testing.T) {
	seen := map[string]string{variable("config"): "the variable of main"}
	for _, path := range append(under(""), sections()...) {
		name := variable(path)
		if other, ok := seen[name]; ok {
			t.Errorf("%s is %s and %s", name, path, other)
		}
		seen[name] = path
	}
}

func TestNoSettingHasAVariableThatKubernetesMaySet(t *testing.T) {
	for _, path := range append(under(""), sections()...) {
		for _, value := range []string{"10.0.0.1", "80", "tcp", "tcp://10.0.0.1:80"} {
			if fromKubernetes(variable(path), value) {
				t.Errorf("%s", variable(path))
			}
		}
	}
}

func TestEverySecretMayBeAFileAndIsOnTheList(t *testing.T) {
	var secrets []string
	for _, k := range keys {
		if !k.secret() {
			continue
		}
		secrets = append(secrets, k.path)
		file, ok := keyAt(k.path + fileSuffix)
		if !ok || file.typ != reflect.TypeFor[string]() {
			t.Errorf("%s has no %s%s", k.path, k.path, fileSuffix)
		}
	}
	want := "oauth.client_secret connections.seed_refresh_token store.redis.password store.encryption.keys callers.token"
	if got := strings.Join(secrets, " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTheNearestKeyIsProposedOnlyWhereItIsNear(t *testing.T) {
	for path, want := range map[string]string{
		"oauth.client_idd":       "oauth.client_id",
		"oauth.clientid":         "oauth.client_id",
		"refresh.keepalive":      "refresh.keep_alive",
		"client_secret":          "oauth.client_secret",
		"store.encryption.key":   "store.encryption.keys",
		"redis":                  "store.redis",
		"tls":                    "store.redis.tls",
		"shutdown.linger_time":   "",
		"server":                 "",
		"ca_file":                "", // three have that name
		"store.redis.adress":     "",
		"":                       "",
		"connections.connection": "",
	} {
		if got := nearest(path); got != want {
			t.Errorf("%q: got %q, want %q", path, got, want)
		}
	}
}

func TestDistanceCountsChangedLetters(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "abc", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"leed", "lead", 1}, {"flaw", "lawn", 2}} {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("%s, %s: got %d, want %d", test.a, test.b, got, test.want)
		}
	}
}
