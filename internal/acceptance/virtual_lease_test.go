//go:build go1.25

package acceptance_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

func TestVirtualLockIsTrustedForItsTTLLessDriftAndNotANanosecondLonger(t *testing.T) {
	for _, tt := range []struct {
		ttl   time.Duration
		drift float64
		want  time.Duration
	}{
		{30 * time.Second, 0.01, 29_698 * time.Millisecond},
		{10 * time.Millisecond, 0.01, 7_900 * time.Microsecond},
		{12_345_678 * time.Nanosecond, 0.01, 10_222_222 * time.Nanosecond},
		{30 * time.Second, 0, 29_998 * time.Millisecond},
		{time.Minute, 0.25, 44_998 * time.Millisecond},
		{100 * time.Hour, 0.001, 100*time.Hour - 360*time.Second - 2*time.Millisecond},
	} {
		t.Run(fmt.Sprintf("TTL %v, drift %v", tt.ttl, tt.drift), func(t *testing.T) {
			virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
				ctx := context.Background()
				l := open(t, clientsOf(nodes), redlock.WithDriftFactor(tt.drift))
				start := time.Now()
				h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(tt.ttl))
				require.NoError(t, err)
				require.Equal(t, tt.want, h.ValidUntil().Sub(start))

				var wg sync.WaitGroup
				for name, done := range map[string]<-chan struct{}{
					"Done": h.Done(), "Context": h.Context(ctx).Done(),
				} {
					wg.Add(1)
					go func() {
						defer wg.Done()
						<-done
						require.Equal(t, tt.want, time.Since(start), name)
						require.Equal(t, redlock.ErrLost, h.Err())
					}()
				}
				time.Sleep(tt.want - 1)
				require.NoError(t, h.Err())
				wg.Wait()
				for _, n := range nodes {
					require.Equal(t, h.Token(), n.owner("lock:a"), "the key outlives the lease")
				}
			})
		})
	}
}

func TestVirtualLeaseBeginsBeforeTheRequestGoesOut(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes))
		for _, n := range nodes {
			n.delayBy(400 * time.Millisecond)
		}
		requireLease := func(h *redlock.Handle, start time.Time) {
			t.Helper()
			require.Equal(t, 400*time.Millisecond, time.Since(start))
			require.Equal(t, 29_698*time.Millisecond, h.ValidUntil().Sub(start))
		}
		warm, err := l.TryAcquire(ctx, "scripts") // the first time takes two requests
		require.NoError(t, err)
		require.NoError(t, warm.Extend(ctx, time.Minute))
		require.NoError(t, warm.Release(ctx))

		start := time.Now()
		h, err := l.TryAcquire(ctx, "a")
		require.NoError(t, err)
		requireLease(h, start)

		start = time.Now()
		require.NoError(t, h.Extend(ctx, 30*time.Second))
		requireLease(h, start)
		require.NoError(t, h.Release(ctx))
	})
}

func TestVirtualLookAfterTheEndTellsTheTruth(t *testing.T) {
	virtually(t, 1, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes))
		acquire := func() *redlock.Handle {
			h, err := l.TryAcquire(ctx, "a")
			require.NoError(t, err)
			time.Sleep(time.Minute) // nobody watches
			return h
		}
		select {
		case <-acquire().Done():
		default:
			require.Fail(t, "not done")
		}
		require.Equal(t, redlock.ErrLost, acquire().Err())
		lockCtx := acquire().Context(ctx)
		require.Equal(t, context.Canceled, lockCtx.Err())
		require.Equal(t, redlock.ErrLost, context.Cause(lockCtx))
		require.ErrorIs(t, acquire().Extend(ctx, time.Minute), redlock.ErrLost)
		require.ErrorIs(t, acquire().Release(ctx), redlock.ErrLost)
		require.Empty(t, nodes[0].owner("lock:a"))
	})
}

func TestVirtualForgottenLockLivesForExactlyItsTTL(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		l := open(t, clientsOf(nodes), redlock.WithTTL(24*time.Hour))
		h, err := l.TryAcquire(context.Background(), "a", redlock.WithAutoRenewal(false))
		require.NoError(t, err)
		require.NoError(t, l.Close())

		time.Sleep(24*time.Hour - time.Millisecond)
		for _, n := range nodes {
			require.Equal(t, h.Token(), n.owner("lock:a"))
		}
		time.Sleep(time.Millisecond)
		for _, n := range nodes {
			require.Empty(t, n.owner("lock:a"))
		}
	})
}

func TestVirtualExtendMovesTheLease(t *testing.T) {
	for _, ttl := range []time.Duration{
		time.Hour, 30 * time.Second, 6 * time.Second, 10 * time.Millisecond,
	} {
		t.Run(ttl.String(), func(t *testing.T) {
			virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
				ctx := context.Background()
				l := open(t, clientsOf(nodes))
				h, err := l.TryAcquire(ctx, "a")
				require.NoError(t, err)
				time.Sleep(5 * time.Second)

				start, want := time.Now(), ttl-ttl/100-2*time.Millisecond
				require.NoError(t, h.Extend(ctx, ttl))
				require.Equal(t, want, h.ValidUntil().Sub(start))
				synctest.Wait() // the last node
				for _, n := range nodes {
					require.Equal(t, ttl, n.client.PTTL(ctx, "lock:a").Val())
				}
				<-h.Done()
				require.Equal(t, want, time.Since(start))
			})
		})
	}
}

// Whatever the nodes do, as long as they keep their keys: a lock that does not say that it is lost
// is on a quorum of them.
func TestVirtualLossIsNeverSignalledLate(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			virtually(t, 5, func(t *testing.T, nodes []*virtualNode) {
				random := rand.New(rand.NewPCG(seed, seed))
				ctx := context.Background()
				l := open(t, clientsOf(nodes), redlock.WithTTL(2*time.Second),
					redlock.WithAutoRenewal(true))
				losses := 0
				for end := time.Now().Add(time.Minute); time.Now().Before(end); losses++ {
					h, err := l.Acquire(ctx, "a")
					require.NoError(t, err)
					for h.Err() == nil {
						n := nodes[random.IntN(len(nodes))]
						switch random.IntN(6) {
						case 0:
							n.fail("MISCONF")
						case 1:
							n.hang()
						case 2:
							n.delayBy(time.Duration(random.IntN(200)) * time.Millisecond)
						default:
							n.recover()
						}
						for range 20 {
							requireOnAQuorum(t, h, nodes)
							time.Sleep(time.Duration(random.IntN(40_000)) * time.Microsecond)
						}
					}
					for _, n := range nodes {
						n.recover()
					}
					require.ErrorIs(t, h.Release(ctx), redlock.ErrLost)
				}
				require.Greater(t, losses, 1, "too few faults that matter")
			})
		})
	}
}

// requireOnAQuorum checks that a lock which counts as held is on a quorum of the nodes.
func requireOnAQuorum(t *testing.T, h *redlock.Handle, nodes []*virtualNode) {
	t.Helper()
	ours := 0
	for _, n := range nodes {
		if n.owner("lock:a") == h.Token() {
			ours++
		}
	}
	require.True(t, h.Err() != nil || ours > len(nodes)/2, "it is on %d of %d nodes", ours,
		len(nodes))
}

func TestVirtualAdoptedLockIsValidForWhatIsProvablyLeft(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes))
		h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(time.Hour))
		require.NoError(t, err)
		// two nodes make a lock: the third must have set its key too before the keys' times are
		// changed
		synctest.Wait()
		// What two of three nodes keep for half an hour is held by a quorum for half an hour.
		require.NoError(t, nodes[0].client.PExpire(ctx, "lock:a", 10*time.Minute).Err())
		require.NoError(t, nodes[1].client.PExpire(ctx, "lock:a", 40*time.Minute).Err())
		require.NoError(t, nodes[2].client.PExpire(ctx, "lock:a", 50*time.Minute).Err())
		time.Sleep(9 * time.Minute)

		start := time.Now()
		adopted, err := l.Adopt(ctx, []string{"a"}, h.Token(), redlock.WithAutoRenewal(true))
		require.NoError(t, err)
		left := adopted.ValidUntil().Sub(start)
		require.Contains(t, []time.Duration{
			time.Minute - time.Minute/100 - 2*time.Millisecond, // the first two that answered
			31*time.Minute - 31*time.Minute/100 - 2*time.Millisecond,
		}, left)
		time.Sleep(2 * time.Hour) // it is renewed
		require.NoError(t, adopted.Err())
		require.NoError(t, adopted.Release(ctx))
	})
}

func TestVirtualAdoptOfALockWithNothingProvablyLeftIsALoss(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes))
		h, err := l.TryAcquire(ctx, "a")
		require.NoError(t, err)
		time.Sleep(30*time.Second - 2*time.Millisecond)
		for _, n := range nodes {
			require.Equal(t, h.Token(), n.owner("lock:a"))
		}
		_, err = l.Adopt(ctx, []string{"a"}, h.Token())
		requireOnly(t, err, redlock.ErrLost)
	})
}

// A node that answers the first step of a shortening late is not told to cut when a later extension
// is on its way to it.
func TestVirtualShorteningThatComesLateDoesNotOvertakeALaterExtension(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes))
		h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(30*time.Second))
		require.NoError(t, err)
		synctest.Wait() // for the third node, whose grant the call does not wait for
		nodes[2].delayBy(200 * time.Millisecond)
		require.NoError(t, h.Extend(ctx, 5*time.Second))
		nodes[1].fail("ERR down")
		time.Sleep(time.Millisecond)
		require.NoError(t, h.Extend(ctx, 20*time.Second))
		nodes[2].delayBy(0)
		time.Sleep(time.Second)
		nodes[1].fail("")

		other := open(t, clientsOf(nodes))
		for h.Err() == nil {
			_, err := other.TryAcquire(ctx, "a")
			require.ErrorIs(t, err, redlock.ErrHeld, "valid until %v more",
				time.Until(h.ValidUntil()))
			time.Sleep(100 * time.Millisecond)
		}
		require.NoError(t, l.Close())
	})
}

// What an extension says does not grow with the number of shortenings before it.
func TestVirtualShorteningsLeaveNothingThatGrows(t *testing.T) {
	virtually(t, 1, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes))
		h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(time.Minute))
		require.NoError(t, err)
		for range 1000 {
			require.NoError(t, h.Extend(ctx, 10*time.Second))
			require.NoError(t, h.Extend(ctx, 20*time.Second))
		}
		longest := 0
		nodes[0].mu.Lock()
		for _, call := range nodes[0].calls {
			longest = max(longest, len(strings.Join(call.args, "")))
		}
		nodes[0].mu.Unlock()
		require.Less(t, longest, len(h.Token())+20)
		require.Equal(t, h.Token(), nodes[0].owner("lock:a"), "the token tells of them")
		require.NoError(t, h.Release(ctx))
		require.Empty(t, nodes[0].owner("lock:a"))
	})
}

// The nodes say what was left when they were asked, or later: the answer may have taken its time.
func TestVirtualAdoptedLeaseBeginsBeforeTheQuestionGoesOut(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l, other := open(t, clientsOf(nodes)), open(t, clientsOf(nodes))
		h, err := other.TryAcquire(ctx, "a", redlock.WithTTL(10*time.Second))
		require.NoError(t, err)
		_, err = l.IsLocked(ctx, "a") // so that the nodes know the script
		require.NoError(t, err)
		for _, n := range nodes {
			n.delayBy(200 * time.Millisecond)
		}
		began := time.Now()
		adopted, err := l.Adopt(ctx, []string{"a"}, h.Token())
		require.NoError(t, err)
		require.Equal(t, 200*time.Millisecond, time.Since(began))
		const left = 9800 * time.Millisecond
		require.Equal(t, began.Add(left-left/100-2*time.Millisecond), adopted.ValidUntil())
	})
}
