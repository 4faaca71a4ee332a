package acceptance_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// isRelease reports whether a request deletes a lock for which nobody here waits: it is an EVALSHA
// with the lock key, its queue and a token alone.
func isRelease(cmd redis.Cmder) bool {
	return len(cmd.Args()) == len([]string{"evalsha", "digest", "number of keys", "lock", "queue",
		"token"})
}

// At the moment when the deletion is sent, no context of the lock is alive any more, and none
// derived from one.
func TestContextsEndBeforeTheDeletionIsSent(t *testing.T) {
	const handOvers, contexts = 300, 1000
	type key struct{}
	ctx := context.Background()
	servers, clients := masters(t, 1)
	l := open(t, clients)
	parents := make([]context.Context, contexts)
	for i := range parents {
		parents[i] = context.WithValue(ctx, key{}, i)
	}
	warmUp(t, clients)
	var held, derived [contexts]context.Context
	var deletions, alive atomic.Int64
	clients[0].AddHook(hook(func(send func() error, sent ...redis.Cmder) error {
		if len(sent) == 1 && isRelease(sent[0]) {
			deletions.Add(1)
			for i := range held {
				// Not through the lock's own contexts, which compare the clock.
				select {
				case <-derived[i].Done():
				default:
					alive.Add(1)
				}
				if held[i].Err() == nil {
					alive.Add(1)
				}
			}
		}
		return send()
	}))
	for range handOvers {
		h, err := l.TryAcquire(ctx, "a")
		require.NoError(t, err)
		var cancels [contexts]context.CancelFunc
		for i, parent := range parents {
			held[i] = h.Context(parent)
			derived[i], cancels[i] = context.WithCancel(held[i])
		}
		require.NoError(t, h.Release(ctx))
		require.Zero(t, alive.Load(), "contexts alive when the deletion was sent")
		for _, cancel := range cancels {
			cancel()
		}
	}
	require.EqualValues(t, handOvers, deletions.Load(), "the test sees the wrong requests")
	noKeys(t, servers)
}

// The same for the next owner, who is another process.
func TestContextsHaveEndedWhenTheNextOwnerHasTheLock(t *testing.T) {
	const handOvers, contexts = 300, 1000
	type key struct{}
	ctx := context.Background()
	_, clients := masters(t, 3)
	l, other := open(t, clients), open(t, clients, redlock.WithRetryInterval(time.Millisecond))
	for range handOvers {
		h, err := l.TryAcquire(ctx, "a")
		require.NoError(t, err)
		var derived [contexts]context.Context
		var cancels [contexts]context.CancelFunc
		for i := range derived {
			derived[i], cancels[i] = context.WithCancel(h.Context(context.WithValue(ctx, key{}, i)))
		}
		released := inBackground(func() error { return h.Release(ctx) })
		next, err := other.Acquire(ctx, "a")
		require.NoError(t, err)
		for i, c := range derived {
			require.True(t, isClosed(c.Done()), "context %d of %d", i, contexts)
		}
		require.NoError(t, <-released)
		require.NoError(t, next.Release(ctx))
		for _, cancel := range cancels {
			cancel()
		}
	}
}

func TestContextOfTheSameParentIsTheSame(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	l := open(t, clients)
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	parent, cancel := context.WithCancel(ctx)
	defer cancel()
	first := h.Context(parent)
	require.Same(t, first, h.Context(parent))
	require.NotSame(t, first, h.Context(ctx))
	require.Same(t, h.Context(ctx), h.Context(ctx))
	require.NotSame(t, first, h.Context(first), "a context is not its own parent")
	require.NoError(t, h.Context(h.Context(first)).Err())
	require.NoError(t, h.Release(ctx))
	require.Equal(t, redlock.ErrReleased, context.Cause(first))
}

// heap returns how much is in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// flat checks that a call that is made many times keeps nothing: if it did, the heap would grow
// each time.
func flat(t *testing.T, calls int, call func()) {
	t.Helper()
	for range 10 {
		before := heap()
		for range calls {
			call()
		}
		if int64(heap()-before) < int64(20*calls) {
			return
		}
	}
	require.Fail(t, "the heap grows with each call")
}

func TestContextKeepsNothingForEachCall(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	l := open(t, clients)
	h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(time.Hour))
	require.NoError(t, err)
	parent, cancel := context.WithCancel(ctx)
	defer cancel()
	t.Run("with one parent", func(t *testing.T) {
		flat(t, 10_000, func() { h.Context(parent) })
	})
	t.Run("with parents that end", func(t *testing.T) {
		flat(t, 10_000, func() {
			ending, cancel := context.WithCancel(parent)
			h.Context(ending)
			cancel()
		})
	})
	t.Run("with contexts of its own as parents", func(t *testing.T) {
		flat(t, 10_000, func() {
			ending, cancel := context.WithCancel(h.Context(parent))
			h.Context(ending)
			cancel()
		})
	})
	require.NoError(t, h.Release(ctx))
	runtime.KeepAlive(h)
}

// uncomparable is a context that cannot be the key of a map.
type uncomparable struct {
	context.Context
	_ []int
}

// odd looks comparable, by its type, and is not if there is such a value in it.
type odd struct {
	context.Context
	value any
}

func TestContextOfAParentThatCannotBeCompared(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	l := open(t, clients)
	for _, wrap := range []func(context.Context) context.Context{
		func(parent context.Context) context.Context { return uncomparable{Context: parent} },
		func(parent context.Context) context.Context { return odd{parent, []int{}} },
		func(parent context.Context) context.Context { return odd{parent, 1} },
	} {
		h, err := l.TryAcquire(ctx, "a")
		require.NoError(t, err)
		parent, cancel := context.WithCancelCause(ctx)
		ending, going := h.Context(wrap(parent)), h.Context(wrap(ctx))
		require.NoError(t, ending.Err())
		cancel(errGaveUp)
		await(t, ending.Done(), "the end of the parent")
		require.Equal(t, errGaveUp, context.Cause(ending))
		require.NoError(t, going.Err())
		require.NoError(t, h.Release(ctx))
		require.Equal(t, redlock.ErrReleased, context.Cause(going))
	}
}

// Whatever a call of Context races with, what it returns ends.
func TestContextThatRacesTheEndOfTheLockEnds(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 1)
	ends := map[string]func(l *redlock.Locker, h *redlock.Handle) error{
		"release": func(_ *redlock.Locker, h *redlock.Handle) error { return h.Release(ctx) },
		"close":   func(l *redlock.Locker, _ *redlock.Handle) error { return l.Close() },
		"loss": func(_ *redlock.Locker, h *redlock.Handle) error {
			servers[0].Do(t, "del", lockKey("a"))
			_ = h.Extend(ctx, time.Minute)
			return nil
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			for range 200 {
				l, err := redlock.New(clients)
				require.NoError(t, err)
				h, err := l.TryAcquire(ctx, "a")
				require.NoError(t, err)
				parent, cancel := context.WithCancel(ctx)
				var got [8]context.Context
				var wg sync.WaitGroup
				start := make(chan struct{})
				for i := range got {
					wg.Add(1)
					go func() {
						defer wg.Done()
						<-start
						for range 10 {
							if got[i] = h.Context(parent); i%2 == 0 {
								got[i] = h.Context(got[i])
							}
						}
					}()
				}
				close(start)
				require.NoError(t, end(l, h))
				wg.Wait()
				require.Error(t, h.Err())
				for _, c := range got {
					await(t, c.Done(), "the end of a context")
					require.Equal(t, h.Err(), context.Cause(c))
				}
				cancel()
				require.NoError(t, l.Close())
				servers[0].Do(t, "del", lockKey("a"))
			}
		})
	}
}
