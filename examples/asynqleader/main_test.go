package main

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

var errStop = errors.New("asked to stop")

// host is one process that campaigns.
type host struct {
	stop     context.CancelCauseFunc
	result   chan error
	enqueued chan time.Time
}

func startHost(t *testing.T, servers []*redistest.Server, ttl time.Duration) *host {
	t.Helper()
	locker, err := redlock.New(redistest.Clients(t, servers), redlock.WithTTL(ttl))
	require.NoError(t, err)
	ctx, stop := context.WithCancelCause(context.Background())
	h := &host{stop: stop, result: make(chan error, 1), enqueued: make(chan time.Time, 1000)}
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		h.result <- schedule(ctx, locker, asynq.RedisClientOpt{Addr: servers[0].Addr()},
			&asynq.SchedulerOpts{
				LogLevel:       asynq.ErrorLevel,
				PreEnqueueFunc: func(*asynq.Task, []asynq.Option) { h.enqueued <- time.Now() },
			})
	}()
	t.Cleanup(func() {
		stop(errStop)
		wg.Wait()
		require.NoError(t, locker.Close())
	})
	return h
}

func within[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(30 * time.Second):
		require.FailNow(t, "waited too long for "+what)
	}
	return v
}

// One host schedules, and when it leaves the other one does.
func TestOnlyTheLeaderSchedules(t *testing.T) {
	servers := redistest.StartN(t, 3)
	first := startHost(t, servers, time.Minute)
	within(t, first.enqueued, "a task")
	second := startHost(t, servers, time.Minute)
	for range 3 {
		within(t, first.enqueued, "another task")
	}
	require.Empty(t, second.enqueued, "two schedulers")
	first.stop(errStop)
	require.Equal(t, errStop, within(t, first.result, "the end of the first"))
	within(t, second.enqueued, "a task of the second")
}

// A host that loses the leadership can lead again: each term has a scheduler of its own.
func TestSchedulerOfTheNextTermStarts(t *testing.T) {
	servers := redistest.StartN(t, 3)
	h := startHost(t, servers, time.Second)
	for range 3 {
		within(t, h.enqueued, "a task")
		for _, s := range servers {
			s.Do(t, "del", "lock:scheduler")
		}
	}
	within(t, h.enqueued, "a task of the last term")
	require.Empty(t, h.result)
}
