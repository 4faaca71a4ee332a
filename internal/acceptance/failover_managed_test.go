package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// recovery is how long a Locker may take to follow a name that has been moved: go-redis gives
// connections up one by one, each when it has been told READONLY.
const recovery = 5 * time.Second

// traffic is callers who lock and release, over and over. Each round has a resource of its own: a
// key that an outage has left behind for a while is in nobody's way.
type traffic struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	last map[int]error     // guarded by mu; what each caller's latest round came to
	good map[int]time.Time // guarded by mu; when each caller's latest good round began
}

// startTraffic lets n callers go on until the end of the test.
func startTraffic(t *testing.T, l *redlock.Locker, n int) *traffic {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f := &traffic{cancel: cancel, last: make(map[int]error), good: make(map[int]time.Time)}
	for i := range n {
		f.wg.Add(1)
		go func() {
			defer f.wg.Done()
			for round := 0; ctx.Err() == nil; round++ {
				begun := time.Now()
				resource := fmt.Sprintf("traffic %d.%d", i, round)
				h, err := l.TryAcquire(ctx, resource)
				if err == nil {
					_, lookErr := l.IsLocked(ctx, resource) // which a replica answers too
					err = errors.Join(lookErr, h.Extend(ctx, time.Minute), h.Release(ctx))
				}
				f.mu.Lock()
				if f.last[i] = err; err == nil {
					f.good[i] = begun
				}
				f.mu.Unlock()
			}
		}()
	}
	t.Cleanup(f.stop) // before the Locker is closed
	return f
}

func (f *traffic) stop() {
	f.cancel()
	f.wg.Wait()
}

// flowsSince reports whether all n callers have had a good round that began after the moment. If
// not it says what hinders one.
func (f *traffic) flowsSince(moment time.Time, n int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range n {
		if !f.good[i].After(moment) {
			return fmt.Errorf("caller %d: %w", i, f.last[i])
		}
	}
	return nil
}

// requireFlow waits until all callers have good rounds again.
func (f *traffic) requireFlow(t *testing.T, n int, limit time.Duration) {
	t.Helper()
	moment, err := time.Now(), error(nil)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for err = f.flowsSince(moment, n); err != nil; err = f.flowsSince(moment, n) {
		require.Less(t, time.Since(moment), limit, "locks do not work: %v", err)
		<-tick.C
	}
}

// A managed service replaces the primary: the name leads to the former replica, and the former
// primary goes on as a replica, with the connections that it has.
func TestLocksFollowTheNameOfAPrimaryThatWasDemoted(t *testing.T) {
	const (
		ttl  = 6 * time.Second
		busy = 16
	)
	for _, nodes := range []int{1, 3} {
		t.Run(fmt.Sprintf("one of %d", nodes), func(t *testing.T) {
			t.Parallel() // it waits most of the time
			ctx := context.Background()
			pair := redistest.StartPair(t)
			others := redistest.StartN(t, nodes-1)
			clients := append([]*redis.Client{pair.Name.Client(t)}, redistest.Clients(t, others)...)
			l := open(t, clients, redlock.WithNodeTimeout(time.Second))
			onPrimary := func(h *redlock.Handle) bool {
				return pair.Primary().Do(t, "get", "lock:"+h.Resources()[0]) == h.Token()
			}

			f := startTraffic(t, l, busy)
			f.requireFlow(t, busy, recovery)
			kept, err := l.TryAcquire(ctx, "kept", redlock.WithTTL(ttl),
				redlock.WithAutoRenewal(true))
			require.NoError(t, err)
			until(t, recovery, func() bool { return onPrimary(kept) }, "the primary has no vote")

			for i := range 2 { // there and back
				pair.Failover(t)
				outlived := time.After(ttl + ttl/3) // by a lock that is renewed
				f.requireFlow(t, busy, recovery)
				// Among three, two can do without the one. Whether it is back shows where an
				// extension puts the key.
				var fresh *redlock.Handle
				until(t, recovery, func() bool { // where old connections are left, in vain
					fresh, err = l.TryAcquire(ctx, fmt.Sprint("fresh ", i))
					return err == nil
				}, "a new lock cannot be had")
				until(t, recovery, func() bool {
					require.NoError(t, fresh.Extend(ctx, time.Minute))
					return onPrimary(fresh)
				}, "the new primary has no vote")
				require.NoError(t, fresh.Release(ctx))

				select {
				case <-outlived:
					require.NoError(t, kept.Err())
				case <-kept.Done():
					require.NoError(t, kept.Err(), "not renewed")
				}
				require.True(t, onPrimary(kept), "the lock that is renewed has left the primary")
			}

			if nodes > 1 { // now the vote is needed
				require.NoError(t, others[0].Kill())
				f.requireFlow(t, busy, recovery)
				require.NoError(t, kept.Extend(ctx, ttl))
			}
			f.stop()
			require.NoError(t, kept.Release(ctx))
			requireEmpty(t, pair.Primary(), pair.Replica())
		})
	}
}
