//go:build go1.25

package acceptance_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

func TestVirtualOnceRunsOnceInEachInterval(t *testing.T) {
	for _, every := range []time.Duration{time.Second, time.Minute, time.Hour} {
		for _, ttl := range []time.Duration{
			300 * time.Millisecond, 30 * time.Second, 3 * time.Hour,
		} {
			t.Run(every.String()+" "+ttl.String(), func(t *testing.T) {
				virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
					const intervals = 20
					ctx := context.Background()
					began := time.Now().Add(time.Second)
					var mu sync.Mutex
					ran := make(map[int]int)
					var tick []func() error
					for i := range 10 {
						l := open(t, clientsOf(nodes), redlock.WithTTL(ttl))
						random := rand.New(rand.NewPCG(1, uint64(i)))
						tick = append(tick, func() error {
							for n := range intervals {
								// each of them up to 300 ms late, another time each
								late := time.Duration(random.Int64N(int64(300 * time.Millisecond)))
								if every == time.Second {
									late = time.Duration(i) * 30 * time.Millisecond
								}
								time.Sleep(time.Until(began.Add(time.Duration(n)*every + late)))
								_, err := l.Once(ctx, "job", every, func(context.Context) error {
									mu.Lock()
									defer mu.Unlock()
									ran[n]++
									return nil
								})
								if err != nil {
									return err
								}
							}
							return nil
						})
					}
					require.NoError(t, together(tick...))
					require.Len(t, ran, intervals, "an interval was missed")
					for n, runs := range ran {
						require.Equal(t, 1, runs, "interval %d", n)
					}
				})
			})
		}
	}
}

// Whoever crashes while it runs costs the others its TTL or one interval, whichever is shorter, and
// its minimum hold.
func TestVirtualOnceAfterACrashCostsOneInterval(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		const every = 10 * time.Minute
		ctx := context.Background()
		crashing, l := open(t, clientsOf(nodes), redlock.WithTTL(time.Hour)),
			open(t, clientsOf(nodes), redlock.WithTTL(time.Hour))
		began := time.Now()
		crashed := inBackground(func() error {
			return onlyError(crashing.Once(ctx, "job", every, func(ctx context.Context) error {
				go func() { _ = crashing.Close() }() // as good as a crash: the keys expire
				<-ctx.Done()
				return nil
			}))
		})
		require.ErrorIs(t, <-crashed, redlock.ErrClosed)
		time.Sleep(time.Until(began.Add(every / 2)))
		ran, err := l.Once(ctx, "job", every, nothingToDo)
		require.NoError(t, err)
		require.False(t, ran, "in the same interval")
		time.Sleep(time.Until(began.Add(every)))
		ran, err = l.Once(ctx, "job", every, nothingToDo)
		require.NoError(t, err)
		require.True(t, ran, "in the next one")
	})
}
