package config

import "testing"

func TestUnknownVariablesAreRefused(t *testing.T) {
	for _, test := range []struct{ name, variable, want string }{
		{"slip", "PLEO_SIDECAR_OAUTH_CLIENT_IDD=x", "PLEO_SIDECAR_OAUTH_CLIENT_IDD: unknown variable, did you mean PLEO_SIDECAR_OAUTH_CLIENT_ID?"},
		{"nothing like it", "PLEO_SIDECAR_COLOUR=x", "PLEO_SIDECAR_COLOUR: unknown variable"},
		{"empty", "PLEO_SIDECAR_COLOUR=", "PLEO_SIDECAR_COLOUR: unknown variable"},
		{"section", "PLEO_SIDECAR_STORE_REDIS=x", "PLEO_SIDECAR_STORE_REDIS: names a section: set one of its keys, such as PLEO_SIDECAR_STORE_REDIS_MODE"},
		{"empty section", "PLEO_SIDECAR_LOG=", "PLEO_SIDECAR_LOG: names a section: set one of its keys, such as PLEO_SIDECAR_LOG_LEVEL"},
		{"file of a plain setting", "PLEO_SIDECAR_OAUTH_CLIENT_ID_FILE=x", "PLEO_SIDECAR_OAUTH_CLIENT_ID_FILE: unknown variable"},
		{"lower case", "PLEO_SIDECAR_listen=x", "PLEO_SIDECAR_listen: unknown variable"},
		{"a guess, not Kubernetes", "PLEO_SIDECAR_PORT=9090", "PLEO_SIDECAR_PORT: unknown variable"},
		{"another guess", "PLEO_SIDECAR_ADMIN_PORT=9090", "PLEO_SIDECAR_ADMIN_PORT: unknown variable"},
		{"a host, not Kubernetes", "PLEO_SIDECAR_SERVICE_HOST=example.com", "PLEO_SIDECAR_SERVICE_HOST: unknown variable"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Load("", complete(test.variable))
			if err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func TestVariablesOfOthersAreIgnored(t *testing.T) {
	if _, err := Load("", complete(
		"PLEO_SIDECAR_CONFIG=config.yaml", // main's
		"PLEO_SIDECARX=1", "PLEO=1", "HOME=/", "=C:=C:\\", "NOTHING",
	)); err != nil {
		t.Error(err)
	}
}

func TestVariablesThatKubernetesSetsForAServiceOfOurNameAreExcused(t *testing.T) {
	if _, err := Load("", complete(
		"PLEO_SIDECAR_SERVICE_HOST=10.96.12.7",
		"PLEO_SIDECAR_SERVICE_PORT=8080",
		"PLEO_SIDECAR_SERVICE_PORT_HTTP_ADMIN=8081",
		"PLEO_SIDECAR_PORT=tcp://10.96.12.7:8080",
		"PLEO_SIDECAR_PORT_8080_TCP=tcp://10.96.12.7:8080",
		"PLEO_SIDECAR_PORT_8080_TCP_PROTO=tcp",
		"PLEO_SIDECAR_PORT_8080_TCP_PORT=8080",
		"PLEO_SIDECAR_PORT_8080_TCP_ADDR=10.96.12.7",
		"PLEO_SIDECAR_GATEWAY_SERVICE_HOST=fd00::7",
		"PLEO_SIDECAR_GATEWAY_PORT=tcp://[fd00::7]:8080",
	)); err != nil {
		t.Error(err)
	}
}

func TestMistakesOfVariablesAndFileAreReportedTogether(t *testing.T) {
	path := write(t, "config.yaml", "log: {format: xml}")
	_, err := Load(path, complete("PLEO_SIDECAR_REFRESH_ATTEMPTS=four", "PLEO_SIDECAR_STORE_REDIS_TLS_ENABLED=1",
		"PLEO_SIDECAR_UPSTREAM_REPLAY_LIMIT=5", "PLEO_SIDECAR_SHUTDOWN_LINGER=0", "PLEO_SIDECAR_OAUTH_SCOPES=a,,b"))
	want := `log.format: must be json or text
oauth.scopes: must not contain an empty entry (from PLEO_SIDECAR_OAUTH_SCOPES)
refresh.attempts: must be a whole number (from PLEO_SIDECAR_REFRESH_ATTEMPTS)
shutdown.linger: needs a unit, for example 5s (from PLEO_SIDECAR_SHUTDOWN_LINGER)
store.redis.tls.enabled: must be true or false (from PLEO_SIDECAR_STORE_REDIS_TLS_ENABLED)
upstream.replay_limit: needs a unit, for example 1MiB (from PLEO_SIDECAR_UPSTREAM_REPLAY_LIMIT)`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}
