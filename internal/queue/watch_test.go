package queue

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// From the moment at which a node has put us into its queue it may say that the resource is free,
// and does so once.
func TestWordThatComesDuringALookIsNotLost(t *testing.T) {
	l, _ := lineOver(t, 1)
	other := l.Join(l.keys("other"), time.Second)
	defer other.Leave()
	other.stand()
	// no subscription that is new wakes it
	require.Eventually(t, func() bool { return l.sure(0) }, limit, time.Millisecond)
	w := l.Watch(l.keys("r"))
	defer w.Leave()
	w.Look()
	l.receive(0, fmt.Sprintf("free %d 1", w.group.watch.number))
	w.Held(errHeld)
	ctx, cancel := context.WithTimeout(context.Background(), mostPolls/2)
	defer cancel()
	require.NoError(t, w.Wait(ctx, time.Hour))
}

// Whoever comes when a look is under way does not learn from it: what it found may be from before.
func TestLookTellsThoseWhoCameBeforeIt(t *testing.T) {
	l, _ := lineOver(t, 1)
	first, second := l.Watch(l.keys("r")), l.Watch(l.keys("r"))
	first.Look()
	late := l.Watch(l.keys("r"))
	defer late.Leave()
	first.Free()
	require.True(t, first.seen)
	require.True(t, second.seen)
	require.False(t, late.seen)
	free, err := second.Turn(context.Background())
	require.NoError(t, err)
	require.True(t, free)
	first.Leave()
	second.Leave()
	free, err = late.Turn(context.Background())
	require.NoError(t, err)
	require.False(t, free, "it is to look for itself")
	late.Look()
	late.Free()
	require.True(t, late.seen)
}

func TestNextWatcherLooksWhenTheFirstLeaves(t *testing.T) {
	l, _ := lineOver(t, 1)
	first, second := l.Watch(l.keys("r")), l.Watch(l.keys("r"))
	require.True(t, first.first)
	require.False(t, second.first)
	bored, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := second.Turn(bored)
	require.ErrorIs(t, err, context.Canceled)
	first.Leave()
	require.True(t, second.first)
	second.Leave()
	require.Nil(t, second.group.watch)
	require.Empty(t, l.members)
}

// Also one whose first look was cut short, so that nobody knows whether a node has put us into its
// queue.
func TestLastWatcherLeavesTheQueues(t *testing.T) {
	l, servers := lineOver(t, 3)
	foreign(t, servers, "r")
	w := l.Watch(l.keys("r"))
	r := l.nodes.Watch(w.keys, limit, w.Look())
	r.Send()
	require.NoError(t, r.Wait(context.Background()))
	w.Leave()
	for _, s := range servers {
		require.Eventually(t, func() bool { return len(s.Keys()) == 1 }, limit, time.Millisecond,
			"%v", s.Keys())
	}
}

func TestWatcherLooksAgainWhenEnoughNodesSaySo(t *testing.T) {
	l, _ := lineOver(t, 3)
	l.hearOnlyTheTest()
	w := l.Watch(l.keys("r"))
	defer w.Leave()
	v := w.group.watch
	poll := time.Now().Add(time.Hour)
	w.Look()
	require.Equal(t, poll, w.dueLocked(poll))
	l.receive(0, fmt.Sprintf("free %d 1", v.number))
	require.Equal(t, v.called.Add(leastLate), w.dueLocked(poll), "a little after the first")
	l.receive(2, fmt.Sprintf("free %d 1", v.number))
	require.Equal(t, v.called, w.dueLocked(poll), "at once")
	w.Look()
	require.Equal(t, poll, w.dueLocked(poll), "a look begins anew")
	l.changed(1, nil)
	require.Equal(t, v.called.Add(leastLate), w.dueLocked(poll), "messages may have been lost")
	require.NotContains(t, v.free, true)
}
