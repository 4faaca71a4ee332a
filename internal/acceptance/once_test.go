package acceptance_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

func nothingToDo(context.Context) error { return nil }

// Ten processes tick every second, each at another moment, for a few seconds.
func TestOnceRunsOnceInEachIntervalOverAllLockers(t *testing.T) {
	const (
		every     = time.Second
		intervals = 4
	)
	ctx := context.Background()
	_, clients := masters(t, 3)
	var mu sync.Mutex
	ran := make(map[int]int)
	began := time.Now().Add(100 * time.Millisecond)
	var tick []func() error
	for i := range 10 {
		l := open(t, clients, patient)
		tick = append(tick, func() error {
			for n := range intervals {
				<-time.After(
					time.Until(began.Add(time.Duration(n)*every +
						time.Duration(i)*30*time.Millisecond)))
				ok, err := l.Once(ctx, "job", every, func(context.Context) error {
					mu.Lock()
					defer mu.Unlock()
					ran[n]++
					return nil
				})
				_ = ok
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, together(tick...))
	require.Equal(t, map[int]int{0: 1, 1: 1, 2: 1, 3: 1}, ran)
}

func TestOnceSaysWhetherItRan(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l, other := open(t, clients), open(t, clients)
	began := time.Now()
	ran, err := l.Once(ctx, "job", time.Hour, nothingToDo)
	require.NoError(t, err)
	require.True(t, ran)
	// Before others ask: they may be granted what the first one has asked for and not got yet.
	eventually(t, func() bool { return slicesAllEqual(ownersOn(t, servers, "job")) },
		"not kept by a minority")
	for range 3 {
		for _, again := range []*redlock.Locker{l, other} {
			ran, err = again.Once(ctx, "job", time.Hour,
				func(context.Context) error { panic("twice") })
			require.NoError(t, err)
			require.False(t, ran)
		}
	}
	require.True(t, slicesAllEqual(ownersOn(t, servers, "job")))
	for _, s := range servers {
		until := time.Since(began) + keyTTL(t, s, lockKey("job"))
		require.InDelta(t, time.Hour-time.Minute, until, float64(time.Second),
			"a minute before the next tick")
	}
}

func TestOnceIsNotInTheWayOfTheNextOneAfterAFailure(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l, other := open(t, clients), open(t, clients)
	ran, err := l.Once(ctx, "job", time.Hour, func(context.Context) error { return errGaveUp })
	require.Equal(t, errGaveUp, err)
	require.True(t, ran)
	noKeys(t, servers)
	require.PanicsWithValue(t, "oh", func() {
		_, _ = other.Once(ctx, "job", time.Hour, func(context.Context) error { panic("oh") })
	})
	noKeys(t, servers)
	ran, err = l.Once(ctx, "job", time.Hour, nothingToDo)
	require.NoError(t, err)
	require.True(t, ran)
}

func TestOnceReturnsOutagesAndBadArguments(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients, redlock.WithNodeTimeout(100*time.Millisecond))
	never := func(context.Context) error { panic("run without the lock") }
	for _, every := range []time.Duration{-1, 0, 9 * time.Millisecond, tenYears + 1} {
		ran, err := l.Once(ctx, "job", every, never)
		require.ErrorContains(t, err, "interval")
		require.ErrorContains(t, err, every.String())
		require.False(t, ran)
	}
	_, err := l.Once(ctx, "", time.Hour, never)
	require.ErrorContains(t, err, "empty")
	for _, s := range servers[1:] {
		require.NoError(t, s.Kill())
	}
	ran, err := l.Once(ctx, "job", time.Hour, never)
	requireOnly(t, err, redlock.ErrNoQuorum)
	require.False(t, ran)
	require.NoError(t, l.Close())
	ran, err = l.Once(ctx, "job", time.Hour, never)
	requireOnly(t, err, redlock.ErrClosed)
	require.False(t, ran)
}

// A run that takes longer than the interval is renewed, and nobody else runs meanwhile; when it is
// over the next one may.
func TestOnceIsRenewedWhileItRunsLongerThanTheInterval(t *testing.T) {
	const every = 500 * time.Millisecond
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l, other := open(t, clients), open(t, clients, patient)
	var running atomic.Int32
	started, finish := make(chan struct{}), make(chan struct{})
	first := inBackground(func() error {
		_, err := l.Once(ctx, "job", every, func(ctx context.Context) error {
			running.Add(1)
			close(started)
			defer running.Add(-1)
			<-finish
			return ctx.Err()
		})
		return err
	})
	await(t, started, "the first run")
	never(t, 6*every, func() bool {
		ran, err := other.Once(ctx, "job", every, nothingToDo)
		return ran || err != nil
	}, "doubled")
	close(finish)
	require.NoError(t, outcome(t, first, "the first run"), "it has lost the lock")
	noKeys(t, servers)
	ran, err := other.Once(ctx, "job", every, func(context.Context) error {
		if running.Load() > 0 {
			return errGaveUp
		}
		return nil
	})
	require.NoError(t, err)
	require.True(t, ran)
}

// The end of the maximum hold is a loss, also where the interval keeps the resource locked for
// longer.
func TestOnceEndsWithTheMaximumHold(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 3)
	l := open(t, clients)
	const every, hold = time.Minute, 300 * time.Millisecond
	began := time.Now()
	ran, err := l.Once(ctx, "r", every, func(ctx context.Context) error {
		<-ctx.Done()
		require.ErrorIs(t, context.Cause(ctx), redlock.ErrLost)
		return nil
	}, redlock.WithTTL(200*time.Millisecond), redlock.WithMaxHold(hold))
	require.True(t, ran)
	require.ErrorIs(t, err, redlock.ErrLost)
	require.Less(t, time.Since(began), every/2)
	ran, err = l.Once(ctx, "r", every, func(context.Context) error { return nil })
	require.NoError(t, err)
	require.False(t, ran, "its interval is not over")
}
