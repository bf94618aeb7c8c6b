package tokens

import (
	"context"
	_ "embed" // for the scripts
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Each script names the run itself, so that what it compares cannot change
// between the look and the write. They are sent whole: Redis caches a script by
// its text, and a script known by its sum is unknown after a restart.
var (
	//go:embed run.lua
	runLua string
	//go:embed load.lua
	loadLua string
	//go:embed save.lua
	saveLua string

	loadScript = runLua + loadLua
	saveScript = runLua + saveLua
)

const (
	// redisFormat is the form of a record as a hash. A change of its fields needs
	// another number: a program must refuse what it would read only in part.
	redisFormat = "1"
	// replicaWait is how long replicas have to acknowledge a write. It must be
	// below redisTimeout, the patience for one answer.
	replicaWait = 500 * time.Millisecond
)

// errNotAcknowledged says that a write landed on the master, and may be lost if
// the master is lost.
var errNotAcknowledged = errors.New("not acknowledged by enough replicas")

// Redis is a Store and an Index in Redis, shared by a fleet. The tests run on
// Redis 7.0; nothing in the scripts is younger than 6.2. Each record is a hash
// without expiry at <prefix>:{<connection>}:record, and each change of one is
// published on the channel <prefix>:events. It takes sealed records only.
//
// A run is one term of one Redis process as a master, so a restart and a failover
// are both another run. Both operations are scripts, asked of a master only and
// safe to repeat. Anything but a true absence is an error: a record that cannot be
// understood is one that names its key, and is never overwritten.
//
// What Redis promises less than a disk: it answers before a write is synced
// (appendfsync) or replicated. A write that a restart or failover loses is noticed
// by the run, which is what the protocol stands on; with RedisOptions.WaitReplicas
// a Save returns nil only when so many replicas have it. A maxmemory-policy other
// than noeviction may throw the only refresh token away.
//
// # Least rights
//
// The ACL user needs no more than this:
//
//	resetkeys ~<prefix>:* resetchannels &<prefix>:* -@all
//	+hello +auth +ping +eval +info +hgetall +hmget +hset +persist +exists
//	+publish +subscribe +scan
//
// and +select for a database other than 0, +wait for WaitReplicas, and
// +cluster|slots +command in a cluster. Without +info nothing is
// read or written: a failover could not be told from a stable Redis. The lock has
// rules of its own.
type Redis struct {
	options RedisOptions
	client  redis.UniversalClient
	log     *slog.Logger
}

// Load implements Store.
func (r *Redis) Load(ctx context.Context, connection string) (Record, error) {
	if err := checkName(connection); err != nil {
		return Record{}, err
	}
	if ctx.Err() != nil {
		return Record{}, context.Cause(ctx)
	}
	key := r.key(connection)
	run, fields, err := r.load(ctx, key)
	if err != nil {
		return Record{}, redisError(ctx, "read", key, err)
	}
	seen := Seen{Run: run}
	if len(fields) == 0 {
		return Record{Seen: seen}, ErrNotFound
	}
	rec, err := recordFromFields(fields)
	if err != nil {
		return Record{}, redisError(ctx, "read", key, err)
	}
	seen.Version = rec.Version
	rec.Seen = seen
	return rec, nil
}

// load returns the run and the fields of a record, none if there is no record.
func (r *Redis) load(ctx context.Context, key string) (string, map[string]string, error) {
	reply, err := r.client.Eval(ctx, loadScript, []string{key}).Slice()
	if err != nil {
		return "", nil, err
	}
	if len(reply) != 2 {
		return "", nil, errors.New("odd answer to the load script")
	}
	run, ok := reply[0].(string)
	pairs, also := reply[1].([]any)
	if !ok || !also || run == "" || len(pairs)%2 != 0 {
		return "", nil, errors.New("odd answer to the load script")
	}
	fields := make(map[string]string, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		value, also := pairs[i+1].(string)
		if !ok || !also {
			return "", nil, errors.New("odd answer to the load script")
		}
		fields[name] = value
	}
	return run, fields, nil
}

// Save implements Store. It writes once: a lost reply is an error, and the same
// record may be saved again to find out.
func (r *Redis) Save(ctx context.Context, connection string, rec Record) error {
	if err := checkSave(connection, rec); err != nil {
		return err
	}
	if !rec.Token.IsZero() && len(rec.Sealed) == 0 {
		return fmt.Errorf("version %d: would store tokens in the clear", rec.Version)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	rec.Run = rec.Seen.Run // the script writes in no other
	args := []any{rec.Seen.Run, strconv.FormatUint(rec.Seen.Version, 10), rec.Attempt, r.channel(), connection}
	size := 0
	for name, value := range fieldsOf(rec) {
		args = append(args, name, value)
		size += len(value)
	}
	if size >= maxRecord {
		return fmt.Errorf("version %d: %d bytes, more than %d", rec.Version, size, maxRecord)
	}
	key := r.key(connection)
	stands, err := r.save(ctx, key, args)
	switch {
	case err != nil:
		return redisError(ctx, "write", key, err)
	case !stands:
		return ErrConflict
	}
	return nil
}

// save reports whether the record stands, acknowledged as options demand. An
// error leaves that open.
func (r *Redis) save(ctx context.Context, key string, args []any) (bool, error) {
	if r.options.WaitReplicas == 0 {
		stands, err := r.client.Eval(ctx, saveScript, []string{key}, args...).Int()
		return stands == 1, err
	}
	master, err := r.master(ctx, key)
	if err != nil {
		return false, err
	}
	// One pipeline is one network connection, whose writes are all that WAIT
	// waits for. Exec returns the first error of several; each is judged below.
	pipe := master.Pipeline()
	written := pipe.Eval(ctx, saveScript, []string{key}, args...)
	acknowledged := pipe.Do(ctx, "WAIT", r.options.WaitReplicas, replicaWait.Milliseconds())
	_, _ = pipe.Exec(ctx)
	stands, err := written.Int()
	if err != nil {
		r.lookAround(ctx)
	}
	if err != nil || stands != 1 {
		return false, err
	}
	have, err := acknowledged.Int()
	if err == nil && have < r.options.WaitReplicas {
		err = fmt.Errorf("%w: %d of %d", errNotAcknowledged, have, r.options.WaitReplicas)
	}
	return err == nil, err
}

func (r *Redis) key(connection string) string {
	return r.options.KeyPrefix + ":{" + connection + "}:record"
}

func (r *Redis) channel() string { return r.options.KeyPrefix + ":events" }

// redisError says what was done to which key. A server that does not know a
// command repeats what came with it, which is not shown: it may be ours.
func redisError(ctx context.Context, doing, key string, err error) error {
	if head, _, cut := strings.Cut(err.Error(), ", with args"); cut {
		err = errors.New(head)
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return fmt.Errorf("%s %q in redis: %w", doing, key, err)
}

// fieldsOf returns rec as the fields of its hash, by the names of the protocol
// (rule 2.1). Every record has every field, so that a write leaves none of the
// record before. Values are bytes; Seen and Token are left out.
func fieldsOf(rec Record) map[string]string {
	doubt := "0"
	if rec.Doubt {
		doubt = "1"
	}
	return map[string]string{
		"format":    redisFormat,
		"ver":       strconv.FormatUint(rec.Version, 10),
		"attempt":   rec.Attempt,
		"run":       rec.Run,
		"state":     string(rec.State),
		"doubt":     doubt,
		"root":      string(rec.Root),
		"epoch":     strconv.FormatInt(rec.Epoch, 10),
		"gen":       strconv.FormatUint(rec.Generation, 10),
		"fp":        string(rec.Current),
		"prev":      string(rec.Previous),
		"claim":     rec.Claim.ID,
		"pod":       rec.Claim.Pod,
		"tries":     strconv.Itoa(rec.Tries),
		"client_fp": string(rec.Client),
		"reason":    rec.Reason,
		"sealed":    string(rec.Sealed),
	}
}

// recordFromFields is the inverse of fieldsOf. It takes nothing but what fieldsOf
// made: a field that is missing, unknown or written in another way means that
// somebody else wrote the record, and guessing at a record can cost the grant.
// Its errors show nothing of fields.
func recordFromFields(fields map[string]string) (Record, error) {
	if format := fields["format"]; format != redisFormat {
		return Record{}, fmt.Errorf("not written in format %s, which is the readable one", redisFormat)
	}
	number := func(name string) uint64 {
		n, _ := strconv.ParseUint(fields[name], 10, 64) // what is no number differs below
		return n
	}
	epoch, _ := strconv.ParseInt(fields["epoch"], 10, 64)
	tries, _ := strconv.Atoi(fields["tries"])
	rec := Record{
		Version: number("ver"), Attempt: fields["attempt"], Run: fields["run"],
		State: State(fields["state"]), Doubt: fields["doubt"] == "1",
		Root: Fingerprint(fields["root"]), Epoch: epoch, Generation: number("gen"),
		Current: Fingerprint(fields["fp"]), Previous: Fingerprint(fields["prev"]),
		Claim: Claim{ID: fields["claim"], Pod: fields["pod"]},
		Tries: tries, Client: Fingerprint(fields["client_fp"]), Reason: fields["reason"],
		Sealed: []byte(fields["sealed"]),
	}
	switch {
	case !rec.State.Valid():
		return Record{}, errors.New("damaged: unknown state")
	case rec.Version == 0:
		return Record{}, errors.New("damaged: no version")
	case !maps.Equal(fields, fieldsOf(rec)):
		return Record{}, errors.New("damaged: fields missing, unknown or written in another way")
	}
	return rec, nil
}
