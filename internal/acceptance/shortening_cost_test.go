package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// A lock may be shortened for as long as the process lives: no request grows, and neither does the
// handle or the key.
func TestTenThousandShorteningsCostNoMoreThanTheFirst(t *testing.T) {
	const shortenings = 10_000
	ctx := context.Background()
	servers, clients := masters(t, 1)
	l := open(t, clients)
	warmUp(t, clients)
	var longest, sent atomic.Int64
	clients[0].AddHook(hook(func(send func() error, sent1 ...redis.Cmder) error {
		for _, cmd := range sent1 {
			sent.Add(1)
			size := int64(len(fmt.Sprint(cmd.Args()...)))
			for l := longest.Load(); size > l &&
				!longest.CompareAndSwap(l, size); l = longest.Load() {
			}
		}
		return send()
	}))
	h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(100*time.Hour))
	require.NoError(t, err)
	ttl := 99 * time.Hour
	shorten := func(n int) {
		for range n {
			ttl -= 30 * time.Second // more than the machine may be held up for meanwhile
			if err := h.Extend(ctx, ttl); err != nil {
				require.NoError(t, err)
			}
		}
	}
	shorten(shortenings / 10)
	first, before, asked := longest.Load(), heap(), sent.Load()
	longest.Store(0)
	shorten(shortenings * 9 / 10)
	require.EqualValues(t, 2*shortenings*9/10, sent.Load()-asked, "two requests each")
	require.LessOrEqual(t, longest.Load(), first+4, "the number has a digit more, in two places")
	require.Less(t, int64(heap()-before), int64(10*shortenings), "the heap has grown")
	require.Less(t, len(ownerOn(t, servers[0], "a")), len(secretOf(h.Token()))+1+300)
	require.Equal(t, h.Token(), ownerOn(t, servers[0], "a"))
	require.InDelta(t, ttl, time.Until(h.ValidUntil()), float64(ttl/50))
	keysOutlive(t, h, servers...)
	require.NoError(t, h.Extend(ctx, 100*time.Hour))
	keysOutlive(t, h, servers...)
	require.NoError(t, h.Release(ctx))
	noKeys(t, servers)
	runtime.KeepAlive(h)
}

// Whatever is lost on the way: the lease is what it was, or the shorter one, and no node lets the
// lock go before its end.
func TestQuorumLostDuringAShorteningLeavesTheOldLeaseOrTheShorterOne(t *testing.T) {
	for round := 1; round <= 2; round++ { // the first proves that the lock is ours, the second cuts
		for _, lost := range []string{"request", "reply"} {
			for _, silent := range []int{2, 3} {
				t.Run(fmt.Sprint("round ", round, ", ", lost, " of ", silent), func(t *testing.T) {
					ctx := context.Background()
					servers, clients, taps := tapped(t, 3)
					nodes := make([]wrapped, 3)
					for i, c := range clients {
						nodes[i] = wrapped{c}
					}
					l := open(t, nodes)
					warmUp(t, clients)
					h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(time.Hour))
					require.NoError(t, err)
					takenEverywhere(t, h, servers...)
					was := h.ValidUntil()

					for i := range silent {
						lose := func(sent string) error {
							if isCut(sent) == (round == 2) {
								return errPartition
							}
							return nil
						}
						if lost == "request" {
							taps[i].onSend(lose)
						} else {
							taps[i].onReply(lose)
						}
					}
					err = h.Extend(ctx, time.Minute)
					requireOnly(t, err, redlock.ErrNoQuorum)
					require.NoError(t, h.Err())
					if round == 1 {
						require.Equal(t, was, h.ValidUntil())
					} else {
						require.Less(t, time.Until(h.ValidUntil()), time.Minute)
					}
					keysOutlive(t, h, servers...)
					for _, p := range taps {
						p.onSend(nil)
						p.onReply(nil)
					}
					require.NoError(t, h.Extend(ctx, 30*time.Minute))
					require.Greater(t, time.Until(h.ValidUntil()), 29*time.Minute)
					for _, s := range servers {
						// a quorum has it by now, and which nodes that are nobody knows
						eventually(t, func() bool {
							return keyTTL(t, s, "lock:a") > time.Until(h.ValidUntil())
						}, "the lease outlives the key")
					}
					require.NoError(t, h.Release(ctx))
					noKeys(t, servers)
				})
			}
		}
	}
}

// The lock is gone when the second round comes: that is a loss, and nothing is made anew.
func TestLockThatIsGoneDuringAShorteningIsLost(t *testing.T) {
	ctx := context.Background()
	servers, clients, taps := tapped(t, 1)
	l := open(t, []wrapped{{clients[0]}})
	warmUp(t, clients)
	h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(time.Hour))
	require.NoError(t, err)
	taps[0].onSend(func(sent string) error {
		if isCut(sent) {
			uproot(t, "a", servers...)
		}
		return nil
	})
	requireOnly(t, h.Extend(ctx, time.Minute), redlock.ErrLost)
	require.Equal(t, redlock.ErrLost, h.Err())
	noKeys(t, servers)
}

// A shortening that is cancelled between its rounds, or by its context.
func TestShorteningThatIsCancelled(t *testing.T) {
	ctx := context.Background()
	servers, clients, taps := tapped(t, 1)
	l := open(t, []wrapped{{clients[0]}}, redlock.WithNodeTimeout(10*time.Second))
	warmUp(t, clients)
	h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(time.Hour))
	require.NoError(t, err)
	cancelled, cancel := context.WithCancelCause(ctx)
	gate := newGate(t)
	taps[0].onSend(func(sent string) error {
		if isCut(sent) {
			cancel(errGaveUp)
			gate.pass()
		}
		return nil
	})
	err = h.Extend(cancelled, time.Minute)
	require.ErrorIs(t, err, errGaveUp)
	require.True(t, errors.Is(err, context.Canceled))
	require.Less(t, time.Until(h.ValidUntil()), time.Minute, "the shorter one")
	gate.open()
	eventually(t, func() bool { return keyTTL(t, servers[0], lockKey("a")) <= time.Minute },
		"not cut")
	keysOutlive(t, h, servers...)
	taps[0].onSend(nil)
	require.NoError(t, h.Extend(ctx, time.Hour))
	require.NoError(t, h.Release(ctx))
}
