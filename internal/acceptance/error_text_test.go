package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// go-redis keeps an error for itself for as long as it tries again: recent versions dial five times
// within one try.
func TestFirstErrorSaysWhatIsWrongWithTheServer(t *testing.T) {
	noLeak(t)
	for _, test := range []struct {
		name, says string
		client     func(t *testing.T) *redis.Client
	}{
		{"Redis is not running", "connection refused", func(t *testing.T) *redis.Client {
			s := redistest.Start(t)
			require.NoError(t, s.Kill())
			return s.Client(t)
		}},
		{"too many clients", "clients", func(t *testing.T) *redis.Client {
			s := redistest.Start(t, redistest.WithConfig("maxclients", "2"))
			// besides redistest's own connection
			require.NoError(t, s.Client(t).Ping(context.Background()).Err())
			return s.Client(t)
		}},
		{"the pool is exhausted", "connection pool", func(t *testing.T) *redis.Client {
			c := connected(t, &redis.Options{
				Addr: redistest.Start(t).Addr(), PoolSize: 1, PoolTimeout: 50 * time.Millisecond,
				ContextTimeoutEnabled: true,
			})
			ctx, cancel := context.WithCancel(context.Background())
			conn := c.Conn() // as a blocking command does
			require.NoError(t, conn.Ping(ctx).Err())
			t.Cleanup(func() { cancel(); require.NoError(t, conn.Close()) })
			return c
		}},
	} {
		runAlongside(t, test.name, func(t *testing.T) {
			c := test.client(t)
			l, err := redlock.New([]*redis.Client{c})
			require.NoError(t, err)
			t.Cleanup(func() { _ = l.Close() })
			_, err = l.TryAcquire(context.Background(), "r")
			requireOnly(t, err, redlock.ErrNoQuorum)
			require.NotErrorIs(t, err, redlock.ErrMisconfigured, "it passes")
			require.ErrorContains(t, err, test.says)
			require.ErrorContains(t, err, c.Options().Addr)
			require.NotContains(t, err.Error(), "WithNodeTimeout", "that would not help")
		})
	}
}

func TestErrorNamesTheNodesThatHadAnEffectAndNoOthers(t *testing.T) {
	ctx := context.Background()
	servers, clients, taps := tapped(t, 5)
	l := open(t, clients, patient)
	warmUp(t, clients)
	takeFor(t, time.Minute, "r", servers[:3]...)
	g := newGate(t) // the last two answer only when the first three have decided
	for _, p := range taps[3:] {
		p.onReply(func(string) error { g.pass(); return nil })
	}
	_, err := l.TryAcquire(ctx, "r")
	require.ErrorIs(t, err, redlock.ErrHeld)
	var short *redlock.QuorumError
	require.ErrorAs(t, err, &short)
	require.Equal(t, []int{0, 1, 2}, nodesNamed(short),
		"a node that was outrun has nothing to do with it")
	for i, n := range short.Nodes {
		require.Equal(t, servers[i].Addr(), n.Addr)
		require.ErrorContains(t, err, n.Addr)
	}
	g.open()
	noKeysBut(t, servers, "r")
}

func TestRefusalTellsWhenToComeBack(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l, other := open(t, clients), open(t, clients, redlock.WithOwner("worker 7"))
	_, err := other.TryAcquire(ctx, "r", redlock.WithTTL(20*time.Second))
	require.NoError(t, err)
	takeFor(t, 40*time.Second, "foreign", servers...)
	for resource, want := range map[string]redlock.HeldError{
		"r":       {Resource: "r", Owner: "worker 7", TTL: 20 * time.Second},
		"foreign": {Resource: "foreign", Owner: "", TTL: 40 * time.Second},
	} {
		_, err = l.TryAcquire(ctx, resource)
		require.ErrorIs(t, err, redlock.ErrHeld)
		var held *redlock.HeldError
		require.ErrorAs(t, err, &held)
		require.Equal(t, want.Resource, held.Resource)
		require.Equal(t, want.Owner, held.Owner)
		require.InDelta(t, want.TTL, held.TTL, float64(5*time.Second))
		require.LessOrEqual(t, held.TTL, want.TTL)
		for _, sentinel := range []error{
			redlock.ErrHeld, redlock.ErrNoQuorum, redlock.ErrLost, redlock.ErrMisconfigured,
		} {
			require.NotErrorIs(t, held, sentinel)
		}
	}
}

func TestContextsErrorAndCauseBothMatch(t *testing.T) {
	servers, clients := masters(t, 3)
	l := open(t, clients, patient)
	h, err := l.TryAcquire(context.Background(), "held")
	require.NoError(t, err)
	errSibling := errors.New("another member of the group failed")
	calls := map[string]func(ctx context.Context) error{
		"Acquire": func(ctx context.Context) error { return onlyError(l.Acquire(ctx, "r")) },
		"TryAcquire": func(ctx context.Context) error {
			return onlyError(l.TryAcquire(ctx, "r"))
		},
		"Extend":        func(ctx context.Context) error { return h.Extend(ctx, time.Minute) },
		"Inspect":       func(ctx context.Context) error { return onlyError(l.Inspect(ctx, "r")) },
		"IsLocked":      func(ctx context.Context) error { return onlyError(l.IsLocked(ctx, "r")) },
		"WaitForUnlock": func(ctx context.Context) error { return l.WaitForUnlock(ctx, "held") },
		"Do": func(ctx context.Context) error {
			return l.Do(ctx, "r", func(context.Context) error { return nil })
		},
	}
	freeze(t, servers[1:]...)
	for name, call := range calls {
		for _, before := range []bool{true, false} {
			ctx, cancel := context.WithCancelCause(context.Background())
			seen := observe(ctx)
			if before {
				cancel(errSibling)
			}
			defer cancel(nil)
			result := inBackground(func() error { return call(seen) })
			if !before {
				await(t, seen.waited, "the call")
			}
			cancel(errSibling)
			err := outcome(t, result, name)
			require.ErrorIs(t, err, context.Canceled, "%s: %v", name, err)
			require.ErrorIs(t, err, errSibling, "%s: %v", name, err)
			if name == "Acquire" || name == "TryAcquire" || name == "Do" {
				require.NotErrorIs(t, err, redlock.ErrNoQuorum,
					"%s: an attempt that was cut short shows no outage", name)
				require.NotErrorIs(t, err, redlock.ErrHeld)
			}
		}
	}
}

func TestShortestMaximumWaitStillMakesAWholeAttempt(t *testing.T) {
	ctx := context.Background()
	servers, _, clients := proxied(t, 3)
	_ = servers
	l, other := open(t, clients, redlock.WithMaxWait(time.Microsecond)), open(t, clients)
	h, err := l.Acquire(ctx, "r")
	require.NoError(t, err)
	_, err = other.Acquire(ctx, "r", redlock.WithMaxWait(time.Microsecond))
	requireOnly(t, err, redlock.ErrHeld)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, h.Release(ctx))
}

// lines collects what is logged, by message.
type lines struct {
	mu   sync.Mutex
	seen map[string][]string // the attributes
}

func (c *lines) option() redlock.Option {
	c.seen = make(map[string][]string)
	return loggingTo(func(r slog.Record) {
		var b strings.Builder
		r.Attrs(func(a slog.Attr) bool { b.WriteString(a.String() + " "); return true })
		c.mu.Lock()
		defer c.mu.Unlock()
		key := r.Level.String() + " " + strings.TrimPrefix(r.Message, "redlock: ")
		c.seen[key] = append(c.seen[key], b.String())
	})
}

// of returns the lines with a message.
func (c *lines) of(message string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[message]
}

func (c *lines) all() map[string][]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[string][]string)
	for k, v := range c.seen {
		all[k] = v
	}
	return all
}

func TestWaitForAnOutageIsLoggedTwice(t *testing.T) {
	servers, clients, taps := tapped(t, 3)
	var log lines
	l := open(t, clients, log.option(), redlock.WithRetryInterval(5*time.Millisecond))
	warmUp(t, clients)
	for _, s := range servers[1:] {
		require.NoError(t, s.Kill())
	}
	seen := requests(taps[0], "r")
	done := inBackground(func() error { return onlyError(l.Acquire(context.Background(), "r")) })
	for range 10 { // attempts and their releases
		outcome(t, seen, "some tries")
	}
	both := newGate(t) // whoever meets one of them, and is granted nothing, has met an outage's end
	for _, tap := range taps {
		tap.onSend(func(string) error { both.pass(); return nil })
	}
	for _, s := range servers[1:] {
		s.Restart(t)
	}
	for _, c := range clients { // which have no connection for up to a second
		eventually(t, func() bool { return c.Ping(context.Background()).Err() == nil }, "no answer")
	}
	both.open()
	require.NoError(t, outcome(t, done, "the waiter"))
	eventually(t, func() bool { return len(log.of("INFO outage is over")) > 0 }, "nothing logged")
	require.Len(t, log.of("INFO outage is over"), 1)
	warned := log.of("WARN waiting for an outage to end")
	require.Len(t, warned, 1)
	for _, s := range servers[1:] {
		require.Contains(t, warned[0], s.Addr())
	}
	require.Contains(t, warned[0], "connection refused")
}

func TestOutageWithManyLocksIsLoggedOncePerNodeAndOncePerLock(t *testing.T) {
	const locks = 50
	ctx := context.Background()
	servers, proxies, clients := proxied(t, 3)
	var log lines
	l := open(t, clients, log.option(), redlock.WithTTL(15*time.Second))
	warmUp(t, clients)
	handles := make([]*redlock.Handle, locks)
	for i := range handles {
		h, err := l.TryAcquire(ctx, fmt.Sprint("r", i), redlock.WithAutoRenewal(true))
		require.NoError(t, err)
		takenEverywhere(t, h, servers...)
		handles[i] = h
	}
	for _, p := range proxies[1:] {
		p.Refuse(true)
		p.Cut()
	}
	const fails, renewalFails = "WARN a node fails",
		"WARN renewal failed and is tried again until the lease ends"
	eventually(t, func() bool { return len(log.of(renewalFails)) == locks }, "no renewal failed")
	never(t, time.Second, func() bool {
		return len(log.of(fails)) > 2 || len(log.of(renewalFails)) > locks
	}, "told twice")
	for _, p := range proxies[1:] {
		p.Refuse(false)
	}
	const renewed, answers = "INFO lock renewed again", "INFO a node answers again"
	eventually(t, func() bool { return len(log.of(renewed)) >= locks && len(log.of(answers)) >= 2 },
		"not over")
	for _, h := range handles {
		require.NoError(t, h.Release(ctx))
	}
	noKeys(t, servers)
	require.NoError(t, l.Close())
	counts := make(map[string]int)
	for message, told := range log.all() {
		counts[message] = len(told)
	}
	require.Equal(t, map[string]int{fails: 2, renewalFails: locks, renewed: locks, answers: 2},
		counts, "and nothing else")
	for _, told := range log.of(answers) {
		require.Contains(t, told, "locks_not_deleted=0")
	}
}

// A node that is late with its first grant has not lost anything, and neither has one that never
// got it.
func TestNodeThatWasOnlyLateIsNotSaidToHaveLostALock(t *testing.T) {
	ctx := context.Background()
	servers, proxies, clients := proxied(t, 3)
	var log lines
	l := open(t, clients, log.option())
	warmUp(t, clients)
	proxies[2].HoldRequests(true)
	h, err := l.TryAcquire(ctx, "r")
	require.NoError(t, err)
	require.NoError(t, h.Extend(ctx, time.Minute))
	proxies[2].HoldRequests(false)
	takenEverywhere(t, h, servers...)
	require.NoError(t, h.Extend(ctx, time.Minute))
	require.NoError(t, h.Release(ctx))
	require.NoError(t, l.Close())
	require.Empty(t, log.of("INFO a node has lost a lock and gets it again"))

	var log2 lines
	l = open(t, clients, log2.option())
	proxies[2].Refuse(true)
	proxies[2].Cut()
	h, err = l.TryAcquire(ctx, "r")
	require.NoError(t, err)
	eventually(t, func() bool { return len(log2.of("WARN a node fails")) == 1 },
		"the node did not fail")
	proxies[2].Refuse(false)
	eventually(t, func() bool {
		return h.Extend(ctx, time.Minute) == nil && ownerOn(t, servers[2], "r") == h.Token()
	}, "not healed")
	require.NoError(t, h.Release(ctx))
	require.NoError(t, l.Close())
	require.Empty(t, log2.of("INFO a node has lost a lock and gets it again"))
}
