package redistest_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

func TestClusterSpreadsKeys(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	client := cluster.Client(t)
	for i := range 30 {
		require.NoError(t, client.Set(t.Context(), fmt.Sprintf("key%d", i), i, 0).Err())
	}
	total := 0
	for _, node := range cluster.Nodes {
		keys := node.Keys(t)
		require.NotEmpty(t, keys, "each node has its share")
		total += len(keys)
	}
	require.Equal(t, 30, total)
	require.ErrorContains(t, client.MGet(t.Context(), "key0", "key1").Err(), "CROSSSLOT")
}

func TestClusterOfOne(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 1)
	require.NoError(t, cluster.Client(t).Set(t.Context(), "key", 1, 0).Err())
}

func TestFailoverMovesTheMaster(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinel(t)
	client := s.Client(t)
	require.Same(t, s.Nodes[0], s.Master(t))
	require.NoError(t, client.Set(t.Context(), "before", 1, 0).Err())
	eventually(t, func() bool { return len(s.Nodes[1].Keys(t)) == 1 })

	s.Failover(t)
	require.Same(t, s.Nodes[1], s.Master(t))
	// The client moves when it hears of it; until then it talks to the old one.
	eventually(t, func() bool {
		return client.Set(t.Context(), "after", 1, 0).Err() == nil && len(s.Nodes[1].Keys(t)) == 2
	})
}
