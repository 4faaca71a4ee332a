package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// Row 1 of the failure table: a minority of the nodes is down, hung or slow.
func TestMinorityThatIsDownHungOrSlowDelaysNoCall(t *testing.T) {
	type setting struct {
		servers []*redistest.Server
		proxies []*redistest.Proxy // nil: the clients connect directly
	}
	for _, fault := range []struct {
		name    string
		proxied bool
		strike  func(s setting, i int) error
		cure    func(s setting, i int) error
	}{
		{
			name:   "down",
			strike: func(s setting, i int) error { return s.servers[i].Kill() },
			cure:   func(s setting, i int) error { return s.servers[i].Relaunch() },
		},
		{
			name:   "hung",
			strike: func(s setting, i int) error { return s.servers[i].Pause() },
			cure:   func(s setting, i int) error { return s.servers[i].Resume() },
		},
		{
			name: "slow", proxied: true,
			strike: func(s setting, i int) error { s.proxies[i].Delay(150 * time.Millisecond); return nil },
			cure:   func(s setting, i int) error { s.proxies[i].Delay(0); return nil },
		},
	} {
		for _, n := range []int{3, 5} {
			t.Run(fmt.Sprintf("%d of %d %s", (n-1)/2, n, fault.name), func(t *testing.T) {
				var s setting
				var clients []*redis.Client
				if fault.proxied {
					s.servers, s.proxies, clients = proxied(t, n)
				} else {
					s.servers, clients = masters(t, n)
				}
				warmUp(t, clients)
				measure := func() (stopwatch, func()) {
					mine, theirs, w := open(t, clients), open(t, clients), stopwatch{}
					for range 9 {
						callEverything(t, mine, theirs, w)
					}
					return w, func() { require.NoError(t, errors.Join(mine.Close(), theirs.Close())) }
				}
				healthy, settle := measure()
				settle() // what nodes were not waited for is over on all of them
				struck := make([]int, 0, 2)
				for i := range (n - 1) / 2 {
					struck = append(struck, 2*i+1)
					require.NoError(t, fault.strike(s, 2*i+1))
				}
				faulty, _ := measure()
				for call := range healthy {
					require.Less(t, faulty.median(call), healthy.median(call)+50*time.Millisecond,
						"%s: %v without the fault, %v with it", call, healthy[call], faulty[call])
				}

				for _, i := range struck {
					require.NoError(t, fault.cure(s, i))
				}
				noKeys(t, s.servers)
			})
		}
	}
}

// callEverything makes each call of the API, with the outcome that it has when the nodes are healthy.
func callEverything(t *testing.T, mine, theirs *redlock.Locker, w stopwatch) {
	t.Helper()
	ctx := context.Background()
	var h *redlock.Handle
	acquired := func(got *redlock.Handle, err error) error { h = got; return err }
	release := func() error { return h.Release(ctx) }
	several := []string{"b", "c"}

	w.time(t, "TryAcquire", func() error { return acquired(mine.TryAcquire(ctx, "a")) })
	w.time(t, "TryAcquire of a held lock", func() error {
		_, err := theirs.TryAcquire(ctx, "a")
		require.ErrorIs(t, err, redlock.ErrHeld)
		return nil
	})
	w.time(t, "IsLocked of a held lock", func() error {
		locked, err := theirs.IsLocked(ctx, "a")
		require.True(t, locked)
		return err
	})
	w.time(t, "Inspect of a held lock", func() error {
		status, err := theirs.Inspect(ctx, "a")
		require.True(t, status.Locked)
		return err
	})
	w.time(t, "Extend to longer", func() error { return h.Extend(ctx, time.Minute) })
	w.time(t, "Extend to shorter", func() error { return h.Extend(ctx, 20*time.Second) })
	former := h
	w.time(t, "Adopt", func() error { return acquired(theirs.Adopt(ctx, []string{"a"}, h.Token())) })
	w.time(t, "Release", release)
	w.time(t, "Release again", release)
	w.time(t, "Release by the former owner", func() error { return former.Release(ctx) })

	w.time(t, "IsLocked of a free lock", func() error {
		locked, err := mine.IsLocked(ctx, "a")
		require.False(t, locked)
		return err
	})
	w.time(t, "Inspect of a free lock", func() error {
		status, err := mine.Inspect(ctx, "a")
		require.False(t, status.Locked)
		return err
	})
	w.time(t, "WaitForUnlock of a free lock", func() error { return mine.WaitForUnlock(ctx, "a") })
	w.time(t, "Acquire", func() error { return acquired(mine.Acquire(ctx, "a")) })
	w.time(t, "Release", release)

	w.time(t, "TryAcquireMulti", func() error { return acquired(mine.TryAcquireMulti(ctx, several)) })
	w.time(t, "TryAcquireMulti of held locks", func() error {
		_, err := theirs.TryAcquireMulti(ctx, several)
		require.ErrorIs(t, err, redlock.ErrHeld)
		return nil
	})
	w.time(t, "Extend of several", func() error { return h.Extend(ctx, time.Minute) })
	w.time(t, "Release of several", release)
	w.time(t, "AcquireMulti", func() error { return acquired(mine.AcquireMulti(ctx, several)) })
	w.time(t, "Release of several", release)

	w.time(t, "Do", func() error {
		return mine.Do(ctx, "d", func(ctx context.Context) error { return ctx.Err() })
	})
}

// stopwatch is how long calls took, by their names.
type stopwatch map[string][]time.Duration

// time runs a call, which must succeed.
func (w stopwatch) time(t *testing.T, name string, call func() error) {
	t.Helper()
	start := time.Now()
	require.NoError(t, call(), name)
	w[name] = append(w[name], time.Since(start))
}

// median is what a call takes on a machine that is now and then busy with other things.
func (w stopwatch) median(name string) time.Duration {
	sorted := slices.Sorted(slices.Values(w[name]))
	return sorted[len(sorted)/2]
}

// Row 1: two nodes hang, and what they were never asked counts for nothing. A lock that was released is free on the others.
func TestReleaseIsConfirmedByNodesThatHadTheLock(t *testing.T) {
	ctx := context.Background()
	servers, proxies, clients := proxied(t, 5)
	l := open(t, clients)
	warmUp(t, clients)
	hung, alive := []*redistest.Server{servers[0], servers[1]}, servers[2:]
	freeze(t, hung...)
	for range 4 { // until all that the Locker sends to the hung nodes waits behind something that they do not answer
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

// Rows 1, 2 and 19: a node that fails at once has voted, and nobody waits until its clean-up has worked.
func TestNodesThatFailAtOnceAreNotWaitedFor(t *testing.T) {
	ctx := context.Background()
	const nodeTimeout = 4 * time.Second
	for _, fault := range []struct {
		name   string
		strike func(t *testing.T, s *redistest.Server)
	}{
		{"refusing", denyScripts},
		{"down", func(t *testing.T, s *redistest.Server) { require.NoError(t, s.Kill()) }},
	} {
		t.Run(fault.name+", a minority, beside a holder", func(t *testing.T) {
			servers, proxies, clients := proxied(t, 3)
			l := open(t, clients, redlock.WithNodeTimeout(nodeTimeout))
			warmUp(t, clients)
			plant(t, "a", servers[1:]...)
			fault.strike(t, servers[0])
			for _, p := range proxies[1:] {
				p.Delay(250 * time.Millisecond) // so that the error is there first
			}

			start := time.Now()
			_, err := l.TryAcquire(ctx, "a")
			require.ErrorIs(t, err, redlock.ErrHeld)
			require.Less(t, time.Since(start), nodeTimeout)
		})

		t.Run(fault.name+", a quorum", func(t *testing.T) {
			servers, proxies, clients := proxied(t, 3)
			l := open(t, clients, redlock.WithNodeTimeout(nodeTimeout))
			warmUp(t, clients)
			for i := range 2 {
				fault.strike(t, servers[i])
				proxies[i].Delay(20 * time.Millisecond) // so that the third node's grant is there first
			}

			start := time.Now()
			_, err := l.TryAcquire(ctx, "a")
			require.ErrorIs(t, err, redlock.ErrNoQuorum)
			require.Less(t, time.Since(start), nodeTimeout)
			noKeys(t, servers[2:])
		})
	}
}

// Row 2: three of five nodes are silent.
func TestSilentQuorumIsAnOutageAndNotContention(t *testing.T) {
	noLeak(t)
	const nodeTimeout = 150 * time.Millisecond
	silent := []int{1, 3, 4}
	several := []string{"b", "c"}

	for _, fault := range []struct {
		name         string
		strike, cure func(*redistest.Server) error
	}{
		{"killed", (*redistest.Server).Kill, (*redistest.Server).Relaunch},
		{"hung", (*redistest.Server).Pause, (*redistest.Server).Resume},
	} {
		runAlongside(t, fault.name, func(t *testing.T) {
			ctx := context.Background()
			servers, clients := masters(t, 5)
			l := open(t, clients, redlock.WithNodeTimeout(nodeTimeout))
			h, err := l.TryAcquire(ctx, "held")
			require.NoError(t, err)
			takenEverywhere(t, h, servers...)
			for _, i := range silent {
				require.NoError(t, fault.strike(servers[i]))
			}
			reachable := []*redistest.Server{servers[0], servers[2]}

			for _, call := range []struct {
				op  string
				run func() error
			}{
				{"acquire", func() error { _, err := l.TryAcquire(ctx, "a"); return err }},
				{"acquire", func() error { _, err := l.TryAcquireMulti(ctx, several); return err }},
				{"acquire", func() error { return l.Do(expiring(t), "a", func(context.Context) error { return nil }) }},
				{"acquire", func() error { _, err := l.Acquire(expiring(t), "a"); return err }},
				{"acquire", func() error { _, err := l.AcquireMulti(expiring(t), several); return err }},
				{"inspect", func() error { _, err := l.IsLocked(ctx, "held"); return err }},
				{"inspect", func() error { _, err := l.Inspect(ctx, "held"); return err }},
				{"inspect", func() error { return l.WaitForUnlock(expiring(t), "held") }},
				{"adopt", func() error { _, err := l.Adopt(ctx, []string{"held"}, h.Token()); return err }},
				{"extend", func() error { return h.Extend(ctx, time.Minute) }},
				{"extend", func() error { return h.Extend(ctx, time.Second) }},
				{"release", func() error { return h.Release(ctx) }},
			} {
				start := time.Now()
				err := call.run()
				took := time.Since(start)
				require.ErrorIs(t, err, redlock.ErrNoQuorum, call.op)
				require.NotErrorIs(t, err, redlock.ErrHeld, call.op)
				require.NotErrorIs(t, err, redlock.ErrLost, call.op)
				require.Less(t, took, 1500*time.Millisecond, "%s waits for the client's own timeout", call.op)

				var short *redlock.QuorumError
				require.ErrorAs(t, err, &short)
				require.Equal(t, call.op, short.Op)
				require.Equal(t, 3, short.Need)
				require.Equal(t, 2, short.Got)
				require.Equal(t, silent, nodesNamed(short), err)
				if call.op != "release" {
					noKeysBut(t, reachable, "held")
				}
			}
			noKeys(t, reachable)

			// And once they are back, what was on its way to them is undone as well.
			for _, i := range silent {
				require.NoError(t, fault.cure(servers[i]))
			}
			noKeys(t, servers)
		})
	}
}

// expiring returns a context for one call that would wait for ever.
func expiring(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// nodesNamed returns the indices of the nodes that an error blames.
func nodesNamed(e *redlock.QuorumError) []int {
	named := make([]int, len(e.Nodes))
	for i, n := range e.Nodes {
		named[i] = n.Node
	}
	return named
}

// Row 2: the Locker is closed while the nodes hang that have its requests. What they run later lives until its TTL at most.
func TestCloseInAnOutageLeavesNothingBeyondTheTTL(t *testing.T) {
	const ttl = time.Second
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l, err := redlock.New(clients, redlock.WithTTL(ttl), redlock.WithNodeTimeout(100*time.Millisecond))
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

// Row 11: every node restarts empty, one after the other, and the renewal puts the key back each time.
func TestRenewalHealsNodesThatRestartEmpty(t *testing.T) {
	noLeak(t)
	ctx := context.Background()
	for _, resources := range [][]string{{"a"}, {"a", "b", "c"}} {
		runAlongside(t, fmt.Sprintf("%d resources", len(resources)), func(t *testing.T) {
			servers, clients := masters(t, 3)
			l := open(t, clients, redlock.WithTTL(1500*time.Millisecond), redlock.WithAutoRenewal(true))
			h, err := l.TryAcquireMulti(ctx, resources)
			require.NoError(t, err)
			takenEverywhere(t, h, servers...)

			for _, s := range servers {
				s.Restart(t)
				takenEverywhere(t, h, s)
				require.NoError(t, h.Err())
			}
			require.NoError(t, h.Release(ctx))
			noKeys(t, servers)
		})
	}
}

// Row 11: a node is down when the lock is taken, or for longer than a renewal, and gets the key when it is back.
func TestRenewalHealsANodeThatWasDownForLong(t *testing.T) {
	ctx := context.Background()
	for _, when := range []string{"before the acquisition", "after the acquisition"} {
		t.Run(when, func(t *testing.T) {
			servers, clients := masters(t, 3)
			l := open(t, clients, redlock.WithTTL(1500*time.Millisecond), redlock.WithAutoRenewal(true))
			if when == "before the acquisition" {
				require.NoError(t, servers[2].Kill())
			}
			gaveUp := failuresOf(clients[2], 1)
			h, err := l.TryAcquire(ctx, "a")
			require.NoError(t, err)
			takenEverywhere(t, h, servers[:2]...)
			require.NoError(t, servers[2].Kill())
			await(t, gaveUp, "a request to the node to fail")

			servers[2].Restart(t)
			takenEverywhere(t, h, servers[2])
			servers[1].Restart(t) // the healed node is one of a quorum now
			takenEverywhere(t, h, servers[1])
			require.NoError(t, h.Err())
			require.NoError(t, h.Release(ctx))
			noKeys(t, servers)
		})
	}
}

// Row 11: the same by hand.
func TestExtendHealsANodeThatRestartedEmpty(t *testing.T) {
	ctx := context.Background()
	for name, ttl := range map[string]time.Duration{"longer": time.Minute, "shorter": 10 * time.Second} {
		t.Run(name, func(t *testing.T) {
			servers, clients := masters(t, 3)
			l := open(t, clients)
			h, err := l.TryAcquireMulti(ctx, []string{"a", "b"})
			require.NoError(t, err)
			takenEverywhere(t, h, servers...)

			servers[1].Restart(t)
			require.NoError(t, h.Extend(ctx, ttl))
			takenEverywhere(t, h, servers[1])
			for _, r := range h.Resources() {
				left := time.Duration(servers[1].Do(t, "pttl", lockKey(r)).(int64)) * time.Millisecond
				require.InDelta(t, ttl, left, float64(5*time.Second))
			}

			// The healed node counts: another one may restart now.
			servers[0].Restart(t)
			require.NoError(t, h.Extend(ctx, ttl))
			require.NoError(t, h.Release(ctx))
			noKeys(t, servers)
		})
	}
}

// Row 11: a node was down while the lease was shortened, and comes back empty: it gets its key again.
func TestNodeThatMissedAShorteningIsHealed(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients)
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	takenEverywhere(t, h, servers...)

	gaveUp := failuresOf(clients[2], 1) // the look whether the lock is there, without which it is not told to cut its time
	require.NoError(t, servers[2].Kill())
	require.NoError(t, h.Extend(ctx, 20*time.Second))
	await(t, gaveUp, "the shortening to fail on the node that is down")

	servers[2].Restart(t)
	eventually(t, func() bool {
		require.NoError(t, h.Extend(ctx, 20*time.Second))
		return ownerOn(t, servers[2], "a") == h.Token()
	}, "the node does not get its key again")
	require.NoError(t, h.Release(ctx))
	noKeys(t, servers)
}

// Row 11: no node gets a key back that nobody holds any more.
func TestNothingIsHealedAfterTheEndOfTheLock(t *testing.T) {
	ctx := context.Background()
	for _, end := range []struct {
		name string
		end  func(t *testing.T, servers []*redistest.Server, h *redlock.Handle)
	}{
		{"released", func(t *testing.T, servers []*redistest.Server, h *redlock.Handle) {
			servers[2].Restart(t)
			require.NoError(t, h.Release(ctx))
			servers[1].Restart(t)
			require.ErrorIs(t, h.Extend(ctx, time.Minute), redlock.ErrReleased)
		}},
		{"lost", func(t *testing.T, servers []*redistest.Server, h *redlock.Handle) {
			// Both are down before one is back, so that none can be healed in between.
			require.NoError(t, servers[1].Kill())
			require.NoError(t, servers[2].Kill())
			servers[1].Restart(t)
			servers[2].Restart(t)
			await(t, h.Done(), "the loss of the lock")
			require.ErrorIs(t, h.Err(), redlock.ErrLost)
			require.ErrorIs(t, h.Extend(ctx, time.Minute), redlock.ErrLost)
		}},
	} {
		t.Run(end.name, func(t *testing.T) {
			servers, clients := masters(t, 3)
			l := open(t, clients, redlock.WithTTL(1500*time.Millisecond), redlock.WithAutoRenewal(true))
			h, err := l.TryAcquire(ctx, "a")
			require.NoError(t, err)
			takenEverywhere(t, h, servers...)
			end.end(t, servers, h)
			noKeys(t, servers)
			never(t, time.Second, func() bool {
				return len(servers[0].Keys(t))+len(servers[1].Keys(t))+len(servers[2].Keys(t)) > 0
			}, "a key came back")
		})
	}
}

// ailment is something that makes a server answer scripts with errors.
type ailment struct {
	code         string // what the error begins with
	strike, cure func(t *testing.T, s *redistest.Server)

	// what the server can still do for a lock that is held
	extends, inspects bool
	release           error
}

var ailments = []ailment{
	{
		code: "READONLY", inspects: true, release: redlock.ErrNoQuorum,
		strike: func(t *testing.T, s *redistest.Server) { s.Do(t, "replicaof", "127.0.0.1", "1") }, // nobody there
		cure:   func(t *testing.T, s *redistest.Server) { s.Do(t, "replicaof", "no", "one") },
	},
	{
		code: "NOREPLICAS", inspects: true, release: redlock.ErrNoQuorum,
		strike: func(t *testing.T, s *redistest.Server) { s.Do(t, "config", "set", "min-replicas-to-write", 1) },
		cure:   func(t *testing.T, s *redistest.Server) { s.Do(t, "config", "set", "min-replicas-to-write", 0) },
	},
	{
		code: "MISCONF", inspects: true, release: redlock.ErrNoQuorum,
		strike: failToSave,
		cure:   func(t *testing.T, s *redistest.Server) { s.Do(t, "config", "set", "stop-writes-on-bgsave-error", "no") },
	},
	{
		code: "OOM", extends: true, inspects: true, // none of them needs memory
		strike: func(t *testing.T, s *redistest.Server) { s.Do(t, "config", "set", "maxmemory", 1) },
		cure:   func(t *testing.T, s *redistest.Server) { s.Do(t, "config", "set", "maxmemory", 0) },
	},
	{
		code: "NOPERM", release: redlock.ErrNoQuorum,
		strike: denyScripts,
		cure:   func(t *testing.T, s *redistest.Server) { s.Do(t, "acl", "setuser", "default", "+@all") },
	},
	{
		code: "WRONGTYPE", release: redlock.ErrLost, // it is not there any more, and what is there is not ours
		strike: func(t *testing.T, s *redistest.Server) {
			for _, r := range []string{"held", "free", "a", "b"} {
				s.Do(t, "del", lockKey(r))
				s.Do(t, "rpush", lockKey(r), "x")
			}
		},
		cure: func(t *testing.T, s *redistest.Server) {
			for _, r := range []string{"held", "free", "a", "b"} {
				require.Equal(t, "list", s.Do(t, "type", lockKey(r)), "not ours to touch")
				s.Do(t, "del", lockKey(r))
			}
		},
	},
}

// denyScripts takes the right to run scripts away from everybody without a name of his own.
func denyScripts(t *testing.T, s *redistest.Server) {
	s.Do(t, "acl", "setuser", "default", "-@scripting")
}

// failToSave makes a server refuse writes because it cannot save what it has: where its dump should go is a directory.
func failToSave(t *testing.T, s *redistest.Server) {
	require.NoError(t, os.Mkdir(filepath.Join(s.Dir(), "dump.rdb"), 0o755))
	s.Do(t, "config", "set", "save", "3600 1000000")
	s.Do(t, "bgsave")
	eventually(t, func() bool {
		return strings.Contains(s.Do(t, "info", "persistence").(string), "rdb_last_bgsave_status:err")
	}, "a dump was saved over a directory")
}

// Row 19: a quorum of the nodes answers with errors.
func TestErrorRepliesFromAQuorumAreAnOutage(t *testing.T) {
	noLeak(t)
	for _, a := range ailments {
		runAlongside(t, a.code, func(t *testing.T) {
			ctx := context.Background()
			servers, clients := masters(t, 3)
			l := open(t, clients)
			h, err := l.TryAcquire(ctx, "held")
			require.NoError(t, err)
			takenEverywhere(t, h, servers...)
			a.strike(t, servers[0])
			a.strike(t, servers[1])

			check := func(err error) {
				t.Helper()
				var short *redlock.QuorumError
				require.ErrorAs(t, err, &short)
				require.ErrorIs(t, err, redlock.ErrNoQuorum)
				require.NotErrorIs(t, err, redlock.ErrHeld)
				require.NotErrorIs(t, err, redlock.ErrLost)
				said := map[int]string{}
				for _, n := range short.Nodes {
					said[n.Node] = n.Err.Error()
				}
				for i := range 2 {
					require.True(t, strings.HasPrefix(said[i], a.code), "node %d said %q", i, said[i])
				}
			}

			_, err = l.TryAcquire(ctx, "free")
			check(err)
			_, err = l.TryAcquireMulti(ctx, []string{"a", "b"})
			check(err)
			if a.code != "WRONGTYPE" {
				noKeysBut(t, servers, "held")
			}

			if err = h.Extend(ctx, time.Minute); a.extends {
				require.NoError(t, err)
			} else {
				check(err)
			}
			require.NoError(t, h.Err(), "an error is no loss")
			if locked, err := l.IsLocked(ctx, "held"); a.inspects {
				require.NoError(t, err)
				require.True(t, locked)
			} else {
				check(err)
			}
			require.ErrorIs(t, h.Release(ctx), a.release)

			a.cure(t, servers[0])
			a.cure(t, servers[1])
			noKeys(t, servers)
			h, err = l.TryAcquire(ctx, "held")
			require.NoError(t, err)
			require.NoError(t, h.Release(ctx))
			noKeys(t, servers)
		})
	}
}

// Row 19: one node of three answers with errors.
func TestErrorRepliesFromAMinorityDoNotMatter(t *testing.T) {
	for _, a := range ailments {
		t.Run(a.code, func(t *testing.T) {
			ctx := context.Background()
			servers, clients := masters(t, 3)
			mine, theirs := open(t, clients), open(t, clients)
			held, err := mine.TryAcquire(ctx, "held")
			require.NoError(t, err)
			takenEverywhere(t, held, servers...)
			a.strike(t, servers[0])

			require.NoError(t, held.Extend(ctx, time.Minute))
			require.NoError(t, held.Extend(ctx, 20*time.Second))
			_, err = theirs.TryAcquire(ctx, "held")
			require.ErrorIs(t, err, redlock.ErrHeld)
			locked, err := theirs.IsLocked(ctx, "held")
			require.NoError(t, err)
			require.True(t, locked)
			require.NoError(t, held.Release(ctx))
			locked, err = theirs.IsLocked(ctx, "held")
			require.NoError(t, err)
			require.False(t, locked)

			h, err := theirs.TryAcquire(ctx, "free")
			require.NoError(t, err)
			adopted, err := mine.Adopt(ctx, []string{"free"}, h.Token())
			require.NoError(t, err)
			require.NoError(t, adopted.Release(ctx))
			require.NoError(t, h.Release(ctx)) // and the former owner forgets about it
			h, err = theirs.AcquireMulti(ctx, []string{"a", "b"})
			require.NoError(t, err)
			require.NoError(t, h.Extend(ctx, time.Minute))
			require.NoError(t, h.Release(ctx))

			a.cure(t, servers[0])
			noKeys(t, servers)
		})
	}
}

// Row 19: the nodes forget the scripts, at any time.
func TestForgottenScriptsAreSentAgain(t *testing.T) {
	servers, clients := masters(t, 3)
	mine, theirs := open(t, clients), open(t, clients)
	flushed := func(call func() error) func() error {
		return func() error {
			for _, s := range servers {
				s.Do(t, "script", "flush")
			}
			return call()
		}
	}
	ctx := context.Background()
	var h *redlock.Handle
	acquired := func(got *redlock.Handle, err error) error { h = got; return err }
	for i, call := range []func() error{
		func() error { return acquired(mine.TryAcquire(ctx, "a")) },
		func() error { return h.Extend(ctx, time.Minute) },
		func() error { return h.Extend(ctx, 10*time.Second) },
		func() error { return acquired(theirs.Adopt(ctx, []string{"a"}, h.Token())) },
		func() error { _, err := theirs.IsLocked(ctx, "a"); return err },
		func() error { return h.Release(ctx) },
		func() error { return mine.WaitForUnlock(ctx, "a") },
		func() error { return acquired(mine.AcquireMulti(ctx, []string{"a", "b"})) },
		func() error { return h.Release(ctx) },
	} {
		require.NoError(t, flushed(call)(), "call %d", i)
	}
	noKeys(t, servers)

	// Contention and loss are told apart from it too.
	h, err := theirs.TryAcquire(ctx, "a")
	require.NoError(t, err)
	err = flushed(func() error { _, err := mine.TryAcquire(ctx, "a"); return err })()
	require.ErrorIs(t, err, redlock.ErrHeld)
	plant(t, "a", servers...)
	require.ErrorIs(t, flushed(func() error { return h.Extend(ctx, time.Minute) })(), redlock.ErrLost)
}

// Row 19: nodes that are back from a restart and still load their data.
func TestNodesThatLoadTheirDataHaveNoVote(t *testing.T) {
	ctx := context.Background()
	noLeak(t)
	// Each key takes 5 ms to load, and after each the server looks for requests.
	servers := redistest.StartN(t, 4,
		redistest.WithConfig("key-load-delay", "5000"),
		redistest.WithConfig("loading-process-events-interval-bytes", "1024"))
	clients := redistest.Clients(t, servers)
	most := open(t, clients[:3])                                        // nodes 0 and 1 of these will load
	few := open(t, []*redis.Client{clients[0], clients[2], clients[3]}) // and node 0 of these

	h, err := most.TryAcquire(ctx, "a")
	require.NoError(t, err)
	takenEverywhere(t, h, servers[:3]...)
	var restarted sync.WaitGroup
	for _, s := range servers[:2] {
		for i := range 400 {
			s.Do(t, "set", fmt.Sprintf("data:%d", i), strings.Repeat("x", 2000))
		}
		s.Do(t, "save")
		restarted.Add(1)
		go func() {
			defer restarted.Done()
			if err := s.Relaunch(); err != nil { // waits until all is loaded
				t.Error(err)
			}
		}()
	}
	for _, s := range servers[:2] {
		eventually(t, func() bool { return ping(s.Addr()) == "LOADING" }, "does not load")
	}

	_, err = most.TryAcquire(ctx, "b")
	require.ErrorIs(t, err, redlock.ErrNoQuorum)
	require.NotErrorIs(t, err, redlock.ErrHeld)
	require.ErrorContains(t, err, "LOADING")
	require.ErrorIs(t, h.Extend(ctx, time.Minute), redlock.ErrNoQuorum)
	require.NoError(t, h.Err())

	other, err := few.TryAcquire(ctx, "c")
	require.NoError(t, err)
	require.NoError(t, other.Release(ctx))
	for _, s := range servers[:2] {
		require.Equal(t, "LOADING", ping(s.Addr()), "loaded too fast to prove anything")
	}

	restarted.Wait()
	require.NoError(t, h.Extend(ctx, time.Minute), "the lock was in the dump")
	require.NoError(t, h.Release(ctx))
	for _, r := range []string{"a", "b", "c"} {
		for _, s := range servers {
			eventually(t, func() bool { return ownerOn(t, s, r) == "" }, "%s is left", r)
		}
	}
}

// ping returns the first word of what a server answers, without a client that would try again by itself.
func ping(addr string) string {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err = conn.Write([]byte("PING\r\n")); err != nil {
		return err.Error()
	}
	reply := make([]byte, 64)
	n, err := conn.Read(reply)
	if err != nil {
		return err.Error()
	}
	word, _, _ := strings.Cut(strings.TrimLeft(string(reply[:n]), "+-"), " ")
	return word
}
