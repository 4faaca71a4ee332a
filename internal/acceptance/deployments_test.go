package acceptance_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// lifeOfALock acquires, contends for, extends and releases resources.
func lifeOfALock[N redlock.Node](t *testing.T, nodes []N, resources ...string) {
	t.Helper()
	ctx := context.Background()
	mine, theirs := open(t, nodes, patient, redlock.WithOwner("mine")),
		open(t, nodes, patient, redlock.WithOwner("theirs"))
	h, err := mine.TryAcquireMulti(ctx, resources)
	require.NoError(t, err)
	for _, r := range resources {
		_, err = theirs.TryAcquire(ctx, r)
		require.ErrorIs(t, err, redlock.ErrHeld)
		require.ErrorContains(t, err, `held by "mine"`)
		status, err := theirs.Inspect(ctx, r)
		require.NoError(t, err)
		require.True(t, status.Locked)
		require.Equal(t, "mine", status.Owner)
	}
	for _, ttl := range []time.Duration{time.Hour, time.Minute, 2 * time.Minute} {
		require.NoError(t, h.Extend(ctx, ttl))
		left := time.Until(h.ValidUntil())
		require.LessOrEqual(t, left, ttl)
		require.Greater(t, left, ttl*9/10)
	}
	status, err := theirs.Inspect(ctx, resources[0])
	require.NoError(t, err)
	require.Greater(t, status.TTL, time.Until(h.ValidUntil())-20*time.Second)

	// or what is still on its way could come after the new handle's release
	require.NoError(t, mine.Close())
	h, err = theirs.Adopt(ctx, resources, h.Token())
	require.NoError(t, err)
	require.NoError(t, h.Extend(ctx, time.Minute))
	require.NoError(t, h.Release(ctx))
	h, err = theirs.TryAcquireMulti(ctx, resources)
	require.NoError(t, err)
	require.NoError(t, h.Release(ctx))
	for _, r := range resources {
		locked, err := theirs.IsLocked(ctx, r)
		require.NoError(t, err)
		require.False(t, locked)
	}
}

func TestLocksOnAnyNumberOfNodes(t *testing.T) {
	noLeak(t)
	for _, n := range []int{1, 2, 3, 4, 5, 7} {
		runAlongside(t, fmt.Sprint(n), func(t *testing.T) {
			ctx := context.Background()
			servers, clients := masters(t, n)
			lifeOfALock(t, clients, "r")
			lifeOfALock(t, clients, "a", "b", "c")
			noKeys(t, servers)

			// The lock is taken before some nodes die, and outlives them.
			l := open(t, clients)
			h := heldEverywhere(t, l, servers, "r")
			spare := (n - 1) / 2
			for _, s := range servers[:spare] {
				require.NoError(t, s.Kill())
			}
			require.NoError(t, h.Extend(ctx, time.Minute))
			_, err := l.TryAcquire(ctx, "r")
			require.ErrorIs(t, err, redlock.ErrHeld)
			require.NoError(t, h.Release(ctx))
			lifeOfALock(t, clients, "r")
			lifeOfALock(t, clients, "a", "b", "c")
			noKeys(t, servers[spare:])

			// One more is too many, down to the first node of one.
			require.NoError(t, servers[spare].Kill())
			if n%2 == 0 {
				require.NoError(t, servers[spare+1].Kill())
			}
			_, err = l.TryAcquire(ctx, "r")
			require.ErrorIs(t, err, redlock.ErrNoQuorum)
			require.NotErrorIs(t, err, redlock.ErrHeld)
		})
	}
}

// shardKeys returns the keys of all of a cluster's masters.
func shardKeys(t *testing.T, c *redistest.Cluster) []string {
	t.Helper()
	var keys []string
	for _, s := range c.Nodes {
		keys = append(keys, s.Keys(t)...)
	}
	slices.Sort(keys)
	return keys
}

// shardCalls returns how many scripts a cluster has been asked for.
func shardCalls(t *testing.T, c *redistest.Cluster) (calls int) {
	t.Helper()
	for _, s := range c.Nodes {
		calls += s.CommandCount(t, "evalsha")
	}
	return calls
}

// cluster starts a Redis Cluster. The test ends without a leaked goroutine.
func cluster(t *testing.T) (*redistest.Cluster, *redis.ClusterClient) {
	t.Helper()
	noLeak(t)
	c := redistest.StartCluster(t, 3)
	return c, c.Client(t)
}

func TestRedisClusterAsANode(t *testing.T) {
	ctx := context.Background()
	servers, client := cluster(t)
	nodes := []*redis.ClusterClient{client}
	l := open(t, nodes)
	spread := []string{"a", "b", "c", "d", "e", "f", "g", "h", "z"} // all masters get some

	t.Run("single resources", func(t *testing.T) {
		for _, r := range append([]string{"{", "{x}", "x{y}z", "\x00{\xff}", "{{a}}"}, spread...) {
			lifeOfALock(t, nodes, r)
		}
		noKeys(t, servers.Nodes)
	})

	t.Run("names whose braces leave no room for a queue", func(t *testing.T) {
		for _, r := range []string{"}", "}{", "{}x", "x}y", "{}"} {
			_, err := l.TryAcquire(ctx, r)
			require.ErrorContains(t, err, "cannot be locked on a Redis Cluster", r)
			require.ErrorContains(t, err, fmt.Sprintf("%q", r))
			lifeOfALock(t, []*redis.Client{redistest.Start(t).Client(t)}, r)
		}
		noKeys(t, servers.Nodes)
	})

	t.Run("several resources in different slots", func(t *testing.T) {
		lifeOfALock(t, nodes, spread...)
		h, err := l.TryAcquireMulti(ctx, spread)
		require.NoError(t, err)
		require.Equal(t, lockKeys(spread...), shardKeys(t, servers))
		for i, s := range servers.Nodes {
			require.NotEmpty(t, s.Keys(t), "node %d", i)
		}
		for _, ttl := range []time.Duration{time.Hour, time.Minute} {
			require.NoError(t, h.Extend(ctx, ttl))
			for _, s := range servers.Nodes {
				for _, key := range s.Keys(t) {
					left := time.Duration(s.Do(t, "pttl", key).(int64)) * time.Millisecond
					require.Greater(t, left, ttl*9/10)
					require.LessOrEqual(t, left, ttl)
				}
			}
		}
		require.NoError(t, h.Release(ctx))
		noKeys(t, servers.Nodes)
	})

	t.Run("names with braces, in pairs", func(t *testing.T) {
		names := []string{"{t}1", "{t}2", "t", "{", "{t", "{{t}", "{{t}}", "x{t}{u}", "{\x00}\xff",
			"\x00"}
		for i, a := range names {
			for _, b := range names[:i] {
				slotOf := func(r string) any {
					return servers.Nodes[0].Do(t, "cluster", "keyslot", "lock:"+r)
				}
				want := 2
				if slotOf(a) == slotOf(b) {
					want = 1
				}
				before := shardCalls(t, servers)
				h, err := l.TryAcquireMulti(ctx, []string{a, b})
				require.NoError(t, err, "%q and %q", a, b)
				require.Equal(t, want, shardCalls(t, servers)-before, "%q and %q", a, b)
				require.Equal(t, lockKeys(a, b), shardKeys(t, servers))
				require.NoError(t, h.Release(ctx))
				require.Empty(t, shardKeys(t, servers))
			}
		}
	})

	t.Run("a foreign key undoes everything, wherever it is", func(t *testing.T) {
		for _, foreign := range spread {
			require.NoError(t, client.Set(ctx, "lock:"+foreign, "somebody else", time.Minute).Err())
			_, err := l.TryAcquireMulti(ctx, spread)
			require.ErrorIs(t, err, redlock.ErrHeld)
			require.ErrorContains(t, err, fmt.Sprintf("%q is held", foreign))
			require.Equal(t, lockKeys(foreign), shardKeys(t, servers),
				"left when the attempt was over")
			require.NoError(t, client.Del(ctx, "lock:"+foreign).Err())
		}
	})

	for what, breakOne := range map[string]func(resource string){
		"gone": func(r string) { require.NoError(t, client.Del(ctx, "lock:"+r).Err()) },
		"foreign": func(r string) {
			require.NoError(t, client.Set(ctx, "lock:"+r, "somebody else", time.Minute).Err())
		},
	} {
		for _, victim := range []string{"a", "e", "z"} {
			t.Run(fmt.Sprintf("%s is %s before Extend", victim, what), func(t *testing.T) {
				h, err := l.TryAcquireMulti(ctx, spread)
				require.NoError(t, err)
				breakOne(victim)
				require.ErrorIs(t, h.Extend(ctx, time.Hour), redlock.ErrLost)
				require.ErrorIs(t, h.Err(), redlock.ErrLost)
				require.ErrorIs(t, h.Release(ctx), redlock.ErrLost)
				if what == "foreign" {
					require.Equal(t, lockKeys(victim), shardKeys(t, servers))
					require.NoError(t, client.Del(ctx, "lock:"+victim).Err())
				}
				noKeys(t, servers.Nodes)
			})
			t.Run(fmt.Sprintf("%s is %s before Release", victim, what), func(t *testing.T) {
				h, err := l.TryAcquireMulti(ctx, spread)
				require.NoError(t, err)
				breakOne(victim)
				err = h.Release(ctx)
				if what == "foreign" {
					require.Equal(t, lockKeys(victim), shardKeys(t, servers))
					require.NoError(t, client.Del(ctx, "lock:"+victim).Err())
				}
				noKeys(t, servers.Nodes)
				if what == "foreign" {
					// a slot whose keys are gone looks like the repetition of a release
					require.ErrorIs(t, err, redlock.ErrLost)
				}
			})
		}
	}

	t.Run("all is gone before Release", func(t *testing.T) {
		h, err := l.TryAcquireMulti(ctx, spread)
		require.NoError(t, err)
		for _, r := range spread {
			require.NoError(t, client.Del(ctx, "lock:"+r).Err())
		}
		require.NoError(t, h.Release(ctx), "nothing is left")
	})

	t.Run("renewal", func(t *testing.T) {
		const ttl = 4 * time.Second
		h, err := l.TryAcquireMulti(ctx, spread, redlock.WithTTL(ttl),
			redlock.WithAutoRenewal(true))
		require.NoError(t, err)
		first := h.ValidUntil()
		require.Eventually(t, func() bool { return h.ValidUntil().After(first.Add(ttl)) },
			20*time.Second, 5*time.Millisecond)
		require.NoError(t, h.Err())
		require.Equal(t, lockKeys(spread...), shardKeys(t, servers))
		require.NoError(t, h.Release(ctx))
		noKeys(t, servers.Nodes)
	})

	t.Run("waiting", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		h, err := l.TryAcquire(ctx, "z")
		require.NoError(t, err)
		waiter := inBackground(func() error {
			h, err := l.AcquireMulti(ctx, spread, redlock.WithRetryInterval(5*time.Millisecond))
			if err != nil {
				return err
			}
			return h.Release(ctx)
		})
		require.NoError(t, h.Release(ctx))
		require.NoError(t, outcome(t, waiter, "the waiter"))
		noKeys(t, servers.Nodes)
	})

	t.Run("by way of NewUniversalClient", func(t *testing.T) {
		addrs := []string{servers.Nodes[0].Addr(), servers.Nodes[1].Addr()}
		c := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: addrs})
		t.Cleanup(func() { require.NoError(t, c.Close()) })
		require.IsType(t, &redis.ClusterClient{}, c)
		lifeOfALock(t, []redis.UniversalClient{c}, spread...)
		noKeys(t, servers.Nodes)
	})
}

func TestMultiOnAClusterIsUndoneInFullWhenALaterMasterFails(t *testing.T) {
	ctx := context.Background()
	servers, client := cluster(t)
	l := open(t, []*redis.ClusterClient{client})
	spread := []string{"a", "b", "c", "d", "e", "f", "g", "h", "z"}
	lifeOfALock(t, []*redis.ClusterClient{client}, spread...)
	for k, s := range servers.Nodes {
		denyAllScripts(t, s)
		_, err := l.TryAcquireMulti(ctx, spread)
		require.ErrorIs(t, err, redlock.ErrNoQuorum, "master %d", k)
		require.NotErrorIs(t, err, redlock.ErrHeld)
		allowScripts(t, s)
		noKeys(t, servers.Nodes)
	}
	lifeOfALock(t, []*redis.ClusterClient{client}, spread...)
}

func TestClusterAmongSingleServers(t *testing.T) {
	ctx := context.Background()
	servers, client := cluster(t)
	singles := redistest.StartN(t, 2)
	all := append(slices.Clone(servers.Nodes), singles...)
	nodes := []redlock.Node{singles[0].Client(t), client, singles[1].Client(t)}
	resources := []string{"{t}a", "a", "b", "{t}b", "z"}
	lifeOfALock(t, nodes, "r")
	lifeOfALock(t, nodes, resources...)
	noKeys(t, all)

	// A foreign key in one slot costs the lock the cluster's vote, and nothing else.
	l := open(t, nodes)
	require.NoError(t, client.Set(ctx, "lock:z", "somebody else", time.Minute).Err())
	h, err := l.TryAcquireMulti(ctx, resources)
	require.NoError(t, err)
	require.NoError(t, h.Extend(ctx, time.Minute))
	require.Equal(t, "somebody else", client.Get(ctx, "lock:z").Val())
	require.NoError(t, h.Release(ctx))
	eventually(t, func() bool { return slices.Equal(lockKeys("z"), shardKeys(t, servers)) },
		"not the stranger's key alone")
	require.NoError(t, client.Del(ctx, "lock:z").Err())
	noKeys(t, all)

	// What one slot has lost comes back with the next extension.
	h, err = l.TryAcquireMulti(ctx, resources)
	require.NoError(t, err)
	eventually(t, func() bool { return len(shardKeys(t, servers)) == len(resources) },
		"not taken on the cluster")
	require.NoError(t, client.Del(ctx, "lock:b").Err())
	require.NoError(t, h.Extend(ctx, time.Hour))
	eventually(t, func() bool { return client.Get(ctx, "lock:b").Val() == h.Token() },
		"not healed")
	require.NoError(t, h.Release(ctx))
	noKeys(t, all)

	require.NoError(t, singles[1].Kill())
	lifeOfALock(t, nodes, resources...)
	noKeys(t, all[:len(all)-1])
}

func TestSentinelFailover(t *testing.T) {
	noLeak(t)
	s := redistest.StartSentinel(t)
	nodes := []*redis.Client{s.Client(t)}
	lifeOfALock(t, nodes, "r")
	lifeOfALock(t, nodes, "a", "b")

	s.Failover(t)
	ctx := context.Background()
	l := open(t, nodes)
	i := 0
	until(t, 30*time.Second, func() bool {
		i++
		resource := fmt.Sprint("fresh ", i)
		h, err := l.TryAcquire(ctx, resource)
		if err != nil {
			return false
		}
		followed := s.Master(t).Do(t, "get", "lock:"+resource) == h.Token()
		return h.Release(ctx) == nil && followed
	}, "the client has not followed")
	lifeOfALock(t, nodes, "r")
	lifeOfALock(t, nodes, "a", "b")
}

func TestUniversalClientsAsNodes(t *testing.T) {
	noLeak(t)
	servers := redistest.StartN(t, 3)
	nodes := make([]redis.UniversalClient, len(servers))
	for i, s := range servers {
		nodes[i] = redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{s.Addr()}})
		t.Cleanup(func() { require.NoError(t, nodes[i].Close()) })
	}
	lifeOfALock(t, nodes, "r")
	lifeOfALock(t, nodes, "a", "b", "c")
	noKeys(t, servers)
}

func TestRingIsRefused(t *testing.T) {
	noLeak(t)
	s := redistest.Start(t)
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"one": s.Addr()}})
	t.Cleanup(func() { require.NoError(t, ring.Close()) })
	_, err := redlock.New([]*redis.Ring{ring})
	require.ErrorContains(t, err, "node 0")
	require.ErrorContains(t, err, "*redis.Ring")
	_, err = redlock.New([]redlock.Node{s.Client(t), ring})
	require.ErrorContains(t, err, "node 1")
	_, err = redlock.New([]redis.UniversalClient{ring})
	require.ErrorContains(t, err, "*redis.Ring")
	require.Zero(t, scriptCalls(t, s))
}

func TestEitherProtocolOfRedis(t *testing.T) {
	for _, protocol := range []int{2, 3} {
		for _, n := range []int{1, 3} {
			t.Run(fmt.Sprintf("RESP%d, %d nodes", protocol, n), func(t *testing.T) {
				ctx := context.Background()
				noLeak(t)
				servers := redistest.StartN(t, n)
				nodes := make([]*redis.Client, n)
				for i, s := range servers {
					nodes[i] = redis.NewClient(&redis.Options{Addr: s.Addr(), Protocol: protocol})
					t.Cleanup(func() { require.NoError(t, nodes[i].Close()) })
				}
				lifeOfALock(t, nodes, "r")
				lifeOfALock(t, nodes, "a", "b", "c")
				noKeys(t, servers)

				l := open(t, nodes)
				h := heldEverywhere(t, l, servers, "a", "b")
				for _, s := range servers {
					s.Do(t, "del", "lock:b")
				}
				require.ErrorIs(t, h.Extend(ctx, time.Hour), redlock.ErrLost)
				noKeys(t, servers)
				for _, s := range servers {
					s.Do(t, "rpush", "lock:r", "not a string")
				}
				_, err := l.TryAcquire(ctx, "r")
				require.ErrorIs(t, err, redlock.ErrNoQuorum)
				require.ErrorContains(t, err, "WRONGTYPE")
			})
		}
	}
}
