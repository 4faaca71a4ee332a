package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/locktest"
	"github.com/rediskit/redlock/internal/redistest"
	"github.com/rediskit/redlock/internal/wallclock"
)

// counterOn returns the fencing counter of a resource on a server, 0 if there is none.
func counterOn(t *testing.T, s *redistest.Server, resource string) uint64 {
	t.Helper()
	text, _ := s.Do(t, "get", fenceKey(resource)).(string)
	number, _ := strconv.ParseUint(text, 10, 64)
	return number
}

func fenceKey(resource string) string { return "{" + lockKey(resource) + "}:fence" }

// behind is the context of a process whose clock is late by so much.
func behind(d time.Duration) context.Context { return wallclock.Ahead(context.Background(), -d) }

// fenceAndRelease takes the lock and gives it back.
func fenceAndRelease(t *testing.T, ctx context.Context, l *redlock.Locker,
	resources ...string) uint64 {
	t.Helper()
	h, err := l.AcquireMulti(ctx, resources)
	require.NoError(t, err)
	require.NoError(t, h.Release(ctx))
	return h.Fence()
}

func TestFenceTakesOneRoundTripWhereClocksAgree(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	warmUp(t, clients)
	l := open(t, clients, redlock.WithFencing())
	before := open(t, clients, redlock.WithFencing())
	fenceAndRelease(t, ctx, before, "a")
	require.NoError(t, before.Close()) // all has arrived, and the nodes know the scripts
	resetStats(t, servers...)

	began := uint64(time.Now().UnixMicro())
	h, err := l.TryAcquireMulti(ctx, []string{"a", "b"})
	require.NoError(t, err)
	takenEverywhere(t, h, servers...)
	require.GreaterOrEqual(t, h.Fence(), began)
	require.LessOrEqual(t, h.Fence(), uint64(time.Now().UnixMicro()))
	for i, s := range servers {
		require.Equal(t, 1, scriptCalls(t, s), "node %d", i)
		require.Equal(t, h.Fence(), counterOn(t, s, "a"))
		require.Equal(t, h.Fence(), counterOn(t, s, "b"))
	}
	status, err := l.Inspect(ctx, "b")
	require.NoError(t, err)
	require.Equal(t, h.Fence(), status.Fence)
	require.NoError(t, h.Release(ctx))
}

// takenBack waits until no server has the lock any more.
func takenBack(t *testing.T, servers []*redistest.Server, resource string) {
	t.Helper()
	for i, s := range servers {
		eventually(t, func() bool { return ownerOn(t, s, resource) == "" },
			"node %d has the lock still", i)
	}
}

func TestFencesIncreaseWhateverTheClocksOfClientsShow(t *testing.T) {
	_, clients := masters(t, 3)
	lockers := []*redlock.Locker{open(t, clients, redlock.WithFencing()),
		open(t, clients, redlock.WithFencing())}
	last := uint64(0)
	for i := range 30 {
		ctx := behind([]time.Duration{0, 10 * time.Hour, -9 * time.Hour, 400 * 24 * time.Hour,
			-time.Second}[i%5])
		fence := fenceAndRelease(t, ctx, lockers[i%2], "a")
		require.Greater(t, fence, last, "holder %d", i)
		last = fence
	}
}

func TestFenceExceedsThoseOfEarlierHoldersOfAnyOfTheResources(t *testing.T) {
	_, clients := masters(t, 3)
	l := open(t, clients, redlock.WithFencing())
	a := fenceAndRelease(t, behind(-5*time.Hour), l, "a")
	b := fenceAndRelease(t, behind(0), l, "b")
	both := fenceAndRelease(t, behind(time.Hour), l, "a", "b", "c")
	require.Greater(t, a, b)
	require.Greater(t, both, a)
	for _, r := range []string{"a", "b", "c"} {
		require.Greater(t, fenceAndRelease(t, behind(time.Hour), l, r), both, r)
	}
}

// Each attempt is granted the lock on some nodes only, and the counters go apart.
func TestFencesIncreaseOverPartialGrants(t *testing.T) {
	ctx := behind(time.Hour)
	servers, clients := masters(t, 5)
	l := open(t, clients, redlock.WithFencing(), patient)
	last := fenceAndRelease(t, behind(0), l, "a")
	for i := range 10 {
		takenBack(t, servers, "a")
		mine := []*redistest.Server{servers[i%5], servers[(i+1)%5], servers[(i+2)%5]}
		takeFor(t, time.Minute, "a", mine...)
		eventually(t, func() bool { // three refusals are enough, whatever the other two would say
			_, err := l.TryAcquire(ctx, "a")
			require.ErrorIs(t, err, redlock.ErrHeld)
			return counterOn(t, servers[(i+3)%5], "a") > last
		}, "it was never granted there")
		uproot(t, "a", mine...)
		takenBack(t, servers, "a")

		// a quorum of nodes that differ is left
		takeFor(t, time.Minute, "a", servers[i%5], servers[(i+3)%5])
		fence := fenceAndRelease(t, ctx, l, "a")
		require.Greater(t, fence, last)
		uproot(t, "a", servers[i%5], servers[(i+3)%5])
		last = fence
	}
}

// A node gets the acquire of an attempt when that has failed and others have had the lock.
func TestFencesIncreaseWhenRequestsOfEarlierAttemptsAreLate(t *testing.T) {
	servers, proxies, _ := proxied(t, 3)
	late := open(t, proxyClients(t, proxies), redlock.WithFencing(), patient)
	l := open(t, redistest.Clients(t, servers), redlock.WithFencing())
	fenceAndRelease(t, behind(0), late, "a") // every node knows the scripts
	last := uint64(0)
	for i := range 6 {
		takenBack(t, servers, "a")
		for _, p := range proxies[:2] {
			p.HoldRequests(true)
		}
		ctx, cancel := context.WithCancel(behind(-time.Duration(i) * time.Hour))
		attempt := inBackground(func() error { return onlyError(late.TryAcquire(ctx, "a")) })
		for _, p := range proxies[:2] {
			eventually(t, func() bool { return p.Held() > 0 }, "no request is on its way")
		}
		eventually(t, func() bool { return ownerOn(t, servers[2], "a") != "" }, "not granted")
		cancel()
		require.ErrorIs(t, outcome(t, attempt, "the attempt"), context.Canceled)
		takenBack(t, servers[2:], "a")
		fence := fenceAndRelease(t, behind(3*time.Hour), l, "a")
		require.Greater(t, fence, last)
		for _, p := range proxies[:2] {
			p.HoldRequests(false)
		}
		after := fenceAndRelease(t, behind(time.Duration(i)*time.Hour), l, "a")
		require.Greater(t, after, fence)
		last = after
		for _, p := range proxies[:2] {
			eventually(t, func() bool { return p.Held() == 0 }, "still on its way")
		}
	}
}

func proxyClients(t *testing.T, proxies []*redistest.Proxy) []*redis.Client {
	t.Helper()
	clients := make([]*redis.Client, len(proxies))
	for i, p := range proxies {
		clients[i] = p.Client(t)
	}
	return clients
}

// The client library repeats what it has had no answer to: the grant, and the second round.
func TestLostRepliesChangeNoFence(t *testing.T) {
	ctx := behind(time.Hour)
	servers, proxies, clients := proxied(t, 3)
	l := open(t, clients, redlock.WithFencing(), redlock.WithNodeTimeout(5*time.Second))
	last := fenceAndRelease(t, behind(0), l, "a")
	for _, rounds := range []int{1, 2} {
		takenBack(t, servers, "a")
		for i, s := range servers { // so that they must be made to agree
			s.Do(t, "set", fenceKey("a"), last+uint64(10*i))
		}
		var lost []<-chan struct{}
		for _, p := range proxies[:2] {
			lost = append(lost, p.DropReplies(rounds, "evalsha"))
		}
		h, err := l.TryAcquire(ctx, "a")
		require.NoError(t, err)
		for _, l := range lost {
			await(t, l, "a reply to be lost")
		}
		require.Greater(t, h.Fence(), last)
		for i, s := range servers[:2] {
			eventually(t, func() bool { return counterOn(t, s, "a") >= h.Fence() }, "node %d", i)
		}
		require.NoError(t, h.Release(ctx))
		last = h.Fence()
	}
}

// The counters of the nodes that have granted less than the fence are raised, those of late ones
// too: who has the lock has its fence.
func TestNodesThatJoinALockLateLearnItsFence(t *testing.T) {
	ctx := behind(time.Hour)
	servers, proxies, clients := proxied(t, 3)
	l := open(t, clients, redlock.WithFencing(), redlock.WithNodeTimeout(5*time.Second))
	last := fenceAndRelease(t, behind(0), l, "a")
	takenBack(t, servers, "a")
	servers[2].Do(t, "del", fenceKey("a"))
	proxies[2].HoldRequests(true)
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	require.Greater(t, h.Fence(), last)
	proxies[2].HoldRequests(false)
	eventually(t, func() bool { return counterOn(t, servers[2], "a") == h.Fence() },
		"it does not learn the fence")
	require.Equal(t, h.Token(), ownerOn(t, servers[2], "a"))
	require.NoError(t, h.Release(ctx))
}

func TestFencesIncreaseOverRestartsOfAMinorityWithoutData(t *testing.T) {
	for _, n := range []int{3, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			servers, clients := masters(t, n)
			l := open(t, clients, redlock.WithFencing(), redlock.WithNodeTimeout(5*time.Second))
			last := fenceAndRelease(t, behind(0), l, "a")
			for i := range 2 * n {
				for j := range (n - 1) / 2 {
					servers[(i+j)%n].Restart(t)
				}
				h, err := l.Acquire(behind(10*time.Hour), "a")
				require.NoError(t, err)
				require.Greater(t, h.Fence(), last)
				last = h.Fence()
				takenEverywhere(t, h, servers...)
				for _, s := range servers {
					eventually(t, func() bool { return counterOn(t, s, "a") >= last },
						"a node has the lock and not its fence")
				}
				require.NoError(t, h.Release(context.Background()))
				takenBack(t, servers, "a")
			}
		})
	}
}

// All five nodes restart without data, one by one, while a lock is held throughout: none of its
// quorums, and none of its counters, would have survived without healing.
func TestLockAndFenceOutliveARollingRestartOfAllNodes(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 5)
	l := open(t, clients, redlock.WithFencing(), redlock.WithTTL(5*time.Second),
		redlock.WithAutoRenewal(true))
	other := open(t, clients, redlock.WithFencing())
	h := heldEverywhere(t, l, servers, "a")
	for i, s := range servers {
		s.Restart(t)
		takenEverywhere(t, h, s)
		require.GreaterOrEqual(t, counterOn(t, s, "a"), h.Fence(),
			"node %d has got the lock again without its fence", i)
		require.NoError(t, h.Err())
		_, err := other.TryAcquire(ctx, "a")
		require.ErrorIs(t, err, redlock.ErrHeld)
	}
	require.NoError(t, h.Release(ctx))
	require.Greater(t, fenceAndRelease(t, behind(10*time.Hour), other, "a"), h.Fence())
}

// What docs/fencing.md says of counters that a quorum has lost: clocks are all that is left to
// order the holders.
func TestCountersLostOnAQuorumLeaveTheOrderToTheClocks(t *testing.T) {
	servers, clients := masters(t, 3)
	l := open(t, clients, redlock.WithFencing(), redlock.WithNodeTimeout(5*time.Second))
	last := fenceAndRelease(t, behind(0), l, "a")
	lose := func() {
		uproot(t, "a", servers[2])
		takenBack(t, servers, "a")
		servers[0].Restart(t)
		servers[1].Restart(t)
	}
	lose()
	takeFor(t, time.Minute, "a", servers[2])
	fence := fenceAndRelease(t, behind(0), l, "a")
	require.Greater(t, fence, last, "clocks agree")

	lose()
	require.Less(t, fenceAndRelease(t, behind(10*time.Hour), l, "a"), fence,
		"a clock that is behind")
}

func TestAdoptKeepsTheFence(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients, redlock.WithFencing())
	h, err := l.TryAcquireMulti(ctx, []string{"a", "b"})
	require.NoError(t, err)
	takenEverywhere(t, h, servers...)
	// One node's counter has gone on, as after an early expiry there.
	servers[0].Do(t, "set", fenceKey("a"), h.Fence()+7)
	adopted, err := l.Adopt(ctx, []string{"a", "b"}, h.Token())
	require.NoError(t, err)
	require.Equal(t, h.Fence(), adopted.Fence())
	require.NoError(t, adopted.Extend(ctx, time.Minute))
	require.NoError(t, adopted.Extend(ctx, 10*time.Second)) // a shortening
	takenEverywhere(t, adopted, servers...)
	again, err := l.Adopt(ctx, []string{"a", "b"}, adopted.Token())
	require.NoError(t, err)
	require.Equal(t, h.Fence(), again.Fence())
	require.NoError(t, again.Release(ctx))

	plain, err := open(t, clients).TryAcquire(ctx, "c")
	require.NoError(t, err)
	require.Zero(t, plain.Fence())
	_, err = l.Adopt(ctx, []string{"c"}, plain.Token())
	require.EqualError(t, err,
		`redlock: adopt "c": the lock was taken without fencing, and this Locker has WithFencing`)
	require.NoError(t, plain.Release(ctx))
}

func TestCounterOutlivesItsLockByAWeek(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 1)
	l := open(t, clients, redlock.WithFencing())
	const day = 24 * time.Hour
	for _, c := range []struct{ ttl, least time.Duration }{
		{time.Minute, 7 * day}, {3 * day, 24 * day},
	} {
		h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(c.ttl))
		require.NoError(t, err)
		servers[0].Do(t, "expire", fenceKey("a"), 1000)
		require.NoError(t, h.Extend(ctx, c.ttl))
		require.NoError(t, h.Release(ctx))
		require.InDelta(t, c.least.Hours(), keyTTL(t, servers[0], fenceKey("a")).Hours(), 0.1)
	}
}

func TestFenceOfAClockInTheFarFutureIsCutToTheServersDay(t *testing.T) {
	servers, clients := masters(t, 1)
	l := open(t, clients, redlock.WithFencing())
	const years = 365 * 24 * time.Hour
	for _, ahead := range []time.Duration{10 * years, 200 * years} {
		// beyond the numbers that scripts can count
		fence := fenceAndRelease(t, behind(-ahead), l, "a")
		require.InDelta(t, time.Now().Add(24*time.Hour).Unix(), fence/1e6, 60)
	}
	require.Positive(t, fenceAndRelease(t, behind(200*years), l, "b"), "before 1970")

	untimed := open(t, []*redis.Client{asUser(t, servers[0], "~*", "&*", "+@all", "-time")},
		redlock.WithFencing())
	fence := fenceAndRelease(t, behind(-10*years), untimed, "a")
	require.InDelta(t, time.Now().Add(10*years).Unix(), fence/1e6, 60)
	_, err := untimed.TryAcquire(behind(-200*years), "a")
	require.ErrorIs(t, err, redlock.ErrNoQuorum)
	require.ErrorContains(t, err, "a fencing counter would reach 2^52: a clock is wrong")
	takenBack(t, servers, "a")
}

// A server that evicts keys, or a stranger, takes the counter of a lock that is held away.
func TestCounterThatIsGoneOrSpoiltIsToldAndGrantsNothing(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 1)
	l := open(t, clients, redlock.WithFencing())
	for value, text := range map[string]string{
		"x": "a fencing counter is not a number", "-1": "not a number",
		"4503599627370495": "would reach 2^52",
	} {
		servers[0].Do(t, "set", fenceKey("a"), value)
		_, err := l.TryAcquire(ctx, "a")
		require.ErrorIs(t, err, redlock.ErrNoQuorum)
		require.ErrorContains(t, err, text)
		takenBack(t, servers, "a")
	}
	servers[0].Do(t, "del", fenceKey("a"))
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	servers[0].Do(t, "del", fenceKey("a"))
	require.NoError(t, h.Extend(ctx, time.Minute), "the holder knows it")
	require.Equal(t, h.Fence(), counterOn(t, servers[0], "a"))
	require.NoError(t, h.Release(ctx))
}

func TestFencedNamesOnARedisCluster(t *testing.T) {
	ctx := context.Background()
	s := redistest.Start(t)
	cluster := open(t, []locktest.OnePerSlot{{Client: s.Client(t)}}, redlock.WithFencing())
	single := open(t, []*redis.Client{s.Client(t)}, redlock.WithFencing())
	for name, fine := range map[string]bool{
		"a": true, "{u}a": true, "a{u}": true, "a{b": true, "a}b": false, "{}a": false,
		"{a}}": true, "a{}{b}": false,
	} {
		require.Positive(t, fenceAndRelease(t, ctx, single, name), name)
		h, err := cluster.TryAcquire(ctx, name)
		if !fine {
			require.ErrorContains(t, err, "cannot be locked on a Redis Cluster", name)
			_, err = cluster.Inspect(ctx, name)
			require.Error(t, err)
			continue
		}
		require.NoError(t, err, name)
		require.NoError(t, h.Release(ctx))
	}
	require.Equal(t, int64(1), s.Do(t, "exists", "lock:{u}a:fence"), "behind a hash tag")
	require.Equal(t, int64(1), s.Do(t, "exists", "{lock:a}:fence"), "in braces")
}

func TestFencedLocksOnARealRedisCluster(t *testing.T) {
	noLeak(t)
	ctx := context.Background()
	client := redistest.StartCluster(t, 3).Client(t)
	l := open(t, []*redis.ClusterClient{client}, redlock.WithFencing(),
		redlock.WithNodeTimeout(5*time.Second))
	last := uint64(0)
	for i := range 5 {
		h, err := l.AcquireMulti(behind(time.Duration(i)*time.Hour),
			[]string{"a", "b", "c", "{u}d", "{u}e"})
		require.NoError(t, err)
		require.Greater(t, h.Fence(), last)
		last = h.Fence()
		require.NoError(t, h.Extend(ctx, time.Minute))
		require.NoError(t, h.Release(ctx))
		fence := fenceAndRelease(t, behind(time.Duration(10+i)*time.Hour), l,
			[]string{"a", "c", "{u}e"}[i%3])
		require.Greater(t, fence, last)
		last = fence
	}
}

func TestManyClientsGetFencesInTheOrderOfTheirTenures(t *testing.T) {
	_, clients := masters(t, 3)
	var lockers []*redlock.Locker
	for range 4 {
		lockers = append(lockers, open(t, clients, redlock.WithFencing(),
			redlock.WithRetryInterval(5*time.Millisecond), redlock.WithNodeTimeout(5*time.Second)))
	}
	largest := uint64(0) // guarded by the lock
	var calls []func() error
	for i, l := range lockers {
		calls = append(calls, func() error {
			for range 25 {
				h, err := l.Acquire(behind(time.Duration(i)*time.Hour), "a")
				if err != nil {
					return err
				}
				if h.Fence() <= largest {
					return fmt.Errorf("fence %d after %d", h.Fence(), largest)
				}
				largest = h.Fence()
				if err := h.Release(context.Background()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, errors.Join(together(calls...)))
}
