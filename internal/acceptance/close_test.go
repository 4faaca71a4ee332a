package acceptance_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

func TestCloseDuringAnAttemptLeavesNoKey(t *testing.T) {
	ctx := context.Background()
	servers, clients, taps := tapped(t, 3)
	for range 5 {
		l, err := redlock.New(clients, redlock.WithNodeTimeout(20*time.Second))
		require.NoError(t, err)
		granted, slow := newGate(t), newGate(t)
		granted.open()
		taps[0].onReply(func(string) error { granted.pass(); return nil })
		for _, p := range taps[1:] {
			p.onSend(func(string) error { slow.pass(); return nil })
		}
		attempt := inBackground(func() error { _, err := l.TryAcquire(ctx, "r"); return err })
		outcome(t, granted.reached, "a node's grant")

		closed := inBackground(l.Close)
		require.ErrorIs(t, outcome(t, attempt, "the attempt"), redlock.ErrClosed)
		slow.open()
		require.NoError(t, outcome(t, closed, "Close"))
		for i, s := range servers {
			require.Empty(t, s.Keys(t), "left on node %d", i)
		}
	}
}

// Row 2: the Locker is closed while the nodes hang that have its requests. What they run later
// lives until its TTL at most.
func TestCloseInAnOutageLeavesNothingBeyondTheTTL(t *testing.T) {
	const ttl = 3 * time.Second
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l, err := redlock.New(clients, redlock.WithTTL(ttl),
		redlock.WithNodeTimeout(time.Second))
	require.NoError(t, err)
	warmUp(t, clients)
	thaw := freeze(t, servers[1:]...)

	_, err = l.TryAcquire(ctx, "a")
	require.ErrorIs(t, err, redlock.ErrNoQuorum)
	require.Empty(t, servers[0].Keys(t))

	start := time.Now()
	require.NoError(t, l.Close())
	require.Less(t, time.Since(start), 8*time.Second)
	require.Empty(t, servers[0].Keys(t))
	_, err = l.TryAcquire(ctx, "a")
	require.ErrorIs(t, err, redlock.ErrClosed)

	thaw()
	for _, s := range servers[1:] {
		left := s.Do(t, "pttl", lockKey("a")).(int64)
		require.LessOrEqual(t, left, ttl.Milliseconds())
		require.NotEqual(t, int64(-1), left, "the key lives for ever")
	}
	noKeys(t, servers)
}

// A node is down when its lock is released. That its key stays is known when all that Close waits
// for is over, and logged by a handler that takes its time, before Close returns.
func TestCloseReturnsWhenItsLastRecordIsLogged(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	stays := make(chan struct{}, 1)
	l := open(t, clients, loggingTo(func(r slog.Record) {
		<-time.After(50 * time.Millisecond)
		if strings.Contains(r.Message, "could not be deleted") {
			stays <- struct{}{}
		}
	}))
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	takenEverywhere(t, h, servers...)
	require.NoError(t, servers[2].Kill())
	require.NoError(t, h.Release(ctx))
	require.NoError(t, l.Close())
	require.Len(t, stays, 1)
	servers[2].Restart(t)
}

func TestDoneThatRacesCloseIsClosedByIt(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	const handles = 64
	for range 30 {
		l, err := redlock.New(clients)
		require.NoError(t, err)
		var held [handles]*redlock.Handle
		for i := range held {
			held[i], err = l.TryAcquire(ctx, fmt.Sprint("r", i))
			require.NoError(t, err)
		}
		var done [handles]<-chan struct{}
		var looked sync.WaitGroup
		start := make(chan struct{})
		for i, h := range held {
			looked.Add(1)
			go func() {
				defer looked.Done()
				<-start
				done[i] = h.Done()
			}()
		}
		close(start)
		require.NoError(t, l.Close())
		looked.Wait()
		for i, h := range held {
			require.True(t, isClosed(done[i]), "the Locker is closed, its handle's Done is not")
			require.ErrorIs(t, h.Err(), redlock.ErrClosed)
		}
		require.NoError(t, clients[0].FlushAll(ctx).Err())
	}
}

func TestClosedHandleIsClosedAlsoWhenFirstSeenAfterItsLease(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	l := open(t, clients, shortLived(2*time.Second)...)
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.True(t, time.Now().Before(h.ValidUntil()))
	<-time.After(time.Until(h.ValidUntil()))
	require.Equal(t, redlock.ErrClosed, h.Err())

	l = open(t, clients, shortLived(2*time.Second)...)
	h, err = l.TryAcquire(ctx, "b")
	require.NoError(t, err)
	<-time.After(time.Until(h.ValidUntil()))
	require.NoError(t, l.Close())
	require.Equal(t, redlock.ErrLost, h.Err(), "and lost if that came first")
}

// A program that passes no context gets a panic that says so, and may recover.
func TestCallWithoutAContextDoesNotHoldUpClose(t *testing.T) {
	_, clients := masters(t, 1)
	l := open(t, clients)
	require.PanicsWithValue(t, "redlock: nil context", func() {
		var none context.Context
		_, _ = l.TryAcquire(none, "r")
	})
	began := time.Now()
	require.NoError(t, l.Close())
	require.Less(t, time.Since(began), 500*time.Millisecond)
}
