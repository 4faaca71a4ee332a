//go:build go1.25

package gocronredlock_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/go-co-op/gocron/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/gocronredlock"
)

// virtually runs a test in virtual time, with three nodes in memory. Time passes only while
// everybody waits.
func virtually(t *testing.T, test func(t *testing.T, clients []*redis.Client)) {
	synctest.Test(t, func(t *testing.T) {
		var clients []*redis.Client
		for range 3 {
			memory := miniredis.NewMiniRedis()
			memory.ClockTTL(true)
			client := redis.NewClient(&redis.Options{
				Addr:     "127.0.0.1:6379", // not a name: looking one up leaves the bubble
				PoolSize: 100,              // a client that waits for a connection leaves it, too
				Dialer: func(context.Context, string, string) (net.Conn,
					error) {
					return memory.Dial()
				},
			})
			t.Cleanup(func() {
				require.NoError(t, client.Close())
				memory.Close()
				time.Sleep(10 * time.Second) // whatever go-redis still waits for
			})
			clients = append(clients, client)
		}
		test(t, clients)
	})
}

// counter counts runs, over all schedulers.
type counter struct {
	mu   sync.Mutex
	runs int
}

func (c *counter) inc() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.runs++
}

func (c *counter) get() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.runs
}

func TestVirtualTwoSchedulersRunEachRunOnce(t *testing.T) {
	for name, c := range map[string]struct {
		apart time.Duration
		want  int // of an hour with a run every minute
	}{
		"300 ms apart":               {300 * time.Millisecond, 60},
		"further apart than splay":   {600 * time.Millisecond, 120},
		"together, to the instant":   {0, 60},
		"just closer than the splay": {499 * time.Millisecond, 60},
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, func(t *testing.T, clients []*redis.Client) {
				var count counter
				began := time.Now().Add(time.Minute)
				for i := range 2 {
					locker := newLocker(t, open(t, clients))
					schedule(t, gocron.WithDistributedLocker(locker), every(time.Minute), count.inc,
						gocron.WithStartAt(gocron.WithStartDateTime(
							began.Add(time.Duration(i)*c.apart))))
				}
				time.Sleep(time.Until(began.Add(59*time.Minute + 30*time.Second)))
				require.Equal(t, c.want, count.get())
			})
		})
	}
}

func TestVirtualJobOfEverySecondMissesNothing(t *testing.T) {
	virtually(t, func(t *testing.T, clients []*redis.Client) {
		var count counter
		began := time.Now().Add(time.Minute)
		schedule(t, gocron.WithDistributedLocker(newLocker(t, open(t, clients))),
			every(time.Second), count.inc,
			gocron.WithStartAt(gocron.WithStartDateTime(began)))
		time.Sleep(time.Until(began.Add(100*time.Second - time.Millisecond)))
		require.Equal(t, 100, count.get())
	})
}

func TestVirtualLockIsRenewedWhileTheJobRuns(t *testing.T) {
	for _, renewed := range []bool{true, false} {
		virtually(t, func(t *testing.T, clients []*redis.Client) {
			locker := newLocker(t, open(t, clients, redlock.WithAutoRenewal(false)),
				gocronredlock.WithAcquireOptions(redlock.WithTTL(2*time.Second)))
			if !renewed {
				locker = newLocker(t, open(t, clients),
					gocronredlock.WithAcquireOptions(redlock.WithTTL(2*time.Second),
						redlock.WithAutoRenewal(false)))
			}
			done := make(chan error, 1)
			schedule(t, gocron.WithDistributedLocker(locker), now(), func(ctx context.Context) {
				ctx = locker.Context(ctx, report)
				select {
				case <-time.After(10 * time.Minute):
				case <-ctx.Done():
				}
				done <- context.Cause(ctx)
			})
			if err := <-done; renewed {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, redlock.ErrLost)
			}
		})
	}
}

func TestVirtualCloseWaitsForTheSplayAfterTheLastRun(t *testing.T) {
	virtually(t, func(t *testing.T, clients []*redis.Client) {
		ctx := context.Background()
		a, b := newElector(t, open(t, clients)), newElector(t, open(t, clients))
		require.NoError(t, a.IsLeader(ctx))
		term := a.Context(ctx)
		time.Sleep(time.Hour)
		require.NoError(t, term.Err(), "the leadership is renewed")
		require.NoError(t, a.IsLeader(ctx))
		ran := time.Now()
		time.Sleep(100 * time.Millisecond)
		closed := make(chan time.Duration, 1)
		go func() {
			_ = a.Close() // checked below: the second call returns the same
			closed <- time.Since(ran)
		}()
		time.Sleep(399 * time.Millisecond)
		require.ErrorIs(t, a.IsLeader(ctx), gocronredlock.ErrClosed)
		require.ErrorIs(t, b.IsLeader(ctx), redlock.ErrHeld)
		require.Equal(t, 500*time.Millisecond, <-closed)
		require.NoError(t, a.Close())
		require.NoError(t, b.IsLeader(ctx))

		time.Sleep(time.Second)
		began := time.Now()
		require.NoError(t, b.Close())
		require.Zero(t, time.Since(began))
	})
}

func TestVirtualLeaderIsCutOff(t *testing.T) {
	virtually(t, func(t *testing.T, clients []*redis.Client) {
		ctx := context.Background()
		l := open(t, clients, redlock.WithTTL(10*time.Second))
		a, b := newElector(t, l), newElector(t, open(t, clients))
		require.NoError(t, a.IsLeader(ctx))
		term := a.Context(ctx)
		require.NoError(t, l.Close()) // no renewal from now on, as after a crash
		require.ErrorIs(t, context.Cause(term), redlock.ErrClosed)
		require.ErrorIs(t, a.IsLeader(ctx), redlock.ErrClosed)

		began := time.Now()
		for b.IsLeader(ctx) != nil {
			time.Sleep(time.Second)
		}
		require.InDelta(t, 10, time.Since(began).Seconds(), 1)
	})
}
