package acceptance_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

func TestHandleSaysWhatItHolds(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients)
	h, err := l.TryAcquireMulti(ctx, []string{"b", "a", "b"})
	require.NoError(t, err)

	require.Equal(t, []string{"a", "b"}, h.Resources())
	h.Resources()[0] = "changed by the caller"
	require.Equal(t, []string{"a", "b"}, h.Resources())
	require.Zero(t, h.Fence())
	takenEverywhere(t, h, servers...)
	require.NoError(t, h.Release(ctx))
}

// Comparing with the wall clock would let a jump of it lengthen a lock.
func TestValidityIsOnTheMonotonicClock(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	l := open(t, clients)
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	requireMonotonic(t, h.ValidUntil())
	for _, ttl := range []time.Duration{time.Minute, time.Second} {
		require.NoError(t, h.Extend(ctx, ttl))
		requireMonotonic(t, h.ValidUntil())
	}
	adopted, err := l.Adopt(ctx, []string{"a"}, h.Token())
	require.NoError(t, err)
	requireMonotonic(t, adopted.ValidUntil())
	require.NoError(t, adopted.Release(ctx))
	requireMonotonic(t, adopted.ValidUntil())
}

// requireMonotonic checks that a time carries a reading of the monotonic clock, which is what Go
// then compares.
func requireMonotonic(t *testing.T, at time.Time) {
	t.Helper()
	require.Contains(t, at.String(), " m=", "a time with a monotonic reading shows it")
}

func TestHandleEndsForGood(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	warmUp(t, clients)
	for name, tt := range map[string]struct {
		end  func(l *redlock.Locker, h *redlock.Handle) error
		want error
	}{
		"released": {func(_ *redlock.Locker, h *redlock.Handle) error { return h.Release(ctx) },
			redlock.ErrReleased},
		"closed": {func(l *redlock.Locker, _ *redlock.Handle) error { return l.Close() },
			redlock.ErrClosed},
		"lost": {func(_ *redlock.Locker, h *redlock.Handle) error {
			err := h.Extend(ctx, 500*time.Millisecond)
			<-h.Done()
			return err
		}, redlock.ErrLost},
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t, clients, redlock.WithNodeTimeout(400*time.Millisecond))
			h, err := l.TryAcquire(ctx, name)
			require.NoError(t, err)
			early, child := h.Context(ctx), h.Context(ctx)
			require.False(t, isClosed(h.Done()), "done while it is held")
			require.False(t, isClosed(early.Done()), "the context has ended while it is held")
			child, cancel := context.WithTimeout(child, time.Hour)
			defer cancel()

			require.NoError(t, tt.end(l, h))
			for range 2 {
				<-h.Done()
				require.Equal(t, tt.want, h.Err())
				for _, c := range []context.Context{early, child, h.Context(ctx)} {
					<-c.Done()
					require.Equal(t, context.Canceled, c.Err())
					require.Equal(t, tt.want, context.Cause(c))
				}
				_ = h.Extend(ctx, time.Hour)
				_ = h.Release(ctx)
				require.NoError(t, l.Close())
			}
		})
	}
}

// A process that was stopped finds the clock ahead of its timers. So does one that keeps its only
// processor busy.
func TestFirstLookAfterAPauseTellsTheTruth(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	ctx := context.Background()
	_, clients := masters(t, 1)
	l := open(t, clients)
	for name, ended := range map[string]func(h *redlock.Handle, lockCtx context.Context) bool{
		"Err": func(h *redlock.Handle,
			_ context.Context) bool {
			return h.Err() == redlock.ErrLost
		},
		"Done": func(h *redlock.Handle,
			_ context.Context) bool {
			return isClosed(h.Done())
		},
		"Context.Err": func(_ *redlock.Handle, c context.Context) bool { return c.Err() != nil },
		"Context.Done": func(_ *redlock.Handle,
			c context.Context) bool {
			return isClosed(c.Done())
		},
		"context.Cause": func(_ *redlock.Handle,
			c context.Context) bool {
			return context.Cause(c) == redlock.ErrLost
		},
		"a new Context": func(h *redlock.Handle,
			_ context.Context) bool {
			return h.Context(ctx).Err() != nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range 5 {
				h, err := l.TryAcquire(ctx, fmt.Sprint(name, i),
					redlock.WithTTL(30*time.Millisecond))
				if err != nil {
					continue // too slow for such a short lock
				}
				h.Done() // somebody watches: there is a timer
				lockCtx, until := h.Context(ctx), h.ValidUntil()
				<-time.After(time.Until(until) - 2*time.Millisecond)
				for time.Now().Before(until) {
				}
				require.True(t, ended(h, lockCtx))
			}
		})
	}
}

// Row 13: a quorum of the nodes says that the lock is somebody else's, or gone.
func TestLossThatAQuorumReportsIsALossAtOnce(t *testing.T) {
	noLeak(t)
	ctx := context.Background()
	waitForRenewal := func(_ *redlock.Handle) error { return redlock.ErrLost }
	for _, damage := range []struct {
		name           string
		foreign, empty int // nodes of five, from the first on
	}{
		{"foreign", 3, 0}, {"gone", 0, 3}, {"foreign and gone", 1, 2}, {"gone everywhere", 0, 5},
	} {
		for _, notice := range []struct {
			name string
			look func(h *redlock.Handle) error
		}{
			{"renewal", waitForRenewal},
			{"extension", func(h *redlock.Handle) error { return h.Extend(ctx, time.Minute) }},
			{"shortening", func(h *redlock.Handle) error { return h.Extend(ctx, time.Second) }},
		} {
			for number, resources := range oneAndSeveral {
				runAlongside(t, damage.name+", "+notice.name+", "+number, func(t *testing.T) {
					servers, clients := masters(t, 5)
					l := open(t, clients, redlock.WithTTL(20*time.Second))
					warmUp(t, clients)
					resetStats(t, servers...)
					h, err := l.TryAcquireMulti(ctx, resources,
						redlock.WithAutoRenewal(notice.name == "renewal"))
					require.NoError(t, err)
					calls := 1
					if notice.name == "renewal" {
						// A third of the twenty seconds is not worth waiting for. Shortening takes
						// two calls.
						require.NoError(t, h.Extend(ctx, 6*time.Second))
						calls = 3
					}
					for _, s := range servers {
						// an extension that comes after the damage would heal it
						eventually(t, func() bool { return s.CommandCount(t, "evalsha") == calls },
							"not called")
					}
					takenEverywhere(t, h, servers...)
					work := h.Context(ctx)
					until := h.ValidUntil()
					damaged := damage.foreign + damage.empty
					takeFor(t, time.Minute, "a", servers[:damage.foreign]...)
					uproot(t, "a", servers[damage.foreign:damaged]...)
					resetStats(t, servers...)

					err = notice.look(h)
					await(t, h.Done(), "the loss")
					now := time.Now()
					requireOnly(t, err, redlock.ErrLost)
					require.ErrorIs(t, h.Err(), redlock.ErrLost)
					await(t, work.Done(), "the end of the context")
					require.ErrorIs(t, context.Cause(work), redlock.ErrLost)
					require.True(t, now.Before(until), "it took the end of the lease to notice")
					require.ErrorIs(t, h.Extend(ctx, time.Minute), redlock.ErrLost)

					noKeysBut(t, servers, "a")
					noKeys(t, servers[damage.foreign:])
					require.NoError(t, l.Close()) // nothing is under way any more
					noKeys(t, servers[damage.foreign:])
					for i, s := range servers {
						require.Zero(t, s.CommandCount(t, "set"), "made anew on node %d", i)
						if i < damage.foreign {
							require.Equal(t, stranger, ownerOn(t, s, "a"))
							require.Greater(t, s.Do(t, "pttl", lockKey("a")), int64(30_000),
								"a stranger's key was cut")
						}
					}
				})
			}
		}
	}
}
