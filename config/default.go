package config

import (
	"strings"
	"time"
)

// Default is the configuration of an empty file and an empty environment, the
// URLs of Pleo filled in. It is not complete: it lacks client id, client secret
// and encryption keys.
func Default() Config {
	c := defaults()
	c.presetURLs()
	return c
}

// defaults is the default of every key as config.example.yaml shows it: the
// URLs are empty, since their defaults follow from the environment.
func defaults() Config {
	return Config{
		Environment: "production",
		Listen:      "127.0.0.1:8080",
		Admin:       Admin{Listen: ":8081"},
		Upstream: Upstream{
			ResponseHeaderTimeout: 60 * time.Second,
			ReplayLimit:           1 * MiB,
			ReplayBudget:          64 * MiB,
		},
		OAuth:       OAuth{ClientAuth: "basic"},
		Connections: Connections{Default: "default"},
		Refresh: Refresh{
			Lead:         120 * time.Second,
			Timeout:      20 * time.Second,
			MaxWait:      15 * time.Second,
			Attempts:     4,
			KeepAlive:    24 * time.Hour,
			SendWindow:   5 * time.Second,
			NetworkLife:  60 * time.Second,
			OnLostAnswer: "retry",
		},
		Store: Store{
			Kind: "file",
			File: File{Dir: "./pleo-tokens"},
			Redis: Redis{
				Mode:      "single",
				Addrs:     []string{"127.0.0.1:6379"},
				KeyPrefix: "pleo-sidecar",
			},
		},
		Log:      Log{Level: "info", Format: "json"},
		Shutdown: Shutdown{Timeout: 30 * time.Second},
	}
}

// switchedOff is what an operator writes to have no introspection.
const switchedOff = "none"

// preset is the URLs of one Pleo environment.
type preset struct {
	authorization, token, introspection, upstream string
}

// presets is by environment. The authorization server and the API are different
// hosts in each.
var presets = map[string]preset{
	"production": {
		authorization: "https://auth.pleo.io/oauth/authorize",
		token:         "https://auth.pleo.io/oauth/token",
		introspection: "https://auth.pleo.io/oauth/token/introspect",
		upstream:      "https://external.pleo.io",
	},
	"staging": {
		authorization: "https://auth.staging.pleo.io/oauth/authorize",
		token:         "https://auth.staging.pleo.io/oauth/token",
		introspection: "https://auth.staging.pleo.io/oauth/token/introspect",
		upstream:      "https://external.staging.pleo.io",
	},
}

// presetURLs fills in the URLs that are not given. An unknown environment
// presets nothing; check reports it.
func (c *Config) presetURLs() {
	p := presets[c.Environment]
	preset := func(url *string, preset string) {
		if *url == "" {
			*url = preset
		}
	}
	preset(&c.OAuth.AuthorizationURL, p.authorization)
	preset(&c.OAuth.TokenURL, p.token)
	preset(&c.OAuth.IntrospectionURL, p.introspection)
	preset(&c.Upstream.URL, p.upstream)

	c.Upstream.URL = strings.TrimSuffix(c.Upstream.URL, "/")
	if c.OAuth.IntrospectionURL == switchedOff {
		c.OAuth.IntrospectionURL = ""
	}
}

// environmentOf returns the environment that a host of Pleo belongs to, or
// nothing for other hosts.
func environmentOf(host string) string {
	switch strings.ToLower(host) {
	case "auth.pleo.io", "external.pleo.io":
		return "production"
	case "auth.staging.pleo.io", "external.staging.pleo.io":
		return "staging"
	}
	return ""
}
