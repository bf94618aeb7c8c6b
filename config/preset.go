package config

import "strings"

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
