package node_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/redistest"
	"github.com/rediskit/redlock/internal/slot"
)

// clusterClient is a stock client to a cluster that counts the lookups of masters, and can hold
// them up or have them fail.
type clusterClient struct {
	*redis.ClusterClient
	mu      sync.Mutex
	lookups int
	before  lookup // what happens before go-redis's own; nil: nothing
}

func (c *clusterClient) MasterForKey(ctx context.Context, key string) (*redis.Client, error) {
	c.mu.Lock()
	c.lookups++
	number, before := c.lookups, c.before
	c.mu.Unlock()
	if before != nil {
		if err := before(ctx, number); err != nil {
			return nil, err
		}
	}
	return c.ClusterClient.MasterForKey(ctx, key)
}

func (c *clusterClient) set(before lookup) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before = before
}

func (c *clusterClient) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lookups
}

type lookup func(ctx context.Context, number int) error

// newCluster returns a cluster of three masters, a client that has seen it, and its node.
func newCluster(t *testing.T, before lookup) (*redistest.Cluster, *clusterClient, *node.Node) {
	t.Helper()
	t.Parallel() // it takes two seconds until a cluster calls itself complete
	cluster := redistest.StartCluster(t, 3)
	client := &clusterClient{ClusterClient: cluster.Client(t), before: before}
	require.NoError(t, client.Ping(t.Context()).Err())
	n := node.New(client, true)
	t.Cleanup(func() { closeNode(t, cluster, n) })
	return cluster, client, n
}

func closeNode(t *testing.T, cluster *redistest.Cluster, n *node.Node) {
	for _, s := range cluster.Nodes {
		_ = s.Resume() // one may be down
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	require.NoError(t, n.Close(ctx, 10*time.Second))
}

// keyOn returns a key that the i-th of three masters serves.
func keyOn(master, number int) string {
	for i := 0; ; i++ {
		key := fmt.Sprintf("key-%d-%d", number, i)
		if int(slot.Of(key))*3/slot.Count == master {
			return key
		}
	}
}

func TestCallsReachTheMastersOfACluster(t *testing.T) {
	const chains, length = 48, 20
	cluster, client, n := newCluster(t, nil)
	in := newInbox()
	for chain := range chains {
		var last *node.Call
		for i := range length {
			c := pushCall(in, keyOn(chain%3, chain), fmt.Sprint(i))
			require.True(t, n.SendAfter(c, last))
			last = c
		}
	}
	for _, c := range in.collect(t, chains*length) {
		require.NoError(t, c.Err)
	}
	for chain := range chains {
		list, err := client.LRange(t.Context(), keyOn(chain%3, chain), 0, -1).Result()
		require.NoError(t, err)
		require.Len(t, list, length)
		for i, value := range list {
			require.Equal(t, fmt.Sprint(i), value)
		}
	}
	require.Equal(t, chains, client.count(), "each slot is looked up once")
	for _, s := range cluster.Nodes {
		require.NotContains(t, s.Do(t, "info", "errorstats"), "MOVED", "go-redis knew the keys")
	}
}

func TestMasterThatHangsHoldsUpNobodyElse(t *testing.T) {
	cluster, _, n := newCluster(t, nil)
	in, stuck := newInbox(), newInbox()
	for master := range 3 {
		require.True(t, n.Send(pushCall(in, keyOn(master, 0), "x")))
		require.NoError(t, in.next(t).Err)
	}
	require.NoError(t, cluster.Nodes[1].Pause())
	const hung = 1000 // more than go into the round trips of its workers
	for i := range hung {
		require.True(t, n.Send(pushCall(stuck, keyOn(1, i%8), "x")))
	}
	began := time.Now()
	for i := range 20 {
		for _, master := range []int{0, 2} {
			require.True(t, n.Send(pushCall(in, keyOn(master, i%8), "x")))
		}
		for range 2 {
			require.NoError(t, in.next(t).Err)
		}
	}
	require.Less(t, time.Since(began), time.Second)
	require.Empty(t, stuck)
	require.NoError(t, cluster.Nodes[1].Resume())
	for _, c := range stuck.collect(t, hung) {
		require.NoError(t, c.Err)
	}
}

// Recent versions of go-redis ask any node for a list of all commands before they send their first.
func TestMasterThatHangsHoldsUpNobodysFirstCall(t *testing.T) {
	t.Parallel()
	cluster, in := redistest.StartCluster(t, 3), newInbox()
	var nodes []*node.Node
	for range 8 {
		client := cluster.Client(t)
		_, err := client.MasterForKey(t.Context(), "key") // go-redis has seen the cluster
		require.NoError(t, err)
		n := node.New(client, true)
		defer closeNode(t, cluster, n)
		nodes = append(nodes, n)
	}
	require.NoError(t, cluster.Nodes[1].Pause())
	for _, n := range nodes {
		require.True(t, n.Send(pushCall(in, keyOn(0, 0), "x")))
	}
	began := time.Now()
	for range nodes {
		require.NoError(t, in.next(t).Err)
	}
	require.Less(t, time.Since(began), time.Second)
}

// A call that visits one slot after the other changes streams, and leaves behind what hangs.
func TestCallGoesFromMasterToMaster(t *testing.T) {
	cluster, client, n := newCluster(t, nil)
	in, stuck := newInbox(), newInbox()
	keys := []string{keyOn(1, 0), keyOn(2, 0), keyOn(1, 1)}
	c := pushCall(nil, keyOn(0, 0), "x")
	c.Receiver = receiver(func(c *node.Call) (again bool) {
		if c.Err != nil || len(keys) == 0 {
			in <- c
			return false
		}
		if len(keys) == 3 {
			_ = cluster.Nodes[0].Pause()
			for range 3 {
				n.Send(patientCall(stuck, keyOn(0, 0), "x", time.Hour))
			}
		}
		c.Keys, keys = keys[:1], keys[1:]
		return true
	})
	began := time.Now()
	require.True(t, n.Send(c))
	require.NoError(t, in.next(t).Err)
	require.Less(t, time.Since(began), time.Second)
	for _, key := range []string{keyOn(1, 0), keyOn(2, 0), keyOn(1, 1)} {
		require.EqualValues(t, 1, client.LLen(t.Context(), key).Val())
	}
	require.NoError(t, cluster.Nodes[0].Resume())
	stuck.collect(t, 3)
	for _, s := range cluster.Nodes {
		require.Contains(t, n.Addr(), s.Addr())
	}
}

func TestMasterIsLookedUpAnewAfterAFailure(t *testing.T) {
	cluster, client, n := newCluster(t, nil)
	in := newInbox()
	send := func() error {
		require.True(t, n.Send(pushCall(in, keyOn(0, 0), "x")))
		return in.next(t).Err
	}
	require.NoError(t, send())
	require.NoError(t, send())
	require.Equal(t, 1, client.count())
	require.NoError(t, cluster.Nodes[0].Kill())
	require.Error(t, send())
	require.Error(t, send())
	require.Equal(t, 2, client.count())
	require.Error(t, n.LastError())
}
