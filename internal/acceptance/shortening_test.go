package acceptance_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

func TestTwoShorteningsAtOnceNeverLeaveALeaseThatOutlivesItsKeys(t *testing.T) {
	ctx := context.Background()
	servers, clients, taps := tapped(t, 1)
	l := open(t, clients, redlock.WithNodeTimeout(20*time.Second))
	warmUp(t, clients)
	h, err := l.TryAcquire(ctx, "r", redlock.WithTTL(time.Hour))
	require.NoError(t, err)

	first, second := newGate(t), newGate(t)
	var sent atomic.Int32
	taps[0].onSend(func(string) error {
		switch sent.Add(1) {
		case 1: // of the first call, to prove that the lock is held
			first.pass()
		case 2: // of the second call, likewise
			second.pass()
		case 3: // of the first call, to shorten
		default:
			return errPartition
		}
		return nil
	})
	short := inBackground(func() error { return h.Extend(ctx, time.Minute) })
	outcome(t, first.reached, "the first call's request")
	waiting := observe(ctx)
	long := inBackground(func() error { return h.Extend(waiting, 2*time.Minute) })
	outcome(t, waiting.waited, "the second call's request")

	// The first call shortens the lease while the second one is under way.
	first.open()
	outcome(t, second.reached, "the second call's request on its way")
	require.Eventually(t, func() bool { return time.Until(h.ValidUntil()) < time.Minute },
		10*time.Second, time.Millisecond)
	second.open()
	require.NoError(t, outcome(t, short, "the first call"))
	_ = outcome(t, long, "the second call") // its shortening may not have got through

	require.NoError(t, h.Err())
	keysOutlive(t, h, servers...)
}

// forked is a client with two ways to its server. New connections take the proxy until direct is
// set.
type forked struct {
	*redis.Client
	proxy  *redistest.Proxy
	direct atomic.Bool
}

func newForked(t *testing.T, s *redistest.Server, opts *redis.Options) *forked {
	t.Helper()
	f := &forked{proxy: s.Proxy(t)}
	opts.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
		addr := f.proxy.Addr()
		if f.direct.Load() {
			addr = s.Addr()
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	f.Client = redis.NewClient(opts)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

func TestLateCopyOfAShorteningCutsNothing(t *testing.T) {
	tests := []struct {
		name    string
		retries int           // of go-redis
		then    time.Duration // what the lease is extended to before the late copy arrives
	}{
		{"the client has repeated it with success", 1, time.Hour},
		{"nothing else got through, and the lease grows beyond the old expiry", -1, 2 * time.Hour},
		{"nothing else got through, and the lease stays within the old expiry", -1,
			30 * time.Minute},
	}
	noLeak(t)
	for _, test := range tests {
		runAlongside(t, test.name, func(t *testing.T) {
			ctx := context.Background()
			s := redistest.Start(t)
			c := newForked(t, s, &redis.Options{ReadTimeout: 2 * time.Second,
				MaxRetries: test.retries})
			watch := tapOf(c.Client)
			l := open(t, []*redis.Client{c.Client}, redlock.WithNodeTimeout(20*time.Second))
			h, err := l.TryAcquire(ctx, "r", redlock.WithTTL(time.Hour))
			require.NoError(t, err)

			watch.onSend(func(sent string) error {
				if isCut(sent) { // is held up on its way; new connections take another
					c.proxy.HoldRequests(true)
					c.direct.Store(true)
				}
				return nil
			})
			err = h.Extend(ctx, time.Minute)
			if test.retries > 0 {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, redlock.ErrNoQuorum)
			}
			require.True(t, c.direct.Load(), "the lease was not shortened")
			watch.onSend(nil)
			require.NoError(t, h.Extend(ctx, test.then))
			require.Greater(t, time.Until(h.ValidUntil()), test.then*9/10)

			before := s.CommandCount(t, "evalsha")
			c.proxy.HoldRequests(false)
			require.Eventually(t, func() bool { return s.CommandCount(t, "evalsha") > before },
				10*time.Second, time.Millisecond,
				"the late copy has not arrived")
			keysOutlive(t, h, s)
			require.NoError(t, h.Extend(ctx, test.then))
		})
	}
}

func TestLostAnswerToAShorteningDoesNotCondemnTheLock(t *testing.T) {
	ctx := context.Background()
	servers, clients, taps := tapped(t, 1)
	l := open(t, clients)
	warmUp(t, clients)
	h, err := l.TryAcquire(ctx, "r", redlock.WithTTL(time.Hour))
	require.NoError(t, err)

	var answers atomic.Int32
	taps[0].onReply(func(string) error {
		if answers.Add(1) == 1 { // that the lock is held
			return nil
		}
		return errPartition // that it was shortened
	})
	require.ErrorIs(t, h.Extend(ctx, time.Minute), redlock.ErrNoQuorum)
	require.Greater(t, answers.Load(), int32(1))
	require.Less(t, time.Until(h.ValidUntil()), time.Minute)
	taps[0].onReply(nil)

	for range 3 {
		require.NoError(t, h.Extend(ctx, 30*time.Minute))
		require.Greater(t, time.Until(h.ValidUntil()), 29*time.Minute)
		keysOutlive(t, h, servers...)
	}
	require.NoError(t, h.Release(ctx))
	noKeys(t, servers)
}

// makeConnections fills a client's pool with n idle connections at least.
func makeConnections(t *testing.T, client *redis.Client, n int) {
	t.Helper()
	for range n {
		conn := client.Conn()
		defer func() { require.NoError(t, conn.Close()) }() // back to the pool, all at the end
		require.NoError(t, conn.Ping(context.Background()).Err())
	}
}

// Rows 6 and 12: the client library repeats a shortening, and the shortening itself arrives when
// the lease has been extended since. It must not take away what is trusted by then.
func TestShorteningThatArrivesAfterItsRepetitionCutsNoLaterLease(t *testing.T) {
	ctx := context.Background()
	servers, proxies, clients := proxied(t, 3)
	l := open(t, clients)
	warmUp(t, clients)
	h := heldEverywhere(t, l, servers, "a")
	for i, s := range servers {
		makeConnections(t, clients[i], 2) // go-redis does not repeat what it had no connection for
		s.ResetStats(t)
		// until what follows the first of the two rounds will be delayed
		proxies[i].HoldReplies(true)
	}
	shortened := inBackground(func() error { return h.Extend(ctx, 15*time.Second) })
	for i, s := range servers {
		eventually(t, func() bool { return s.CommandCount(t, "evalsha") == 1 }, "no first round")
		proxies[i].DelayRequests(clients[i].Options().ReadTimeout + 1500*time.Millisecond)
	}
	for _, p := range proxies {
		p.HoldReplies(false)
	}
	require.ErrorIs(t, <-shortened, redlock.ErrNoQuorum)
	for _, p := range proxies {
		p.Delay(0)
	}

	for _, s := range servers {
		eventually(t, func() bool { return s.CommandCount(t, "evalsha") >= 2 }, "not repeated")
	}
	extended := h.Extend(ctx, time.Minute) // may fail, but must not promise too much
	for _, s := range servers {
		eventually(t, func() bool { return s.CommandCount(t, "evalsha") >= 4 }, "never arrived")
	}
	for i, s := range servers {
		left := keyTTL(t, s, lockKey("a"))
		require.Greater(t, left, time.Until(h.ValidUntil()),
			"node %d lets the key go before the end of the lease; the extension's answer was: %v",
			i, extended)
	}
	require.NoError(t, h.Release(ctx))
	noKeys(t, servers)
}
