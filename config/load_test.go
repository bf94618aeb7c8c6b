package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// write puts text into a file of its own and returns the path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// mustLoad loads a file with the given text.
func mustLoad(t *testing.T, text string, environ ...string) Config {
	t.Helper()
	c, err := Load(write(t, "config.yaml", text), environ)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEnvironmentWinsOverFileWinsOverDefault(t *testing.T) {
	c := mustLoad(t, "refresh: {lead: 3m, max_wait: 3s}", complete("PLEO_SIDECAR_REFRESH_MAX_WAIT=4s")...)
	want := Default().Refresh
	want.Lead, want.MaxWait = 3*time.Minute, 4*time.Second
	if c.Refresh != want {
		t.Errorf("got %+v, want %+v", c.Refresh, want)
	}
}

func TestNoFileIsDefaultsAndEnvironment(t *testing.T) {
	for name, path := range map[string]string{
		"no path":       "",
		"empty file":    write(t, "empty", ""),
		"comments only": write(t, "comments", "# nothing\n---\n# nothing\n"),
		"null":          write(t, "null", "~\n"),
	} {
		got, err := Load(path, complete())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := Default()
		want.OAuth.ClientID, want.OAuth.ClientSecret = "client", NewSecret("secret")
		want.Store.Encryption.Keys = []Secret{NewSecret("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=")}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}

func TestValuesLeftEmptyCountAsNotGiven(t *testing.T) {
	c := mustLoad(t, "refresh:\n  lead:\nstore:\n  redis:\nlog: ~\n",
		complete("PLEO_SIDECAR_LOG_LEVEL=", "PLEO_SIDECAR_CALLERS_TOKEN=")...)
	if c.Refresh != Default().Refresh || c.Log != Default().Log || !c.Callers.Token.IsZero() {
		t.Errorf("got %+v", c)
	}
}

func TestEverySettingCanBeGivenByItsVariable(t *testing.T) {
	other := map[reflect.Type]string{
		reflect.TypeFor[string]():        "other",
		reflect.TypeFor[bool]():          "true",
		reflect.TypeFor[int]():           "7",
		reflect.TypeFor[time.Duration](): "77ms",
		reflect.TypeFor[Size]():          "77KiB",
		reflect.TypeFor[[]string]():      "one, two",
		secretType:                       "other",
		secretsType:                      "one,two",
	}
	for _, k := range keys {
		c, _ := Load("", []string{k.variable() + "=" + other[k.typ]}) // other checks may well fail
		got, base := k.field(&c), defaults()
		if reflect.DeepEqual(got.Interface(), k.field(&base).Interface()) {
			t.Errorf("%s does not set %s", k.variable(), k.path)
		}
	}
}

func TestListsAreSeparatedByCommasInVariables(t *testing.T) {
	c := mustLoad(t, "oauth: {scopes: [a]}", complete("PLEO_SIDECAR_OAUTH_SCOPES=b, c:d")...)
	if !slices.Equal(c.OAuth.Scopes, []string{"b", "c:d"}) {
		t.Errorf("got %q", c.OAuth.Scopes)
	}
}

func TestAnEmptyListReplacesTheDefault(t *testing.T) {
	_, err := Load(write(t, "config.yaml", "store: {kind: redis, redis: {addrs: []}}"), complete())
	if err == nil || err.Error() != "store.redis.addrs: must not be empty in mode single" {
		t.Errorf("got %v", err)
	}
}

func TestUnitsAreReadExactly(t *testing.T) {
	c := mustLoad(t, "refresh: {lead: 1m30s, keep_alive: 36h}\nupstream: {replay_limit: 0B, replay_budget: 3GiB, response_header_timeout: 0s}", complete()...)
	if c.Refresh.Lead != 90*time.Second || c.Refresh.KeepAlive != 36*time.Hour ||
		c.Upstream.ReplayLimit != 0 || c.Upstream.ReplayBudget != 3<<30 || c.Upstream.ResponseHeaderTimeout != 0 {
		t.Errorf("got %+v %+v", c.Refresh, c.Upstream)
	}
}

func TestEnvironmentPresetsTheURLsThatAreNotGiven(t *testing.T) {
	c := mustLoad(t, "environment: staging\noauth: {token_url: 'http://127.0.0.1:1/token'}", complete()...)
	got := []string{c.OAuth.AuthorizationURL, c.OAuth.TokenURL, c.OAuth.IntrospectionURL, c.Upstream.URL}
	want := []string{
		"https://auth.staging.pleo.io/oauth/authorize", "http://127.0.0.1:1/token",
		"https://auth.staging.pleo.io/oauth/token/introspect", "https://external.staging.pleo.io",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestIntrospectionCanBeSwitchedOff(t *testing.T) {
	c := mustLoad(t, "oauth: {introspection_url: none}", complete()...)
	if c.OAuth.IntrospectionURL != "" {
		t.Errorf("got %q", c.OAuth.IntrospectionURL)
	}
}

func TestPlainTextIsAllowedToLoopbackOnly(t *testing.T) {
	for _, url := range []string{"http://127.0.0.1:1", "http://127.9.9.9", "http://localhost:1/", "http://[::1]:1"} {
		c := mustLoad(t, "upstream: {url: '"+url+"'}", complete()...)
		if c.Upstream.URL != strings.TrimSuffix(url, "/") {
			t.Errorf("got %q, want %q", c.Upstream.URL, url)
		}
	}
	for _, url := range []string{"http://10.0.0.1", "http://localhost.example.com", "http://0.0.0.0:1", "http://[::]:1"} {
		if _, err := Load(write(t, "config.yaml", "upstream: {url: '"+url+"'}"), complete()); err == nil {
			t.Errorf("%s: accepted", url)
		}
	}
}

func TestACallerTokenOpensTheListener(t *testing.T) {
	c := mustLoad(t, "listen: '[::]:8080'\ncallers: {token: a.long-token_0123=, hosts: [sidecar, 'sidecar.ns.svc:8080', '10.0.0.1', '[::1]:80', '[::1]']}", complete()...)
	if c.Callers.Token.Reveal() != "a.long-token_0123=" || len(c.Warnings()) > 0 {
		t.Errorf("got %q, %q", c.Callers.Token.Reveal(), c.Warnings())
	}
}

func TestConfigurationFileThatIsNotThereIsAMistake(t *testing.T) {
	for path, want := range map[string]string{
		"testdata/absent.yaml": "testdata/absent.yaml: no such file or directory",
		"testdata":             "testdata: is a directory",
		"/dev/zero":            "/dev/zero: is longer than 1MiB",
	} {
		_, err := Load(path, complete())
		var e *Error
		if !errors.As(err, &e) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestMistakesNameTheVariableTheyCameFrom(t *testing.T) {
	text := "refresh: {lead: 5}\nlog: {level: loud}\n"
	_, err := Load(write(t, "config.yaml", text), complete("PLEO_SIDECAR_LOG_LEVEL=loud", "PLEO_SIDECAR_REFRESH_LEAD=2m"))
	want := "log.level: must be debug, info, warn or error (from PLEO_SIDECAR_LOG_LEVEL)\n" +
		"refresh.lead: needs a unit, for example 5s" // the file's mistake stays one
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestLoadOnlySeesMistakesOfItsSections(t *testing.T) {
	path := write(t, "config.yaml", "admin: {listen: ':1'}\noauth: {client_secret_file: /absent}\ncolour: blue\nlog: {level: loud}\n")
	c, err := LoadOnly(path, []string{"PLEO_SIDECAR_NONSENSE=x"}, "admin")
	if err != nil || c.Admin.Listen != ":1" {
		t.Errorf("got %v, %v", c.Admin, err)
	}
	if _, err = LoadOnly(path, nil, "admin", "log"); err == nil || err.Error() != "log.level: must be debug, info, warn or error" {
		t.Errorf("got %v", err)
	}
	secret := write(t, "secret", "secret")
	c, err = LoadOnly("", []string{"PLEO_SIDECAR_OAUTH_CLIENT_SECRET_FILE=" + secret}, "admin")
	if err != nil || !c.OAuth.ClientSecret.IsZero() {
		t.Errorf("read a secret that is not needed, %v", err)
	}
	if _, err = LoadOnly("", nil, "admin", "redis"); err == nil {
		t.Error("accepted a section that does not exist")
	}
}

func TestLoadedConfigurationsShareNothing(t *testing.T) {
	a, b := mustLoad(t, "", complete()...), mustLoad(t, "", complete()...)
	a.Store.Redis.Addrs[0] = "changed"
	if b.Store.Redis.Addrs[0] == "changed" || Default().Store.Redis.Addrs[0] == "changed" {
		t.Error("a change of one shows in another")
	}
}
