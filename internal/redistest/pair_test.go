package redistest_test

import (
	"bufio"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

func TestMovedNameLeavesConnectionsWhereTheyAre(t *testing.T) {
	servers := redistest.StartN(t, 2)
	name := redistest.NewName(t, servers[0])
	before := name.Client(t).Conn()
	defer before.Close()
	require.NoError(t, before.Set(t.Context(), "key", "first", 0).Err())

	name.Move(servers[1])
	require.NoError(t, name.Client(t).Set(t.Context(), "key", "second", 0).Err())
	require.Equal(t, "first", before.Get(t.Context(), "key").Val())
	require.Equal(t, "first", servers[0].Do(t, "get", "key"))
	require.Equal(t, "second", servers[1].Do(t, "get", "key"))
}

func TestNameOfADeadServer(t *testing.T) {
	server := redistest.Start(t)
	name := redistest.NewName(t, server)
	client := unrepeating(t, name.Addr())
	connected(t, client)
	require.NoError(t, server.Kill())
	require.Error(t, client.Ping(t.Context()).Err())
	server.Restart(t)
	connected(t, client)
}

func TestPairChangesRolesAndLosesNothing(t *testing.T) {
	pair := redistest.StartPair(t)
	old := pair.Primary()
	client := pair.Name.Client(t)
	demoted, err := net.Dial("tcp", pair.Name.Addr())
	require.NoError(t, err)
	defer demoted.Close()
	require.NoError(t, demoted.SetDeadline(time.Now().Add(30*time.Second)))
	r := bufio.NewReader(demoted)
	ask := func() string {
		_, err := fmt.Fprint(demoted, "SET other value\r\n")
		require.NoError(t, err)
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		return line
	}
	require.Equal(t, "+OK\r\n", ask())

	for range 2 {
		was := pair.Primary()
		require.NoError(t, client.Set(t.Context(), "key", was.Addr(), time.Minute).Err())
		pair.Failover(t)
		require.NotSame(t, was, pair.Primary())
		require.Same(t, was, pair.Replica())
		require.Equal(t, was.Addr(), pair.Primary().Do(t, "get", "key"))
		require.Equal(t, was.Addr(), pair.Name.Client(t).Get(t.Context(), "key").Val())
		if was == old {
			require.Contains(t, ask(), "-READONLY",
				"the connection is still open, to what is a replica now")
		}
	}
	require.Same(t, old, pair.Primary())
	require.Equal(t, "+OK\r\n", ask())
}
