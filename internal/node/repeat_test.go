package node_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/node"
)

func TestCallThatIsRepeatedIsNotDropped(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.server.Do(t, "set", "list", "a string")
	c := pushCall(in, "list", "x")
	c.RepeatUntil = time.Now().Add(time.Hour)
	require.True(t, n.Send(c))
	eventually(t, func() bool { return len(l.begun()) > 0 })

	// The server has seen it, and may have run it: it must come back to its Receiver. Now it waits
	// for its next try, and then for a worker.
	occupy(t, l, n, in)
	require.Never(t, func() bool { return n.Drop(c) }, 300*time.Millisecond, time.Millisecond)
	l.server.Do(t, "del", "list")
	l.resume()
	for _, c := range in.collect(t, 3) {
		require.NoError(t, c.Err)
	}
}

func TestFailedCallIsRepeatedUntilItSucceeds(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	thirdTime := script(`
		if redis.call('INCR', KEYS[1]) < 3 then return redis.error_reply('ERR not yet') end
		return redis.call('RPUSH', KEYS[2], 'done')`)
	c := &node.Call{
		Script: thirdTime, Keys: []string{"tries", "list"}, Receiver: in,
		RepeatUntil: time.Now().Add(time.Hour),
	}
	follower := pushCall(in, "list", "follower")
	require.True(t, n.Send(c))
	require.True(t, n.SendAfter(follower, c))

	require.Same(t, c, in.next(t))
	require.NoError(t, c.Err)
	require.Same(t, follower, in.next(t))
	require.Equal(t, []string{"done", "follower"}, l.list(t, "list"))
	require.Empty(t, in, "a Receiver gets its call once")
}

func TestFailedCallIsRepeatedUntilTheServerIsBack(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	require.NoError(t, l.server.Kill())
	c := pushCall(in, "list", "x")
	c.RepeatUntil = time.Now().Add(time.Hour)
	require.True(t, n.Send(c))
	eventually(t, func() bool { return len(l.begun()) > 1 })

	l.server.Restart(t)
	require.Same(t, c, in.next(t))
	require.NoError(t, c.Err)
	require.Equal(t, []string{"x"}, l.list(t, "list"))
}

func TestFailedCallIsNotRepeated(t *testing.T) {
	for name, until := range map[string]time.Time{
		"without being asked to": {},
		"when its time is over":  time.Now().Add(-time.Second),
	} {
		t.Run(name, func(t *testing.T) {
			l := newLine(t)
			n, in := l.newNode(t), newInbox()
			l.server.Do(t, "set", "string", 1)
			c := pushCall(in, "string", "x")
			c.RepeatUntil = until
			require.True(t, n.Send(c))
			require.ErrorContains(t, in.next(t).Err, "WRONGTYPE")
			require.Len(t, l.begun(), 1)
		})
	}
}

func TestRepetitionEndsWhenItsTimeIsOver(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.server.Do(t, "set", "string", 1)
	c := pushCall(in, "string", "x")
	c.RepeatUntil = time.Now().Add(600 * time.Millisecond)
	require.True(t, n.Send(c))

	require.ErrorContains(t, in.next(t).Err, "WRONGTYPE")
	require.False(t, time.Now().Before(c.RepeatUntil))
	require.Greater(t, len(l.begun()), 1)
	require.Less(t, len(l.begun()), 8, "the pauses grow")
}

func TestRepetitionEndsWhenTheNodeIsClosed(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.server.Do(t, "set", "string", 1)
	c := pushCall(in, "string", "x")
	c.RepeatUntil = time.Now().Add(time.Hour)
	require.True(t, n.Send(c))
	// the next try is most of a second away, and those after it a second each
	eventually(t, func() bool { return len(l.begun()) > 4 })

	const more, pause = 6, 50 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	before, began, closed := len(l.begun()), time.Now(), make(chan error, 1)
	go func() { closed <- n.Close(ctx, time.Minute) }()
	eventually(t, func() bool { return len(l.begun()) >= before+more })
	require.Less(t, time.Since(began), (more-3)*time.Second, "it is repeated while ctx lasts")
	cancel()
	require.NoError(t, <-closed)
	require.Len(t, in, 1, "Close has waited for it")
	require.ErrorContains(t, c.Err, "WRONGTYPE")
	// one that was due, one at once, and those after a pause
	require.LessOrEqual(t, len(l.begun()), before+2+int(time.Since(began)/pause), "with pauses")
}

func TestRepetitionsOfAnOutageAreBounded(t *testing.T) {
	const total, kept = 9000, 8192
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.server.Do(t, "set", "string", 1)
	for range total {
		c := pushCall(in, "string", "x")
		c.RepeatUntil = time.Now().Add(time.Hour)
		require.True(t, n.Send(c))
	}
	in.collect(t, total-kept) // those that are given up, long before their time
	ended, end := context.WithCancel(t.Context())
	end()
	require.NoError(t, n.Close(ended, time.Minute))
	require.Len(t, in, kept)
}

// What the server has refused cannot run any more. What it has not answered can.
func TestRepeatedCallTellsWhetherAnEarlierTryMayStillRun(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.server.Do(t, "set", "list", "a string")
	refused := pushCall(in, "list", "x")
	refused.RepeatUntil = time.Now().Add(time.Hour)
	require.True(t, n.Send(refused))
	eventually(t, func() bool { return len(l.begun()) > 1 })
	l.server.Do(t, "del", "list")
	require.NoError(t, in.next(t).Err)
	require.False(t, refused.Repeated)

	require.NoError(t, l.server.Kill())
	l.forget()
	unanswered := pushCall(in, "list", "x")
	unanswered.RepeatUntil = time.Now().Add(time.Hour)
	require.True(t, n.Send(unanswered))
	eventually(t, func() bool { return len(l.begun()) > 1 })
	l.server.Restart(t)
	require.NoError(t, in.next(t).Err)
	require.True(t, unanswered.Repeated)
}

// A call past its time is not repeated: it was never sent.
func TestCallPastItsTimeIsNotRepeated(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	c := pushCall(in, "list", "x")
	c.SendBy, c.RepeatUntil = time.Now(), time.Now().Add(time.Hour)
	require.True(t, n.Send(c))
	require.ErrorIs(t, in.next(t).Err, node.ErrNotSent)
	require.Empty(t, l.begun())
}

// What has failed, and then waits behind a node that hangs until its time is over, is not sent once
// more. Why it failed is what its owner learns.
func TestRepetitionPastItsTimeIsNotSent(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.server.Do(t, "set", "string", 1)
	c := pushCall(in, "string", "x")
	c.RepeatUntil = time.Now().Add(2 * time.Second)
	require.True(t, n.Send(c))
	// the next try is most of a second away, so that it does not take a worker first
	eventually(t, func() bool { return len(l.begun()) > 4 })
	occupy(t, l, n, newInbox())
	<-time.After(time.Until(c.RepeatUntil))
	before := len(l.begun())
	l.resume()
	require.ErrorContains(t, in.next(t).Err, "WRONGTYPE")
	require.Len(t, l.begun(), before)
}
