package tokens_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pleo-sidecar/tokens"
	"pleo-sidecar/tokens/storetest"
)

func TestRedisClusterIsAStoreForTheLeastUser(t *testing.T) {
	t.Parallel()
	nodes, inCluster := startCluster(t)
	link := &redisLink{}
	open := func(t *testing.T) *tokens.Redis { return openRedis(t, nodes[0], asLeast, inCluster, via(link)) }
	storetest.Run(t, storetest.Backend{
		Bare:        true,
		Open:        func(t *testing.T) tokens.Store { return open(t) },
		Index:       func(t *testing.T) tokens.Index { return open(t) },
		Unreachable: func(*testing.T) func() { return link.cut() },
	})
	for i, node := range nodes {
		if n := node.DBSize(t.Context()).Val(); n == 0 {
			t.Errorf("node %d holds no record: the suite has not crossed nodes", i)
		}
	}
}

func TestSaveInAClusterWaitsAtTheNodeThatHasTheRecord(t *testing.T) {
	t.Parallel()
	nodes, inCluster := startCluster(t)
	r := openRedis(t, nodes[0], asLeast, inCluster, func(o *tokens.RedisOptions) { o.WaitReplicas = 1 })
	for i := range 4 { // on both nodes, neither of which has a replica
		name := fmt.Sprint("c", i)
		loaded, err := r.Load(t.Context(), name)
		if !errors.Is(err, tokens.ErrNotFound) {
			t.Fatal(err)
		}
		rec := next(loaded)
		if err := r.Save(t.Context(), name, rec); err == nil || !strings.Contains(err.Error(), "0 of 1") {
			t.Errorf("Save without a replica = %v, want an error that says so", err)
		}
		if got, err := r.Load(t.Context(), name); err != nil || got.Attempt != rec.Attempt {
			t.Errorf("after it Load = %v, want the record, which the master has", err)
		}
	}
}

// startCluster starts two masters with half of the slots each.
func startCluster(t *testing.T) ([]*redisServer, func(*tokens.RedisOptions)) {
	t.Helper()
	var nodes []*redisServer
	var addrs []string
	ports := freePorts(t, 4)
	for i := range 2 {
		nodes = append(nodes, startRedis(t, fmt.Sprint("port ", ports[i]), "cluster-enabled yes",
			fmt.Sprint("cluster-port ", ports[i+2]), "user least "+leastRights+" +wait +cluster|slots +command"))
		addrs = append(addrs, fmt.Sprint("127.0.0.1:", ports[i]))
	}
	must(t, nodes[0].Do(t.Context(), "cluster", "addslotsrange", 0, 8191).Err())
	must(t, nodes[1].Do(t.Context(), "cluster", "addslotsrange", 8192, 16383).Err())
	must(t, nodes[1].Do(t.Context(), "cluster", "set-config-epoch", 2).Err())
	must(t, nodes[1].Do(t.Context(), "cluster", "meet", "127.0.0.1", ports[0], ports[2]).Err())
	for _, node := range nodes {
		eventually(t, "the cluster is complete", func() bool {
			return strings.Contains(node.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
		})
	}
	return nodes, func(o *tokens.RedisOptions) { o.Mode, o.Addrs = tokens.RedisCluster, addrs }
}

func TestFailoverBySentinelIsAnotherRun(t *testing.T) {
	t.Parallel()
	ports := freePorts(t, 3)
	master := startRedis(t, fmt.Sprint("port ", ports[0]), "user least "+leastRights+" +wait")
	replica := startRedis(t, fmt.Sprint("port ", ports[1]), "user least "+leastRights+" +wait")
	replica.replicate(t, ports[0])
	sentinel := startRedis(t, fmt.Sprint("port ", ports[2]),
		fmt.Sprint("sentinel monitor m 127.0.0.1 ", ports[0], " 1"))
	must(t, sentinel.Do(t.Context(), "sentinel", "debug", "info-period", 100).Err())
	r := openRedis(t, master, asLeast, func(o *tokens.RedisOptions) {
		o.Mode, o.MasterName, o.WaitReplicas = tokens.RedisSentinel, "m", 1
		o.Addrs = []string{fmt.Sprint("127.0.0.1:", ports[2])}
	})
	told := watch(t, r)
	wantTold(t, told, "")
	kept := next(mustLoad(t, r))
	eventually(t, "the replica takes part", func() bool { return r.Save(t.Context(), "acme", kept) == nil })
	before := mustLoad(t, r)

	eventually(t, "the sentinel fails over", func() bool {
		return sentinel.Do(t.Context(), "sentinel", "failover", "m").Err() == nil
	})
	var after tokens.Record
	eventually(t, "another run answers", func() bool {
		var err error
		after, err = r.Load(t.Context(), "acme")
		return err == nil && after.Seen.Run != before.Seen.Run
	})
	if after.Attempt != kept.Attempt {
		t.Error("a record that a replica acknowledged is lost")
	}
	wantConflict(t, r.Save(t.Context(), "acme", next(before)))
	fresh := next(after)
	eventually(t, "a save after the failover", func() bool { return r.Save(t.Context(), "acme", fresh) == nil })
	wantTold(t, told, "acme")
}
