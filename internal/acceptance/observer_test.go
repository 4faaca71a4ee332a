package acceptance_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

func TestObserverIsToldOfAcquisitions(t *testing.T) {
	servers, clients := masters(t, 3)
	var r recorder
	var holder atomic.Pointer[redlock.Handle]
	r2 := recorder{then: func(e redlock.Event) {
		if _, ok := e.(redlock.Waiting); ok { // now it can have the lock
			_ = holder.Load().Release(context.Background())
		}
	}}
	l := open(t, clients, redlock.WithObserver(&r), redlock.WithTTL(time.Minute))
	other := open(t, clients, redlock.WithObserver(&r2),
		redlock.WithRetryInterval(time.Millisecond))
	before := time.Now()
	h, err := l.TryAcquireMulti(from("a"), []string{"b", "a"})
	require.NoError(t, err)
	e := theOne[redlock.AcquireDone](t, &r)
	require.Equal(t, "a", callerIn(e.Context))
	require.Equal(t, []string{"a", "b"}, e.Resources)
	require.False(t, e.Start.Before(before))
	require.Positive(t, e.Duration)
	require.NoError(t, e.Err)
	require.Equal(t, []any{1, false, false, 3}, []any{e.Attempts, e.Waited, e.Adopted, e.Nodes})
	require.GreaterOrEqual(t, e.Granted, 2)
	require.Greater(t, e.Validity, 50*time.Second)
	require.LessOrEqual(t, e.Validity, time.Minute)

	takenEverywhere(t, h, servers...)
	_, err = other.TryAcquire(from("b"), "a")
	require.ErrorIs(t, err, redlock.ErrHeld)
	refused := theOne[redlock.AcquireDone](t, &r2)
	require.Equal(t, err, refused.Err)
	require.Zero(t, refused.Granted)
	require.Zero(t, refused.Validity)
	require.Empty(t, told[redlock.Waiting](&r2))

	holder.Store(h)
	h, err = other.Acquire(from("c"), "a")
	require.NoError(t, err)
	w, got := theOne[redlock.Waiting](t, &r2), told[redlock.AcquireDone](&r2)[1]
	require.Equal(t, "c", callerIn(w.Context))
	require.Equal(t, []string{"a"}, w.Resources)
	require.ErrorIs(t, w.Err, redlock.ErrHeld)
	require.True(t, got.Waited)
	require.GreaterOrEqual(t, got.Attempts, 2)
	require.Equal(t, w.Start, got.Start)

	_, err = l.Adopt(from("d"), []string{"a"}, h.Token())
	require.NoError(t, err)
	require.True(t, told[redlock.AcquireDone](&r)[1].Adopted)

	_, err = l.TryAcquire(context.Background(), "")
	require.Error(t, err)
	require.Len(t, told[redlock.AcquireDone](&r), 2, "an invalid argument is no acquisition")
	uproot(t, "a", servers...)
}

// A call that stands in line behind another one of its Locker asks no node, and waits all the same.
func TestObserverIsToldOfThoseWhoStandInLineInTheirLocker(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	var r recorder
	r.then = func(e redlock.Event) {
		if call, ok := e.(redlock.NodeCall); ok && callerIn(call.Context) == "third" &&
			len(told[redlock.Waiting](&r)) < 2 {
			t.Error("a node was asked first")
		}
	}
	l := open(t, clients, redlock.WithObserver(&r))
	h, err := l.Acquire(from("first"), "a")
	require.NoError(t, err)
	require.Empty(t, told[redlock.Waiting](&r), "it is free")
	got := make(chan error, 2)
	wait := func(caller string) {
		h, err := l.Acquire(from(caller), "a")
		if err == nil {
			err = h.Release(ctx)
		}
		got <- err
	}
	go wait("second")
	latest[redlock.Waiting](t, &r, 1)
	go wait("third")
	w := latest[redlock.Waiting](t, &r, 2)
	require.Equal(t, "third", callerIn(w.Context))
	require.Equal(t, []string{"a"}, w.Resources)
	require.ErrorIs(t, w.Err, redlock.ErrHeld)
	require.NoError(t, h.Release(ctx))
	require.NoError(t, <-got)
	require.NoError(t, <-got)
	all := told[redlock.AcquireDone](&r)
	require.Equal(t, []bool{false, true, true}, []bool{all[0].Waited, all[1].Waited, all[2].Waited})
	require.Equal(t, w.Start, all[2].Start)
	require.Len(t, told[redlock.Waiting](&r), 2)
}

// Each way in which a lock can end, for handles that somebody watches and for those that nobody has
// any more.
func TestObserverIsToldOnceHowEachLockEnds(t *testing.T) {
	ctx := context.Background()
	short := redlock.WithTTL(time.Second)
	for _, end := range []struct {
		cause redlock.Cause
		err   error
		left  bool // of the lease
		opts  []redlock.AcquireOption
		act   func(t *testing.T, l *redlock.Locker, h *redlock.Handle, uproot, take func())
	}{
		{redlock.CauseReleased, redlock.ErrReleased, true, nil,
			func(t *testing.T, _ *redlock.Locker, h *redlock.Handle, _, _ func()) {
				require.NoError(t, h.Release(ctx))
				require.NoError(t, h.Release(ctx))
			}},
		{redlock.CauseExpired, redlock.ErrLost, false, []redlock.AcquireOption{short}, nil},
		{redlock.CauseTaken, redlock.ErrLost, true, nil,
			func(t *testing.T, _ *redlock.Locker, h *redlock.Handle, _, take func()) {
				take()
				require.ErrorIs(t, h.Extend(ctx, time.Minute), redlock.ErrLost)
			}},
		{redlock.CauseGone, redlock.ErrLost, true, nil,
			func(t *testing.T, _ *redlock.Locker, h *redlock.Handle, uproot, _ func()) {
				uproot()
				require.ErrorIs(t, h.Extend(ctx, time.Minute), redlock.ErrLost)
			}},
		{redlock.CauseMaxHold, redlock.ErrLost, false,
			[]redlock.AcquireOption{short, redlock.WithAutoRenewal(true),
				redlock.WithMaxHold(2 * time.Second)}, nil},
		{redlock.CauseClosed, redlock.ErrClosed, true, nil,
			func(t *testing.T, l *redlock.Locker, _ *redlock.Handle, _,
				_ func()) {
				require.NoError(t, l.Close())
			}},
	} {
		for _, watched := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/watched=%v", end.cause, watched), func(t *testing.T) {
				servers, clients := masters(t, 3)
				var r recorder
				l := open(t, clients, redlock.WithObserver(&r),
					redlock.WithNodeTimeout(900*time.Millisecond))
				h, err := l.TryAcquire(from("owner"), "a", end.opts...)
				require.NoError(t, err)
				takenEverywhere(t, h, servers...)
				if watched {
					h.Done()
					require.NoError(t, h.Context(ctx).Err())
				}
				if end.act != nil {
					end.act(t, l, h, func() { uproot(t, "a", servers...) },
						func() { takeFor(t, time.Second, "a", servers...) })
				}
				e := latest[redlock.LeaseEnded](t, &r, 1)
				require.Equal(t, end.cause, e.Cause)
				require.Equal(t, end.err, e.Err)
				require.Equal(t, end.left, e.Left > 0, "left %v", e.Left)
				require.Positive(t, e.Held)
				require.Equal(t, "owner", callerIn(e.Context))
				require.Equal(t, end.err == redlock.ErrLost, e.Reason != "")
				require.ErrorIs(t, h.Err(), end.err)
				_ = h.Release(ctx) // whatever it says
				require.NoError(t, l.Close())
				theOne[redlock.LeaseEnded](t, &r)
				uproot(t, "a", servers...)
			})
		}
	}
}

// However calls race, each lock that was told to begin is told to end, once, and in that order.
func TestObserverIsToldOfAsManyEndsAsBeginnings(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	var r recorder
	l := open(t, clients, redlock.WithObserver(&r), redlock.WithTTL(40*time.Millisecond),
		redlock.WithNodeTimeout(35*time.Millisecond))
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := range 40 {
				h, err := l.TryAcquire(ctx, fmt.Sprint(i), redlock.WithAutoRenewal(n%2 == 0),
					redlock.WithMinHold(0))
				if err != nil {
					continue
				}
				switch {
				case n%5 == 4: // forgotten
				case n%5 == 3:
					<-h.Done() // or renewed, and then until Close
				default:
					_ = together(
						func() error {
							return h.Extend(ctx,
								20*time.Millisecond+time.Duration(n)*time.Millisecond)
						},
						func() error { return h.Release(ctx) },
						func() error { return h.Release(ctx) })
				}
			}
		}()
	}
	eventually(t, func() bool { return len(told[redlock.LeaseEnded](&r)) >= 30 }, "few locks ended")
	require.NoError(t, l.Close())
	wg.Wait()
	begun, ended := 0, 0
	alive := make(map[string]int)
	for _, e := range r.events {
		switch e := e.(type) {
		case redlock.AcquireDone:
			if e.Err == nil {
				begun++
				alive[e.Resources[0]]++
			}
		case redlock.LeaseEnded:
			ended++
			alive[e.Resources[0]]--
			require.GreaterOrEqual(t, alive[e.Resources[0]], 0, "an end before its beginning")
		}
	}
	require.Equal(t, begun, ended)
	require.Greater(t, begun, 30)
}

func TestObserverIsToldOfExtensions(t *testing.T) {
	servers, proxies, clients := proxied(t, 3)
	var r recorder
	l := open(t, clients, redlock.WithObserver(&r), redlock.WithTTL(30*time.Second))
	h, err := l.TryAcquire(from("acquire"), "a")
	require.NoError(t, err)
	takenEverywhere(t, h, servers...)
	uproot(t, "a", servers[0])
	proxies[1].Delay(100 * time.Millisecond) // the node that has lost the lock is not outrun
	proxies[2].Delay(100 * time.Millisecond)
	require.NoError(t, h.Extend(from("extend"), time.Minute))
	e := theOne[redlock.ExtendDone](t, &r)
	require.Equal(t, 1, e.Healed)
	require.Equal(t, "extend", callerIn(e.Context))
	require.Equal(t, []string{"a"}, e.Resources)
	require.False(t, e.Renewal)
	require.Equal(t, time.Minute, e.TTL)
	require.Greater(t, e.Left, 20*time.Second)
	require.Less(t, e.Left, time.Minute)
	require.Greater(t, e.Validity, 50*time.Second)
	require.NoError(t, e.Err)

	require.NoError(t, h.Release(context.Background()))
	require.ErrorIs(t, h.Extend(from("late"), time.Minute), redlock.ErrReleased)
	all := told[redlock.ExtendDone](&r)
	require.ErrorIs(t, all[len(all)-1].Err, redlock.ErrReleased)
	require.Zero(t, all[len(all)-1].Validity)
}

func TestObserverIsToldOfRenewals(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	var r recorder
	l := open(t, clients, redlock.WithObserver(&r), redlock.WithTTL(900*time.Millisecond))
	h, err := l.TryAcquire(from("acquire"), "a", redlock.WithAutoRenewal(true))
	require.NoError(t, err)
	e := latestOf(t, &r, func(e redlock.ExtendDone) bool { return e.Err == nil })
	require.True(t, e.Renewal)
	require.Nil(t, e.Context)
	require.Positive(t, e.Left)
	require.Greater(t, e.Validity, e.Left)
	begun := theOne[redlock.AcquireDone](t, &r)
	require.Equal(t, []uint64{begun.Locker, begun.Lock}, []uint64{e.Locker, e.Lock})

	for _, s := range servers[:2] {
		denyAllScripts(t, s)
	}
	e = latestOf(t, &r, func(e redlock.ExtendDone) bool { return e.Failures >= 2 })
	require.ErrorIs(t, e.Err, redlock.ErrNoQuorum)
	await(t, h.Done(), "the end of the lease")
	require.Equal(t, redlock.CauseExpired, latest[redlock.LeaseEnded](t, &r, 1).Cause)
	for _, s := range servers[:2] {
		allowScripts(t, s)
	}
	require.ErrorIs(t, h.Release(ctx), redlock.ErrLost)
}

// latestOf waits for an event of some kind.
func latestOf[E redlock.Event](t *testing.T, r *recorder, is func(E) bool) (found E) {
	t.Helper()
	eventually(t, func() bool {
		for _, e := range told[E](r) {
			if is(e) {
				found = e
				return true
			}
		}
		return false
	}, "no such %T", found)
	return found
}

func TestObserverIsToldOfReleases(t *testing.T) {
	_, clients := masters(t, 1)
	var r recorder
	l := open(t, clients, redlock.WithObserver(&r), redlock.WithNodeTimeout(900*time.Millisecond))
	h, err := l.TryAcquire(from("acquire"), "a")
	require.NoError(t, err)
	require.NoError(t, h.Extend(from("extend"), time.Minute))
	require.NoError(t, h.Release(from("release")))
	require.Equal(t, []uint64{1, 1, 1, 1}, []uint64{
		theOne[redlock.AcquireDone](t, &r).Lock, theOne[redlock.ExtendDone](t, &r).Lock,
		theOne[redlock.LeaseEnded](t, &r).Lock, theOne[redlock.ReleaseDone](t, &r).Lock,
	})
	by := theOne[redlock.AcquireDone](t, &r).Locker
	require.NotZero(t, by)
	require.Equal(t, []uint64{by, by, by}, []uint64{
		theOne[redlock.ExtendDone](t, &r).Locker, theOne[redlock.LeaseEnded](t, &r).Locker,
		theOne[redlock.ReleaseDone](t, &r).Locker,
	})
	var r2 recorder
	_, err = open(t, clients, redlock.WithObserver(&r2)).TryAcquire(from("acquire"), "b")
	require.NoError(t, err)
	require.Greater(t, theOne[redlock.AcquireDone](t, &r2).Locker, by,
		"another Locker has another number")
	require.NoError(t, h.Release(from("again")))
	e := theOne[redlock.ReleaseDone](t, &r)
	require.Equal(t, "release", callerIn(e.Context))
	require.Zero(t, e.Overrun)
	require.NoError(t, e.Err)
	require.Positive(t, e.Duration)

	h, err = l.TryAcquire(from("acquire"), "a", redlock.WithTTL(time.Second))
	require.NoError(t, err)
	over := h.ValidUntil()
	await(t, h.Done(), "the end of the lease")
	eventually(t, func() bool { return time.Since(over) > 50*time.Millisecond },
		"time stands still")
	require.ErrorIs(t, h.Release(from("release")), redlock.ErrLost)
	e = told[redlock.ReleaseDone](&r)[1]
	require.GreaterOrEqual(t, e.Overrun, 50*time.Millisecond)
	require.ErrorIs(t, e.Err, redlock.ErrLost)
}

func TestObserverIsToldOfTheCallsToEachNode(t *testing.T) {
	servers, proxies, clients := proxied(t, 3)
	var r recorder
	const timeout = 500 * time.Millisecond
	l := open(t, clients, redlock.WithObserver(&r), redlock.WithNodeTimeout(timeout))
	warmUp(t, clients)
	proxies[2].HoldReplies(true)
	h, err := l.TryAcquire(from("acquire"), "a")
	require.NoError(t, err)
	_, err = l.IsLocked(from("inspect"), "a")
	require.NoError(t, err)
	require.NoError(t, h.Release(from("release")))
	over := time.Now().Add(2 * timeout)
	eventually(t, func() bool { return time.Now().After(over) }, "time stands still")
	proxies[2].HoldReplies(false)
	late := latestOf(t, &r, func(e redlock.NodeCall) bool { return e.Late && e.Op == "acquire" })
	require.Equal(t, 2, late.Node)
	require.Equal(t, proxies[2].Addr(), late.Addr)
	require.Equal(t, "acquire", callerIn(late.Context))
	require.Equal(t, []string{"a"}, late.Resources)
	require.GreaterOrEqual(t, late.Duration, timeout)
	require.GreaterOrEqual(t, late.Batch, 1)
	require.NoError(t, late.Err)
	noKeys(t, servers)
	require.NoError(t, l.Close())
	for _, op := range []string{"acquire", "inspect", "release"} {
		nodes := make(map[int]bool)
		for _, e := range told[redlock.NodeCall](&r) {
			if e.Op == op && callerIn(e.Context) == op {
				nodes[e.Node] = true
				require.False(t, e.Late && e.Node != 2, "%+v", e)
			}
		}
		require.Len(t, nodes, 3, op)
	}

	var r2 recorder
	l = open(t, clients, redlock.WithObserver(&r2))
	takeFor(t, time.Minute, "a", servers...)
	_, err = l.TryAcquire(context.Background(), "a")
	require.ErrorIs(t, err, redlock.ErrHeld)
	var held *redlock.HeldError
	refused := latestOf(t, &r2, func(redlock.NodeCall) bool { return true })
	require.ErrorAs(t, refused.Err, &held)
	require.True(t, refused.Refused)
	uproot(t, "a", servers...)

	var r3 recorder
	l = open(t, clients[:1], redlock.WithObserver(&r3))
	h, err = l.TryAcquire(context.Background(), "a")
	require.NoError(t, err)
	require.False(t, latest[redlock.NodeCall](t, &r3, 1).Refused)
	uproot(t, "a", servers[0])
	require.ErrorIs(t, h.Extend(context.Background(), time.Minute), redlock.ErrLost)
	gone := latest[redlock.NodeCall](t, &r3, 2)
	require.True(t, gone.Refused, "a key that is gone is an answer too")
	require.Error(t, gone.Err)
	require.NoError(t, servers[0].Kill())
	_, err = l.TryAcquire(context.Background(), "b")
	require.ErrorIs(t, err, redlock.ErrNoQuorum)
	latestOf(t, &r3, func(e redlock.NodeCall) bool { return e.Err != nil && !e.Refused })
}

func TestObserverIsToldWhenANodeFailsAndWhenItAnswersAgain(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	var r recorder
	l := open(t, clients, redlock.WithObserver(&r))
	denyAllScripts(t, servers[1]) // which is the user's mistake, and not the node's
	require.NoError(t, onlyError(l.IsLocked(ctx, "a")))
	require.Empty(t, told[redlock.NodeState](&r))
	allowScripts(t, servers[1])

	orphan(t, servers[1])
	eventually(t, func() bool {
		require.NoError(t, onlyError(l.IsLocked(ctx, "a")))
		return len(told[redlock.NodeState](&r)) > 0
	}, "no failure told")
	e := theOne[redlock.NodeState](t, &r)
	require.Equal(t, []any{1, servers[1].Addr(), false, 2, 2, "inspect"},
		[]any{e.Node, e.Addr, e.Up, e.Reachable, e.Needed, e.Op})
	require.Error(t, e.Err)

	servers[1].Do(t, "replicaof", "no", "one")
	eventually(t, func() bool {
		require.NoError(t, onlyError(l.IsLocked(ctx, "a")))
		return len(told[redlock.NodeState](&r)) > 1
	}, "no end told")
	e = latest[redlock.NodeState](t, &r, 2)
	require.Equal(t, []any{1, true, 3, 2}, []any{e.Node, e.Up, e.Reachable, e.Needed})
	require.Positive(t, e.Down)
	require.Positive(t, e.Failed)
}

// No event is told under a lock of the library's: whatever an observer calls back, it gets an
// answer.
func TestObserverMayCallBack(t *testing.T) {
	ctx := context.Background()
	for how, end := range map[string]func(t *testing.T, h *redlock.Handle, uproot func()){
		"released": func(t *testing.T, h *redlock.Handle,
			_ func()) {
			require.NoError(t, h.Release(ctx))
		},
		"denied to Extend": func(t *testing.T, h *redlock.Handle, uproot func()) {
			uproot()
			require.ErrorIs(t, h.Extend(ctx, time.Minute), redlock.ErrLost)
		},
		"denied to a renewal": func(t *testing.T, h *redlock.Handle, uproot func()) {
			uproot()
			await(t, h.Done(), "the loss")
		},
	} {
		t.Run(how, func(t *testing.T) {
			servers, clients := masters(t, 3)
			c := &caller{kinds: make(map[string]int)}
			r := recorder{then: c.callBack}
			l := open(t, clients, redlock.WithObserver(&r), redlock.WithTTL(time.Second),
				redlock.WithAutoRenewal(true))
			c.l = l
			h, err := l.Acquire(ctx, "a")
			require.NoError(t, err)
			takenEverywhere(t, h, servers...)
			c.h.Store(h)
			eventually(t, func() bool { return c.count("redlock.ExtendDone") > 0 }, "no renewal")
			end(t, h, func() { uproot(t, "a", servers...) })
			_ = h.Release(ctx) // of a lock that is lost
			latest[redlock.LeaseEnded](t, &r, 1)
			latest[redlock.ReleaseDone](t, &r, 1) // perhaps by the callback, which tells it then
			require.Positive(t, c.count("redlock.NodeCall"))
		})
	}
}

// caller calls back whatever there is to call.
type caller struct {
	l *redlock.Locker
	h atomic.Pointer[redlock.Handle]

	mu    sync.Mutex // held by whoever calls back: what that leads to is not followed
	stats sync.Mutex
	kinds map[string]int // events that have led to calls
}

func (c *caller) callBack(e redlock.Event) {
	h := c.h.Load()
	if h == nil || !c.mu.TryLock() {
		return
	}
	defer c.mu.Unlock()
	ctx := context.Background()
	_, _, _, _, _ = h.Err(), h.ValidUntil(), h.String(), h.Token(), h.Done()
	derived, cancel := context.WithCancel(h.Context(ctx))
	cancel()
	_ = derived.Err()
	switch e.(type) {
	case redlock.LeaseEnded, redlock.ReleaseDone:
		_ = h.Release(ctx)
	case redlock.ExtendDone:
		_ = h.Extend(ctx, time.Second)
	case redlock.NodeCall:
		if c.count("redlock.NodeCall") < 10 { // each leads to more of them
			_, _ = c.l.IsLocked(ctx, "a")
		}
	}
	c.stats.Lock()
	defer c.stats.Unlock()
	c.kinds[fmt.Sprintf("%T", e)]++
}

func (c *caller) count(kind string) int {
	c.stats.Lock()
	defer c.stats.Unlock()
	return c.kinds[kind]
}

func TestObserverThatIsNilIsNone(t *testing.T) {
	_, clients := masters(t, 1)
	l := open(t, clients, redlock.WithObserver(nil))
	h, err := l.TryAcquire(context.Background(), "a")
	require.NoError(t, err)
	require.NoError(t, h.Release(context.Background()))
}
