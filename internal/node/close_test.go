package node_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/node"
)

func TestCloseWaitsForACallThatIsSentAgain(t *testing.T) {
	l := newLine(t)
	n := l.newNode(t)
	rounds := 0
	c := pushCall(receiver(func(*node.Call) bool { rounds++; return rounds < 50 }), "list", "x")
	require.True(t, n.Send(c))
	require.NoError(t, n.Close(t.Context(), time.Minute))
	require.Equal(t, 50, rounds)
	require.Len(t, l.list(t, "list"), 50)
}

func TestClosedNodeDoesNotSendAgain(t *testing.T) {
	l := newLine(t)
	n := l.newNode(t)
	l.halt()
	var got []error
	again := receiver(func(c *node.Call) bool { got = append(got, c.Err); return true })
	c := pushCall(again, "list", "x")
	require.True(t, n.Send(c))
	eventually(t, func() bool { return len(l.begun()) == 1 })

	ended, end := context.WithCancel(context.Background())
	end()
	require.ErrorContains(t, n.Close(ended, 0), "1 calls are still with the Redis client")
	require.False(t, n.Send(pushCall(newInbox(), "list", "refused")))
	l.resume()
	require.NoError(t, n.Close(t.Context(), 0))
	require.Len(t, got, 2)
	require.ErrorIs(t, got[1], node.ErrClosed)
}

func TestIdleNodeClosesAtOnce(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	require.True(t, n.Send(pushCall(in, "list", "x")))
	in.next(t)

	ended, end := context.WithCancel(context.Background())
	require.NoError(t, n.Close(t.Context(), 0))
	end()
	require.NoError(t, n.Close(ended, 0), "and once more")
	require.False(t, n.Send(pushCall(in, "list", "x")))
	require.Len(t, l.list(t, "list"), 1)
}

// What the calls in flight still ask for, such as a release behind its acquire, goes out before the
// node is closed.
func TestCloseWaitsForCallsAndWhatFollowsThem(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.halt()
	first := pushCall(nil, "list", "first")
	first.Receiver = receiver(func(c *node.Call) bool {
		n.SendAfter(pushCall(in, "list", "second"), c)
		return false
	})
	require.True(t, n.Send(first))
	eventually(t, func() bool { return len(l.begun()) == 1 })

	closed := make(chan error, 1)
	go func() { closed <- n.Close(context.Background(), 0) }()
	l.resume()
	require.NoError(t, <-closed)
	require.Len(t, in, 1)
	require.Equal(t, []string{"first", "second"}, l.list(t, "list"))
}

func TestCloseDropsWhatIsNotSentWhenTheNodeHangs(t *testing.T) {
	l := newLine(t)
	n, busy, in := l.newNode(t), newInbox(), newInbox()
	occupy(t, l, n, busy)
	for range 3 {
		c := pushCall(nil, "list", "x")
		c.Receiver = receiver(func(c *node.Call) (again bool) { in <- c; return true })
		require.True(t, n.Send(c))
	}

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := n.Close(ctx, 20*time.Millisecond)
	require.ErrorContains(t, err, "2 calls")
	for _, c := range in.collect(t, 3) {
		require.ErrorIs(t, c.Err, node.ErrClosed)
	}
	l.resume()
	busy.collect(t, 2)
	require.Empty(t, l.list(t, "list"))
	require.NoError(t, n.Close(t.Context(), 0))
	require.Empty(t, in, "each comes back once, whatever its Receiver wants")
}

// A stock client waits for seconds, and then tries again, up to three times.
func TestCloseKeepsTheClientFromTryingAgain(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.client.Ping(t.Context())
	require.NoError(t, l.server.Pause())
	c := pushCall(in, "list", "x")
	c.RepeatUntil = time.Now().Add(time.Hour)
	require.True(t, n.Send(c))
	eventually(t, func() bool { return len(l.begun()) == 1 })

	ended, end := context.WithCancel(t.Context())
	end()
	grace := 2 * l.client.Options().ReadTimeout // for one of them, but not for two
	require.NoError(t, n.Close(ended, grace))
	require.Error(t, in.next(t).Err)
}
