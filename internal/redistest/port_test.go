package redistest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Nothing in this process remembers the ports: what one test does not get from the
// kernel, another process does not get either.
func TestPortOfAServerThatIsDownIsNobodyElses(t *testing.T) {
	server := Start(t, withCluster())
	require.NoError(t, server.Kill())
	for _, p := range []port{server.port, server.busPort} {
		_, ok := reserve(p.number)
		require.False(t, ok)
	}
	server.Restart(t)

	require.NoError(t, server.Close())
	again, ok := reserve(server.port.number)
	require.True(t, ok)
	defer again.free()
	require.NoError(t, server.Close())
	_, ok = reserve(server.port.number)
	require.False(t, ok, "closing a server twice does not give up what is somebody else's")
}

func TestPortThatIsListenedOnIsNotReserved(t *testing.T) {
	server := Start(t)
	server.freePorts()
	_, ok := reserve(server.port.number)
	require.False(t, ok)
	require.NoError(t, server.Kill())
	p, ok := reserve(server.port.number)
	require.True(t, ok)
	p.free()
}
