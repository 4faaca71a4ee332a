package redistest_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

func TestMasterOfAKeyHasIt(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	client := cluster.Client(t)
	for i := range 100 {
		key := fmt.Sprint("key", i)
		require.NoError(t, client.Set(t.Context(), key, i, 0).Err())
		master := cluster.MasterOf(t, cluster.Nodes[i%3], key)
		require.Equal(t, fmt.Sprint(i), master.Do(t, "get", key))
	}
}
