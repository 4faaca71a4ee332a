package queue

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/protocol"
)

func (l *Line) try(t *testing.T, resource string) Try {
	t.Helper()
	try, alone := l.Try(l.keys(resource), time.Now())
	require.True(t, alone)
	return try
}

// taken returns a claim that has a lock.
func (l *Line) taken(t *testing.T, resource string) *protocol.Claim {
	t.Helper()
	c, k := &protocol.Claim{}, l.keys(resource)
	c.Init(l.nodes, &k, protocol.NewToken(""), limit)
	r := c.Acquire(limit)
	r.Send()
	require.NoError(t, r.Wait(context.Background()))
	return c
}

func TestTryThatWinsAloneLeavesNothing(t *testing.T) {
	l, _ := lineOver(t, 1)
	require.Nil(t, l.try(t, "r").Won(l.taken(t, "r"), time.Now().Add(limit)))
	require.Empty(t, l.groups)
	require.Empty(t, l.members)
	require.Nil(t, l.inboxes)
}

func TestOneTriesAndTheOthersWaitForThat(t *testing.T) {
	l, _ := lineOver(t, 1)
	l.clock.guess()
	try := l.try(t, "r")
	l.sweep()
	l.Watch(l.keys("r")).Leave()
	_, alone := l.Try(l.keys("r"), time.Now())
	require.False(t, alone)
	l.try(t, "another").Join(time.Second).Leave()
	gone, next, last := l.Join(l.keys("r"), time.Second), l.Join(l.keys("r"), time.Second),
		l.Join(l.keys("r"), time.Second)
	gone.Leave()
	next.takeTurn() // it has waited for long
	require.False(t, next.active)
	require.Same(t, try.group, l.groups[next.group.name])

	holder := try.Won(l.taken(t, "r"), time.Now().Add(limit))
	require.NotNil(t, holder, "others wait for the end of the lock")
	require.False(t, next.active)
	next.stand()
	require.Same(t, next.place, holder.Release())
	require.True(t, next.active)
	require.False(t, last.active)
	next.Leave()
	last.Leave()
	require.Empty(t, l.members)
}

// Without the nodes' time there is no ticket, and no release could put the next one into the
// queues.
func TestFirstWaiterBehindATryAsksForTheTime(t *testing.T) {
	l, _ := lineOver(t, 1)
	try := l.try(t, "r")
	next, last := l.Join(l.keys("r"), time.Second), l.Join(l.keys("r"), time.Second)
	holder := try.Won(l.taken(t, "r"), time.Now().Add(limit))
	require.True(t, next.active)
	require.False(t, last.active)
	next.stand()
	require.Same(t, next.place, holder.Release())
	next.Leave()
	last.Leave()
}

func TestTryThatFailsStandsInFrontOfWhoeverHasComeMeanwhile(t *testing.T) {
	l, _ := lineOver(t, 1)
	try := l.try(t, "r")
	later := l.Join(l.keys("r"), time.Second)
	first := try.Join(time.Second)
	require.True(t, first.came.Before(later.came))
	require.Equal(t, []*Waiter{first, later}, try.group.waiters)
	require.True(t, first.active)
	require.False(t, later.active)
	first.Leave()
	require.True(t, later.active)
	later.Leave()
}
