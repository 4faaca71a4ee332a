package acceptance_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

func TestContextEndsWithItsParent(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	l := open(t, clients)
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)

	type key struct{}
	stop := errors.New("stop")
	parent, cancel := context.WithCancelCause(context.WithValue(ctx, key{}, "value"))
	lockCtx := h.Context(parent)
	require.Equal(t, "value", lockCtx.Value(key{}))
	child, cancelChild := context.WithCancel(lockCtx)
	defer cancelChild()
	deadline := time.Now().Add(time.Hour)
	timed, cancelTimed := context.WithDeadline(ctx, deadline)
	defer cancelTimed()
	got, ok := h.Context(timed).Deadline()
	require.True(t, ok)
	require.Equal(t, deadline, got)

	cancel(stop)
	for _, c := range []context.Context{lockCtx, child} {
		<-c.Done()
		require.Equal(t, context.Canceled, c.Err())
		require.Equal(t, stop, context.Cause(c))
	}
	require.NoError(t, h.Err(), "the lock does not end with it")
	require.Equal(t, stop, context.Cause(h.Context(parent)), "a context of an ended parent")

	expired, cancelExpired := context.WithTimeout(ctx, 0)
	defer cancelExpired()
	require.Equal(t, context.DeadlineExceeded, h.Context(expired).Err())

	require.NoError(t, h.Release(ctx))
	require.Equal(t, stop, context.Cause(lockCtx), "the first cause stays")
}

func TestContextsOfSeveralLocksCanBeNested(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	l := open(t, clients)
	outer, err := l.TryAcquire(ctx, "outer")
	require.NoError(t, err)
	inner, err := l.TryAcquire(ctx, "inner")
	require.NoError(t, err)
	both := inner.Context(outer.Context(ctx))
	require.NoError(t, both.Err())
	require.NoError(t, outer.Release(ctx))
	<-both.Done()
	require.Equal(t, redlock.ErrReleased, context.Cause(both))
	require.NoError(t, inner.Err())
	require.NoError(t, inner.Release(ctx))
}

// What a handle says and what its contexts say must agree at every moment, however many contexts
// there are to end.
func TestContextsEndNoLaterThanTheHandle(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	l := open(t, clients)
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	contexts := make([]context.Context, 20_000)
	for i := range contexts {
		contexts[i] = h.Context(ctx)
	}

	released := inBackground(func() error { return h.Release(ctx) })
	<-h.Done()
	alive := 0
	for _, c := range contexts {
		if c.Err() == nil {
			alive++
		}
	}
	require.Zero(t, alive, "contexts that go on after the end of the lock, of %d", len(contexts))
	require.NoError(t, <-released)
}

func TestContextsOfContextsOfAHandleDoNotDeadlockWithRelease(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	l, err := redlock.New(clients)
	require.NoError(t, err)
	for range 300 {
		h, err := l.TryAcquire(ctx, "r")
		require.NoError(t, err)
		held := h.Context(ctx)
		calls := []func() error{func() error { return h.Release(ctx) }}
		for range 2 {
			calls = append(calls, func() error {
				for range 20 {
					h.Context(held)
				}
				return nil
			})
		}
		var results []<-chan error
		for _, call := range calls {
			results = append(results, inBackground(call))
		}
		for _, result := range results {
			require.NoError(t, outcome(t, result, "a deadlock"))
		}
		<-held.Done()
	}
	require.NoError(t, l.Close()) // only now: it would not survive a deadlock either
}

func TestContextIsOverOnceErrIsSet(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	l := open(t, clients)
	for range 1000 {
		h, err := l.TryAcquire(ctx, "r")
		require.NoError(t, err)
		held := h.Context(ctx)
		for range 20 { // the more there are, the longer it takes to tell them all
			h.Context(ctx)
		}
		looked := inBackground(func() error {
			for h.Err() == nil {
			}
			return held.Err()
		})
		require.NoError(t, h.Release(ctx))
		require.ErrorIs(t, outcome(t, looked, "the end"), context.Canceled,
			"the lock has ended, its context has not")
		require.ErrorIs(t, context.Cause(held), redlock.ErrReleased)
	}
}
