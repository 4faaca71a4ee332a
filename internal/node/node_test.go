package node_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/node"
)

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

// The server always has a batch to work on while another one is on its way.
func TestLoneNodeGetsMoreBatchesAndSmallerOnes(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	n.Alone()
	l.halt()
	const calls = 4 + 150
	for i := range calls {
		c := pushCall(in, "list", fmt.Sprint(i))
		c.Patience = time.Hour // else others take the place of the workers
		require.True(t, n.Send(c))
		if i < 4 {
			eventually(t, func() bool { return len(l.begun()) == i+1 })
		}
	}
	require.Len(t, l.begun(), 4, "nothing more goes out while the workers are busy")
	l.resume()
	in.collect(t, calls)
	require.ElementsMatch(t, []int{1, 1, 1, 1, 64, 64, 22}, l.sizes())
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

func TestCallPastItsTimeIsNotSent(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	occupy(t, l, n, in)

	late, inTime := pushCall(in, "list", "late"), pushCall(in, "list", "in time")
	follower := pushCall(in, "list", "follower")
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
