package config

import (
	"encoding/base64"
	"regexp"
	"slices"
	"strings"
	"time"
)

// checker looks for what is wrong with a configuration. It says one thing about
// a setting, and nothing about one that could not be read.
type checker struct {
	*Config
	found *mistakes
}

// check notes everything that is wrong with the values of c.
func (c *Config) check(found *mistakes) {
	k := checker{c, found}
	k.choices()
	k.required()
	k.addresses()
	k.urls()
	k.names()
	k.callers()
	k.redis()
	k.encryption()
	k.positive()
	k.limits()
}

// refuse notes a mistake, unless there is one at the path already.
func (c checker) refuse(path, format string, args ...any) {
	if !c.found.at(path) {
		c.found.add(path, format, args...)
	}
}

// sound reports whether nothing was wrong with paths so far. A relation between
// settings is checked only then: else it would compare a default that the
// operator did not choose.
func (c checker) sound(paths ...string) bool { return !c.found.at(paths...) }

// choices checks the settings with a closed list of values.
func (c checker) choices() {
	c.oneOf("environment", c.Environment, "production", "staging")
	c.oneOf("oauth.client_auth", c.OAuth.ClientAuth, "basic", "post")
	c.oneOf("refresh.on_lost_answer", c.Refresh.OnLostAnswer, "retry", "stop", "never")
	c.oneOf("store.kind", c.Store.Kind, "file", "redis", "memory")
	c.oneOf("store.redis.mode", c.Store.Redis.Mode, "single", "sentinel", "cluster")
	c.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	c.oneOf("log.format", c.Log.Format, "json", "text")
}

// oneOf refuses a value that is not in the list.
func (c checker) oneOf(path, value string, list ...string) {
	if !slices.Contains(list, value) {
		last := len(list) - 1
		c.refuse(path, "must be %s or %s", strings.Join(list[:last], ", "), list[last])
	}
}

// required checks that nothing is missing without which no token can be had.
func (c checker) required() {
	if c.OAuth.ClientID == "" {
		c.refuse("oauth.client_id", "is required")
	}
	if c.OAuth.ClientSecret.IsZero() && c.sound("oauth.client_secret_file") {
		c.refuse("oauth.client_secret", "is required, as a value or as a file")
	}
	if c.Store.Kind == "file" && c.Store.File.Dir == "" {
		c.refuse("store.file.dir", "must not be empty for store kind file")
	}
}

// connectionName is 1 to 63 letters, digits, - and _, a letter or digit at both
// ends: what is left of a path without escapes and of a Redis key without
// braces.
var connectionName = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$`)

// keyPrefix has no braces, because they choose the slot of a key in a cluster,
// and no pattern characters of ACL rules.
var keyPrefix = regexp.MustCompile(`^[A-Za-z0-9._:/-]{1,64}$`)

// names checks the names that we give.
func (c checker) names() {
	if !connectionName.MatchString(c.Connections.Default) {
		c.refuse("connections.default", "must be 1 to 63 of a-z, 0-9, - and _, and begin and end with a letter or digit")
	}
	if !keyPrefix.MatchString(c.Store.Redis.KeyPrefix) {
		c.refuse("store.redis.key_prefix", "must be 1 to 64 letters, digits and . _ : / -")
	}
}

// redis checks what the modes and TLS ask for.
func (c checker) redis() {
	r := c.Store.Redis
	if r.DB < 0 {
		c.refuse("store.redis.db", "must not be negative")
	}
	if r.WaitReplicas < 0 {
		c.refuse("store.redis.wait_replicas", "must not be negative")
	}
	c.redisTLS(r.TLS)
	if c.Store.Kind != "redis" || !c.sound("store.kind", "store.redis.mode") {
		return
	}
	switch {
	case len(r.Addrs) == 0:
		c.refuse("store.redis.addrs", "must not be empty in mode %s", r.Mode)
	case r.Mode == "single" && len(r.Addrs) > 1:
		c.refuse("store.redis.addrs", "must be one address in mode single")
	}
	if r.Mode == "sentinel" && r.MasterName == "" {
		c.refuse("store.redis.master_name", "must not be empty in mode sentinel")
	}
	if r.Mode == "cluster" && r.DB != 0 {
		c.refuse("store.redis.db", "must be 0 in mode cluster")
	}
}

// redisTLS checks that files are complete, and not given to no effect: the
// network connection would be in plain text against the operator's will.
func (c checker) redisTLS(t TLS) {
	if t.CertFile != "" && t.KeyFile == "" {
		c.refuse("store.redis.tls.key_file", "must be given together with store.redis.tls.cert_file")
	}
	if t.CertFile == "" && t.KeyFile != "" {
		c.refuse("store.redis.tls.cert_file", "must be given together with store.redis.tls.key_file")
	}
	if !t.Enabled && t.CAFile+t.CertFile+t.KeyFile != "" {
		c.refuse("store.redis.tls.enabled", "must be true when files for TLS are given")
	}
}

// keySize is the length of a key for AES-256.
const keySize = 32

// encryption checks the keys. It never repeats one.
func (c checker) encryption() {
	path := "store.encryption.keys"
	if !c.sound(path, path+fileSuffix) {
		return
	}
	keys := c.Store.Encryption.Keys
	if len(keys) == 0 && (c.Store.Kind == "file" || c.Store.Kind == "redis") {
		c.refuse(path, "must not be empty for store kind %s: run pleo-sidecar keygen", c.Store.Kind)
	}
	if c.Store.Encryption.KeysFile != "" {
		path += fileSuffix
	}
	seen := map[string]int{}
	for i, key := range keys {
		raw, err := base64.StdEncoding.Strict().DecodeString(key.Reveal())
		if err != nil || len(raw) != keySize {
			c.refuse(path, "key %d is not standard Base64 of %d bytes: run pleo-sidecar keygen", i+1, keySize)
		}
		if first := seen[string(raw)]; first > 0 {
			c.refuse(path, "key %d repeats key %d", i+1, first)
		}
		seen[string(raw)] = i + 1
	}
}

// positive checks the limits for which zero makes no sense.
func (c checker) positive() {
	r := c.Refresh
	for path, d := range map[string]time.Duration{
		"refresh.lead":         r.Lead,
		"refresh.timeout":      r.Timeout,
		"refresh.max_wait":     r.MaxWait,
		"refresh.keep_alive":   r.KeepAlive,
		"refresh.send_window":  r.SendWindow,
		"refresh.network_life": r.NetworkLife,
		"shutdown.timeout":     c.Shutdown.Timeout,
	} {
		if d <= 0 {
			c.refuse(path, "must be longer than zero")
		}
	}
	if r.Attempts < 1 {
		c.refuse("refresh.attempts", "must be at least 1")
	}
}
