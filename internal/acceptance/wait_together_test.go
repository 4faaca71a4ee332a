package acceptance_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// giveUpTogether has several calls of one Locker wait, each with a context of its own, and all of
// these end at the same time.
func giveUpTogether(n int, after time.Duration, l *redlock.Locker,
	wait func(context.Context, *redlock.Locker) error) []error {
	until := time.Now().Add(after)
	return atOnce(n, func(int) error {
		ctx, cancel := context.WithDeadline(context.Background(), until)
		defer cancel()
		return wait(ctx, l)
	})
}

// Those behind the first one in line ask no node. They know of an outage what it has found.
func TestAllThatGiveUpInAnOutageSaySo(t *testing.T) {
	eachWait(t, func(t *testing.T, wait func(context.Context, *redlock.Locker) error) {
		servers, clients := masters(t, 3)
		l := open(t, clients, redlock.WithNodeTimeout(100*time.Millisecond))
		warmUp(t, clients)
		freeze(t, servers[1:]...)
		for i, err := range giveUpTogether(8, time.Second, l, wait) {
			require.ErrorIs(t, err, context.DeadlineExceeded)
			requireOnly(t, err, redlock.ErrNoQuorum, fmt.Sprint("call ", i))
		}
	})
}

// Until then they know nothing, and take their own haste neither for a holder nor for an outage.
func TestThoseWhoGiveUpBeforeAnythingIsKnownNameNoReason(t *testing.T) {
	eachWait(t, func(t *testing.T, wait func(context.Context, *redlock.Locker) error) {
		servers, clients := masters(t, 3)
		l := open(t, clients, redlock.WithNodeTimeout(time.Minute), redlock.WithTTL(time.Hour))
		warmUp(t, clients)
		freeze(t, servers[1:]...)
		for _, err := range giveUpTogether(4, 200*time.Millisecond, l, wait) {
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.NotErrorIs(t, err, redlock.ErrHeld)
			require.NotErrorIs(t, err, redlock.ErrNoQuorum)
		}
	})
}

// In an outage each call of a Locker asks the nodes by itself, as long as it cares to. When they
// answer again, one asks for all.
func TestAllButTheFirstGoBackInLineAfterAnOutage(t *testing.T) {
	const waiters = 10
	ctx := context.Background()
	servers, clients := masters(t, 3)
	watcher := &recorder{}
	holder := open(t, clients)
	l := processes(t, servers, 1, redlock.WithObserver(watcher),
		redlock.WithNodeTimeout(100*time.Millisecond),
		redlock.WithRetryInterval(50*time.Millisecond))[0]
	h, err := holder.TryAcquire(ctx, "r", redlock.WithTTL(time.Hour))
	require.NoError(t, err)
	takenEverywhere(t, h, servers...)
	bored, leave := context.WithCancelCause(ctx)
	var done []<-chan error
	for range waiters {
		done = append(done, inBackground(func() error { return onlyError(l.Acquire(bored, "r")) }))
	}
	inLine(t, holder, "r", 1)
	thaw := freeze(t, servers[1:]...)
	asked := func() int { // the attempts that the node has refused which is left
		n := 0
		for _, e := range told[redlock.NodeCall](watcher) {
			if e.Node == 0 && e.Op == "acquire" && e.Refused {
				n++
			}
		}
		return n
	}
	mark := asked() + 2*waiters
	eventually(t, func() bool { return asked() > mark }, "they do not ask themselves")
	thaw()
	mark = asked() + 3*waiters/2 // each once more, and then the first for all
	eventually(t, func() bool { return asked() > mark }, "nobody asks any more")
	eventually(t, func() bool { return waitersOn(t, servers[0], "r") == 1 }, "they ask on")
	leave(errBored)
	for _, d := range done {
		require.ErrorIs(t, outcome(t, d, "a waiter"), errBored)
	}
	require.NoError(t, h.Release(ctx))
	noKeys(t, servers)
}
