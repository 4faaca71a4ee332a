package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/locktest"
	"github.com/rediskit/redlock/internal/redistest"
)

// Row 8: a release is held up on its way to two of five nodes until another owner has the lock
// there too.
func TestDelayedReleaseLeavesTheNextOwnersKeysAlone(t *testing.T) {
	ctx := context.Background()
	servers, proxies, clients := proxied(t, 5)
	first := open(t, clients, redlock.WithTTL(2*time.Second))
	next := open(t, redistest.Clients(t, servers))
	warmUp(t, clients)
	slow := servers[3:]

	h1 := heldEverywhere(t, first, servers, "a")
	arrive := holdUp(t, proxies[3:]...)
	require.NoError(t, h1.Release(ctx))
	noKeys(t, servers) // where the release cannot be known of, they expire

	h2 := heldEverywhere(t, next, servers, "a")
	resetStats(t, slow...)
	arrive()
	for _, s := range slow {
		eventually(t, func() bool { return s.CommandCount(t, "evalsha") > 0 },
			"the release never arrived")
	}
	for _, s := range servers {
		require.Equal(t, h2.Token(), ownerOn(t, s, "a"))
	}
	require.NoError(t, h2.Extend(ctx, time.Minute))
	require.NoError(t, h2.Release(ctx))
	noKeys(t, servers)
}

func TestReleaseIsIdempotent(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients)
	h := heldEverywhere(t, l, servers, "a")

	release := func() error {
		err := h.Release(ctx)
		if h.Err() != redlock.ErrReleased {
			err = errors.Join(err, fmt.Errorf("released, but %w", h.Err()))
		}
		return err
	}
	require.NoError(t, together(slices.Repeat([]func() error{release}, 20)...))
	require.NoError(t, h.Release(ctx))
	noKeys(t, servers)

	other, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	require.NoError(t, h.Release(ctx), "the first call's result, and nothing else happens")
	require.NoError(t, l.Close())
	for _, s := range servers {
		takenEverywhere(t, other, s)
		require.Equal(t, 1, s.CommandCount(t, "del"), "it is deleted once")
	}
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
		takenEverywhere(t, next, s)
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
		// of the nodes, of which there are three
		change func(change func(node int, command ...any))
		want   error
		left   []string // on every node
	}{
		"all there": {[]string{"a"}, func(func(int, ...any)) {}, nil, nil},
		"a minority has lost it": {[]string{"a"},
			func(do func(int, ...any)) { do(0, "del", a) }, nil, nil},
		"nothing there": {[]string{"a"}, onAllNodes("del", a), nil, nil},
		"a minority has another owner": {[]string{"a"},
			func(do func(int, ...any)) { do(0, "set", a, "another", "px", 100) }, nil, nil},
		"another owner": {[]string{"a"}, onAllNodes("set", a, "another"),
			redlock.ErrLost, []string{a}},
		"an owner with our token and more": {[]string{"a"}, onAllNodes("append", a, "0"),
			redlock.ErrLost, []string{a}},
		"several":                {[]string{"a", "b"}, func(func(int, ...any)) {}, nil, nil},
		"several, nothing there": {[]string{"a", "b"}, onAllNodes("del", a, b), nil, nil},
		"several, partly gone": {[]string{"a", "b"}, onAllNodes("del", b), redlock.ErrLost,
			nil},
		"several, gone on a minority": {[]string{"a", "b"},
			func(do func(int, ...any)) { do(2, "del", b) }, nil, nil},
		"several, partly another's": {[]string{"a", "b"}, onAllNodes("set", b, "another"),
			redlock.ErrLost, []string{b}},
	} {
		t.Run(name, func(t *testing.T) {
			servers, clients := masters(t, 3)
			l := open(t, clients)
			h := heldEverywhere(t, l, servers, tt.resources...)
			tt.change(func(node int, command ...any) { servers[node].Do(t, command...) })

			for range 2 {
				err := h.Release(ctx)
				requireOnly(t, err, tt.want)
			}
			require.Equal(t, redlock.ErrReleased, h.Err(),
				"the handle was not lost: it was released")
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
	l := open(t, clients, shortLived(3*time.Second)...)
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	for range 2 {
		require.ErrorIs(t, h.Release(ctx), redlock.ErrClosed)
	}
	takenEverywhere(t, h, servers...)
	noKeys(t, servers)
	require.Equal(t, redlock.ErrClosed, h.Err(), "for good")
}

func TestReleaseIsNilWhenNothingIsLeftOnAQuorum(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	takeFor(t, time.Minute, "r", servers[2])
	l := open(t, clients)
	h, err := l.TryAcquire(ctx, "r")
	require.NoError(t, err)

	require.NoError(t, servers[0].Kill())
	require.NoError(t, h.Release(ctx), "one node has deleted it and another never had it")
	require.Equal(t, stranger, ownerOn(t, servers[2], "r"))
}

// onePerSlot starts a server that passes for a Redis Cluster, with a tap.
func onePerSlot(t *testing.T) (*redistest.Server, []locktest.OnePerSlot, *tap) {
	t.Helper()
	servers, clients, taps := tapped(t, 1)
	warmUp(t, clients)
	return servers[0], []locktest.OnePerSlot{{Client: clients[0]}}, taps[0]
}

func TestCleanUpGoesThroughAllSlotsWhenReleaseComesMeanwhile(t *testing.T) {
	ctx := context.Background()
	s, clients, watch := onePerSlot(t)
	l := open(t, clients, redlock.WithNodeTimeout(20*time.Second))
	h, err := l.TryAcquireMulti(ctx, []string{"a", "b", "c"})
	require.NoError(t, err)
	require.Len(t, s.Keys(t), 3)
	uproot(t, "b", s) // the next Extend finds the lock lost and cleans up

	cleaning := newGate(t)
	watch.onSend(func(sent string) error {
		if !isExtension(sent) {
			cleaning.pass()
		}
		return nil
	})
	require.ErrorIs(t, h.Extend(ctx, time.Minute), redlock.ErrLost)
	outcome(t, cleaning.reached, "the clean-up on its way")
	released := inBackground(func() error { return h.Release(ctx) })
	cleaning.open()
	require.ErrorIs(t, outcome(t, released, "the release"), redlock.ErrLost)
	noKeys(t, []*redistest.Server{s})
}

func TestAttemptThatEndsBetweenTwoSlotsLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	s, clients, watch := onePerSlot(t)
	l := open(t, clients, redlock.WithNodeTimeout(20*time.Second), redlock.WithTTL(31*time.Second))

	granted := newGate(t)
	var acquired atomic.Int32
	watch.onReply(func(sent string) error {
		if strings.Contains(sent, " 31000") {
			acquired.Add(1)
			granted.pass()
		}
		return nil
	})
	done := inBackground(func() error {
		_, err := l.TryAcquireMulti(ctx, []string{"a", "b", "c"})
		return err
	})
	outcome(t, granted.reached, "the grant of the first slot")
	require.Equal(t, lockKeys("a"), s.Keys(t))
	cancel(errBored)
	require.ErrorIs(t, outcome(t, done, "the attempt"), errBored)
	granted.open()
	noKeys(t, []*redistest.Server{s})
	require.Equal(t, int32(1), acquired.Load(), "asked for the next slot all the same")
	require.NoError(t, l.Close())
	require.Empty(t, s.Keys(t))
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

// Row 1: two nodes hang, and what they were never asked counts for nothing. A lock that was
// released is free on the others.
func TestReleaseIsConfirmedByNodesThatHadTheLock(t *testing.T) {
	ctx := context.Background()
	servers, proxies, clients := proxied(t, 5)
	l := open(t, clients)
	warmUp(t, clients)
	hung, alive := []*redistest.Server{servers[0], servers[1]}, servers[2:]
	freeze(t, hung...)
	for range 4 {
		// until all that the Locker sends to the hung nodes waits behind something that they do not
		// answer
		_, err := l.IsLocked(ctx, "a")
		require.NoError(t, err)
	}
	proxies[3].Delay(20 * time.Millisecond)
	proxies[4].Delay(20 * time.Millisecond)

	for range 3 {
		h, err := l.TryAcquire(ctx, "a")
		require.NoError(t, err)
		require.NoError(t, h.Release(ctx))
		for _, s := range alive {
			require.Empty(t, s.Keys(t))
		}
	}
}
