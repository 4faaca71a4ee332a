package acceptance_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

func TestTryDoSkipsWhatSomebodyElseHas(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l, other := open(t, clients), open(t, clients, redlock.WithOwner("the other"))
	held := heldEverywhere(t, other, servers, "a")
	began := time.Now()
	err := l.TryDo(ctx, "a", func(context.Context) error {
		require.Fail(t, "run although somebody else has the lock")
		return nil
	})
	requireOnly(t, err, redlock.ErrHeld)
	require.ErrorContains(t, err, "the other")
	require.Less(t, time.Since(began), 10*time.Second, "it has waited for the end of the lock")
	require.NoError(t, held.Release(ctx))
	ran := false
	require.NoError(t, l.TryDo(ctx, "a", func(context.Context) error { ran = true; return nil }))
	require.True(t, ran)
	noKeys(t, servers)
}

func TestTryDoReturnsAnOutageAndBadArguments(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 1)
	l := open(t, clients, redlock.WithNodeTimeout(100*time.Millisecond))
	never := func(context.Context) error { panic("run without the lock") }
	require.ErrorContains(t, l.TryDo(ctx, "", never), "empty")
	require.ErrorContains(t, l.TryDo(ctx, "a", never, redlock.WithTTL(0)), "TTL")
	require.NoError(t, servers[0].Kill())
	requireOnly(t, l.TryDo(ctx, "a", never), redlock.ErrNoQuorum)
}

func TestTryDoRenewsUnlessToldNotTo(t *testing.T) {
	noLeak(t)
	const ttl = 3 * time.Second
	runAlongside(t, "it renews", func(t *testing.T) {
		servers, clients := masters(t, 3)
		l := open(t, clients, shortLived(ttl)...)
		warmUp(t, clients)
		var held context.Context
		require.NoError(t, l.TryDo(context.Background(), "a", func(ctx context.Context) error {
			held = ctx
			never(t, ttl+time.Second, func() bool { return ctx.Err() != nil }, "the lock has ended")
			return nil
		}))
		require.Equal(t, redlock.ErrReleased, context.Cause(held))
		noKeys(t, servers)
	})
	runAlongside(t, "unless told not to", func(t *testing.T) {
		servers, clients := masters(t, 3)
		l := open(t, clients, shortLived(ttl)...)
		warmUp(t, clients)
		err := l.TryDo(context.Background(), "a", func(ctx context.Context) error {
			<-ctx.Done()
			require.Equal(t, redlock.ErrLost, context.Cause(ctx))
			return nil
		}, redlock.WithAutoRenewal(false))
		requireOnly(t, err, redlock.ErrLost)
		noKeys(t, servers)
	})
}

func TestTryDoReturnsWhatFnReturnsAndReleases(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients)
	require.Equal(t, errGaveUp, l.TryDo(ctx, "a", func(context.Context) error { return errGaveUp }))
	noKeys(t, servers)
	require.PanicsWithValue(t, "oh", func() {
		_ = l.TryDo(ctx, "a", func(context.Context) error { panic("oh") })
	})
	noKeys(t, servers)

	// Also when ctx ends meanwhile: then too its end is all that fn is told.
	ending, cancel := context.WithCancelCause(ctx)
	err := l.TryDo(ending, "a", func(ctx context.Context) error {
		cancel(errGaveUp)
		<-ctx.Done()
		return context.Cause(ctx)
	})
	require.Equal(t, errGaveUp, err)
	noKeys(t, servers)
}

func TestTryDoJoinsTheLoss(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients, redlock.WithTTL(3*time.Second))
	err := l.TryDo(ctx, "a", func(ctx context.Context) error {
		uproot(t, "a", servers...)
		takeFor(t, time.Minute, "a", servers...)
		<-ctx.Done()
		return errGaveUp
	})
	require.ErrorIs(t, err, redlock.ErrLost)
	require.ErrorIs(t, err, errGaveUp)
	require.NotErrorIs(t, err, redlock.ErrHeld)
	for _, s := range servers {
		require.Equal(t, stranger, ownerOn(t, s, "a"))
	}
	err = l.TryDo(ctx, "b", func(ctx context.Context) error {
		uproot(t, "b", servers...)
		<-ctx.Done()
		return context.Cause(ctx)
	})
	require.Equal(t, redlock.ErrLost, err, "it is not told twice")
}
