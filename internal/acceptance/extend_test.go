package acceptance_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

func TestExtendSetsTheLeaseOnTheNodes(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients)
	for _, resources := range oneAndSeveral {
		h, err := l.TryAcquireMulti(ctx, resources)
		require.NoError(t, err)
		for _, ttl := range []time.Duration{
			time.Hour, 2 * time.Minute, 10 * time.Minute, 10 * time.Minute, 20 * time.Second,
			time.Minute,
		} {
			before := time.Now()
			require.NoError(t, h.Extend(ctx, ttl))
			validity := ttl - ttl/100 - 2*time.Millisecond
			require.False(t, h.ValidUntil().Before(before.Add(validity)),
				"longer or shorter, from now on")
			require.False(t, h.ValidUntil().After(time.Now().Add(validity)))
			for _, s := range servers {
				for _, r := range resources {
					eventually(t, func() bool {
						left := time.Duration(s.Do(t, "pttl", "lock:"+r).(int64)) * time.Millisecond
						return left <= ttl && left > ttl-10*time.Second
					}, "not kept for %v", ttl)
					require.Greater(t, keyTTL(t, s, "lock:"+r), time.Until(h.ValidUntil()))
				}
			}
		}
		require.NoError(t, h.Release(ctx))
	}
	noKeys(t, servers)
}

func TestEndedHandleIsNotExtended(t *testing.T) {
	ctx := context.Background()
	for name, tt := range map[string]struct {
		end  func(t *testing.T, servers []*redistest.Server, l *redlock.Locker, h *redlock.Handle)
		want error
		keys []string
	}{
		"released": {func(t *testing.T, _ []*redistest.Server, _ *redlock.Locker,
			h *redlock.Handle) {
			require.NoError(t, h.Release(ctx))
		}, redlock.ErrReleased, []string{}},
		"closed": {func(t *testing.T, _ []*redistest.Server, l *redlock.Locker, _ *redlock.Handle) {
			require.NoError(t, l.Close())
		}, redlock.ErrClosed, []string{"lock:a"}},
		"gone": {func(t *testing.T, servers []*redistest.Server, _ *redlock.Locker,
			_ *redlock.Handle) {
			for _, s := range servers {
				s.Do(t, "del", "lock:a")
			}
		}, redlock.ErrLost, []string{}},
		"taken over": {func(t *testing.T, servers []*redistest.Server, _ *redlock.Locker,
			_ *redlock.Handle) {
			for _, s := range servers {
				s.Do(t, "set", "lock:a", "another", "ex", 1000)
			}
		}, redlock.ErrLost, []string{"lock:a"}},
	} {
		t.Run(name, func(t *testing.T) {
			servers, clients := masters(t, 3)
			l := open(t, clients)
			h := heldEverywhere(t, l, servers, "a")
			tt.end(t, servers, l, h)

			for range 3 {
				err := h.Extend(ctx, time.Hour)
				requireOnly(t, err, tt.want)
				require.Equal(t, tt.want, h.Err())
			}
			require.NoError(t, l.Close()) // everything has arrived
			for _, s := range servers {
				waitForKeys(t, s, tt.keys...)
				if len(tt.keys) > 0 {
					require.Less(t, keyTTL(t, s, "lock:a"), 30*time.Minute,
						"nothing of it is extended")
				}
			}
		})
	}
}

func TestExtendUnderAnEndedContextChangesNothing(t *testing.T) {
	_, clients := masters(t, 3)
	l := open(t, clients)
	h, err := l.TryAcquire(context.Background(), "a")
	require.NoError(t, err)
	until, calls := h.ValidUntil(), errors.New("calls off")

	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(calls)
	require.ErrorIs(t, h.Extend(ctx, time.Hour), calls)
	require.Equal(t, until, h.ValidUntil())
	require.NoError(t, h.Err())
	require.NoError(t, h.Release(ctx))
}

func TestExtendEndsWithItsContext(t *testing.T) {
	servers, clients := masters(t, 3)
	l := open(t, clients, redlock.WithTTL(time.Hour), redlock.WithNodeTimeout(50*time.Minute))
	h, err := l.TryAcquire(context.Background(), "a")
	require.NoError(t, err)
	until, calls := h.ValidUntil(), errors.New("calls off")
	freeze(t, servers...)

	ctx, cancel := context.WithCancelCause(context.Background())
	waiting := observe(ctx)
	extended := inBackground(func() error { return h.Extend(waiting, 2*time.Hour) })
	await(t, waiting.waited, "the extension")
	cancel(calls)
	err = outcome(t, extended, "the extension")
	require.ErrorIs(t, err, calls)
	require.ErrorIs(t, err, redlock.ErrNoQuorum)
	require.Equal(t, until, h.ValidUntil())
	require.NoError(t, h.Err())
}

// Several callers extend by different times, while one that comes late may find a shorter lease
// than it asked for. What the handle says must be true on the nodes at every moment.
func TestConcurrentExtensionsNeverPromiseMoreThanTheNodesKeep(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	h := heldEverywhere(t, open(t, clients), servers, "a")
	var extensions []func() error
	for _, ttl := range []time.Duration{
		time.Minute, 10 * time.Second, time.Hour, 20 * time.Second,
	} {
		extensions = append(extensions, func() error { return h.Extend(ctx, ttl) })
	}

	for range 40 {
		require.NoError(t, together(extensions...))
		kept := 0
		for _, s := range servers {
			if keyTTL(t, s, "lock:a") > time.Until(h.ValidUntil()) {
				kept++
			}
		}
		require.Greater(t, kept, len(servers)/2)
	}
	require.NoError(t, h.Release(ctx))
}

// Row 12: an extension that fails changes nothing, and so do denials from so few nodes that the
// lock may still be there.
func TestFailedExtendLeavesTheLeaseAsItWas(t *testing.T) {
	noLeak(t)
	ctx := context.Background()
	for _, fault := range []struct {
		name           string
		foreign, empty int // nodes, from the first on
		hung           int // nodes, behind those
	}{
		{"three hang", 0, 0, 3},
		{"all hang", 0, 0, 5},
		{"two foreign, one hangs", 2, 0, 1},
		{"one foreign, one empty, three hang", 1, 1, 3},
	} {
		for name, ttl := range map[string]time.Duration{
			"longer": time.Minute, "shorter": 10 * time.Second,
		} {
			runAlongside(t, fault.name+", "+name, func(t *testing.T) {
				servers, clients := masters(t, 5)
				l := open(t, clients, redlock.WithNodeTimeout(2*time.Second))
				warmUp(t, clients)
				h := heldEverywhere(t, l, servers, "a")
				until := h.ValidUntil()
				denying := fault.foreign + fault.empty
				takeFor(t, time.Minute, "a", servers[:fault.foreign]...)
				uproot(t, "a", servers[fault.foreign:denying]...)
				thaw := freeze(t, servers[denying:denying+fault.hung]...)

				err := h.Extend(ctx, ttl)
				requireOnly(t, err, redlock.ErrNoQuorum)
				require.NoError(t, h.Err())
				require.Equal(t, until, h.ValidUntil())

				thaw()
				require.NoError(t, h.Extend(ctx, ttl))
				require.NotEqual(t, until, h.ValidUntil())
				require.NoError(t, h.Release(ctx))
				uproot(t, "a", servers[:fault.foreign]...)
				noKeys(t, servers)
			})
		}
	}
}

// A node timeout that is longer than what is asked for bounds nothing: an answer that comes when
// the time is over proves nothing.
func TestExtendMayCutTheLeaseToLessThanTheNodeTimeout(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients, patient)
	h, err := l.TryAcquire(ctx, "r")
	require.NoError(t, err)
	takenEverywhere(t, h, servers...)
	require.NoError(t, h.Extend(ctx, 2*time.Second))
	require.Less(t, time.Until(h.ValidUntil()), 2*time.Second)
	await(t, h.Done(), "the end of the lease")
	require.ErrorIs(t, h.Err(), redlock.ErrLost)
	noKeys(t, servers)

	h, err = l.TryAcquire(ctx, "r")
	require.NoError(t, err)
	freeze(t, servers[1:]...)
	began := time.Now()
	require.ErrorIs(t, h.Extend(ctx, 100*time.Millisecond), redlock.ErrNoQuorum)
	require.Less(t, time.Since(began), 10*time.Second, "not the whole node timeout")
}
