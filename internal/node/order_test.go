package node_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/node"
)

func TestCallWaitsForTheOneBeforeIt(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.halt()

	first, second := pushCall(in, "list", "1"), pushCall(in, "list", "2")
	third := pushCall(in, "list", "3")
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
	list := slices.DeleteFunc(l.list(t, "list"), func(s string) bool { return s == "independent" })
	require.Equal(t, []string{"1", "2", "3"}, list)
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

// heldBack returns a call that waits for those that hold back its key.
func heldBack(to node.Receiver, key, value string) *node.Call {
	c := pushCall(to, key, value)
	c.HeldBack = true
	return c
}

func TestHeldBackCallWaitsForTheOneThatHoldsItsKey(t *testing.T) {
	for name, free := range map[string]func(to node.Receiver) *node.Call{
		"not one for another key": func(to node.Receiver) *node.Call {
			return heldBack(to, "c", "x")
		},
		"not one that may go before": func(to node.Receiver) *node.Call {
			return pushCall(to, "b", "x")
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLine(t)
			n, in := l.newNode(t), newInbox()
			l.halt()
			release := pushCall(in, "list", "release")
			require.True(t, n.Send(release))
			eventually(t, func() bool { return len(l.begun()) == 1 })
			n.HoldBack(release, []string{"a", "b"})

			next := heldBack(in, "b", "next")
			require.True(t, n.Send(next))
			require.True(t, n.Send(free(in)))
			eventually(t, func() bool { return len(l.begun()) == 2 })
			l.resume()
			in.collect(t, 3)
			require.Equal(t, []int{1, 1, 1}, l.sizes(), "the second trip was without it")

			n.HoldBack(release, []string{"a"}) // what is done holds nobody back
			require.True(t, n.Send(heldBack(in, "a", "last")))
			require.NoError(t, in.next(t).Err)
		})
	}
}

// failing sends a call that holds others back from some keys. It is on its way, will fail, and is
// repeated then.
func (l *line) failing(t *testing.T, n *node.Node, in inbox, holdsBack ...string) *node.Call {
	l.server.Do(t, "set", "string", 1)
	l.halt()
	release := pushCall(in, "string", "x")
	release.RepeatUntil, release.HoldsBack = time.Now().Add(time.Hour), holdsBack
	require.True(t, n.Send(release))
	eventually(t, func() bool { return len(l.begun()) == 1 })
	return release
}

// A call that has failed is repeated for who knows how long.
func TestCallHoldsNobodyBackOnceItHasFailed(t *testing.T) {
	l := newLine(t)
	n, in, never := l.newNode(t), newInbox(), newInbox()
	release := l.failing(t, n, never)
	n.HoldBack(release, []string{"a"})
	behind := pushCall(never, "a", "of the same owner")
	require.True(t, n.SendAfter(behind, release))
	require.True(t, n.Send(heldBack(in, "a", "next")))
	l.resume()
	require.NoError(t, in.next(t).Err)

	// Nor does it begin to while it is tried again.
	l.haltAnew()
	eventually(t, func() bool { return len(l.begun()) == 1 })
	held := l.passOthers()
	n.HoldBack(release, []string{"a"})
	require.True(t, n.Send(heldBack(in, "a", "after")))
	require.NoError(t, in.next(t).Err)
	close(held)
	require.Equal(t, []string{"next", "after"}, l.list(t, "a"))

	ended, end := context.WithCancel(t.Context())
	end()
	require.NoError(t, n.Close(ended, patience))
	require.ErrorContains(t, never.next(t).Err, "WRONGTYPE")
	require.ErrorIs(t, never.next(t).Err, node.ErrClosed)
}

// The same for one that follows another of its owner besides.
func TestCallBehindAnotherOfItsOwnerIsHeldBackNoLonger(t *testing.T) {
	l := newLine(t)
	n, in, never := l.newNode(t), newInbox(), newInbox()
	l.failing(t, n, never, "a")
	own := pushCall(in, "a", "own")
	require.True(t, n.Send(own))
	eventually(t, func() bool { return len(l.begun()) == 2 })
	require.True(t, n.SendAfter(heldBack(in, "a", "next"), own))
	l.resume()
	in.collect(t, 2)
	require.Equal(t, []string{"own", "next"}, l.list(t, "a"))

	ended, end := context.WithCancel(t.Context())
	end()
	require.NoError(t, n.Close(ended, patience))
	require.ErrorContains(t, never.next(t).Err, "WRONGTYPE")
}

// A release that changes a queue is sent after another one, which holds others back from the end of
// its round on.
func TestWhoeverIsHeldBackWaitsForAllWhoHoldTheKey(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.halt()
	first := pushCall(in, "a", "first")
	require.True(t, n.Send(first))
	eventually(t, func() bool { return len(l.begun()) == 1 })
	passFirst := l.passOthers()
	l.halt()
	second := pushCall(in, "a", "second")
	second.HoldsBack = []string{"a"}
	require.True(t, n.Send(second))
	eventually(t, func() bool { return len(l.begun()) == 2 })
	passSecond := l.passOthers()
	n.HoldBack(first, []string{"a"})
	next := heldBack(in, "a", "next")
	require.True(t, n.Send(next))
	leave := pushCall(in, "a", "leave")
	leave.HoldsBack = []string{"a"}
	require.True(t, n.Send(leave))
	close(passFirst)
	require.Same(t, first, in.next(t))
	never(t, func() bool { return len(l.begun()) > 2 })
	close(passSecond)
	in.collect(t, 3)
	require.Equal(t, []string{"first", "second"}, l.list(t, "a")[:2])
}

// While one release is under way, those behind it gather. They go out together when it is done, and
// not one by one.
func TestThoseWhoHoldAKeyDoNotWaitForWhatHasNotBeenSent(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.halt()
	var want []string
	for i := range 5 {
		release := pushCall(in, "a", fmt.Sprint("release ", i))
		release.HoldsBack = []string{"a"}
		require.True(t, n.Send(release))
		want = append(want, fmt.Sprint("release ", i))
		eventually(t, func() bool { return len(l.begun()) == 1 })
	}
	require.True(t, n.Send(heldBack(in, "a", "acquire")))
	never(t, func() bool { return len(l.begun()) > 1 })
	l.resume()
	in.collect(t, 6)
	require.ElementsMatch(t, append(want, "acquire"), l.list(t, "a"))
	require.Equal(t, "acquire", l.list(t, "a")[5])
	require.LessOrEqual(t, len(l.begun()), 4, "round trips")
}

func TestDroppedCallHoldsNobodyBack(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	occupy(t, l, n, newInbox())
	release := pushCall(in, "a", "x")
	require.True(t, n.Send(release))
	n.HoldBack(release, []string{"a"})
	require.True(t, n.Send(heldBack(in, "a", "next")))
	require.True(t, n.Drop(release))
	l.resume()
	require.NoError(t, in.next(t).Err)
	require.Equal(t, []string{"next"}, l.list(t, "a"))
}

// The node may have taken a call that waits for another of the same owner for granted.
func TestCallBehindAnotherOfItsOwnerIsNotDropped(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.halt()
	first := pushCall(in, "a", "first")
	require.True(t, n.Send(first))
	eventually(t, func() bool { return len(l.begun()) == 1 })
	n.HoldBack(first, []string{"b"})
	bound, free := pushCall(in, "a", "second"), heldBack(in, "b", "x")
	require.True(t, n.SendAfter(bound, first))
	require.True(t, n.Send(free))
	require.False(t, n.Drop(bound))
	require.True(t, n.Drop(free))
	l.resume()
	in.collect(t, 2)
	require.Equal(t, []string{"first", "second"}, l.list(t, "a"))
	require.Empty(t, l.list(t, "b"))
}

func TestCallMayHoldOthersBackFromTheStart(t *testing.T) {
	l := newLine(t)
	n, in := l.newNode(t), newInbox()
	l.halt()
	release := pushCall(in, "list", "release")
	release.HoldsBack = []string{"a", "b"}
	require.True(t, n.Send(release))
	eventually(t, func() bool { return len(l.begun()) == 1 })
	require.True(t, n.Send(heldBack(in, "b", "next")))
	require.True(t, n.Send(pushCall(in, "b", "one that may go before")))
	eventually(t, func() bool { return len(l.begun()) == 2 })
	l.resume()
	in.collect(t, 3)
	require.Equal(t, []int{1, 1, 1}, l.sizes(), "the second trip was without it")
}
