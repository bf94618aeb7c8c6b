package tokens

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// redisTimeout is the patience for one dial, one write and one answer. A
	// Redis that needs longer for 10 KiB is away.
	redisTimeout = time.Second
	// redisPool is how many network connections are kept for each Redis. A
	// refresh makes a handful of calls, and each connection has 64 KiB of buffers.
	redisPool = 8
)

// RedisMode says how the master of a record is found. It is never guessed.
type RedisMode string

// The modes.
const (
	RedisSingle   RedisMode = "single"   // one server at one address
	RedisSentinel RedisMode = "sentinel" // the master that the sentinels name
	RedisCluster  RedisMode = "cluster"  // the master that has the record's slot
)

// RedisOptions says which Redis keeps the records, and how it is reached.
type RedisOptions struct {
	Mode RedisMode // no default

	// Addrs are the host:port of the server, of the sentinels, or of some nodes
	// of the cluster. A single server may be the path of a unix socket.
	Addrs []string
	// MasterName is the name of the master at the sentinels; for them only.
	// Sentinels are asked without a password.
	MasterName string

	// Username is the ACL user, "" the default one.
	Username string
	// Password is called for each network connection, so that a rotated password
	// needs no restart. nil: none.
	Password func(ctx context.Context) (Secret, error)
	// DB is the database, 0 in a cluster.
	DB int
	// KeyPrefix begins every key and the channel. It must not be empty, and holds
	// no braces: those mark what chooses the slot in a cluster.
	KeyPrefix string

	// TLS is nil for plain text. In a cluster the name of the first address is
	// verified unless ServerName is set, for nodes announce themselves by number.
	TLS *tls.Config

	// WaitReplicas is how many replicas must have a write before Save calls it
	// saved, within half a second. 0 waits for none.
	WaitReplicas int

	// Dialer replaces the dialling of network connections, TLS included; for
	// tests. nil: the ordinary one.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error)

	// Log is told when watching is interrupted and when it goes on. nil discards.
	Log *slog.Logger
}

// NewRedis returns the store in a Redis. It makes no network connection: a Redis
// that is away shows with the first Load. Close it when all work is done.
func NewRedis(o RedisOptions) (*Redis, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	return &Redis{options: o, client: o.client(), log: cmp.Or(o.Log, slog.New(slog.DiscardHandler))}, nil
}

// NewClient returns a client of the same Redis for another use, such as a lock. It
// has network connections of its own, and whoever asked for it closes it.
func (r *Redis) NewClient() redis.UniversalClient { return r.options.client() }

func (o RedisOptions) client() redis.UniversalClient {
	switch o.Mode {
	case RedisSentinel:
		return redis.NewFailoverClient(o.sentinel())
	case RedisCluster:
		return redis.NewClusterClient(o.cluster())
	default:
		return redis.NewClient(o.single())
	}
}

// String says where the store is, for messages.
func (r *Redis) String() string {
	return fmt.Sprintf("redis at %s (%s)", strings.Join(r.options.Addrs, ", "), r.options.Mode)
}

// Close closes every network connection. What runs ends with an error.
func (r *Redis) Close() error { return r.client.Close() }

func (o RedisOptions) check() error {
	switch {
	case o.Mode != RedisSingle && o.Mode != RedisSentinel && o.Mode != RedisCluster:
		return fmt.Errorf("redis: unknown mode %q", o.Mode)
	case len(o.Addrs) == 0:
		return errors.New("redis: no address")
	case o.Mode == RedisSingle && len(o.Addrs) != 1:
		return fmt.Errorf("redis: %d addresses of a single server", len(o.Addrs))
	case o.Mode == RedisSentinel && o.MasterName == "":
		return errors.New("redis: no name of the master at the sentinels")
	case o.DB < 0 || o.Mode == RedisCluster && o.DB != 0:
		return fmt.Errorf("redis: no database %d in mode %s", o.DB, o.Mode)
	case o.KeyPrefix == "" || strings.ContainsAny(o.KeyPrefix, "{}"):
		return fmt.Errorf("redis: key prefix %q: want one, without braces", o.KeyPrefix)
	case o.WaitReplicas < 0:
		return fmt.Errorf("redis: wait for %d replicas", o.WaitReplicas)
	}
	return nil
}

// What the three clients share, and why it is not the default:
// MaxRetries -1: a lost reply is for the caller, who knows the attempt.
// ContextTimeoutEnabled: a deadline holds for the answer too.
// DialerRetries 1: a refused connection is told at once.
// DisableIdentity, maintenance notifications off: commands that need rights and
// do nothing for us. PipelinePoolSize -1: no second pool.
// Nothing is ever read from a replica.

func (o RedisOptions) single() *redis.Options {
	return &redis.Options{
		Addr: o.Addrs[0], DB: o.DB,
		Username: o.Username, CredentialsProviderContext: o.credentials(),
		TLSConfig: o.TLS, Dialer: o.Dialer,
		MaxRetries: -1, ContextTimeoutEnabled: true,
		DialTimeout: redisTimeout, DialerRetries: 1,
		ReadTimeout: redisTimeout, WriteTimeout: redisTimeout,
		PoolSize: redisPool, PipelinePoolSize: -1,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

func (o RedisOptions) sentinel() *redis.FailoverOptions {
	return &redis.FailoverOptions{
		MasterName: o.MasterName, SentinelAddrs: o.Addrs, DB: o.DB,
		Username: o.Username, CredentialsProviderContext: o.credentials(),
		TLSConfig: o.TLS, Dialer: o.Dialer,
		MaxRetries: -1, ContextTimeoutEnabled: true,
		DialTimeout: redisTimeout, DialerRetries: 1,
		ReadTimeout: redisTimeout, WriteTimeout: redisTimeout,
		PoolSize: redisPool, PipelinePoolSize: -1,
		DisableIdentity: true,
	}
}

// cluster leaves MaxRedirects as it is, for MOVED must be followed: what is sent
// again after a time-out is the same attempt.
func (o RedisOptions) cluster() *redis.ClusterOptions {
	config := o.TLS
	if host, _, err := net.SplitHostPort(o.Addrs[0]); config != nil && config.ServerName == "" && err == nil {
		config = config.Clone()
		config.ServerName = host
	}
	return &redis.ClusterOptions{
		Addrs:    o.Addrs,
		Username: o.Username, CredentialsProviderContext: o.credentials(),
		TLSConfig: config, Dialer: o.Dialer,
		MaxRetries: -1, ContextTimeoutEnabled: true,
		DialTimeout: redisTimeout, DialerRetries: 1,
		ReadTimeout: redisTimeout, WriteTimeout: redisTimeout,
		PoolSize: redisPool, PipelinePoolSize: -1,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// credentials returns what go-redis calls for each network connection, nil
// without a password.
func (o RedisOptions) credentials() func(context.Context) (string, string, error) {
	if o.Password == nil {
		return nil
	}
	return func(ctx context.Context) (string, string, error) {
		password, err := o.Password(ctx)
		if err != nil {
			return "", "", fmt.Errorf("read the password: %w", err)
		}
		return o.Username, password.Reveal(), nil
	}
}

// master returns the client of the one server that has key.
func (r *Redis) master(ctx context.Context, key string) (*redis.Client, error) {
	switch client := r.client.(type) {
	case *redis.ClusterClient:
		return client.MasterForKey(ctx, key)
	case *redis.Client:
		return client, nil
	}
	return nil, fmt.Errorf("redis: no master of %T", r.client)
}

// eachMaster calls fn with the client of every master, at the same time, and
// returns an error of one of them.
func (r *Redis) eachMaster(ctx context.Context, fn func(context.Context, *redis.Client) error) error {
	if client, ok := r.client.(*redis.ClusterClient); ok {
		return client.ForEachMaster(ctx, fn)
	}
	master, err := r.master(ctx, "")
	if err != nil {
		return err
	}
	return fn(ctx, master)
}

// lookAround has a cluster's slots read again soon: a node that was asked by
// itself cannot redirect us.
func (r *Redis) lookAround(ctx context.Context) {
	if client, ok := r.client.(*redis.ClusterClient); ok {
		client.ReloadState(ctx)
	}
}
