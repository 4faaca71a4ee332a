package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// What a process that is killed while it holds a lock is told by its environment.
const (
	minHoldNode = "REDLOCK_TEST_MIN_HOLD_NODE"
	minHoldTime = "REDLOCK_TEST_MIN_HOLD"
)

// The process that is killed is this test binary with another task.
func init() {
	if addr := os.Getenv(minHoldNode); addr != "" {
		holdUntilKilled(addr, os.Getenv(minHoldTime))
		os.Exit(1)
	}
}

// holdUntilKilled takes a lock, says so on the node, and waits for its death or the test's.
func holdUntilKilled(addr, minHold string) {
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: addr})
	hold, err := time.ParseDuration(minHold)
	if err == nil {
		var l *redlock.Locker
		if l, err = redlock.New([]*redis.Client{client}); err == nil {
			_, err = l.TryAcquire(ctx, "a", redlock.WithTTL(time.Second), redlock.WithMinHold(hold))
		}
	}
	client.Set(ctx, "result", fmt.Sprint(err), 0)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// keptUntil checks that a resource is locked on each of the servers until the given time after
// began, by the servers' count and not less, and not much longer.
func keptUntil(t *testing.T, began time.Time, hold time.Duration, resource string,
	servers ...*redistest.Server) {
	t.Helper()
	for i, s := range servers {
		left := keyTTL(t, s, lockKey(resource)) // rounded down by at most a millisecond
		until := time.Since(began) + left
		require.Greater(t, until, hold-5*time.Millisecond, "node %d lets %s go too early", i,
			resource)
		require.Less(t, until, hold+3*time.Second, "node %d keeps %s for too long", i, resource)
	}
}

func TestMinHoldKeepsTheKeysAfterRelease(t *testing.T) {
	const hold = 20 * time.Second
	for _, nodes := range []int{1, 3} {
		for _, opts := range [][]redlock.AcquireOption{
			{redlock.WithTTL(time.Second)},
			{redlock.WithTTL(time.Minute)},
			{redlock.WithTTL(time.Second), redlock.WithAutoRenewal(true)},
			{redlock.WithTTL(time.Minute), redlock.WithAutoRenewal(true)},
		} {
			for name, resources := range oneAndSeveral {
				t.Run(fmt.Sprint(nodes, len(opts), name), func(t *testing.T) {
					ctx := context.Background()
					servers, clients := masters(t, nodes)
					l, other := open(t, clients), open(t, clients)
					began := time.Now()
					h, err := l.TryAcquireMulti(ctx, resources,
						append(opts, redlock.WithMinHold(hold))...)
					require.NoError(t, err)
					takenEverywhere(t, h, servers...)

					for range 3 {
						require.NoError(t, h.Release(ctx))
					}
					require.Equal(t, redlock.ErrReleased, h.Err())
					require.True(t, isClosed(h.Done()))
					for _, r := range resources {
						eventually(t, func() bool {
							// the release of a minority is in the background
							for _, s := range servers {
								if keyTTL(t, s, lockKey(r)) > hold {
									return false
								}
							}
							return true
						}, "not cut")
						keptUntil(t, began, hold, r, servers...)
						_, err := other.TryAcquire(ctx, r)
						requireOnly(t, err, redlock.ErrHeld)
					}
				})
			}
		}
	}
}

func TestReleaseAfterTheMinHoldDeletesAtOnce(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients)
	h, err := l.TryAcquire(ctx, "a", redlock.WithMinHold(50*time.Millisecond))
	require.NoError(t, err)
	takenEverywhere(t, h, servers...)
	<-time.After(50 * time.Millisecond)
	require.NoError(t, h.Release(ctx))
	next, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	require.NoError(t, next.Release(ctx))
	noKeys(t, servers)
}

func TestMinHoldSurvivesAnExtensionToLessAndToMore(t *testing.T) {
	const hold = 20 * time.Second
	for name, ttls := range map[string][]time.Duration{
		"to less":            {3 * time.Second},
		"to more":            {time.Minute},
		"to more, then less": {time.Minute, 3 * time.Second},
		"to less, then more": {3 * time.Second, 15 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			servers, clients := masters(t, 3)
			l := open(t, clients, redlock.WithNodeTimeout(4*time.Second))
			began := time.Now()
			h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(5*time.Second),
				redlock.WithMinHold(hold))
			require.NoError(t, err)
			takenEverywhere(t, h, servers...)
			for _, ttl := range ttls {
				require.NoError(t, h.Extend(ctx, ttl))
			}
			require.LessOrEqual(t, time.Until(h.ValidUntil()), ttls[len(ttls)-1],
				"the lease is what was asked for")
			eventually(t, func() bool { return slicesAllEqual(ownersOn(t, servers, "a")) },
				"a minority has not heard of it")
			for _, s := range servers { // also if the process died here
				require.Greater(t, time.Since(began)+keyTTL(t, s, lockKey("a")),
					hold-5*time.Millisecond)
			}
			require.NoError(t, h.Release(ctx))
			eventually(t, func() bool { return slicesAllEqual(ownersOn(t, servers, "a")) },
				"not released on a minority")
			keptUntil(t, began, hold, "a", servers...)
		})
	}
}

// slicesAllEqual reports whether all strings are the same.
func slicesAllEqual(s []string) bool {
	for _, other := range s {
		if other != s[0] {
			return false
		}
	}
	return true
}

// A late Release is one that comes when the lease has ended and the minimum hold has not: with a
// large drift, or after an extension to less, there is time between the two.
func TestMinHoldSurvivesAReleaseAfterTheEndOfTheLease(t *testing.T) {
	const hold = 10 * time.Second
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients, redlock.WithDriftFactor(0.9))
	began := time.Now()
	h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(time.Second), redlock.WithMinHold(hold))
	require.NoError(t, err)
	takenEverywhere(t, h, servers...)
	<-h.Done() // a tenth of the hold
	require.Equal(t, redlock.ErrLost, h.Err())
	for range 2 {
		requireOnly(t, h.Release(ctx), redlock.ErrLost)
	}
	require.NoError(t, l.Close())
	keptUntil(t, began, hold, "a", servers...)
}

func TestMinHoldOutlivesAProcessThatIsKilled(t *testing.T) {
	const hold = 10 * time.Second
	noLeak(t)
	s := redistest.Start(t)
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), minHoldNode+"="+s.Addr(), minHoldTime+"="+hold.String())
	in, out, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, errors.Join(in.Close(), out.Close())) })
	cmd.Stdin = in
	began := time.Now()
	child, err := redistest.LaunchChild(cmd)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, child.Kill()) })
	eventually(t, func() bool { return s.Do(t, "get", "result") != nil },
		"the process has not locked anything")
	require.Equal(t, "<nil>", s.Do(t, "get", "result"))
	require.NoError(t, child.Kill())

	keptUntil(t, began, hold, "a", s)
}

// A copy of the release that arrives late must not shorten, lengthen or delete anything.
func TestLateCopyOfAReleaseInTheMinHoldChangesNothing(t *testing.T) {
	const hold = 20 * time.Second
	ctx := context.Background()
	noLeak(t)
	s := redistest.Start(t)
	c := newForked(t, s, &redis.Options{ReadTimeout: 200 * time.Millisecond, MaxRetries: 1})
	watch := tapOf(c.Client)
	l := open(t, []*forked{c}, redlock.WithNodeTimeout(10*time.Second))
	began := time.Now()
	h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(time.Minute), redlock.WithMinHold(hold))
	require.NoError(t, err)
	watch.onSend(func(sent string) error {
		if isCut(sent) { // is held up on its way; new connections take another
			c.proxy.HoldRequests(true)
			c.direct.Store(true)
		}
		return nil
	})
	require.NoError(t, h.Release(ctx))
	require.True(t, c.direct.Load())
	watch.onSend(nil)
	keptUntil(t, began, hold, "a", s)

	before := scriptCalls(t, s)
	c.proxy.HoldRequests(false)
	eventually(t, func() bool { return scriptCalls(t, s) > before },
		"the late copy has not arrived")
	keptUntil(t, began, hold, "a", s)

	// Nor what the next owner has.
	s.Do(t, "del", lockKey("a"))
	next, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	require.NoError(t, h.Release(ctx))
	require.Equal(t, next.Token(), ownerOn(t, s, "a"))
	require.NoError(t, next.Release(ctx))
}

// A node that comes back when the lock was released long ago must not keep it for longer because of
// that.
func TestMinHoldEndsInTimeOnANodeThatWasDownAtRelease(t *testing.T) {
	const hold, outage = 20 * time.Second, 4 * time.Second
	ctx := context.Background()
	servers, proxies, clients := proxied(t, 3)
	watcher := &recorder{}
	l := open(t, clients, redlock.WithObserver(watcher))
	began := time.Now()
	h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(time.Minute), redlock.WithMinHold(hold))
	require.NoError(t, err)
	latest[redlock.NodeCall](t, watcher, 3) // where the answer is lost, the key goes at once
	proxies[2].Refuse(true)
	proxies[2].Cut()
	require.NoError(t, h.Release(ctx))
	require.Greater(t, keyTTL(t, servers[2], lockKey("a")), hold)
	<-time.After(outage) // the repetition says how long is left by then
	proxies[2].Refuse(false)
	eventually(t, func() bool { return keyTTL(t, servers[2], lockKey("a")) <= hold }, "not told")
	for i, s := range servers {
		until := time.Since(began) + keyTTL(t, s, lockKey("a"))
		require.Greater(t, until, hold-5*time.Millisecond, "node %d", i)
		require.Less(t, until, hold+outage/2, "node %d", i)
	}
}

func TestReleaseInTheMinHoldSaysWhatItFinds(t *testing.T) {
	ctx := context.Background()
	for name, tt := range map[string]struct {
		change func(change func(node int, command ...any))
		want   error
	}{
		"all there":          {func(func(int, ...any)) {}, nil},
		"a minority lost it": {func(do func(int, ...any)) { do(0, "del", "lock:a") }, nil},
		"gone":               {onAllNodes("del", "lock:a"), redlock.ErrLost},
		"another owner":      {onAllNodes("set", "lock:a", "another"), redlock.ErrLost},
		"a minority is foreign": {func(do func(int, ...any)) { do(0, "set", "lock:a", "another") },
			nil},
	} {
		t.Run(name, func(t *testing.T) {
			servers, clients := masters(t, 3)
			l := open(t, clients)
			h, err := l.TryAcquire(ctx, "a", redlock.WithMinHold(time.Minute))
			require.NoError(t, err)
			takenEverywhere(t, h, servers...)
			tt.change(func(node int, command ...any) { servers[node].Do(t, command...) })
			for range 2 {
				requireOnly(t, h.Release(ctx), tt.want)
			}
			require.Equal(t, redlock.ErrReleased, h.Err())
			for _, s := range servers {
				if owner := ownerOn(t, s, "a"); owner != "" {
					require.True(t, owner == "another" || strings.HasSuffix(owner, h.Token()) ||
						strings.HasSuffix(h.Token(), owner))
				}
			}
		})
	}
}

// A job that is done before the last node has granted the lock still leaves the lock on all of
// them: also if that grant comes when the lock has ended and the nodes have not been told yet.
func TestMinHoldIsKeptByANodeThatGrantsTheLockAfterTheRelease(t *testing.T) {
	for name, early := range map[string]bool{"told by then": false, "not told yet": true} {
		t.Run(name, func(t *testing.T) {
			const hold = 20 * time.Second
			ctx := context.Background()
			servers, clients, taps := tapped(t, 3)
			slow, granted := newGate(t), make(chan struct{})
			r := recorder{then: func(e redlock.Event) {
				switch e := e.(type) {
				case redlock.NodeCall:
					if e.Op == "acquire" && e.Node == 2 {
						close(granted)
					}
				case redlock.LeaseEnded:
					if early {
						slow.open()
						<-granted
					}
				}
			}}
			l := open(t, clients, redlock.WithNodeTimeout(10*time.Second), redlock.WithObserver(&r))
			warmUp(t, clients)
			taps[2].onSend(func(string) error { slow.pass(); return nil })
			began := time.Now()
			h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(time.Minute),
				redlock.WithMinHold(hold))
			require.NoError(t, err)
			require.NoError(t, h.Release(ctx))
			if !early {
				slow.open()
			}
			require.NoError(t, l.Close())
			keptUntil(t, began, hold, "a", servers...)
		})
	}
}
