package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// A lock is nobody else's business: whatever stands between the library and the keys sees each lock
// by itself. What these tests have in common are callers of different resources who call at the
// same moment.

// passThrough acquires, extends and releases many different resources at once, one for each caller.
// Then it does so again with the call that waits.
func passThrough(t *testing.T, l *redlock.Locker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	type acquire func(ctx context.Context, resource string,
		opts ...redlock.AcquireOption) (*redlock.Handle, error)
	for _, acquire := range []acquire{l.TryAcquire, l.Acquire} {
		handles := make([]*redlock.Handle, callers)
		requireNoErrors(t, atOnce(callers, func(i int) (err error) {
			handles[i], err = acquire(ctx, fmt.Sprint("resource ", i))
			return err
		}), "acquire")
		requireNoErrors(t, atOnce(callers, func(i int) error {
			return handles[i].Extend(ctx, time.Minute)
		}), "extend")
		requireNoErrors(t, atOnce(callers, func(i int) error { return handles[i].Release(ctx) }),
			"release")

		// The calls of different verbs meet.
		requireNoErrors(t, atOnce(callers, func(i int) error {
			h, err := acquire(ctx, fmt.Sprint("resource ", i))
			if err != nil {
				return err
			}
			return errors.Join(h.Extend(ctx, time.Minute), h.Release(ctx))
		}), "acquire, extend and release")
	}
}

// Some managed services run in cluster mode even where there is one shard only: a plain client
// works, but the keys of a command must share a slot.
func TestCrowdOnAClusterOfOneBehindAPlainClient(t *testing.T) {
	c := redistest.StartCluster(t, 1)
	passThrough(t, open(t, []*redis.Client{c.Nodes[0].Client(t)}, patient))
	requireEmpty(t, c.Nodes...)
}

func TestCrowdOnAClusterBehindAWrapper(t *testing.T) {
	c := redistest.StartCluster(t, 3)
	passThrough(t, open(t, []wrapped{{c.Client(t)}}, patient))
	requireEmpty(t, c.Nodes...)
}

func TestCrowdBehindAShardingProxyKeepsEachKeyOnItsServer(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	servers := redistest.StartN(t, 2)
	proxy := redistest.StartSharding(t, servers...)
	l := open(t, []*redis.Client{proxy.Client(t)}, patient)

	inPlace := func(while string) {
		t.Helper()
		misplaced := 0
		for _, s := range servers {
			for _, key := range s.Keys(t) {
				if proxy.ServerOf(key) != s {
					misplaced++
				}
			}
		}
		require.Zero(t, misplaced, "keys on the wrong server while %s", while)
	}
	for range 3 {
		handles := make([]*redlock.Handle, callers)
		requireNoErrors(t, atOnce(callers, func(i int) (err error) {
			handles[i], err = l.Acquire(ctx, fmt.Sprint("resource ", i))
			return err
		}), "acquire")
		inPlace("held")
		for i, h := range handles {
			key := fmt.Sprint("lock:resource ", i)
			require.Equal(t, h.Token(), proxy.ServerOf(key).Do(t, "get", key))
			require.NoError(t, h.Err())
		}
		requireNoErrors(t, atOnce(callers, func(i int) error {
			return handles[i].Extend(ctx, time.Minute)
		}), "extend")
		inPlace("extended")
		requireNoErrors(t, atOnce(callers, func(i int) error { return handles[i].Release(ctx) }),
			"release")
		requireEmpty(t, servers...)
	}
}

func TestCompetitorsBehindAShardingProxyExcludeEachOther(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	servers := redistest.StartN(t, 2)
	proxy := redistest.StartSharding(t, servers...)
	lockers := []*redlock.Locker{
		open(t, []*redis.Client{proxy.Client(t)}, patient, redlock.WithOwner("one")),
		open(t, []*redis.Client{proxy.Client(t)}, patient, redlock.WithOwner("other")),
	}

	t.Run("of all who try one gets it", func(t *testing.T) {
		for range 5 {
			granted := make([]*redlock.Handle, 2*callers)
			requireNoErrors(t, atOnce(2*callers, func(i int) error {
				h, err := lockers[i%2].TryAcquire(ctx, fmt.Sprint("resource ", i/2))
				if granted[i] = h; errors.Is(err, redlock.ErrHeld) {
					return nil
				}
				return err
			}), "try")
			var twice, nobody int
			for i := range callers {
				switch one, other := granted[2*i], granted[2*i+1]; {
				case alive(one) && alive(other):
					twice++
				case !alive(one) && !alive(other):
					nobody++
				}
			}
			require.Zero(t, twice, "resources that were held twice")
			require.Zero(t, nobody, "resources that nobody got")
			requireNoErrors(t, atOnce(2*callers, func(i int) error {
				if granted[i] == nil {
					return nil
				}
				return granted[i].Release(ctx)
			}), "release")
			requireEmpty(t, servers...)
		}
	})

	t.Run("all who wait get it in turn", func(t *testing.T) {
		const resources = 20
		var holders [resources]holder
		requireNoErrors(t, atOnce(callers, func(i int) error {
			r := i / 2 % resources
			h, err := lockers[i%2].Acquire(ctx, fmt.Sprint("shared ", r),
				redlock.WithRetryInterval(2*time.Millisecond))
			if err != nil {
				return err
			}
			err = holders[r].enter(h)
			return errors.Join(err, h.Extend(ctx, time.Minute), holders[r].leave(h), h.Release(ctx))
		}), "acquire, extend, release")
		requireEmpty(t, servers...)
	})
}

func alive(h *redlock.Handle) bool { return h != nil && h.Err() == nil }

// holder knows who has a resource, by what the handles say.
type holder struct {
	mu sync.Mutex
	h  *redlock.Handle // guarded by mu
}

// enter is for a new holder. It returns an error if there is another one.
func (o *holder) enter(h *redlock.Handle) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if alive(o.h) && alive(h) {
		return fmt.Errorf("%v is held twice", h)
	}
	o.h = h
	return nil
}

// leave is for a holder who is about to release.
func (o *holder) leave(h *redlock.Handle) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.h != h {
		return fmt.Errorf("%v has got another holder", h)
	}
	o.h = nil
	return nil
}
