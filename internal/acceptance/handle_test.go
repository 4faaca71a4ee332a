package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

func TestHandleSaysWhatItHolds(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients)
	h, err := l.TryAcquireMulti(ctx, []string{"b", "a", "b"})
	require.NoError(t, err)

	require.Equal(t, []string{"a", "b"}, h.Resources())
	h.Resources()[0] = "changed by the caller"
	require.Equal(t, []string{"a", "b"}, h.Resources())
	require.Zero(t, h.Fence())
	for _, s := range servers {
		requireOnServer(t, s, h.Token(), "lock:a", "lock:b")
	}
	require.NoError(t, h.Release(ctx))
}

// Comparing with the wall clock would let a jump of it lengthen a lock.
func TestValidityIsOnTheMonotonicClock(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	l := open(t, clients)
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	requireMonotonic(t, h.ValidUntil())
	for _, ttl := range []time.Duration{time.Minute, time.Second} {
		require.NoError(t, h.Extend(ctx, ttl))
		requireMonotonic(t, h.ValidUntil())
	}
	adopted, err := l.Adopt(ctx, []string{"a"}, h.Token())
	require.NoError(t, err)
	requireMonotonic(t, adopted.ValidUntil())
	require.NoError(t, adopted.Release(ctx))
	requireMonotonic(t, adopted.ValidUntil())
}

// requireMonotonic checks that a time carries a reading of the monotonic clock, which is what Go then compares.
func requireMonotonic(t *testing.T, at time.Time) {
	t.Helper()
	require.Contains(t, at.String(), " m=", "a time with a monotonic reading shows it")
}

func TestExtendSetsTheLeaseOnTheNodes(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients)
	for _, resources := range [][]string{{"a"}, {"a", "b", "c"}} {
		h, err := l.TryAcquireMulti(ctx, resources)
		require.NoError(t, err)
		for _, ttl := range []time.Duration{time.Hour, 2 * time.Minute, 10 * time.Minute, 10 * time.Minute, 20 * time.Second, time.Minute} {
			before := time.Now()
			require.NoError(t, h.Extend(ctx, ttl))
			validity := ttl - ttl/100 - 2*time.Millisecond
			require.False(t, h.ValidUntil().Before(before.Add(validity)), "longer or shorter, from now on")
			require.False(t, h.ValidUntil().After(time.Now().Add(validity)))
			for _, s := range servers {
				for _, r := range resources {
					require.Eventually(t, func() bool {
						left := time.Duration(s.Do(t, "pttl", "lock:"+r).(int64)) * time.Millisecond
						return left <= ttl && left > ttl-10*time.Second
					}, 5*time.Second, time.Millisecond)
					require.Greater(t, keyTTL(t, s, "lock:"+r), time.Until(h.ValidUntil()))
				}
			}
		}
		require.NoError(t, h.Release(ctx))
	}
	noKeys(t, servers)
}

func TestEndedHandleIsNotExtended(t *testing.T) {
	ctx := context.Background()
	for name, tt := range map[string]struct {
		end  func(t *testing.T, servers []*redistest.Server, l *redlock.Locker, h *redlock.Handle)
		want error
		keys []string
	}{
		"released": {func(t *testing.T, _ []*redistest.Server, _ *redlock.Locker, h *redlock.Handle) {
			require.NoError(t, h.Release(ctx))
		}, redlock.ErrReleased, []string{}},
		"closed": {func(t *testing.T, _ []*redistest.Server, l *redlock.Locker, _ *redlock.Handle) {
			require.NoError(t, l.Close())
		}, redlock.ErrClosed, []string{"lock:a"}},
		"gone": {func(t *testing.T, servers []*redistest.Server, _ *redlock.Locker, _ *redlock.Handle) {
			for _, s := range servers {
				s.Do(t, "del", "lock:a")
			}
		}, redlock.ErrLost, []string{}},
		"taken over": {func(t *testing.T, servers []*redistest.Server, _ *redlock.Locker, _ *redlock.Handle) {
			for _, s := range servers {
				s.Do(t, "set", "lock:a", "another", "ex", 1000)
			}
		}, redlock.ErrLost, []string{"lock:a"}},
	} {
		t.Run(name, func(t *testing.T) {
			servers, clients := masters(t, 3)
			l := open(t, clients)
			h, err := l.TryAcquire(ctx, "a")
			require.NoError(t, err)
			for _, s := range servers {
				waitForKeys(t, s, "lock:a")
			}
			tt.end(t, servers, l, h)

			for range 3 {
				err := h.Extend(ctx, time.Hour)
				require.ErrorIs(t, err, tt.want)
				require.NotErrorIs(t, err, redlock.ErrHeld)
				require.NotErrorIs(t, err, redlock.ErrNoQuorum)
				require.Equal(t, tt.want, h.Err())
			}
			require.NoError(t, l.Close()) // everything has arrived
			for _, s := range servers {
				waitForKeys(t, s, tt.keys...)
				if len(tt.keys) > 0 {
					require.Less(t, keyTTL(t, s, "lock:a"), 30*time.Minute, "nothing of it is extended")
				}
			}
		})
	}
}

func TestExtendUnderAnEndedContextChangesNothing(t *testing.T) {
	_, clients := masters(t, 3)
	l := open(t, clients)
	h, err := l.TryAcquire(context.Background(), "a")
	require.NoError(t, err)
	until, calls := h.ValidUntil(), errors.New("calls off")

	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(calls)
	require.ErrorIs(t, h.Extend(ctx, time.Hour), calls)
	require.Equal(t, until, h.ValidUntil())
	require.NoError(t, h.Err())
	require.NoError(t, h.Release(ctx))
}

func TestExtendEndsWithItsContext(t *testing.T) {
	servers, clients := masters(t, 3)
	l := open(t, clients, redlock.WithTTL(time.Hour), redlock.WithNodeTimeout(50*time.Minute))
	h, err := l.TryAcquire(context.Background(), "a")
	require.NoError(t, err)
	until, calls := h.ValidUntil(), errors.New("calls off")
	for _, s := range servers {
		require.NoError(t, s.Pause())
		defer func() { require.NoError(t, s.Resume()) }()
	}

	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(20*time.Millisecond, func() { cancel(calls) })
	err = h.Extend(ctx, 2*time.Hour)
	require.ErrorIs(t, err, calls)
	require.ErrorIs(t, err, redlock.ErrNoQuorum)
	require.Equal(t, until, h.ValidUntil())
	require.NoError(t, h.Err())
}

// Several callers extend by different times, while one that comes late may find a shorter lease than it asked for. What the
// handle says must be true on the nodes at every moment.
func TestConcurrentExtensionsNeverPromiseMoreThanTheNodesKeep(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients)
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	ttls := []time.Duration{time.Minute, 10 * time.Second, time.Hour, 20 * time.Second}

	for range 40 {
		var wg sync.WaitGroup
		for _, ttl := range ttls {
			wg.Add(1)
			go func() {
				defer wg.Done()
				require.NoError(t, h.Extend(ctx, ttl))
			}()
		}
		wg.Wait()
		require.Eventually(t, func() bool {
			kept := 0
			for _, s := range servers {
				if keyTTL(t, s, "lock:a") > time.Until(h.ValidUntil()) {
					kept++
				}
			}
			return kept > len(servers)/2
		}, 5*time.Second, time.Millisecond)
	}
	require.NoError(t, h.Release(ctx))
}

func TestReleaseIsIdempotent(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients)
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	for _, s := range servers {
		waitForKeys(t, s, "lock:a")
	}

	var wg sync.WaitGroup
	for range 20 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			require.NoError(t, h.Release(ctx))
			require.Equal(t, redlock.ErrReleased, h.Err())
		}()
	}
	wg.Wait()
	require.NoError(t, h.Release(ctx))
	noKeys(t, servers)

	other, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	require.NoError(t, h.Release(ctx), "the first call's result, and nothing else happens")
	require.NoError(t, l.Close())
	for _, s := range servers {
		requireOnServer(t, s, other.Token(), "lock:a")
		require.Equal(t, 1, s.CommandCount(t, "del"), "it is deleted once")
	}
}

// What never expires has no validity that could be proved, and an extension would give it an end that nobody counts on.
func TestLockThatNeverExpiresIsNotAdopted(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients)
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	for _, s := range servers {
		requireOnServer(t, s, h.Token(), "lock:a")
		s.Do(t, "persist", "lock:a")
	}
	_, err = l.Adopt(ctx, []string{"a"}, h.Token())
	require.ErrorIs(t, err, redlock.ErrLost)
	require.ErrorContains(t, err, "never expires")
}

// hook calls a function behind each command of a client.
type hook func()

func (h hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		defer h()
		return next(ctx, cmd)
	}
}

func (h hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// A hook of the user's client that panics takes the caller's goroutine with it, who may recover.
func TestAttemptThatPanicsLeavesNothing(t *testing.T) {
	servers, _ := masters(t, 1)
	attempts := 0
	client := redis.NewClient(&redis.Options{Addr: servers[0].Addr(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	client.AddHook(hook(func() {
		if strings.Contains(string(debug.Stack()), "(*Locker).attempt") { // the caller's, and no worker's
			panic("by the hook")
		}
	}))
	l := open(t, []*redis.Client{client})
	for deadline := time.Now().Add(20 * time.Second); !panickingAttempt(t, l); attempts++ {
		require.True(t, time.Now().Before(deadline), "workers have sent all of %d attempts", attempts)
	}
	noKeys(t, servers)
}

// panickingAttempt locks and unlocks, and reports whether the attempt to lock has panicked.
func panickingAttempt(t *testing.T, l *redlock.Locker) (panicked bool) {
	defer func() { panicked = recover() != nil }()
	h, err := l.TryAcquire(context.Background(), "a")
	require.NoError(t, err)
	require.NoError(t, h.Release(context.Background()))
	return false
}

func TestReleaseUnderAnEndedContext(t *testing.T) {
	servers, clients := masters(t, 3)
	l := open(t, clients)
	ctx, cancel := context.WithCancel(context.Background())
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	cancel()
	require.NoError(t, h.Err(), "a lock outlives the context of its acquisition")
	require.NoError(t, h.Release(ctx))
	noKeys(t, servers)
}

func TestReleaseAfterTheEndLeavesTheNextOwnerAlone(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	mine, theirs := open(t, clients, shortLived(500*time.Millisecond)...), open(t, clients)
	h, err := mine.TryAcquire(ctx, "a")
	require.NoError(t, err)
	<-h.Done()
	next, err := theirs.Acquire(ctx, "a")
	require.NoError(t, err)
	var theirKeys []*redistest.Server // not one where the first key stood for a moment longer
	for _, s := range servers {
		if s.Do(t, "get", "lock:a") == next.Token() {
			theirKeys = append(theirKeys, s)
		}
	}
	require.GreaterOrEqual(t, len(theirKeys), 2)

	for range 2 {
		require.ErrorIs(t, h.Release(ctx), redlock.ErrLost)
	}
	require.ErrorIs(t, h.Extend(ctx, time.Hour), redlock.ErrLost)
	require.NoError(t, mine.Close())
	for _, s := range theirKeys {
		requireOnServer(t, s, next.Token(), "lock:a")
		require.LessOrEqual(t, keyTTL(t, s, "lock:a"), 30*time.Second)
	}
	require.NoError(t, next.Release(ctx))
	noKeys(t, servers)
}

func TestReleaseSaysWhatItFinds(t *testing.T) {
	ctx := context.Background()
	const a, b = "lock:a", "lock:b"
	for name, tt := range map[string]struct {
		resources []string
		change    func(change func(node int, command ...any)) // of the nodes, of which there are three
		want      error
		left      []string // on every node
	}{
		"all there":                        {[]string{"a"}, func(func(int, ...any)) {}, nil, nil},
		"a minority has lost it":           {[]string{"a"}, func(do func(int, ...any)) { do(0, "del", a) }, nil, nil},
		"nothing there":                    {[]string{"a"}, onAllNodes("del", a), nil, nil},
		"a minority has another owner":     {[]string{"a"}, func(do func(int, ...any)) { do(0, "set", a, "another", "px", 100) }, nil, nil},
		"another owner":                    {[]string{"a"}, onAllNodes("set", a, "another"), redlock.ErrLost, []string{a}},
		"an owner with our token and more": {[]string{"a"}, onAllNodes("append", a, "0"), redlock.ErrLost, []string{a}},
		"several":                          {[]string{"a", "b"}, func(func(int, ...any)) {}, nil, nil},
		"several, nothing there":           {[]string{"a", "b"}, onAllNodes("del", a, b), nil, nil},
		"several, partly gone":             {[]string{"a", "b"}, onAllNodes("del", b), redlock.ErrLost, nil},
		"several, gone on a minority":      {[]string{"a", "b"}, func(do func(int, ...any)) { do(2, "del", b) }, nil, nil},
		"several, partly another's":        {[]string{"a", "b"}, onAllNodes("set", b, "another"), redlock.ErrLost, []string{b}},
	} {
		t.Run(name, func(t *testing.T) {
			servers, clients := masters(t, 3)
			l := open(t, clients)
			h, err := l.TryAcquireMulti(ctx, tt.resources)
			require.NoError(t, err)
			for _, s := range servers {
				require.Eventually(t, func() bool { return len(s.Keys(t)) == len(tt.resources) }, 5*time.Second, time.Millisecond)
			}
			tt.change(func(node int, command ...any) { servers[node].Do(t, command...) })

			for range 2 {
				err := h.Release(ctx)
				require.ErrorIs(t, err, tt.want)
				require.NotErrorIs(t, err, redlock.ErrHeld)
				require.NotErrorIs(t, err, redlock.ErrNoQuorum)
			}
			require.Equal(t, redlock.ErrReleased, h.Err(), "the handle was not lost: it was released")
			for _, s := range servers {
				waitForKeys(t, s, tt.left...)
			}
		})
	}
}

// onAllNodes runs a command on each of three nodes.
func onAllNodes(command ...any) func(func(node int, command ...any)) {
	return func(do func(int, ...any)) {
		for node := range 3 {
			do(node, command...)
		}
	}
}

// The first call decides, also when the nodes come back; what it could not delete is deleted then.
func TestReleaseInAnOutageGoesOnInTheBackground(t *testing.T) {
	ctx := context.Background()
	servers, proxies, clients := proxied(t, 3)
	l := open(t, clients)
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	for _, p := range proxies {
		p.HoldRequests(true)
	}
	require.ErrorIs(t, h.Release(ctx), redlock.ErrNoQuorum)
	require.Equal(t, redlock.ErrReleased, h.Err())
	for _, p := range proxies {
		p.HoldRequests(false)
	}
	noKeys(t, servers)
	require.ErrorIs(t, h.Release(ctx), redlock.ErrNoQuorum)
}

func TestReleaseOnAClosedLockerLeavesTheKeysToExpire(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients, shortLived(time.Second)...)
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	for range 2 {
		require.ErrorIs(t, h.Release(ctx), redlock.ErrClosed)
	}
	for _, s := range servers {
		requireOnServer(t, s, h.Token(), "lock:a")
	}
	noKeys(t, servers)
	require.Equal(t, redlock.ErrClosed, h.Err(), "for good")
}

func TestHandleEndsForGood(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	for name, tt := range map[string]struct {
		end  func(l *redlock.Locker, h *redlock.Handle) error
		want error
	}{
		"released": {func(_ *redlock.Locker, h *redlock.Handle) error { return h.Release(ctx) }, redlock.ErrReleased},
		"closed":   {func(l *redlock.Locker, _ *redlock.Handle) error { return l.Close() }, redlock.ErrClosed},
		"lost": {func(_ *redlock.Locker, h *redlock.Handle) error {
			err := h.Extend(ctx, 500*time.Millisecond)
			<-h.Done()
			return err
		}, redlock.ErrLost},
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t, clients, redlock.WithNodeTimeout(400*time.Millisecond))
			h, err := l.TryAcquire(ctx, name)
			require.NoError(t, err)
			early, child := h.Context(ctx), h.Context(ctx)
			select {
			case <-h.Done():
				require.Fail(t, "done while it is held")
			case <-early.Done():
				require.Fail(t, "the context has ended while it is held")
			default:
			}
			child, cancel := context.WithTimeout(child, time.Hour)
			defer cancel()

			require.NoError(t, tt.end(l, h))
			for range 2 {
				<-h.Done()
				require.Equal(t, tt.want, h.Err())
				for _, c := range []context.Context{early, child, h.Context(ctx)} {
					<-c.Done()
					require.Equal(t, context.Canceled, c.Err())
					require.Equal(t, tt.want, context.Cause(c))
				}
				_ = h.Extend(ctx, time.Hour)
				_ = h.Release(ctx)
				require.NoError(t, l.Close())
			}
		})
	}
}

func TestClosedHandleIsClosedAlsoWhenFirstSeenAfterItsLease(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	l := open(t, clients, shortLived(500*time.Millisecond)...)
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.True(t, time.Now().Before(h.ValidUntil()))
	<-time.After(time.Until(h.ValidUntil()))
	require.Equal(t, redlock.ErrClosed, h.Err())

	l = open(t, clients, shortLived(500*time.Millisecond)...)
	h, err = l.TryAcquire(ctx, "b")
	require.NoError(t, err)
	<-time.After(time.Until(h.ValidUntil()))
	require.NoError(t, l.Close())
	require.Equal(t, redlock.ErrLost, h.Err(), "and lost if that came first")
}

func TestContextEndsWithItsParent(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	l := open(t, clients)
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)

	type key struct{}
	stop := errors.New("stop")
	parent, cancel := context.WithCancelCause(context.WithValue(ctx, key{}, "value"))
	lockCtx := h.Context(parent)
	require.Equal(t, "value", lockCtx.Value(key{}))
	child, cancelChild := context.WithCancel(lockCtx)
	defer cancelChild()
	deadline := time.Now().Add(time.Hour)
	timed, cancelTimed := context.WithDeadline(ctx, deadline)
	defer cancelTimed()
	got, ok := h.Context(timed).Deadline()
	require.True(t, ok)
	require.Equal(t, deadline, got)

	cancel(stop)
	for _, c := range []context.Context{lockCtx, child} {
		<-c.Done()
		require.Equal(t, context.Canceled, c.Err())
		require.Equal(t, stop, context.Cause(c))
	}
	require.NoError(t, h.Err(), "the lock does not end with it")
	require.Equal(t, stop, context.Cause(h.Context(parent)), "a context of an ended parent")

	expired, cancelExpired := context.WithTimeout(ctx, 0)
	defer cancelExpired()
	require.Equal(t, context.DeadlineExceeded, h.Context(expired).Err())

	require.NoError(t, h.Release(ctx))
	require.Equal(t, stop, context.Cause(lockCtx), "the first cause stays")
}

func TestContextsOfSeveralLocksCanBeNested(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	l := open(t, clients)
	outer, err := l.TryAcquire(ctx, "outer")
	require.NoError(t, err)
	inner, err := l.TryAcquire(ctx, "inner")
	require.NoError(t, err)
	both := inner.Context(outer.Context(ctx))
	require.NoError(t, both.Err())
	require.NoError(t, outer.Release(ctx))
	<-both.Done()
	require.Equal(t, redlock.ErrReleased, context.Cause(both))
	require.NoError(t, inner.Err())
	require.NoError(t, inner.Release(ctx))
}

// What a handle says and what its contexts say must agree at every moment, however many contexts there are to end.
func TestContextsEndNoLaterThanTheHandle(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	l := open(t, clients)
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	contexts := make([]context.Context, 20_000)
	for i := range contexts {
		contexts[i] = h.Context(ctx)
	}

	released := make(chan error, 1)
	go func() { released <- h.Release(ctx) }()
	<-h.Done()
	alive := 0
	for _, c := range contexts {
		if c.Err() == nil {
			alive++
		}
	}
	require.Zero(t, alive, "contexts that go on after the end of the lock, of %d", len(contexts))
	require.NoError(t, <-released)
}

// A process that was stopped finds the clock ahead of its timers. So does one that keeps its only processor busy.
func TestFirstLookAfterAPauseTellsTheTruth(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	ctx := context.Background()
	_, clients := masters(t, 1)
	l := open(t, clients)
	for name, ended := range map[string]func(h *redlock.Handle, lockCtx context.Context) bool{
		"Err":           func(h *redlock.Handle, _ context.Context) bool { return h.Err() == redlock.ErrLost },
		"Done":          func(h *redlock.Handle, _ context.Context) bool { return isClosed(h.Done()) },
		"Context.Err":   func(_ *redlock.Handle, c context.Context) bool { return c.Err() != nil },
		"Context.Done":  func(_ *redlock.Handle, c context.Context) bool { return isClosed(c.Done()) },
		"context.Cause": func(_ *redlock.Handle, c context.Context) bool { return context.Cause(c) == redlock.ErrLost },
		"a new Context": func(h *redlock.Handle, _ context.Context) bool { return h.Context(ctx).Err() != nil },
	} {
		t.Run(name, func(t *testing.T) {
			for i := range 5 {
				h, err := l.TryAcquire(ctx, fmt.Sprint(name, i), redlock.WithTTL(30*time.Millisecond))
				if err != nil {
					continue // too slow for such a short lock
				}
				h.Done() // somebody watches: there is a timer
				lockCtx, until := h.Context(ctx), h.ValidUntil()
				<-time.After(time.Until(until) - 2*time.Millisecond)
				for time.Now().Before(until) {
				}
				require.True(t, ended(h, lockCtx))
			}
		})
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Nothing but the caller holds on to a lock that lives for its TTL, and nothing runs for it.
func TestForgottenHandleCostsNothing(t *testing.T) {
	const handles = 200
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients, redlock.WithTTL(tenYears))
	for i := range handles {
		h, err := l.TryAcquire(ctx, fmt.Sprint(i))
		require.NoError(t, err)
		countCollected(t, h)
		require.NoError(t, h.Err())
	}
	requireCollected(t, handles)
	for _, s := range servers {
		require.Len(t, s.Keys(t), handles)
	}
}

func TestEndedHandleIsForgotten(t *testing.T) {
	const handles = 200
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, clients := masters(t, 1)
	l := open(t, clients, redlock.WithTTL(tenYears), redlock.WithAutoRenewal(true))
	for i := range handles {
		h, err := l.TryAcquire(ctx, fmt.Sprint(i))
		require.NoError(t, err)
		countCollected(t, h)
		require.NoError(t, h.Context(ctx).Err())
		h.Done()
		require.NoError(t, h.Release(ctx))
	}
	requireCollected(t, handles) // neither by the Locker, nor by a timer, nor by the parent of its contexts
	runtime.KeepAlive(l)
}

func TestContextIsForgottenWithItsParent(t *testing.T) {
	const parents = 2000
	ctx := context.Background()
	_, clients := masters(t, 1)
	l := open(t, clients)
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	type key struct{}
	for range parents {
		value := new([64]byte)
		countCollected(t, value)
		parent, cancel := context.WithCancel(context.WithValue(ctx, key{}, value))
		require.NoError(t, h.Context(parent).Err())
		cancel()
	}
	requireCollected(t, parents)
	require.NoError(t, h.Release(ctx))
}

var collected atomic.Int64

// countCollected counts an object once nobody can reach it any more.
func countCollected[T any](t *testing.T, object *T) {
	t.Helper()
	runtime.AddCleanup(object, func(struct{}) { collected.Add(1) }, struct{}{})
}

// requireCollected waits until so many of the objects that are counted are gone.
func requireCollected(t *testing.T, want int64) {
	t.Helper()
	t.Cleanup(func() { collected.Store(0) })
	require.Eventually(t, func() bool {
		runtime.GC()
		return collected.Load() >= want
	}, 20*time.Second, 10*time.Millisecond)
}

// What a node that hangs has never heard of need not be taken back there, however long it was held elsewhere.
func TestNodeThatHangsCollectsNoReleases(t *testing.T) {
	const rounds, half, timeout = 6, 300, 250 * time.Millisecond
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients, redlock.WithNodeTimeout(timeout))
	require.NoError(t, onlyError(l.IsLocked(ctx, "connected")))
	hung := servers[2]
	require.NoError(t, hung.Pause())
	for round := range rounds {
		var held []*redlock.Handle
		for _, part := range []string{"first", "second"} {
			for i := range half {
				if h, err := l.TryAcquire(ctx, fmt.Sprint(part, round, i)); err == nil {
					held = append(held, h)
				}
			}
			<-time.After(timeout) // nobody waits for the hung node any more
		}
		require.Greater(t, len(held), half)
		for _, h := range held {
			require.NoError(t, h.Release(ctx))
		}
	}
	require.NoError(t, hung.Resume())
	require.NoError(t, l.Close())
	require.Less(t, scriptsRun(t, hung), rounds*half, "scripts for %d locks, none of which is held any more", rounds*2*half)
}

func TestErrorsSayWhatHappened(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 3)
	l, other := open(t, clients), open(t, clients, redlock.WithOwner("worker-7"))
	h, err := other.TryAcquireMulti(ctx, []string{"a", "b"})
	require.NoError(t, err)

	_, err = l.TryAcquireMulti(ctx, []string{"b", "c", "d", "e", "f"})
	var quorum *redlock.QuorumError
	require.ErrorAs(t, err, &quorum)
	require.Equal(t, "acquire", quorum.Op)
	require.Equal(t, 2, quorum.Need)
	require.Zero(t, quorum.Got)
	require.GreaterOrEqual(t, len(quorum.Nodes), 2)
	require.Regexp(t, `^redlock: acquire "b", "c", "d" and 2 more: held by another owner: 0 nodes agreed, 2 needed: node 0: .*`+
		`"b" is held by "worker-7" for \d+(\.\d+)?s more; .*node 2: .*$`, err.Error())

	require.NoError(t, h.Release(ctx))
	require.EqualError(t, h.Extend(ctx, time.Minute), `redlock: extend "a", "b": lock released`)

	_, err = l.TryAcquire(ctx, strings.Repeat("x", 10_000))
	require.NoError(t, err)
	_, err = other.TryAcquire(ctx, strings.Repeat("x", 10_000))
	require.ErrorIs(t, err, redlock.ErrHeld)
	require.Less(t, len(err.Error()), 1000, "a long name does not flood the message")
}

// shortLived are the options for locks that are to expire soon. The nodes get nearly all that time to answer: the machine may
// be busy.
func shortLived(ttl time.Duration) []redlock.Option {
	return []redlock.Option{redlock.WithTTL(ttl), redlock.WithNodeTimeout(ttl * 9 / 10)}
}

// requireOnServer checks that the keys hold the value.
func requireOnServer(t *testing.T, s *redistest.Server, value string, keys ...string) {
	t.Helper()
	for _, key := range keys {
		require.Eventually(t, func() bool { return s.Do(t, "get", key) == value }, 5*time.Second, time.Millisecond,
			"%s is %v", key, s.Do(t, "get", key))
	}
}

// waitForKeys waits until a server has these keys and no others.
func waitForKeys(t *testing.T, s *redistest.Server, want ...string) {
	t.Helper()
	require.Eventually(t, func() bool {
		return strings.Join(s.Keys(t), " ") == strings.Join(want, " ")
	}, 5*time.Second, time.Millisecond, "not exactly the keys %q", want)
}
