package tokens_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"

	"pleo-sidecar/tokens"
	"pleo-sidecar/tokens/storetest"
)

// leastRights are the rules that the documentation of Redis lists, for the prefix
// and the password of these tests.
const leastRights = "on >" + redisPassword + " resetkeys ~sidecar:* resetchannels &sidecar:* -@all" +
	" +hello +auth +ping +eval +info +hgetall +hmget +hset +persist +exists +publish +subscribe +scan"

const redisPassword = "pw-of-the-tests"

func TestRedisIsAStoreForTheLeastUser(t *testing.T) {
	t.Parallel()
	storetest.Run(t, redisBackend(t, startRedis(t, "user least "+leastRights), asLeast))
}

func TestSealedRedisIsAStoreAndShowsNoToken(t *testing.T) {
	t.Parallel()
	storetest.Run(t, sealed(t, redisBackend(t, startRedis(t, "user least "+leastRights), asLeast)))
}

func TestRedisInAnotherDatabaseIsAStore(t *testing.T) {
	t.Parallel()
	s := startRedis(t, "user least "+leastRights+" +select")
	b := redisBackend(t, s, func(o *tokens.RedisOptions) { asLeast(o); o.DB = 3 })
	storetest.Run(t, b)
}

func TestMiniredisIsAStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, miniredisBackend(newMiniredis(t)))
}

func TestSealedMiniredisIsAStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, sealed(t, miniredisBackend(newMiniredis(t))))
}

func TestSaveWhoseReplyIsLostIsSentOnceAndFoundAgain(t *testing.T) {
	t.Parallel()
	s, link := startRedis(t), &redisLink{}
	r := openRedis(t, s, via(link))
	first := next(mustLoad(t, r))
	link.losing.Store(1)
	if err := r.Save(t.Context(), "acme", first); err == nil || errors.Is(err, tokens.ErrConflict) {
		t.Fatalf("Save whose reply is lost = %v, want an error that leaves the outcome open", err)
	}
	if n := link.saves.Load(); n != 1 {
		t.Errorf("a save whose reply was lost was sent %d times, want once", n)
	}
	if rec := mustLoad(t, r); rec.Attempt != first.Attempt {
		t.Fatal("the save whose reply was lost did not land")
	}
	must(t, r.Save(t.Context(), "acme", first))
	must(t, openRedis(t, s).Save(t.Context(), "acme", next(mustLoad(t, r))))
	wantConflict(t, r.Save(t.Context(), "acme", first))
}

func TestFullRedisTakesARecord(t *testing.T) {
	t.Parallel()
	s := startRedis(t, "maxmemory-policy noeviction")
	r := openRedis(t, s)
	must(t, r.Save(t.Context(), "acme", next(mustLoad(t, r))))
	must(t, s.ConfigSet(t.Context(), "maxmemory", "1").Err())
	if err := s.Set(t.Context(), "x", "y", 0).Err(); !redis.IsOOMError(err) {
		t.Fatalf("SET in a full Redis = %v, want a refusal", err)
	}
	rec := next(mustLoad(t, r))
	must(t, r.Save(t.Context(), "acme", rec))
	if got := mustLoad(t, r); got.Attempt != rec.Attempt {
		t.Error("a full Redis keeps the record before")
	}
	other := next(tokens.Record{Seen: tokens.Seen{Run: rec.Seen.Run}})
	must(t, r.Save(t.Context(), "fresh", other))
}

func TestVersionsAreComparedExactly(t *testing.T) {
	t.Parallel()
	for name, r := range everyRedis(t) {
		rec := next(mustLoad(t, r))
		rec.Version = 1<<53 + 1 // the same as 1<<53 in a float
		must(t, r.Save(t.Context(), "acme", rec))
		stale := next(mustLoad(t, r))
		stale.Seen.Version, stale.Version = 1<<53, 1<<53+7
		if err := r.Save(t.Context(), "acme", stale); !errors.Is(err, tokens.ErrConflict) {
			t.Errorf("%s: Save on version 2^53 over 2^53+1 = %v, want ErrConflict", name, err)
		}
		top := next(mustLoad(t, r))
		top.Version = 1<<64 - 1
		must(t, r.Save(t.Context(), "acme", top))
		if got := mustLoad(t, r).Version; got != 1<<64-1 {
			t.Errorf("%s: version %d, want 2^64-1", name, got)
		}
	}
}

func TestSaveTakesAnExpiryAway(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	r := openRedis(t, s)
	must(t, r.Save(t.Context(), "acme", next(mustLoad(t, r))))
	must(t, s.Expire(t.Context(), "sidecar:{acme}:record", time.Hour).Err())
	must(t, r.Save(t.Context(), "acme", next(mustLoad(t, r))))
	if ttl := s.PTTL(t.Context(), "sidecar:{acme}:record").Val(); ttl != -1 {
		t.Errorf("PTTL after a save = %v, want none", ttl)
	}
}

func TestSaveIsNotDoneBeforeReplicasHaveIt(t *testing.T) {
	t.Parallel()
	port := freePorts(t, 1)[0]
	master := startRedis(t, fmt.Sprint("port ", port), "user least "+leastRights+" +wait")
	replica := startRedis(t)
	replica.replicate(t, port)
	link := &redisLink{}
	waiting := func(o *tokens.RedisOptions) { asLeast(o); via(link)(o); o.WaitReplicas = 1 }
	r := openRedis(t, master, waiting)
	acknowledged := next(mustLoad(t, r))
	eventually(t, "the replica takes part", func() bool { return r.Save(t.Context(), "acme", acknowledged) == nil })

	thaw := replica.freeze(t)
	rec := next(mustLoad(t, r))
	// The second store has written nothing yet, so that its WAIT alone would be
	// content at once.
	for _, r := range []*tokens.Redis{r, openRedis(t, master, waiting)} {
		if err := r.Save(t.Context(), "acme", rec); err == nil || errors.Is(err, tokens.ErrConflict) ||
			!strings.Contains(err.Error(), "0 of 1") {
			t.Errorf("Save that no replica has = %v, want an error that says so", err)
		}
	}
	stale := rec
	stale.Attempt = rand.Text()
	wantConflict(t, r.Save(t.Context(), "acme", stale))
	thaw()
	eventually(t, "the same attempt is acknowledged", func() bool { return r.Save(t.Context(), "acme", rec) == nil })
	if got := replica.HGet(t.Context(), "sidecar:{acme}:record", "attempt").Val(); got != rec.Attempt {
		t.Error("the replica lacks a record that was acknowledged")
	}
	if saves, waits := link.saves.Load(), link.waits.Load(); waits != saves {
		t.Errorf("%d saves, %d with a WAIT on the same network connection", saves, waits)
	}
}

func TestAttemptOfAFormerRunSaysNothing(t *testing.T) {
	t.Parallel()
	m := newMiniredis(t)
	r := openRedisAt(t, m.Addr())
	first := next(mustLoad(t, r))
	must(t, r.Save(t.Context(), "acme", first))
	m.Server().SetPreHook(infoHook("two"))
	again := next(mustLoad(t, r))
	again.Attempt, again.Seen.Version = first.Attempt, 0
	wantConflict(t, r.Save(t.Context(), "acme", again))
}

func TestReplicaIsNeitherReadNorWritten(t *testing.T) {
	t.Parallel()
	port := freePorts(t, 1)[0]
	master, replica := startRedis(t, fmt.Sprint("port ", port)), startRedis(t)
	r := openRedis(t, master)
	must(t, r.Save(t.Context(), "acme", next(mustLoad(t, r))))
	replica.replicate(t, port)
	late := openRedis(t, replica)
	if _, err := late.Load(t.Context(), "acme"); err == nil || !strings.Contains(err.Error(), "replica") {
		t.Errorf("Load from a replica = %v, want a refusal", err)
	}
	if err := late.Save(t.Context(), "acme", next(mustLoad(t, r))); err == nil || errors.Is(err, tokens.ErrConflict) {
		t.Errorf("Save to a replica = %v, want an error that leaves the outcome open", err)
	}
}

// A master that comes back after another has been master has lost what it took
// last, and its process is the same.
func TestMasterPromotedAgainIsAnotherRun(t *testing.T) {
	t.Parallel()
	ports := freePorts(t, 2)
	one, two := startRedis(t, fmt.Sprint("port ", ports[0])), startRedis(t, fmt.Sprint("port ", ports[1]))
	r := openRedis(t, one)
	first := next(mustLoad(t, r))
	must(t, r.Save(t.Context(), "acme", first))
	two.replicate(t, ports[0])
	before := mustLoad(t, r)
	process := one.info(t, "server", "run_id")

	must(t, two.Do(t.Context(), "replicaof", "no", "one").Err())
	must(t, r.Save(t.Context(), "acme", next(before))) // a claim that only the former master has
	one.replicate(t, ports[1])
	must(t, one.Do(t.Context(), "replicaof", "no", "one").Err())

	after := mustLoad(t, r)
	if after.Attempt != first.Attempt || one.info(t, "server", "run_id") != process {
		t.Fatal("the write was not lost, or the process is another: nothing is shown")
	}
	if after.Seen.Run == before.Seen.Run {
		t.Error("a master that has lost a write is the same run")
	}
	wantConflict(t, r.Save(t.Context(), "acme", next(before)))
}

func TestRedisThatDoesNotTellItsRunIsRefused(t *testing.T) {
	t.Parallel()
	s := startRedis(t, "user least "+strings.Replace(leastRights, " +info", "", 1))
	r := openRedis(t, s, asLeast)
	if _, err := r.Load(t.Context(), "acme"); err == nil || !strings.Contains(err.Error(), "+info") {
		t.Errorf("Load without INFO = %v, want an error that names the ACL rule", err)
	}
	if err := r.Save(t.Context(), "acme", next(tokens.Record{})); err == nil || errors.Is(err, tokens.ErrConflict) {
		t.Errorf("Save without INFO = %v, want an error", err)
	}
}

func TestForeignRecordIsAnErrorThatNamesItsKey(t *testing.T) {
	t.Parallel()
	const key = "sidecar:{acme}:record"
	s := startRedis(t)
	r := openRedis(t, s)
	for what, spoil := range map[string]func(){
		"a text":                 func() { s.Del(t.Context(), key); s.Set(t.Context(), key, storetest.Canary, 0) },
		"a hash of another":      func() { s.Del(t.Context(), key); s.HSet(t.Context(), key, "x", storetest.Canary) },
		"a missing field":        func() { s.HDel(t.Context(), key, "gen") },
		"no version":             func() { s.HDel(t.Context(), key, "ver") },
		"an unknown field":       func() { s.HSet(t.Context(), key, "more", storetest.Canary) },
		"an unknown state":       func() { s.HSet(t.Context(), key, "state", storetest.Canary) },
		"another format":         func() { s.HSet(t.Context(), key, "format", "2") },
		"a version with zeroes":  func() { s.HSet(t.Context(), key, "ver", "01") },
		"a version without bits": func() { s.HSet(t.Context(), key, "ver", "18446744073709551616") },
		"an epoch in words":      func() { s.HSet(t.Context(), key, "epoch", storetest.Canary) },
	} {
		s.Del(t.Context(), key)
		rec := next(mustLoad(t, r))
		must(t, r.Save(t.Context(), "acme", rec))
		spoil()
		content := func() string { return fmt.Sprint(s.HGetAll(t.Context(), key).Val(), s.Get(t.Context(), key).Val()) }
		before := content()
		got, err := r.Load(t.Context(), "acme")
		if err == nil || errors.Is(err, tokens.ErrNotFound) || !strings.Contains(err.Error(), key) || got.Exists() {
			t.Errorf("Load of %s = %v, want an error that names the key", what, err)
		} else if storetest.Reveals([]byte(err.Error())) != "" {
			t.Errorf("the error of %s repeats it: %v", what, err)
		}
		for _, version := range []uint64{0, 2} {
			over := next(tokens.Record{Seen: tokens.Seen{Run: rec.Seen.Run, Version: version}})
			if err := r.Save(t.Context(), "acme", over); err == nil {
				t.Errorf("Save over %s was taken", what)
			}
		}
		if content() != before {
			t.Errorf("Save over %s changed it", what)
		}
	}
}

func TestListSkipsKeysOfOthers(t *testing.T) {
	t.Parallel()
	for name, r := range everyRedis(t) {
		must(t, r.Save(t.Context(), "acme", next(mustLoad(t, r))))
		names, err := r.List(t.Context())
		if err != nil || fmt.Sprint(names) != "[acme]" {
			t.Errorf("%s: List = %q, %v; want acme alone", name, names, err)
		}
	}
}

func TestPasswordIsReadForEachNetworkConnection(t *testing.T) {
	t.Parallel()
	s, link := startRedis(t, "user least "+leastRights), &redisLink{}
	password, asked := redisPassword, 0
	r := openRedis(t, s, asLeast, via(link), func(o *tokens.RedisOptions) {
		o.Password = func(context.Context) (tokens.Secret, error) {
			asked++
			return tokens.NewSecret(password), nil
		}
	})
	mustLoad(t, r)
	mustLoad(t, r)
	must(t, s.Do(t.Context(), "acl", "setuser", "least", "resetpass", ">rotated").Err())
	link.cut()()
	if _, err := r.Load(t.Context(), "acme"); err == nil || errors.Is(err, tokens.ErrNotFound) || strings.Contains(err.Error(), password) {
		t.Errorf("Load with a former password = %v, want an error without it", err)
	}
	password = "rotated"
	mustLoad(t, r)
	if asked != 3 {
		t.Errorf("the password was read %d times, want once for each of 3 network connections", asked)
	}
}

func TestWatchGoesOnAfterAnOutage(t *testing.T) {
	t.Parallel()
	s, link := startRedis(t), &redisLink{}
	logs := &logLines{}
	r := openRedis(t, s, via(link), func(o *tokens.RedisOptions) { o.Log = slog.New(slog.NewTextHandler(logs, nil)) })
	other := openRedis(t, s)
	told := watch(t, r)
	wantTold(t, told, "")
	must(t, other.Save(t.Context(), "acme", next(mustLoad(t, other))))
	wantTold(t, told, "acme")
	mend := link.cut()
	must(t, other.Save(t.Context(), "acme", next(mustLoad(t, other))))
	mend()
	wantTold(t, told, "") // for what happened meanwhile
	must(t, other.Save(t.Context(), "zebra", next(tokens.Record{Seen: tokens.Seen{Run: mustLoad(t, other).Seen.Run}})))
	wantTold(t, told, "zebra")
	if got := logs.String(); strings.Count(got, "subscribing again") != 1 || strings.Count(got, "tells of changes again") != 1 {
		t.Errorf("an outage was logged as\n%s\nwant its beginning and its end", got)
	}
}

// In virtual time, over pipes to miniredis.
func TestIdleWatchPollsAndCostsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, pipes := bubbleMiniredis(t), &deafPipes{}
		commands := 0
		info := infoHook("one")
		m.Server().SetPreHook(func(p *server.Peer, name string, args ...string) bool {
			commands++
			return info(p, name, args...)
		})
		told := 0
		end := watchInBubble(t, pipes.open(t, m), func(string) { told++ })
		time.Sleep(time.Hour + time.Second)
		end()
		if commands > 360 {
			t.Errorf("an idle hour costs %d commands, want no more than one in 10 s", commands)
		}
		if told < 12 || told > 13 {
			t.Errorf("an idle hour is told of %d times, want once and each 5 minutes", told)
		}
	})
}

func TestSubscriptionThatFallsSilentIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, pipes := bubbleMiniredis(t), &deafPipes{}
		var told []string
		end := watchInBubble(t, pipes.open(t, m), func(name string) { told = append(told, name) })
		synctest.Wait()
		pipes.deafen()
		m.Publish("sidecar:events", "acme")
		time.Sleep(20 * time.Second)
		synctest.Wait()
		m.Publish("sidecar:events", "zebra")
		synctest.Wait()
		end()
		if got := fmt.Sprintf("%q", told); got != `["" "" "zebra"]` {
			t.Errorf("told %s, want any at first, any when listening again, and zebra", got)
		}
	})
}

// bubbleMiniredis has no listener, which a bubble cannot wait for.
func bubbleMiniredis(t *testing.T) *miniredis.Miniredis {
	m := miniredis.NewMiniRedis()
	t.Cleanup(m.Close)
	conn, err := m.Dial() // makes its server
	must(t, err)
	must(t, conn.Close())
	m.Server().SetPreHook(infoHook("one"))
	return m
}

func watchInBubble(t *testing.T, r *tokens.Redis, changed func(string)) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.Watch(ctx, changed) }()
	return func() {
		cancel()
		must(t, <-ended)
		must(t, r.Close())
	}
}

// deafPipes dials a miniredis by pipes, which can stop to bring anything while
// they seem to be open.
type deafPipes struct {
	mu    sync.Mutex
	pipes []*deafPipe
}

func (d *deafPipes) open(t *testing.T, m *miniredis.Miniredis) *tokens.Redis {
	r, err := tokens.NewRedis(tokens.RedisOptions{
		Mode: tokens.RedisSingle, Addrs: []string{"127.0.0.1:1"}, KeyPrefix: "sidecar",
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			conn, err := m.Dial()
			pipe := &deafPipe{Conn: conn}
			d.mu.Lock()
			defer d.mu.Unlock()
			d.pipes = append(d.pipes, pipe)
			return pipe, err
		},
	})
	must(t, err)
	return r
}

// deafen is for the pipes of now; later ones are well.
func (d *deafPipes) deafen() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.pipes {
		p.deaf.Store(true)
	}
}

type deafPipe struct {
	net.Conn
	deaf atomic.Bool
}

func (p *deafPipe) Read(b []byte) (int, error) {
	for {
		n, err := p.Conn.Read(b)
		if err != nil || !p.deaf.Load() {
			return n, err
		}
	}
}

// everyRedis returns stores on a real server, if there is one, and on miniredis,
// both with keys of others beside.
func everyRedis(t *testing.T) map[string]*tokens.Redis {
	m := newMiniredis(t)
	stores := map[string]*tokens.Redis{"miniredis": openRedisAt(t, m.Addr())}
	admins := []*redis.Client{redis.NewClient(&redis.Options{Addr: m.Addr(), DisableIdentity: true})}
	t.Cleanup(func() { _ = admins[0].Close() })
	if _, err := exec.LookPath("redis-server"); err == nil {
		s := startRedis(t)
		stores["redis-server"] = openRedis(t, s)
		admins = append(admins, s.Client)
	}
	for _, admin := range admins {
		for _, key := range []string{
			"sidecar:{acme}:lock", "sidecar:{acme}:record:x", "sidecar:acme:record", "sidecar:{A}:record",
			"x:sidecar:{b}:record", "sidecar2:{b}:record", "sidecar:{}:record",
		} {
			must(t, admin.Set(t.Context(), key, "x", 0).Err())
		}
	}
	return stores
}

// redisBackend opens stores on a real server. In the end every key must be a
// hash without expiry that shows no token.
func redisBackend(t *testing.T, s *redisServer, change ...func(*tokens.RedisOptions)) storetest.Backend {
	link := &redisLink{}
	change = append(change, via(link))
	var o tokens.RedisOptions
	for _, change := range change {
		change(&o)
	}
	t.Cleanup(func() { wantSealedHashes(t, s, o.DB) })
	return storetest.Backend{
		Bare:        true,
		Open:        func(t *testing.T) tokens.Store { return openRedis(t, s, change...) },
		Index:       func(t *testing.T) tokens.Index { return openRedis(t, s, change...) },
		NewRun:      s.restart,
		Rollback:    s.backup,
		Unreachable: func(*testing.T) func() { return link.cut() },
	}
}

func wantSealedHashes(t *testing.T, server *redisServer, db int) {
	ctx := context.Background()
	s := redis.NewClient(&redis.Options{Addr: server.socket, DB: db, DisableIdentity: true})
	defer func() { _ = s.Close() }()
	keys, err := s.Keys(ctx, "*").Result()
	must(t, err)
	for _, key := range keys {
		dump := fmt.Sprint(s.HGetAll(ctx, key).Val())
		if form := storetest.Reveals([]byte(dump)); form != "" {
			t.Errorf("%s shows a token, %s", key, form)
		}
		if ttl := s.PTTL(ctx, key).Val(); ttl != -1 {
			t.Errorf("%s expires: %v", key, ttl)
		}
	}
	if len(keys) < 10 {
		t.Errorf("%d keys to scan for tokens, want some", len(keys))
	}
}

// newMiniredis starts a miniredis that tells its run as Redis does.
func newMiniredis(t *testing.T) *miniredis.Miniredis {
	m := miniredis.NewMiniRedis()
	must(t, m.Start())
	t.Cleanup(m.Close)
	m.Server().SetPreHook(infoHook("one"))
	return m
}

func infoHook(run string) server.Hook {
	return func(p *server.Peer, name string, _ ...string) bool {
		if name != "INFO" {
			return false
		}
		p.WriteBulk("run_id:" + run + "\r\nrole:master\r\nmaster_replid:0\r\n")
		return true
	}
}

func miniredisBackend(m *miniredis.Miniredis) storetest.Backend {
	link := &redisLink{}
	open := func(t *testing.T) *tokens.Redis { return openRedisAt(t, m.Addr(), via(link)) }
	return storetest.Backend{
		Bare:        true,
		Open:        func(t *testing.T) tokens.Store { return open(t) },
		Index:       func(t *testing.T) tokens.Index { return open(t) },
		NewRun:      func(*testing.T) { m.Server().SetPreHook(infoHook(rand.Text())) },
		Unreachable: func(*testing.T) func() { return link.cut() },
	}
}

func openRedis(t *testing.T, s *redisServer, change ...func(*tokens.RedisOptions)) *tokens.Redis {
	t.Helper()
	o := tokens.RedisOptions{Mode: tokens.RedisSingle, Addrs: []string{s.socket}, KeyPrefix: "sidecar"}
	for _, change := range change {
		change(&o)
	}
	r, err := tokens.NewRedis(o)
	must(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func openRedisAt(t *testing.T, address string, change ...func(*tokens.RedisOptions)) *tokens.Redis {
	t.Helper()
	return openRedis(t, &redisServer{socket: address}, change...)
}

func asLeast(o *tokens.RedisOptions) {
	o.Username = "least"
	o.Password = func(context.Context) (tokens.Secret, error) { return tokens.NewSecret(redisPassword), nil }
}

func via(l *redisLink) func(*tokens.RedisOptions) {
	return func(o *tokens.RedisOptions) { o.Dialer = l.dial }
}

func mustLoad(t *testing.T, s tokens.Store) tokens.Record {
	t.Helper()
	rec, err := s.Load(t.Context(), "acme")
	if err != nil && !errors.Is(err, tokens.ErrNotFound) {
		t.Fatal(err)
	}
	return rec
}

// next returns a sealed record to be saved on the one that was loaded.
func next(loaded tokens.Record) tokens.Record {
	return tokens.Record{
		Version: loaded.Seen.Version + 1, Attempt: rand.Text(), Seen: loaded.Seen,
		State: tokens.StateOK, Sealed: []byte("sealed\x00"),
	}
}

func wantConflict(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, tokens.ErrConflict) {
		t.Errorf("Save = %v, want ErrConflict", err)
	}
}

// watch returns what a watcher is told until the test ends.
func watch(t *testing.T, index tokens.Index) <-chan string {
	told, ended := make(chan string, 100), make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- index.Watch(ctx, func(name string) { told <- name }) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-ended)
	})
	return told
}

func wantTold(t *testing.T, told <-chan string, want string) {
	t.Helper()
	end := time.After(20 * time.Second)
	for {
		select {
		case name := <-told:
			if name == want {
				return
			}
		case <-end:
			t.Fatalf("Watch does not tell of %q", want)
		}
	}
}

// logLines is a log that can be read while it is written.
type logLines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
