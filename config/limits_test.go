package config

import (
	"slices"
	"testing"
	"time"
)

// Tests against a simulator run with lives of seconds.
func TestSmallLimitsThatAgreeAreAccepted(t *testing.T) {
	c := mustLoad(t, `
upstream: {response_header_timeout: 1s}
refresh: {send_window: 200ms, network_life: 500ms, lead: 600ms, timeout: 600ms, max_wait: 500ms, keep_alive: 1s}
shutdown: {timeout: 6s}
`, complete()...)
	if got := c.Refresh.Quiet(); got != 700*time.Millisecond {
		t.Errorf("quiet is %v", got)
	}
	want := []string{"refresh.lead: is shorter than twice refresh.send_window plus refresh.network_life: a lost request costs callers up to 700ms"}
	if got := c.Warnings(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Each row stands at the edge: the next shorter or longer value is refused.
func TestLimitsMayTouch(t *testing.T) {
	for name, text := range map[string]string{
		"timeout and quiet":              "refresh: {send_window: 5s, network_life: 15s, timeout: 20s}",
		"send window and timeout":        "refresh: {send_window: 19999ms}",
		"keep alive and lead":            "refresh: {keep_alive: 121s}",
		"shutdown and refresh":           "shutdown: {timeout: 25s}",
		"linger, shutdown and refresh":   "shutdown: {linger: 5s}",
		"replay limit and budget":        "upstream: {replay_limit: 64MiB}",
		"no replay at all":               "upstream: {replay_limit: 0B, replay_budget: 0B}",
		"one attempt":                    "refresh: {attempts: 1}",
		"listeners on different hosts":   "listen: 127.0.0.1:8081\nadmin: {listen: '10.0.0.1:8081'}",
		"both listeners choose a port":   "listen: 127.0.0.1:0\nadmin: {listen: '127.0.0.1:0'}",
		"name of one letter":             "connections: {default: a}",
		"name of 63":                     "connections: {default: a23456789-123456789_123456789-123456789-123456789-123456789-123}",
		"redirect to localhost":          "oauth: {redirect_url: 'http://localhost:8080/done?a=b'}",
		"token URL with a query":         "oauth: {token_url: 'https://auth.example.com/token?tenant=1'}",
		"memory needs no folder":         "store: {kind: memory, file: {dir: ''}}",
		"file needs no Redis":            "store: {redis: {mode: sentinel, addrs: []}}",
		"TLS with client certificate":    "store: {redis: {tls: {enabled: true, cert_file: a, key_file: b}}}",
		"cluster of one known node":      "store: {kind: redis, redis: {mode: cluster, addrs: ['redis.ns.svc.cluster.local:6379']}}",
		"sentinels by IPv6":              "store: {kind: redis, redis: {mode: sentinel, master_name: m, addrs: ['[::1]:26379', '[fd00::1]:26379']}}",
		"database of a single Redis":     "store: {kind: redis, redis: {db: 15, wait_replicas: 2}}",
		"upstream with a trailing slash": "upstream: {url: 'https://api.example.com/'}",
	} {
		if _, err := Load(write(t, "config.yaml", text), complete()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeysAreRequiredWhereTokensAreAtRest(t *testing.T) {
	environ := []string{"PLEO_SIDECAR_OAUTH_CLIENT_ID=a", "PLEO_SIDECAR_OAUTH_CLIENT_SECRET=b"}
	for kind, accepted := range map[string]bool{"file": false, "redis": false, "memory": true} {
		if _, err := Load("", append(environ, "PLEO_SIDECAR_STORE_KIND="+kind)); (err == nil) != accepted {
			t.Errorf("%s: got %v", kind, err)
		}
	}
}

func TestWarningsNameWhatIsProbablyNotMeant(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"redis without introspection", "oauth: {introspection_url: none}\nstore: {kind: redis}",
			"oauth.introspection_url: is none: every lost answer and every failover of Redis is left to refresh.on_lost_answer (retry)"},
		{"short lead", "refresh: {lead: 69s}",
			"refresh.lead: is shorter than twice refresh.send_window plus refresh.network_life: a lost request costs callers up to 1m5s"},
		{"long wait", "refresh: {max_wait: 61s}",
			"refresh.max_wait: is longer than upstream.response_header_timeout: callers may have given up before they get a token"},
		{"memory", "store: {kind: memory}",
			"store.kind: is memory: every connection needs a login after a restart"},
		{"failover without acknowledgement", "store: {kind: redis, redis: {mode: sentinel, master_name: m}}",
			"store.redis.wait_replicas: is 0 in mode sentinel: a failover may lose a claim, and the refresh token is then presented twice"},
		{"short caller token", "callers: {token: short}",
			"callers.token: is shorter than 16 characters and can be guessed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := mustLoad(t, test.text, complete()...).Warnings(); !slices.Equal(got, []string{test.want}) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestNothingIsWarnedAboutWithoutReason(t *testing.T) {
	for name, text := range map[string]string{
		"file without introspection": "oauth: {introspection_url: none}",
		"lead just long enough":      "refresh: {lead: 70s}",
		"no bound on the header":     "upstream: {response_header_timeout: 0s}",
		"single Redis":               "store: {kind: redis}",
		"acknowledged":               "store: {kind: redis, redis: {mode: cluster, wait_replicas: 1}}",
	} {
		if w := mustLoad(t, text, complete()...).Warnings(); len(w) > 0 {
			t.Errorf("%s: %q", name, w)
		}
	}
}

func TestSizesPrintInTheirLargestUnit(t *testing.T) {
	for size, want := range map[Size]string{0: "0B", 1: "1B", 1023: "1023B", KiB: "1KiB", 1536 * KiB: "1536KiB", MiB: "1MiB", 64 * MiB: "64MiB", 3 * GiB: "3GiB"} {
		if size.String() != want {
			t.Errorf("got %s, want %s", size, want)
		}
		if back, err := parseSize(want); back != size || err != nil {
			t.Errorf("%s is read as %d, %v", want, int64(back), err)
		}
	}
}
