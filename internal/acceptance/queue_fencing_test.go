package acceptance_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// Five processes wait, each with two callers. The clock of each caller is behind that of the one
// before, so that it is not the clock that makes the fence larger.
func TestLockThatWasWaitedForHasALargerFenceThanThoseBefore(t *testing.T) {
	for _, nodes := range []int{1, 3, 5} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			servers, clients := masters(t, nodes)
			watcher := open(t, clients, redlock.WithFencing())
			resources := []string{"r", "s"}
			h, err := watcher.TryAcquireMulti(context.Background(), resources)
			require.NoError(t, err)
			takenEverywhere(t, h, servers...)

			const waiters = 10
			lockers := processes(t, servers, waiters/2, redlock.WithFencing(), byEvent)
			served := make(chan uint64, waiters)
			var dones []<-chan error
			for i := range waiters {
				ctx := behind(time.Duration(i+1) * time.Hour)
				dones = append(dones, inBackground(func() error {
					h, err := lockers[i/2].AcquireMulti(ctx, resources)
					if err != nil {
						return err
					}
					served <- h.Fence()
					return h.Release(ctx)
				}))
				if i%2 == 0 {
					// the second one of a process stands in its line, and then in its place
					inLine(t, watcher, "r", i/2+1)
				}
			}
			inEachLine(t, servers, "s", waiters/2)
			status, err := watcher.Inspect(context.Background(), "s")
			require.NoError(t, err)
			require.Equal(t, h.Fence(), status.Fence)
			require.Equal(t, waiters/2, status.Waiters)

			last := h.Fence()
			require.NoError(t, h.Release(context.Background()))
			for i, done := range dones {
				require.NoError(t, outcome(t, done, "a waiter"))
				fence := <-served
				require.Greater(t, fence, last, "holder %d", i)
				last = fence
			}
			require.Greater(t, fenceAndRelease(t, behind(24*time.Hour), watcher, "s"), last)
		})
	}
}

// A counter that cannot be raised grants nothing to somebody who waits either, and they go on
// waiting.
func TestWaiterWhoseFenceFailsHasTakenNothing(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	holder := open(t, clients, redlock.WithFencing())
	waiter := processes(t, servers, 1, redlock.WithFencing(),
		redlock.WithMaxOutage(time.Millisecond), byEvent)[0]
	h, err := holder.TryAcquire(ctx, "r")
	require.NoError(t, err)
	takenEverywhere(t, h, servers...)
	done := inBackground(func() error {
		_, err := waiter.Acquire(ctx, "r")
		return err
	})
	inLine(t, holder, "r", 1)
	for _, s := range servers[1:] {
		s.Do(t, "set", fenceKey("r"), "x")
	}
	require.NoError(t, h.Release(ctx))
	err = outcome(t, done, "the waiter")
	require.ErrorIs(t, err, redlock.ErrNoQuorum)
	require.ErrorContains(t, err, "a fencing counter is not a number")
	takenBack(t, servers, "r")
	for _, s := range servers[1:] {
		s.Do(t, "del", fenceKey("r"))
	}
	require.Greater(t, fenceAndRelease(t, ctx, holder, "r"), h.Fence())
}
