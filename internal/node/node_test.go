package node_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/node"
)

func TestLoneCallIsAPlainEVALSHA(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()

	for i := range 3 {
		require.True(t, n.Send(pushCall(in, "list", "x")))
		c := in.next(t)
		require.NoError(t, c.Err)
		require.EqualValues(t, i+1, c.Reply)
	}
	lone := trip{pipeline: false, commands: []string{"evalsha"}, requests: 1}
	require.Equal(t, []trip{lone, lone, lone}, l.begun())
}

func TestUnknownScriptIsSentAsText(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.server.Do(t, "script", "flush")

	for range 2 {
		require.True(t, n.Send(pushCall(in, "list", "x")))
		require.NoError(t, in.next(t).Err)
	}
	require.Equal(t, []int{1, 1, 1}, l.sizes())
	require.Equal(t, []string{"evalsha"}, l.begun()[0].commands)
	require.Equal(t, []string{"eval"}, l.begun()[1].commands)
	require.Equal(t, []string{"evalsha"}, l.begun()[2].commands, "the text has loaded the script")
	require.Equal(t, []string{"x", "x"}, l.list(t, "list"))
}

func TestCallsQueuedWhileWorkersAreBusyShareARoundTrip(t *testing.T) {
	for name, tt := range map[string]struct {
		queued int
		want   []int // calls in the round trips that carry them
	}{
		"one goes alone":                   {1, []int{1}},
		"many share one":                   {100, []int{100}},
		"one trip does not carry too many": {600, []int{256, 256, 88}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLine(t)
			n, in := l.newNode(t), newInbox()
			occupy(t, l, n, in)

			var values []string
			for i := range tt.queued {
				values = append(values, fmt.Sprint(i))
				require.True(t, n.Send(pushCall(in, "list", values[i])))
			}
			require.Len(t, l.begun(), 2, "nothing goes out while the workers are busy")
			l.resume()
			for _, c := range in.collect(t, 2+tt.queued) {
				require.NoError(t, c.Err)
			}

			require.ElementsMatch(t, tt.want, l.sizes()[2:])
			for _, trip := range l.begun()[2:] {
				require.Equal(t, len(trip.commands) > 1, trip.pipeline)
			}
			if len(tt.want) == 1 {
				require.Equal(t, values, l.list(t, "list"), "in the order in which they were sent")
			} else {
				require.ElementsMatch(t, values, l.list(t, "list"))
			}
		})
	}
}

func TestEachCallOfARoundTripHasItsOwnResult(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.server.Do(t, "set", "string", 1)
	occupy(t, l, n, in)

	good, bad, alsoGood := pushCall(in, "a", "x"), pushCall(in, "string", "x"), pushCall(in, "b", "x")
	for _, c := range []*node.Call{good, bad, alsoGood} {
		require.True(t, n.Send(c))
	}
	l.resume()
	in.collect(t, 5)

	require.Equal(t, []int{1, 1, 3}, l.sizes())
	require.ErrorContains(t, bad.Err, "WRONGTYPE")
	for _, c := range []*node.Call{good, alsoGood} {
		require.NoError(t, c.Err)
		require.EqualValues(t, 1, c.Reply)
	}
}

// A restarted server has lost its scripts, and calls that use them share a pipeline with others whose scripts are there.
func TestOnlyCallsOfUnknownScriptsAreSentAgain(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	unknown := node.NewScript(pushSource + " -- not loaded")
	occupy(t, l, n, in)

	var calls []*node.Call
	for i := range 6 {
		c := pushCall(in, fmt.Sprint("list", i), "x")
		if i%3 == 0 {
			c.Script = unknown
		}
		calls = append(calls, c)
		require.True(t, n.Send(c))
	}
	l.resume()
	in.collect(t, 2+len(calls))

	require.Equal(t, []trip{
		{pipeline: true, commands: []string{"evalsha", "evalsha"}, requests: 6},
		{pipeline: false, commands: []string{"eval"}, requests: 2},
	}, l.begun()[2:])
	for i, c := range calls {
		require.NoError(t, c.Err)
		require.EqualValues(t, 1, c.Reply)
		require.Equal(t, []string{"x"}, l.list(t, fmt.Sprint("list", i)), "each ran once")
	}
}

func TestCallWaitsForTheOneBeforeIt(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.halt()

	first, second, third := pushCall(in, "list", "1"), pushCall(in, "list", "2"), pushCall(in, "list", "3")
	require.True(t, n.Send(first))
	eventually(t, func() bool { return len(l.begun()) == 1 })
	require.True(t, n.SendAfter(second, first))
	require.True(t, n.SendAfter(third, second))
	// A worker is free: it takes the call that waits for nobody, and only that one.
	require.True(t, n.Send(pushCall(in, "list", "independent")))
	eventually(t, func() bool { return len(l.begun()) == 2 })
	require.Empty(t, in)

	l.resume()
	in.collect(t, 4)
	require.Equal(t, []int{1, 1, 1, 1}, l.sizes())
	list := strings.Join(l.list(t, "list"), " ")
	require.Equal(t, "1 2 3", strings.Join(strings.Fields(strings.Replace(list, "independent", "", 1)), " "))
}

func TestCallWaitsForNobodyWhenThereIsNothingToWaitFor(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	finished := pushCall(in, "list", "x")
	require.True(t, n.Send(finished))
	in.next(t)
	// It comes back a moment before the node is done with it.
	eventually(t, func() bool { return !n.Drop(finished) })

	for name, earlier := range map[string]*node.Call{
		"no call":              nil,
		"a call never sent":    pushCall(in, "list", "x"),
		"a call that was done": finished,
	} {
		t.Run(name, func(t *testing.T) {
			require.True(t, n.SendAfter(pushCall(in, "list", "x"), earlier))
			require.NoError(t, in.next(t).Err)
		})
	}
}

// The order within each chain holds however the batches fall, with many chains and goroutines.
func TestChainsKeepTheirOrderUnderLoad(t *testing.T) {
	const chains, length = 64, 40
	l := newLine(t)
	n, in := l.newNode(t), newInbox()

	var want []string
	var wg sync.WaitGroup
	for i := range length {
		want = append(want, fmt.Sprint(i))
	}
	for chain := range chains {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var last *node.Call
			for i := range length {
				c := pushCall(in, fmt.Sprint("chain", chain), want[i])
				n.SendAfter(c, last)
				last = c
			}
		}()
	}
	wg.Wait()
	for _, c := range in.collect(t, chains*length) {
		require.NoError(t, c.Err)
	}
	for chain := range chains {
		require.Equal(t, want, l.list(t, fmt.Sprint("chain", chain)))
	}
	require.Less(t, len(l.begun()), chains*length, "chains share round trips")
}

func TestDroppedCallIsNeverSent(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	occupy(t, l, n, in)

	queued, follower := pushCall(in, "list", "dropped"), pushCall(in, "list", "follower")
	require.True(t, n.Send(queued))
	require.True(t, n.SendAfter(follower, queued))
	require.False(t, n.Drop(follower), "it is not in the queue yet")
	require.True(t, n.Drop(queued))
	require.False(t, n.Drop(queued))
	l.resume()

	in.collect(t, 3)
	require.Equal(t, []string{"follower"}, l.list(t, "list"), "what waited for it goes on")
	require.NoError(t, n.Close(t.Context(), time.Minute))
	require.Empty(t, in, "its Receiver never gets it")
}

func TestSentCallIsNotDropped(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.halt()
	c := pushCall(in, "list", "x")
	require.False(t, n.Drop(c), "nor one that was never handed over")
	require.True(t, n.Send(c))
	eventually(t, func() bool { return len(l.begun()) == 1 })

	require.False(t, n.Drop(c))
	l.resume()
	require.NoError(t, in.next(t).Err)
	require.Equal(t, []string{"x"}, l.list(t, "list"))
}

func TestCallThatIsRepeatedIsNotDropped(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.server.Do(t, "set", "list", "a string")
	c := pushCall(in, "list", "x")
	c.RepeatUntil = time.Now().Add(time.Hour)
	require.True(t, n.Send(c))
	eventually(t, func() bool { return len(l.begun()) == 1 })

	// The server has seen it, and may have run it: it must come back to its Receiver. Now it waits for its next try,
	// and then for a worker.
	occupy(t, l, n, in)
	require.Never(t, func() bool { return n.Drop(c) }, 300*time.Millisecond, time.Millisecond)
	l.server.Do(t, "del", "list")
	l.resume()
	for _, c := range in.collect(t, 3) {
		require.NoError(t, c.Err)
	}
}

func TestCallPastItsTimeIsNotSent(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	occupy(t, l, n, in)

	late, inTime, follower := pushCall(in, "list", "late"), pushCall(in, "list", "in time"), pushCall(in, "list", "follower")
	late.SendBy, inTime.SendBy = time.Now(), time.Now().Add(time.Hour)
	for _, c := range []*node.Call{late, inTime} {
		require.True(t, n.Send(c))
	}
	require.True(t, n.SendAfter(follower, late))
	l.resume()
	in.collect(t, 5)

	require.ErrorIs(t, late.Err, node.ErrNotSent)
	require.NoError(t, inTime.Err)
	require.NoError(t, follower.Err)
	require.ElementsMatch(t, []string{"in time", "follower"}, l.list(t, "list"))
}

// A node that hangs must not collect all that was ever asked of it.
func TestBacklogOfANodeThatHangsIsBounded(t *testing.T) {
	const total, every = 10_000, 16 // every so many are still wanted
	const wanted = total / every
	l := newLine(t)
	n, busy, in := l.newNode(t), newInbox(), newInbox()
	occupy(t, l, n, busy)

	for i := range total {
		c := pushCall(in, "list", "x")
		c.SendBy = time.Now()
		if i%every == 0 {
			c.SendBy = time.Now().Add(time.Hour)
		}
		require.True(t, n.Send(c))
	}
	const dropped = total - 2*(wanted+256)
	for _, c := range in.collect(t, dropped) {
		require.ErrorIs(t, c.Err, node.ErrNotSent)
	}
	require.Len(t, l.begun(), 2, "the node still hangs")

	l.resume()
	in.collect(t, total-dropped)
	busy.collect(t, 2)
	require.Len(t, l.list(t, "list"), wanted)
}

func TestFailedCallIsRepeatedUntilItSucceeds(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	thirdTime := node.NewScript(`
		if redis.call('INCR', KEYS[1]) < 3 then return {{'ERR not yet'}} end
		return {redis.call('RPUSH', KEYS[2], 'done')}`)
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
	c.RepeatUntil = time.Now().Add(300 * time.Millisecond)
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
	eventually(t, func() bool { return len(l.begun()) == 5 }) // the next try is most of a second away

	require.NoError(t, n.Close(t.Context(), time.Minute))
	require.Len(t, in, 1, "Close has waited for it")
	require.ErrorContains(t, c.Err, "WRONGTYPE")
	require.Len(t, l.begun(), 5, "Close has not waited for another try")
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
	require.NoError(t, n.Close(t.Context(), time.Minute))
	require.Len(t, in, kept)
}

// The keys of a lock on Redis Cluster are visited one after the other, by one call.
func TestReceiverSendsItsCallAgain(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	keys := []string{"second", "third"}
	c := pushCall(nil, "first", "x")
	c.Receiver = receiver(func(c *node.Call) (again bool) {
		if len(keys) == 0 {
			in <- c
			return false
		}
		c.Keys, keys = keys[:1], keys[1:]
		return true
	})
	follower := pushCall(in, "third", "follower")
	require.True(t, n.Send(c))
	require.True(t, n.SendAfter(follower, c))

	require.Same(t, c, in.next(t))
	require.Same(t, follower, in.next(t))
	require.Equal(t, []string{"x"}, l.list(t, "first"))
	require.Equal(t, []string{"x"}, l.list(t, "second"))
	require.Equal(t, []string{"x", "follower"}, l.list(t, "third"))
}

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
	c := pushCall(receiver(func(c *node.Call) bool { got = append(got, c.Err); return true }), "list", "x")
	require.True(t, n.Send(c))
	eventually(t, func() bool { return len(l.begun()) == 1 })

	closed := make(chan error)
	ended, end := context.WithCancel(context.Background())
	end()
	go func() { closed <- n.Close(ended, time.Minute) }()
	eventually(t, func() bool { return !n.Send(pushCall(newInbox(), "list", "refused")) })
	l.resume()
	require.NoError(t, <-closed)
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

// What the calls in flight still ask for, such as a release behind its acquire, goes out before the node is closed.
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
		require.True(t, n.Send(pushCall(in, "list", "x")))
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
	require.NoError(t, n.Close(ended, 2*l.client.Options().ReadTimeout), "one timeout of the client, and not a second one")
	require.Error(t, in.next(t).Err)
}

// Every call comes back exactly once, whatever happens to it.
func TestNothingIsLostUnderLoad(t *testing.T) {
	const senders, each = 16, 200
	l := newLine(t)
	n := l.newNode(t)
	var received, dropped atomic.Int64
	var wg sync.WaitGroup
	for s := range senders {
		wg.Add(1)
		go func() {
			defer wg.Done()
			counted := receiver(func(c *node.Call) bool {
				received.Add(1)
				return false
			})
			var last *node.Call
			for i := range each {
				c := pushCall(counted, fmt.Sprint("list", s), "x")
				if i%3 == 0 {
					c.SendBy = time.Now().Add(time.Millisecond)
				}
				n.SendAfter(c, last)
				last = c
				if i%5 == 0 && n.Drop(c) {
					dropped.Add(1)
				}
			}
		}()
	}
	wg.Wait()
	require.NoError(t, n.Close(t.Context(), time.Minute))
	require.EqualValues(t, senders*each, received.Load()+dropped.Load())
	require.Positive(t, dropped.Load())
}
