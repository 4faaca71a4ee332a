package peers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis/rueidislock"

	"github.com/rediskit/redlock"
)

// pairs runs a test for this library and another one over the same servers, with the one first and
// the other one first.
func pairs(t *testing.T, test func(t *testing.T, clients []*redis.Client, first, second library)) {
	for _, n := range []int{1, 3, 5} {
		_, clients := start(t, n)
		l := ours(openRedlock(t, clients, redlock.WithKeyPrefix("")))
		peers := []library{redsyncOver(openRedsync(clients))}
		if n == 1 {
			peers = append(peers, redislockOver(redislock.New(clients[0])))
		}
		for _, peer := range peers {
			for _, pair := range [][2]library{{l, peer}, {peer, l}} {
				t.Run(fmt.Sprintf("%s, then %s, N=%d", pair[0].name, pair[1].name, n),
					func(t *testing.T) {
						test(t, clients, pair[0], pair[1])
					})
			}
		}
	}
}

func TestLocksOfTwoLibrariesExcludeEachOther(t *testing.T) {
	pairs(t, func(t *testing.T, clients []*redis.Client, first, second library) {
		ctx := t.Context()
		held, err := first.try(ctx, t.Name())
		noError(t, err)
		before := everywhere(t, clients, t.Name())
		_, err = second.try(ctx, t.Name())
		wantError(t, err, errTaken)
		if after := valuesOf(t, clients, t.Name()); !slices.Equal(before, after) {
			t.Fatalf("the attempt has changed the keys from %q to %q", before, after)
		}
		noError(t, held.Release(ctx))
		held, err = second.try(ctx, t.Name())
		noError(t, err)
		noError(t, held.Release(ctx))
	})
}

func TestLateReleaseLeavesTheOtherLibrarysLockAlone(t *testing.T) {
	pairs(t, func(t *testing.T, clients []*redis.Client, first, second library) {
		ctx := t.Context()
		late, err := first.try(ctx, t.Name())
		noError(t, err)
		everywhere(t, clients, t.Name())
		for _, c := range clients { // as if it had expired
			noError(t, c.Del(ctx, t.Name()).Err())
		}
		held, err := second.try(ctx, t.Name())
		noError(t, err)
		before := everywhere(t, clients, t.Name())
		if err := late.Release(ctx); err == nil {
			t.Fatal("the release of a lock that is over should fail")
		}
		if after := valuesOf(t, clients, t.Name()); !slices.Equal(before, after) {
			t.Fatalf("the late release has changed the keys from %q to %q", before, after)
		}
		noError(t, held.Release(ctx))
	})
}

// Each worker has its turns, and never two at once.
func TestWorkersOfTwoLibrariesCompete(t *testing.T) {
	pairs(t, func(t *testing.T, _ []*redis.Client, first, second library) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*patient)
		defer cancel()
		var inside atomic.Int32
		var group sync.WaitGroup
		for _, l := range []library{first, second, first, second} {
			group.Go(func() {
				for range 5 {
					held, err := tryUntil(ctx, l, t.Name())
					if err != nil {
						t.Errorf("%s: %v", l.name, err)
						return
					}
					if n := inside.Add(1); n != 1 {
						t.Errorf("%s has the lock, and so have %d others", l.name, n-1)
					}
					time.Sleep(time.Millisecond) // the work
					inside.Add(-1)
					if err := held.Release(ctx); err != nil {
						t.Errorf("%s: %v", l.name, err)
					}
				}
			})
		}
		group.Wait()
	})
}

// tryUntil tries until the name is free.
func tryUntil(ctx context.Context, l library, name string) (lock, error) {
	for {
		held, err := l.try(ctx, name)
		if !errors.Is(err, errTaken) {
			return held, err
		}
		select {
		case <-time.After(rand.N(10 * time.Millisecond)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func TestLockOfAnotherLibraryShowsAsUnknown(t *testing.T) {
	_, clients := start(t, 1)
	l := openRedlock(t, clients, redlock.WithKeyPrefix(""))
	for _, peer := range []library{
		redsyncOver(openRedsync(clients)), redislockOver(redislock.New(clients[0])),
	} {
		_, err := peer.try(t.Context(), peer.name)
		noError(t, err)
		_, err = l.TryAcquire(t.Context(), peer.name)
		var held *redlock.HeldError
		if !errors.As(err, &held) || held.Owner != "" || held.TTL <= 0 || held.TTL > ttl {
			t.Fatalf("the refusal should name no owner and the rest of the TTL: %v", err)
		}
		status, err := l.Inspect(t.Context(), peer.name)
		noError(t, err)
		if !status.Locked || status.Owner != "unknown" {
			t.Fatalf("%s has it, and Inspect says %+v", peer.name, status)
		}
	}
}

// A release by another library wakes nobody: the waiter finds out by itself.
func TestWaiterComesAfterAnotherLibrarysRelease(t *testing.T) {
	_, clients := start(t, 3)
	l := openRedlock(t, clients, redlock.WithKeyPrefix(""),
		redlock.WithRetryInterval(10*time.Millisecond))
	held, err := redsyncOver(openRedsync(clients)).try(t.Context(), "r")
	noError(t, err)
	got := make(chan error, 1)
	go func() {
		h, err := l.Acquire(t.Context(), "r")
		if err == nil {
			err = h.Release(t.Context())
		}
		got <- err
	}()
	noError(t, held.Release(t.Context()))
	noError(t, within(t, "the waiter", got))
}

func TestListsThatDifferByOneServerExcludeEachOther(t *testing.T) {
	_, clients := start(t, 5)
	for n := 1; n < 5; n++ {
		few, more := openRedlock(t, clients[:n]), openRedlock(t, clients[:n+1])
		for i, order := range [][2]*redlock.Locker{{few, more}, {more, few}} {
			name := fmt.Sprintf("%d servers or one more, %d", n, i)
			h, err := order[0].TryAcquire(t.Context(), name)
			noError(t, err)
			_, err = order[1].TryAcquire(t.Context(), name)
			wantError(t, err, redlock.ErrHeld)
			noError(t, h.Release(t.Context()))
		}
	}
}

func TestRueidislockUsesOtherKeys(t *testing.T) {
	servers, clients := start(t, 1)
	peer := openRueidislock(t, servers[0].Addr(), 2)
	_, cancel, err := peer.TryWithContext(t.Context(), "r")
	noError(t, err)
	defer cancel()
	want := []string{"rueidislock:0:r", "rueidislock:1:r", "rueidislock:2:r"}
	eventually(t, "all keys of rueidislock", func() bool {
		keys := servers[0].Keys(t)
		slices.Sort(keys)
		return slices.Equal(keys, want)
	})
	for _, prefix := range []string{"lock", ""} {
		h, err := openRedlock(t, clients, redlock.WithKeyPrefix(prefix)).TryAcquire(t.Context(),
			"r")
		noError(t, err) // both have it
		noError(t, h.Release(t.Context()))
	}
}

func TestRueidislocksKeysCanBeTaken(t *testing.T) {
	servers, clients := start(t, 1)
	one, all := openRedlock(t, clients, redlock.WithKeyPrefix("rueidislock:0")),
		openRedlock(t, clients, redlock.WithKeyPrefix(""))
	for _, test := range []struct {
		majority int32
		take     func(ctx context.Context) (*redlock.Handle, error)
	}{
		{1, func(ctx context.Context) (*redlock.Handle, error) { return one.TryAcquire(ctx, "r") }},
		{2, func(ctx context.Context) (*redlock.Handle, error) {
			return all.TryAcquireMulti(ctx, []string{"rueidislock:0:r", "rueidislock:1:r",
				"rueidislock:2:r"})
		}},
	} {
		t.Run(fmt.Sprintf("KeyMajority %d", test.majority), func(t *testing.T) {
			peer := openRueidislock(t, servers[0].Addr(), test.majority)
			ctx, cancel, err := peer.TryWithContext(t.Context(), "r")
			noError(t, err)
			_, err = test.take(t.Context())
			wantError(t, err, redlock.ErrHeld)
			noError(t, ctx.Err()) // its lock is as it was
			cancel()

			h, err := test.take(t.Context())
			noError(t, err)
			_, _, err = peer.TryWithContext(t.Context(), "r")
			wantError(t, err, rueidislock.ErrNotLocked)
			noError(t, h.Extend(t.Context(), time.Minute)) // all keys are still ours
			noError(t, h.Release(t.Context()))
			_, cancel, err = peer.TryWithContext(t.Context(), "r")
			noError(t, err)
			cancel()
		})
	}
}
