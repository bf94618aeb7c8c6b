package tokens

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

func soundRedis() RedisOptions {
	return RedisOptions{Mode: RedisSingle, Addrs: []string{"127.0.0.1:1"}, KeyPrefix: "p"}
}

func TestNewRedisRefusesWhatCannotWork(t *testing.T) {
	for want, spoil := range map[string]func(*RedisOptions){
		"mode":      func(o *RedisOptions) { o.Mode = "" },
		"address":   func(o *RedisOptions) { o.Addrs = nil },
		"addresses": func(o *RedisOptions) { o.Addrs = []string{"a:1", "b:1"} },
		"master":    func(o *RedisOptions) { o.Mode = RedisSentinel },
		"database":  func(o *RedisOptions) { o.Mode = RedisCluster; o.DB = 1 },
		"-1":        func(o *RedisOptions) { o.DB = -1 },
		"prefix":    func(o *RedisOptions) { o.KeyPrefix = "" },
		"braces":    func(o *RedisOptions) { o.KeyPrefix = "{p}" },
		"replicas":  func(o *RedisOptions) { o.WaitReplicas = -1 },
	} {
		o := soundRedis()
		spoil(&o)
		if _, err := NewRedis(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewRedis = %v, want an error that speaks of %q", err, want)
		}
	}
}

func TestEachModeHasItsClient(t *testing.T) {
	for mode, fits := range map[RedisMode]func(redis.UniversalClient) bool{
		RedisSingle:   func(c redis.UniversalClient) bool { _, ok := c.(*redis.Client); return ok },
		RedisSentinel: func(c redis.UniversalClient) bool { _, ok := c.(*redis.Client); return ok },
		RedisCluster:  func(c redis.UniversalClient) bool { _, ok := c.(*redis.ClusterClient); return ok },
	} {
		o := soundRedis()
		o.Mode, o.MasterName = mode, "m"
		r, err := NewRedis(o)
		if err != nil {
			t.Fatal(err)
		}
		if !fits(r.client) {
			t.Errorf("mode %s makes a %T", mode, r.client)
		}
		if err := r.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

func TestNoClientRepeatsOrReadsReplicas(t *testing.T) {
	o := soundRedis()
	single, sentinel, cluster := o.single(), o.sentinel(), o.cluster()
	type settings struct {
		retries, dials, pool, pipelines int
		deadlines, anonymous            bool
		dial, read, write               time.Duration
	}
	want := settings{-1, 1, redisPool, -1, true, true, redisTimeout, redisTimeout, redisTimeout}
	for name, got := range map[string]settings{
		"single": {single.MaxRetries, single.DialerRetries, single.PoolSize, single.PipelinePoolSize,
			single.ContextTimeoutEnabled, single.DisableIdentity, single.DialTimeout, single.ReadTimeout, single.WriteTimeout},
		"sentinel": {sentinel.MaxRetries, sentinel.DialerRetries, sentinel.PoolSize, sentinel.PipelinePoolSize,
			sentinel.ContextTimeoutEnabled, sentinel.DisableIdentity, sentinel.DialTimeout, sentinel.ReadTimeout, sentinel.WriteTimeout},
		"cluster": {cluster.MaxRetries, cluster.DialerRetries, cluster.PoolSize, cluster.PipelinePoolSize,
			cluster.ContextTimeoutEnabled, cluster.DisableIdentity, cluster.DialTimeout, cluster.ReadTimeout, cluster.WriteTimeout},
	} {
		if got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	for _, c := range []*maintnotifications.Config{single.MaintNotificationsConfig, cluster.MaintNotificationsConfig} {
		if c == nil || c.Mode != maintnotifications.ModeDisabled {
			t.Error("maintenance notifications are on")
		}
	}
	if sentinel.ReplicaOnly || sentinel.RouteByLatency || sentinel.RouteRandomly ||
		cluster.ReadOnly || cluster.RouteByLatency || cluster.RouteRandomly || cluster.MaxRedirects != 0 {
		t.Error("replicas may be read, or MOVED is not followed")
	}
	if replicaWait >= redisTimeout {
		t.Error("the answer of WAIT may come after nobody listens")
	}
}

func TestClusterNodesAreVerifiedByTheNameThatWasGiven(t *testing.T) {
	o := soundRedis()
	o.Addrs = []string{"redis.example:6379"}
	o.TLS = &tls.Config{}
	if name := o.cluster().TLSConfig.ServerName; name != "redis.example" || o.TLS.ServerName != "" {
		t.Errorf("server name %q, and %q in the caller's; want that of the address, and none", name, o.TLS.ServerName)
	}
	o.TLS.ServerName = "other.example"
	if name := o.cluster().TLSConfig.ServerName; name != "other.example" {
		t.Errorf("server name %q, want the one that was set", name)
	}
}

func TestPasswordThatCannotBeReadIsAnErrorWithItsCause(t *testing.T) {
	cause := errors.New("no such file")
	o := soundRedis()
	o.Password = func(context.Context) (Secret, error) { return Secret{}, cause }
	if _, _, err := o.credentials()(t.Context()); !errors.Is(err, cause) {
		t.Errorf("credentials = %v, want the cause", err)
	}
}

func TestRedisErrorDoesNotRepeatWhatWasSent(t *testing.T) {
	err := redisError(t.Context(), "read", "k", errors.New("ERR unknown command 'EVAL', with args beginning with: 'secret'"))
	if want := `read "k" in redis: ERR unknown command 'EVAL'`; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

func TestPatternOfAPrefixIsThatPrefixOnly(t *testing.T) {
	if got, want := globEscaper.Replace(`a*?[b]\`), `a\*\?\[b\]\\`; got != want {
		t.Errorf("escaped %q, want %q", got, want)
	}
}
