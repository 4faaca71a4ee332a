//go:build go1.25

package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

func TestVirtualWaiterComesWhenTheHoldersLockExpires(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l, other := open(t, clientsOf(nodes)), open(t, clientsOf(nodes))
		start := time.Now()
		_, err := other.TryAcquire(ctx, "a")
		require.NoError(t, err)

		h, err := l.Acquire(ctx, "a", redlock.WithRetryInterval(time.Hour))
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Since(start), 30*time.Second)
		require.LessOrEqual(t, time.Since(start), 30*time.Second+2*time.Millisecond)
		require.NoError(t, h.Release(ctx))
	})
}

// Whoever is refused stands in line at once, also where its process has waited for others before
// and hears from the nodes already: else a release of the next 100 ms would call nobody.
func TestVirtualWaiterIsCalledByAReleaseSoonAfterItHasCome(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l, other := open(t, clientsOf(nodes)), open(t, clientsOf(nodes))
		for _, resource := range []string{"a", "b", "c"} {
			h, err := other.TryAcquire(ctx, resource)
			require.NoError(t, err)
			var got time.Time
			done := inBackground(func() error {
				h, err := l.Acquire(ctx, resource)
				got = time.Now()
				return errors.Join(err, h.Release(ctx))
			})
			time.Sleep(5 * time.Millisecond)
			released := time.Now()
			require.NoError(t, h.Release(ctx))
			require.NoError(t, <-done)
			if resource != "a" { // the first time, the subscription takes its time
				require.Equal(t, released, got, resource)
			}
		}
	})
}

func TestVirtualWaiterBacksOffWithJitter(t *testing.T) {
	virtually(t, 1, func(t *testing.T, nodes []*virtualNode) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		l := open(t, clientsOf(nodes))
		require.NoError(t, nodes[0].client.Set(ctx, "lock:a", "somebody", 0).Err())
		_, err := l.Acquire(ctx, "a", redlock.WithRetryInterval(time.Second))
		require.ErrorIs(t, err, redlock.ErrHeld)

		tries := nodes[0].sent("")
		pauses := map[time.Duration]bool{}
		for len(tries) > 1 && tries[1].Sub(tries[0]) < time.Second/4 {
			// it stands in line, and again when it can be called
			tries = tries[1:]
		}
		const longest = 10 * time.Second / 3 // so that the nodes do not forget who waits
		for i := 2; i < len(tries); i++ {
			pause, least := tries[i].Sub(tries[i-1]), min(time.Second<<(i-2), longest)
			require.GreaterOrEqual(t, pause, least/2, "pause %d", i)
			require.LessOrEqual(t, pause, longest*3/2, "pause %d", i)
			pauses[pause] = true
		}
		require.Greater(t, len(pauses), 20)
		require.Less(t, len(tries), 200)
	})
}

func TestVirtualWaitIsOverAtItsMaximum(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l, other := open(t, clientsOf(nodes), redlock.WithMaxWait(time.Minute)),
			open(t, clientsOf(nodes))
		_, err := other.TryAcquire(ctx, "a", redlock.WithAutoRenewal(true))
		require.NoError(t, err)
		for maximum, opts := range map[time.Duration][]redlock.AcquireOption{
			time.Minute:     nil,
			7 * time.Second: {redlock.WithMaxWait(7 * time.Second)},
		} {
			start := time.Now()
			_, err = l.Acquire(ctx, "a", opts...)
			require.ErrorIs(t, err, redlock.ErrHeld)
			require.Equal(t, maximum, time.Since(start))
		}
	})
}

func TestVirtualWaitForUnlockEndsWhenTheHoldersLockExpires(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes), redlock.WithRetryInterval(time.Hour))
		start := time.Now()
		_, err := l.TryAcquire(ctx, "a")
		require.NoError(t, err)
		require.NoError(t, l.WaitForUnlock(ctx, "a"))
		require.GreaterOrEqual(t, time.Since(start), 30*time.Second)
		require.LessOrEqual(t, time.Since(start), 30*time.Second+2*time.Millisecond)
	})
}

// What an attempt that the end cut short has not found out is not the reason of the wait.
func TestVirtualReasonOfAWaitIsOfTheLastAttemptThatCameToItsEnd(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		l, other := open(t, clientsOf(nodes)), open(t, clientsOf(nodes))
		_, err := other.TryAcquire(context.Background(), "a")
		require.NoError(t, err)
		time.AfterFunc(100*time.Millisecond, func() {
			for _, n := range nodes {
				n.hang()
			}
		})
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		_, err = l.Acquire(ctx, "a", redlock.WithRetryInterval(10*time.Millisecond))
		require.ErrorIs(t, err, redlock.ErrHeld)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotErrorIs(t, err, redlock.ErrNoQuorum)
		for _, n := range nodes {
			n.recover()
		}
	})
}

func TestVirtualFirstAttemptHasItsNodeTimeoutHoweverShortTheMaximumWait(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		for _, n := range nodes {
			n.delayBy(100 * time.Millisecond)
		}
		h, err := open(t, clientsOf(nodes)).Acquire(context.Background(), "a",
			redlock.WithMaxWait(time.Millisecond))
		require.NoError(t, err)
		require.NoError(t, h.Release(context.Background()))
	})
}

// The turn of a call that is next may come when its own context ends: it has seen nothing itself.
func TestVirtualAllThatGiveUpAtTheSameTimeSayThatTheLockIsHeld(t *testing.T) {
	for name, wait := range waits {
		t.Run(name, func(t *testing.T) {
			knowsScripts(t, func(t *testing.T, nodes []*virtualNode) {
				ctx := context.Background()
				l := open(t, clientsOf(nodes))
				for _, n := range nodes {
					n.delayBy(time.Millisecond)
					require.NoError(t, n.client.Set(ctx, lockKey("r"), stranger, 0).Err())
				}
				for range 20 {
					for i, err := range giveUpTogether(8, 50*time.Millisecond, l, wait) {
						require.ErrorIs(t, err, context.DeadlineExceeded)
						requireOnly(t, err, redlock.ErrHeld, fmt.Sprint("call ", i))
					}
				}
			})
		})
	}
}
