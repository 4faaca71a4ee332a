package acceptance_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// Nothing but the caller holds on to a lock that lives for its TTL, and nothing runs for it.
func TestForgottenHandleCostsNothing(t *testing.T) {
	const handles = 200
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients, redlock.WithTTL(tenYears))
	var collected atomic.Int64
	for i := range handles {
		h, err := l.TryAcquire(ctx, fmt.Sprint(i))
		require.NoError(t, err)
		countCollected(&collected, h)
		require.NoError(t, h.Err())
	}
	requireCollected(t, &collected, handles)
	for _, s := range servers {
		require.Len(t, s.Keys(t), handles)
	}
}

func TestEndedHandleIsForgotten(t *testing.T) {
	const handles = 200
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, clients := masters(t, 1)
	l := open(t, clients, redlock.WithTTL(tenYears), redlock.WithAutoRenewal(true))
	var collected atomic.Int64
	for i := range handles {
		h, err := l.TryAcquire(ctx, fmt.Sprint(i))
		require.NoError(t, err)
		countCollected(&collected, h)
		require.NoError(t, h.Context(ctx).Err())
		h.Done()
		require.NoError(t, h.Release(ctx))
	}
	// neither by the Locker, nor by a timer, nor by the parent of its contexts
	requireCollected(t, &collected, handles)
	runtime.KeepAlive(l)
}

func TestContextIsForgottenWithItsParent(t *testing.T) {
	const parents = 2000
	ctx := context.Background()
	_, clients := masters(t, 1)
	l := open(t, clients)
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	type key struct{}
	var collected atomic.Int64
	for range parents {
		value := new([64]byte)
		countCollected(&collected, value)
		parent, cancel := context.WithCancel(context.WithValue(ctx, key{}, value))
		require.NoError(t, h.Context(parent).Err())
		cancel()
	}
	requireCollected(t, &collected, parents)
	require.NoError(t, h.Release(ctx))
}

// countCollected counts an object once nobody can reach it any more. Each test has a count of its
// own: what an earlier one has left may be collected at any time.
func countCollected[T any](count *atomic.Int64, object *T) {
	runtime.AddCleanup(object, func(count *atomic.Int64) { count.Add(1) }, count)
}

// requireCollected waits until so many of the objects that are counted are gone.
func requireCollected(t *testing.T, count *atomic.Int64, want int64) {
	t.Helper()
	require.Eventually(t, func() bool {
		runtime.GC()
		return count.Load() >= want
	}, 20*time.Second, 10*time.Millisecond)
}

// What a node that hangs has never heard of need not be taken back there, however long it was held
// elsewhere.
func TestNodeThatHangsCollectsNoReleases(t *testing.T) {
	const rounds, half, timeout = 6, 300, 250 * time.Millisecond
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients, redlock.WithNodeTimeout(timeout))
	require.NoError(t, onlyError(l.IsLocked(ctx, "connected")))
	hung := servers[2]
	require.NoError(t, hung.Pause())
	for round := range rounds {
		var held []*redlock.Handle
		for _, part := range []string{"first", "second"} {
			for i := range half {
				if h, err := l.TryAcquire(ctx, fmt.Sprint(part, round, i)); err == nil {
					held = append(held, h)
				}
			}
			<-time.After(timeout) // nobody waits for the hung node any more
		}
		require.Greater(t, len(held), half)
		late := 0
		for _, h := range held {
			if err := h.Release(ctx); err != nil {
				require.ErrorIs(t, err, redlock.ErrNoQuorum)
				late++
			}
		}
		require.Less(t, late, half)
	}
	require.NoError(t, hung.Resume())
	require.NoError(t, l.Close())
	require.Less(t, scriptCalls(t, hung), rounds*half,
		"scripts for %d locks, none of which is held any more", rounds*2*half)
}

// takeTurns has goroutines of a Locker take a resource from each other, so many times.
func takeTurns(t *testing.T, l *redlock.Locker, turns int, see func(h *redlock.Handle)) {
	t.Helper()
	var taken atomic.Int64
	user := func() error {
		for taken.Add(1) <= int64(turns) {
			h, err := l.Acquire(context.Background(), "a")
			if err != nil {
				return err
			}
			see(h)
			if err := h.Release(context.Background()); err != nil {
				return err
			}
		}
		return nil
	}
	require.NoError(t, together(user, user, user))
}

// Nor need it hear of everybody who has had a lock meanwhile that changes hands elsewhere.
func TestNodeThatHangsCollectsNoHandOvers(t *testing.T) {
	const turns, timeout = 1000, time.Second
	servers, clients := masters(t, 3)
	l := open(t, clients, redlock.WithNodeTimeout(timeout))
	warmUp(t, clients)
	hung := servers[2]
	before := scriptCalls(t, hung)
	require.NoError(t, hung.Pause())
	takeTurns(t, l, turns, func(*redlock.Handle) {})
	<-time.After(2 * timeout) // nobody waits for the hung node any more
	require.NoError(t, hung.Resume())
	require.NoError(t, l.Close())
	require.Less(t, scriptCalls(t, hung)-before, turns/4, "scripts for %d hand-overs", turns)
}

// What is repeated for a node that is down holds on to its own lock, and not to all that came after
// it.
func TestNodeThatIsDownKeepsNoHandOvers(t *testing.T) {
	const turns = 400
	servers, clients := masters(t, 3)
	l := open(t, clients)
	warmUp(t, clients)
	require.NoError(t, servers[2].Kill())
	var collected atomic.Int64
	takeTurns(t, l, turns, func(h *redlock.Handle) { countCollected(&collected, h) })
	require.Eventually(t, func() bool {
		runtime.GC()
		return collected.Load() > turns/2
	}, 5*time.Second, 10*time.Millisecond)
	servers[2].Restart(t)
}
