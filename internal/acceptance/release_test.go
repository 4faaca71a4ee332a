package acceptance_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// denyAllScripts makes a server answer every script with an error.
func denyAllScripts(t *testing.T, s *redistest.Server) {
	t.Helper()
	s.Do(t, "acl", "setuser", "default", "-eval", "-evalsha")
}

func TestSickMinorityDoesNotSlowRefusedAttemptsDown(t *testing.T) {
	tests := []struct {
		name   string
		sicken func(t *testing.T, s *redistest.Server)
	}{
		{"it answers with errors", denyAllScripts},
		{"it is dead", func(t *testing.T, s *redistest.Server) { require.NoError(t, s.Kill()) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			servers, clients := masters(t, 3)
			l := open(t, clients)
			cacheScripts(t, clients)
			median := func(foreign ...*redistest.Server) time.Duration {
				takeFor(t, time.Minute, "r", foreign...)
				var took []time.Duration
				for range 9 {
					start := time.Now()
					_, err := l.TryAcquire(context.Background(), "r")
					took = append(took, time.Since(start))
					require.ErrorIs(t, err, redlock.ErrHeld)
				}
				slices.Sort(took)
				return took[len(took)/2]
			}
			healthy := median(servers[:2]...) // and the third one grants, and is cleaned up
			test.sicken(t, servers[2])
			require.Less(t, median(), 10*healthy+200*time.Millisecond, "the node timeout is 1 s")
		})
	}
}

func TestErroringAndHangingNodesCostOneNodeTimeoutTogether(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	const timeout = time.Second
	l := open(t, clients, redlock.WithNodeTimeout(timeout))
	cacheScripts(t, clients)
	noKeys(t, servers)
	denyAllScripts(t, servers[2])
	require.NoError(t, servers[1].Pause())

	start := time.Now()
	_, err := l.TryAcquire(ctx, "r")
	took := time.Since(start)
	require.NoError(t, servers[1].Resume())
	require.ErrorIs(t, err, redlock.ErrNoQuorum)
	require.Less(t, took, timeout*9/5)
	noKeys(t, servers)
}

// onePerSlot is a single server that is treated as a cluster: resources in different slots are asked for one by one.
type onePerSlot struct{ *redis.Client }

func (onePerSlot) MasterForKey(context.Context, string) (*redis.Client, error) { return nil, nil }

func TestCleanUpGoesThroughAllSlotsWhenReleaseComesBetweenTwo(t *testing.T) {
	ctx := context.Background()
	noLeak(t)
	s := redistest.Start(t)
	c := redis.NewClient(&redis.Options{Addr: s.Addr(), PoolSize: 2}) // so that there are two workers
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	watch := &tap{}
	c.AddHook(watch)
	l := open(t, []onePerSlot{{c}}, redlock.WithNodeTimeout(2*time.Second))
	cacheScripts(t, []*redis.Client{c})
	h, err := l.TryAcquireMulti(ctx, []string{"a", "b", "c"})
	require.NoError(t, err)
	require.Len(t, s.Keys(t), 3)
	s.Do(t, "del", "lock:b") // the next Extend finds the lock lost and cleans up

	busy, cleaned, others := newGate(t), newGate(t), newGate(t)
	watch.onSend(func(sent string) error {
		switch {
		case strings.Contains(sent, "lock:busy"):
			busy.pass()
		case strings.Contains(sent, "lock:other"):
			others.pass()
		}
		return nil
	})
	watch.onReply(func(sent string) error {
		if strings.Contains(sent, "lock:a") && !isExtension(sent) {
			cleaned.pass()
		}
		return nil
	})
	// One worker is busy elsewhere. The other one is held up when it has cleaned the first slot up.
	attempts := []<-chan error{inBackground(func() error { _, err := l.TryAcquire(ctx, "busy"); return err })}
	outcome(t, busy.reached, "the first worker")
	require.ErrorIs(t, h.Extend(ctx, time.Minute), redlock.ErrLost)
	outcome(t, cleaned.reached, "the clean-up of the first slot")
	for i := range 256 { // as many as go out together
		waiting := observe(ctx)
		attempts = append(attempts, inBackground(func() error { _, err := l.TryAcquire(waiting, fmt.Sprint("other", i)); return err }))
		outcome(t, waiting.waited, "another attempt")
	}
	// Now those go first, and the clean-up of the second slot waits behind them.
	cleaned.open()
	outcome(t, others.reached, "the other attempts on their way")
	require.ErrorIs(t, h.Release(ctx), redlock.ErrLost)
	busy.open()
	others.open()
	for _, attempt := range attempts {
		_ = outcome(t, attempt, "the other attempts") // may have come too late
	}
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(s.Keys(t), func(key string) bool { return len(key) == len("lock:a") })
	}, 10*time.Second, time.Millisecond, "the lost lock is still there")
}

func TestRenewalsDoNotPileUpForANodeThatHangs(t *testing.T) {
	ctx := context.Background()
	_, clients, taps := tapped(t, 3)
	l, err := redlock.New(clients)
	require.NoError(t, err)
	cacheScripts(t, clients)

	const locks = 5
	var held []*redlock.Handle
	for i := range locks {
		h, err := l.TryAcquire(ctx, fmt.Sprint("r", i), redlock.WithTTL(600*time.Millisecond), redlock.WithAutoRenewal(true))
		require.NoError(t, err)
		held = append(held, h)
	}
	hung := newGate(t)
	taps[2].onSend(func(string) error { hung.pass(); return nil })
	var renewals atomic.Int32
	taps[0].onSend(func(sent string) error {
		renewals.Add(int32(strings.Count(sent, " keep")))
		return nil
	})
	require.Eventually(t, func() bool { return renewals.Load() >= 8*locks }, 10*time.Second, 5*time.Millisecond)
	for _, h := range held {
		require.NoError(t, h.Err(), "two nodes are enough")
	}

	// Close says for how many requests it has waited in vain.
	var unanswered int
	_, text, found := strings.Cut(fmt.Sprint(l.Close()), "node 2: ")
	require.True(t, found, "Close took the node for healthy")
	_, err = fmt.Sscanf(text, "%d calls", &unanswered)
	require.NoError(t, err)
	require.LessOrEqual(t, unanswered, locks)
}

func TestReleaseDoesNotOvertakeAnAcquireWhenItDropsAnExtend(t *testing.T) {
	ctx := context.Background()
	servers, clients, taps := tapped(t, 3)
	for range 10 {
		l, err := redlock.New(clients, redlock.WithNodeTimeout(20*time.Second))
		require.NoError(t, err)
		slow := newGate(t)
		var sent atomic.Int32
		taps[2].onSend(func(string) error {
			if sent.Add(1) == 1 {
				slow.pass()
			}
			return nil
		})

		// One node is slow with its first request; the others are enough for the lock's whole life.
		h, err := l.TryAcquire(ctx, "r")
		require.NoError(t, err)
		outcome(t, slow.reached, "the acquire on its way")
		require.NoError(t, h.Extend(ctx, time.Minute))
		require.NoError(t, h.Release(ctx))
		slow.open()

		require.NoError(t, l.Close()) // everything has come to its end
		for i, s := range servers {
			require.Empty(t, s.Keys(t), "left on node %d", i)
		}
	}
}
