package node_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/node"
)

// While a node hangs, a lock changes hands among those who have it on the other nodes. Of all the
// releases that the node has not seen, the first and the last are enough.
func TestReleasesThatYieldDoNotPileUp(t *testing.T) {
	const many = 1000
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	occupy(t, l, n, newInbox())
	release := func(key, value string) {
		c := pushCall(in, "list", value)
		c.HoldsBack, c.Yields = []string{key}, true
		require.True(t, n.Send(c))
	}
	release("other", "other")
	for i := range many {
		release("lock", strconv.Itoa(i))
	}
	for _, c := range in.collect(t, many-2) {
		require.ErrorIs(t, c.Err, node.ErrNotSent)
	}
	require.Empty(t, in)
	held := pushCall(in, "lock", "x")
	held.HeldBack = true
	require.True(t, n.Send(held))

	l.resume()
	for _, c := range in.collect(t, 4) {
		require.NoError(t, c.Err)
	}
	require.Equal(t, []string{"other", "0", strconv.Itoa(many - 1)}, l.list(t, "list"))
}

// What the node may know of is not taken back, and what keeps its place says something else.
func TestReleasesThatDoNotYieldAreAllSent(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	occupy(t, l, n, newInbox())
	for i := range 9 {
		c := pushCall(in, "list", strconv.Itoa(i))
		c.HoldsBack, c.Yields = []string{"lock"}, i%3 == 0
		require.True(t, n.Send(c))
	}
	l.resume()
	in.collect(t, 9)
	require.Equal(t, []string{"0", "1", "2", "4", "5", "6", "7", "8"}, l.list(t, "list"))
}
