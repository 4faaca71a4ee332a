//go:build linux

package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

// launched returns a node with all that faults may ask for, and for each of its doors a client that
// sends each command once.
func launched(t *testing.T, aof bool) (*node, []*redis.Client) {
	t.Helper()
	redistest.Start(t) // skips the test where there is no Redis
	n, err := launchNode(t.TempDir(), "node", traits{aof: aof, clock: redistest.CanFakeClock()},
		redistest.FsyncNever)
	require.NoError(t, err)
	t.Cleanup(n.close)
	var clients []*redis.Client
	for _, door := range n.doors {
		c := redis.NewClient(&redis.Options{Addr: door.Addr(), MaxRetries: -1})
		t.Cleanup(func() { _ = c.Close() })
		clients = append(clients, c)
	}
	return n, clients
}

func TestNodeThatLosesDataIsOutOfReachUntilNothingCountsOnIt(t *testing.T) {
	for _, f := range faults {
		if !f.loses || f.kind == restartEmpty ||
			f.fits != nil && !f.fits(traits{clock: redistest.CanFakeClock()}) {
			continue
		}
		t.Run(f.kind, func(t *testing.T) {
			t.Parallel()
			n, clients := launched(t, false)
			ctx := t.Context()
			const longest = 2 * time.Second
			require.NoError(t, clients[0].Set(ctx, "key", 1, time.Minute).Err())
			s, done := step{kind: f.kind, side: -1, dur: 3 * time.Second,
				jump: 2 * time.Minute, longest: longest}, make(chan error, 1)
			there := time.Now() // when the key was last known to be there: never after the loss
			go func() { done <- f.strike(ctx, n, s) }()
			if f.kind == "clock back" { // what is lost was set on the late clock
				require.Eventually(t, func() bool {
					shown, err := clients[0].Time(ctx).Result()
					return err == nil && time.Since(shown) > time.Minute
				}, 20*time.Second, time.Millisecond)
				there = time.Now()
				require.NoError(t, clients[0].Set(ctx, "key", 1, time.Minute).Err())
			}
			gone := func() bool {
				began := time.Now()
				reply, err := n.server.Command(ctx, "exists", "key")
				if err == nil && reply == int64(1) {
					there = began
				}
				return err == nil && reply == int64(0)
			}
			require.Eventually(t, gone, 20*time.Second, time.Millisecond)
			for _, c := range clients {
				require.Error(t, c.Ping(ctx).Err(), "nobody gets in after the loss")
			}
			require.NoError(t, <-done)
			require.GreaterOrEqual(t, time.Since(there), longest)
			for _, c := range clients {
				require.Eventually(t, func() bool { return c.Ping(ctx).Err() == nil },
					20*time.Second, 5*time.Millisecond)
			}
		})
	}
}

func TestFaultsAreMendedAndKeepTheData(t *testing.T) {
	for _, f := range faults {
		if f.loses || f.kind == flushAtOnce {
			continue
		}
		t.Run(f.kind, func(t *testing.T) {
			t.Parallel()
			n, clients := launched(t, true)
			ctx := t.Context()
			require.NoError(t, clients[0].Set(ctx, "key", 1, time.Minute).Err())
			require.NoError(t, f.strike(ctx, n,
				step{kind: f.kind, side: 0, dur: 50 * time.Millisecond,
					jump: 5 * time.Millisecond}))
			for _, c := range clients {
				require.Eventually(t, func() bool { return c.Get(ctx, "key").Val() == "1" },
					20*time.Second, 5*time.Millisecond)
				require.Eventually(t, func() bool { return c.Set(ctx, "other", 1, 0).Err() == nil },
					20*time.Second, 5*time.Millisecond)
			}
		})
	}
}

// While it lasts, a fault is to be felt; one that is meant for a side, on that side only.
func TestFaultsAreFelt(t *testing.T) {
	for _, f := range faults {
		if f.loses || !f.impairs || f.kind == "delay" {
			continue
		}
		t.Run(f.kind, func(t *testing.T) {
			t.Parallel()
			n, clients := launched(t, true)
			s := step{kind: f.kind, side: -1, dur: time.Minute}
			if f.sided {
				s.side = 1
			}
			ctx, stop := context.WithCancelCause(t.Context())
			enough := errors.New("enough")
			done := make(chan error, 1)
			go func() { done <- f.strike(ctx, n, s) }()
			failing := func(side int) bool {
				hasty := clients[side].WithTimeout(200 * time.Millisecond)
				return hasty.Set(t.Context(), "key", 1, 0).Err() != nil
			}
			require.Eventually(t, func() bool {
				if f.sided {
					return failing(1) && !failing(0) && failing(1)
				}
				return failing(1)
			}, 20*time.Second, 5*time.Millisecond)
			stop(enough)
			require.ErrorIs(t, <-done, enough)
		})
	}
}

func TestPowerCutTakesTheLatestWritesBack(t *testing.T) {
	n, clients := launched(t, true)
	ctx, done := t.Context(), make(chan error, 1)
	go func() {
		done <- faultOf("power cut").strike(ctx, n,
			step{side: -1, dur: 300 * time.Millisecond, longest: time.Millisecond})
	}()
	acknowledged := 0
	for clients[0].Set(ctx, "key", acknowledged+1, 0).Err() == nil {
		acknowledged++
	}
	require.NoError(t, <-done)
	left, err := clients[1].Get(ctx, "key").Int()
	if !errors.Is(err, redis.Nil) {
		require.NoError(t, err)
	}
	require.Less(t, left, acknowledged)
}
