package config

import (
	"fmt"
	"time"
)

// SaveTime is what a shutdown needs after the last answer to save it: some
// attempts at a store that answers late, each bounded by a second.
const SaveTime = 5 * time.Second

// limits checks the settings that depend on each other. No combination that
// passes can write a refresh request after its claim or lease has ended.
func (c checker) limits() {
	r, u, s := c.Refresh, c.Upstream, c.Shutdown
	c.relation("refresh.send_window", r.SendWindow < r.Timeout,
		"must be shorter than refresh.timeout", "refresh.timeout")
	c.relation("refresh.timeout", r.Timeout <= r.Quiet(),
		"must be at most refresh.send_window plus refresh.network_life, when others resolve the record",
		"refresh.send_window", "refresh.network_life")
	c.relation("refresh.keep_alive", r.KeepAlive > r.Lead,
		"must be longer than refresh.lead", "refresh.lead")
	c.relation("shutdown.timeout", s.Timeout >= s.Linger+r.Timeout+SaveTime,
		fmt.Sprintf("must be at least shutdown.linger plus refresh.timeout plus %v to save a refresh", SaveTime),
		"shutdown.linger", "refresh.timeout")
	c.relation("upstream.replay_limit", u.ReplayLimit <= u.ReplayBudget,
		"must be at most upstream.replay_budget", "upstream.replay_budget")
}

// relation refuses the setting at path unless it holds, provided that the
// settings it was compared with are sound.
func (c checker) relation(path string, holds bool, text string, others ...string) {
	if !holds && c.sound(others...) {
		c.refuse(path, "%s", text)
	}
}

// guessable is a length below which a caller token invites trying.
const guessable = 16

// Warnings returns what is allowed but probably not meant, each with its path,
// in the form of a [Mistake].
func (c Config) Warnings() []string {
	var list []string
	warn := func(doubtful bool, path, format string, args ...any) {
		if doubtful {
			list = append(list, Mistake{Path: path, Text: fmt.Sprintf(format, args...)}.String())
		}
	}
	r, redis := c.Refresh, c.Store.Redis
	fleet := c.Store.Kind == "redis"

	warn(!c.Callers.Token.IsZero() && len(c.Callers.Token.Reveal()) < guessable, "callers.token",
		"is shorter than %d characters and can be guessed", guessable)
	warn(fleet && c.OAuth.IntrospectionURL == "", "oauth.introspection_url",
		"is none: every lost answer and every failover of Redis is left to refresh.on_lost_answer (%s)", r.OnLostAnswer)
	warn(r.Lead < r.Quiet()+r.SendWindow, "refresh.lead",
		"is shorter than twice refresh.send_window plus refresh.network_life: a lost request costs callers up to %v", r.Quiet())
	warn(c.Upstream.ResponseHeaderTimeout > 0 && r.MaxWait > c.Upstream.ResponseHeaderTimeout, "refresh.max_wait",
		"is longer than upstream.response_header_timeout: callers may have given up before they get a token")
	warn(c.Store.Kind == "memory", "store.kind",
		"is memory: every connection needs a login after a restart")
	warn(fleet && redis.Mode != "single" && redis.WaitReplicas == 0, "store.redis.wait_replicas",
		"is 0 in mode %s: a failover may lose a claim, and the refresh token is then presented twice", redis.Mode)
	return list
}
