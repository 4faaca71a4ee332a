package node

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

// movingMaster is a server that passes for a cluster. Each time a master is looked for it gets a
// new address.
type movingMaster struct {
	*redis.Client
	t       *testing.T
	lookups int
}

func (m *movingMaster) MasterForKey(context.Context, string) (*redis.Client, error) {
	m.lookups++
	master := redis.NewClient(&redis.Options{Addr: fmt.Sprint("127.0.0.1:", m.lookups)})
	m.t.Cleanup(func() { _ = master.Close() })
	return master, nil
}

func TestMastersThatHaveGoneAreForgotten(t *testing.T) {
	client := &movingMaster{Client: redistest.Start(t).Client(t), t: t}
	n := New(client, true)
	for i := range 20 {
		c, d := newCall()
		c.Keys = []string{"key"}
		require.True(t, n.Send(c))
		require.NoError(t, receive(t, d).Err)
		settle(t, n)
		n.mu.Lock()
		require.Equal(t, i+1, client.lookups)
		n.routes.since = n.routes.since.Add(-hintsLast) // it is looked up anew each time
		require.LessOrEqual(t, len(n.streams), 3,
			"what is not routed, the old master and the new one")
		require.Len(t, n.routes.byAddr, len(n.streams)-1)
		n.mu.Unlock()
	}
	require.NoError(t, n.Close(context.Background(), 0))
}

func TestHintsStandForAWhile(t *testing.T) {
	client := &movingMaster{Client: redistest.Start(t).Client(t), t: t}
	n := New(client, true)
	keys := []string{"a", "b", "c"}
	for range 3 {
		for _, key := range keys {
			c, d := newCall()
			c.Keys = []string{key}
			require.True(t, n.Send(c))
			require.NoError(t, receive(t, d).Err)
			settle(t, n)
		}
	}
	n.mu.Lock()
	require.Equal(t, len(keys), client.lookups)
	require.Len(t, n.streams, 1+len(keys), "those that are not used now may be soon")
	require.WithinDuration(t, time.Now(), n.routes.since, hintsLast)
	n.mu.Unlock()
	require.NoError(t, n.Close(context.Background(), 0))
}
