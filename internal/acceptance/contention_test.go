package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// Row 3: three of five nodes have another owner's key.
func TestForeignMajorityIsRefusedAndOurKeysAreGone(t *testing.T) {
	for number, resources := range oneAndSeveral {
		t.Run(number, func(t *testing.T) {
			ctx := context.Background()
			servers, proxies, clients := proxied(t, 5)
			var events recorder
			l := open(t, clients, patient, redlock.WithObserver(&events))
			warmUp(t, clients)
			foreign, ours := servers[:3], servers[3:]
			takeFor(t, time.Minute, resources[len(resources)-1], foreign...)
			// The grants come before the refusals, and the clean-up takes long enough to be seen.
			for i, p := range proxies {
				if p.Delay(20 * time.Millisecond); i < len(foreign) {
					p.HoldReplies(true)
				}
			}
			resetStats(t, servers...)

			attempt := inBackground(func() error {
				return onlyError(l.TryAcquireMulti(ctx, resources))
			})
			eventually(t, func() bool { return len(told[redlock.NodeCall](&events)) == len(ours) },
				"not granted")
			for _, p := range proxies[:len(foreign)] {
				p.HoldReplies(false)
			}
			err := outcome(t, attempt, "the attempt")
			for _, s := range ours {
				require.Empty(t, s.Keys(t), "keys are left when the attempt is over")
				require.Equal(t, len(resources), s.CommandCount(t, "set"),
					"granted nothing that could be left")
			}
			requireOnly(t, err, redlock.ErrHeld)
			var short *redlock.QuorumError
			require.ErrorAs(t, err, &short)
			require.Equal(t, []int{0, 1, 2}, nodesNamed(short))
			require.Equal(t, 2, short.Got)
			for _, s := range foreign {
				require.Equal(t, []string{lockKey(resources[len(resources)-1])}, s.Keys(t),
					"no more than the stranger's")
				require.Equal(t, stranger, ownerOn(t, s, resources[len(resources)-1]))
			}

			// Acquire gets it as soon as the stranger has gone.
			uproot(t, resources[len(resources)-1], foreign...)
			h, err := l.AcquireMulti(ctx, resources)
			require.NoError(t, err)
			require.NoError(t, h.Release(ctx))
			noKeys(t, servers)
		})
	}
}

// Row 4: another owner has half of an even number of nodes, which is a quorum for nobody.
func TestEvenSplitIsHeldAtOnce(t *testing.T) {
	for _, n := range []int{2, 4} {
		t.Run(fmt.Sprintf("%d nodes", n), func(t *testing.T) {
			ctx := context.Background()
			servers, clients := masters(t, n)
			l := open(t, clients, patient)
			warmUp(t, clients)
			takeFor(t, time.Minute, "a", servers[:n/2]...)

			start := time.Now()
			_, err := l.TryAcquire(ctx, "a")
			requireOnly(t, err, redlock.ErrHeld)
			require.Less(t, time.Since(start), 5*time.Second,
				"as if it waited for the node timeout of 15 s")
			noKeys(t, servers[n/2:])
			require.Equal(t, stranger, ownerOn(t, servers[0], "a"))
		})
	}
}

// Row 4: two competitors reach different halves of the nodes first, again and again, and both get
// the lock in turn.
func TestCompetitorsOnAnEvenNumberOfNodesBothGetTheirTurns(t *testing.T) {
	const turns = 4
	for _, n := range []int{2, 4} {
		t.Run(fmt.Sprintf("%d nodes", n), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			noLeak(t)
			servers := redistest.StartN(t, n)
			lockers := make([]*redlock.Locker, 2)
			// to the nodes that each competitor reaches later than the other one
			var far []*redistest.Proxy
			for c := range lockers {
				clients := make([]*redis.Client, n)
				for i, s := range servers {
					p := s.Proxy(t)
					if (i < n/2) == (c == 1) {
						far = append(far, p)
					}
					clients[i] = p.Client(t)
				}
				lockers[c] = open(t, clients, redlock.WithRetryInterval(40*time.Millisecond),
					patient)
				warmUp(t, clients)
			}

			// Without a wait they split the nodes, and settle it.
			for _, p := range far {
				p.Delay(100 * time.Millisecond)
			}
			won := make(chan *redlock.Handle, len(lockers))
			for _, l := range lockers {
				go func() {
					h, err := l.TryAcquire(ctx, "split")
					assert.True(t, err == nil || errors.Is(err, redlock.ErrHeld), "%v", err)
					won <- h
				}()
			}
			first, second := <-won, <-won
			require.True(t, (first == nil) != (second == nil), "one of them gets it: %v, %v", first,
				second)
			if first == nil {
				first = second
			}
			require.NoError(t, first.Release(ctx))
			noKeys(t, servers)

			for _, p := range far {
				p.Delay(10 * time.Millisecond)
			}
			var holder sync.Mutex // locked by whoever holds the lock: never contended
			takeTurns := func(l *redlock.Locker) error {
				for range turns {
					h, err := l.Acquire(ctx, "a")
					if err != nil {
						return err
					}
					if !holder.TryLock() {
						return errors.New("held twice")
					}
					holder.Unlock()
					if err := h.Release(ctx); err != nil {
						return err
					}
				}
				return nil
			}
			require.NoError(t, together(
				func() error { return takeTurns(lockers[0]) },
				func() error { return takeTurns(lockers[1]) },
			))
			noKeys(t, servers)
		})
	}
}
