package node_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/node"
)

// Calls that wait for a lookup can be dropped, and are when nobody waits for them any more.
func TestCallsWaitForALookupAsTheyDoForAWorker(t *testing.T) {
	gate := make(chan struct{})
	_, client, n := newCluster(t, func(context.Context, int) error { <-gate; return nil })
	in := newInbox()
	first, dropped := pushCall(in, keyOn(0, 0), "first"), pushCall(in, keyOn(0, 0), "x")
	late := pushCall(in, keyOn(1, 0), "x")
	first.Patience, late.SendBy = time.Hour, time.Now()
	for _, c := range []*node.Call{first, dropped, late} {
		require.True(t, n.Send(c))
	}
	eventually(t, func() bool { return client.count() == 1 })
	require.True(t, n.Drop(dropped))
	close(gate)
	for _, c := range in.collectAll(t, []*node.Call{first, late})[:1] {
		require.NoError(t, c.Err)
	}
	require.ErrorIs(t, late.Err, node.ErrNotSent)
	require.EqualValues(t, 1, client.LLen(t.Context(), keyOn(0, 0)).Val())
}

// go-redis asks one node after the other for the state of the cluster, and one of them may hang.
func TestLookupThatHangsIsNotWaitedFor(t *testing.T) {
	gate := make(chan struct{})
	_, _, n := newCluster(t, func(_ context.Context, number int) error {
		if number == 1 {
			<-gate
		}
		return nil
	})
	defer close(gate)
	in := newInbox()
	c := pushCall(in, keyOn(0, 0), "x")
	c.Patience = 50 * time.Millisecond
	require.True(t, n.Send(c))
	require.NoError(t, in.next(t).Err)
}

func TestFailedLookupFailsWhatWaitsForIt(t *testing.T) {
	down := errors.New("no node answers")
	gate := make(chan struct{})
	_, client, n := newCluster(t, func(_ context.Context, number int) error {
		<-gate
		if number == 1 {
			return down
		}
		return nil
	})
	in := newInbox()
	repeated := pushCall(in, keyOn(1, 0), "x")
	repeated.RepeatUntil = time.Now().Add(time.Hour)
	calls := []*node.Call{pushCall(in, keyOn(0, 0), "x"), pushCall(in, keyOn(0, 1), "x")}
	for _, c := range append(calls, repeated) {
		require.True(t, n.Send(c))
	}
	eventually(t, func() bool { return client.count() == 1 })
	close(gate)
	for _, c := range in.collectAll(t, append(calls, repeated))[:2] {
		require.ErrorIs(t, c.Err, down)
	}
	require.NoError(t, repeated.Err)
	require.NoError(t, n.LastError())
}

// Close's own haste must not fail calls whose masters would be known in a moment.
func TestLookupThatCloseCutsShortIsMadeAgain(t *testing.T) {
	_, client, n := newCluster(t, nil)
	client.set(func(ctx context.Context, number int) error {
		if number == 1 {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	})
	in := newInbox()
	require.True(t, n.Send(pushCall(in, keyOn(0, 0), "x")))
	eventually(t, func() bool { return client.count() == 1 })
	_, err := shut(n, 50*time.Millisecond, patience)
	require.NoError(t, err)
	require.NoError(t, in.next(t).Err)
}

func TestCloseTellsOfALookupThatHangs(t *testing.T) {
	gate := make(chan struct{})
	_, client, n := newCluster(t, func(context.Context, int) error { <-gate; return nil })
	in := newInbox()
	require.True(t, n.Send(pushCall(in, keyOn(0, 0), "x")))
	eventually(t, func() bool { return client.count() == 1 })
	_, err := shut(n, time.Millisecond, 50*time.Millisecond)
	require.ErrorContains(t, err, "has not given up looking for the masters of the cluster")
	require.Len(t, in, 1)
	require.ErrorIs(t, in.next(t).Err, node.ErrClosed)
	close(gate)
}

// Nobody has sent it, but it waits among those that are repeated.
func TestCallWhoseLookupHasFailedIsNotDropped(t *testing.T) {
	var found atomic.Bool
	_, client, n := newCluster(t, func(context.Context, int) error {
		if found.Load() {
			return nil
		}
		return errors.New("no node answers")
	})
	in := newInbox()
	c := pushCall(in, keyOn(0, 0), "x")
	c.RepeatUntil = time.Now().Add(time.Hour)
	require.True(t, n.Send(c))
	eventually(t, func() bool { return client.count() > 1 }) // it is repeated
	require.Never(t, func() bool { return n.Drop(c) }, 300*time.Millisecond, time.Millisecond)
	found.Store(true)
	require.NoError(t, in.next(t).Err)
}
