package acceptance_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// failing makes a client answer every script with an error that passes, while on is true.
func failing(c *redis.Client, on func() bool) {
	tapOf(c).onSend(func(string) error {
		if on() {
			return errors.New("LOADING Redis is loading the dataset in memory")
		}
		return nil
	})
}

func TestMaxOutageDoesNotCountAHolder(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l, other := open(t, clients, redlock.WithMaxOutage(50*time.Millisecond)), open(t, clients)
	held := heldEverywhere(t, other, servers, "a")
	began := time.Now()
	_, err := l.Acquire(ctx, "a", redlock.WithMaxWait(time.Second))
	require.ErrorIs(t, err, redlock.ErrHeld)
	require.GreaterOrEqual(t, time.Since(began), time.Second)
	got := inBackground(func() error { return onlyError(l.Acquire(ctx, "a")) })
	never(t, 300*time.Millisecond, func() bool { return len(got) > 0 }, "given up")
	require.NoError(t, held.Release(ctx))
	require.NoError(t, outcome(t, got, "the lock"))
}

func TestMaxOutageIsForOneCallOrForAll(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 1)
	nodes := []wrapped{{clients[0]}}
	failing(clients[0], func() bool { return true })
	patient := open(t, nodes)
	began := time.Now()
	_, err := patient.Acquire(ctx, "a", redlock.WithMaxOutage(100*time.Millisecond))
	requireOnly(t, err, redlock.ErrNoQuorum)
	require.Less(t, time.Since(began), time.Second)
	waiting, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	_, err = patient.Acquire(waiting, "a")
	require.ErrorIs(t, err, context.DeadlineExceeded, "without it, the wait goes on")

	began = time.Now()
	hasty := open(t, nodes, redlock.WithMaxOutage(100*time.Millisecond))
	for _, call := range []func() error{
		func() error { return onlyError(hasty.AcquireMulti(ctx, []string{"a", "b"})) },
		func() error { return hasty.Do(ctx, "a", nothingToDo) },
	} {
		requireOnly(t, call(), redlock.ErrNoQuorum)
	}
	require.Less(t, time.Since(began), 3*time.Second)
	_, err = redlock.New(nodes, redlock.WithMaxOutage(-1))
	require.ErrorContains(t, err, "maximum outage")
	require.Empty(t, servers[0].Keys(t))
}

// Of those who wait for one resource in a Locker one asks the nodes for all. The others are not to
// wait for an outage one after the other.
func TestMaxOutageIsTheSameForAllWhoWaitInALocker(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 1)
	const outage = 600 * time.Millisecond
	l := open(t, clients, redlock.WithMaxOutage(outage),
		redlock.WithNodeTimeout(200*time.Millisecond))
	warmUp(t, clients)
	down.strike(t, servers[0])
	began := time.Now()
	var waiting []<-chan error
	for range 8 {
		waiting = append(waiting, inBackground(
			func() error { return onlyError(l.Acquire(ctx, "a")) }))
	}
	for _, w := range waiting {
		requireOnly(t, outcome(t, w, "a waiter"), redlock.ErrNoQuorum)
	}
	require.Less(t, time.Since(began), 4*outage)
}
