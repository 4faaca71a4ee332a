package acceptance_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// guardTime is the guard's in tests in which the servers' clocks do the waiting, and guardTTL that
// of their locks.
const (
	guardTime = time.Minute
	guardTTL  = 40 * time.Second
)

// agedMasters starts n servers that have been up for long, by their clocks.
func agedMasters(t *testing.T, n int,
	opts ...redistest.Option) ([]*redistest.Server, []*redis.Client) {
	t.Helper()
	servers, clients := masters(t, n, append(opts, redistest.WithFakeClock())...)
	for _, s := range servers {
		requireGuardable(t, s)
		age(t, s, time.Hour)
	}
	return servers, clients
}

// requireGuardable ends a test on a server with which the guard does not work.
func requireGuardable(t *testing.T, s *redistest.Server) {
	t.Helper()
	if major, err := strconv.Atoi(strings.Split(infoField(t, s, "server", "redis_version"),
		".")[0]); err != nil || major < 7 {
		t.Skip("this server may know its scripts from before a restart")
	}
}

// age sets a server's clock to so much later than the machine's.
func age(t *testing.T, s *redistest.Server, offset time.Duration) {
	t.Helper()
	require.NoError(t, s.SetClock(offset))
	eventually(t, func() bool {
		at, err := strconv.ParseInt(infoField(t, s, "server", "server_time_usec"), 10, 64)
		return err == nil && !time.UnixMicro(at).Before(time.Now().Add(offset-time.Second))
	}, "the server's clock has not moved")
}

func infoField(t *testing.T, s *redistest.Server, section, field string) string {
	t.Helper()
	text, _ := s.Do(t, "info", section).(string)
	_, rest, _ := strings.Cut(text, field+":")
	value, _, _ := strings.Cut(rest, "\r\n")
	return value
}

// upFor waits until a server has been up for that long by its own account.
func upFor(t *testing.T, s *redistest.Server, d time.Duration) {
	t.Helper()
	eventually(t, func() bool {
		up, err := strconv.Atoi(infoField(t, s, "server", "uptime_in_seconds"))
		return err == nil && time.Duration(up)*time.Second >= d
	}, "not up for %v", d)
}

// guarded are the options of a Locker with a guard, which others lack.
func guarded(on bool) []redlock.Option {
	opts := []redlock.Option{redlock.WithTTL(guardTTL), redlock.WithNodeTimeout(5 * time.Second)}
	if on {
		opts = append(opts, redlock.WithRestartGuard(guardTime))
	}
	return opts
}

// Each of these takes a lock on a majority, has servers forget it, and would let somebody else in
// without the guard.
var amnesias = map[string]func(t *testing.T, servers []*redistest.Server,
	hold func() *redlock.Handle){
	"wipe right after a bare quorum": func(t *testing.T, servers []*redistest.Server,
		hold func() *redlock.Handle) {
		h := hold()
		takenEverywhere(t, h, servers...)
		uproot(t, "a", servers[2])
		servers[1].Restart(t)
	},
	"rolling wipe": func(t *testing.T, servers []*redistest.Server, hold func() *redlock.Handle) {
		takenEverywhere(t, hold(), servers...)
		for _, s := range servers {
			s.Restart(t)
		}
	},
	"power cut": func(t *testing.T, servers []*redistest.Server, hold func() *redlock.Handle) {
		noted := make([]redistest.DiskState, len(servers))
		for i, s := range servers {
			noted[i] = s.DiskState(t)
		}
		takenEverywhere(t, hold(), servers...)
		for i, s := range servers[:2] {
			s.PowerCut(t, noted[i])
			s.Restart(t)
		}
	},
}

func TestServersThatForgotALockLetNobodyIn(t *testing.T) {
	for name, forget := range amnesias {
		for _, on := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, guard %v", name, on), func(t *testing.T) {
				var opts []redistest.Option
				if name == "power cut" {
					opts = append(opts, redistest.WithAOF(redistest.FsyncEverySecond))
				}
				servers, clients := agedMasters(t, 3, opts...)
				mine, yours := open(t, clients, guarded(on)...), open(t, clients, guarded(on)...)
				for _, l := range []*redlock.Locker{mine, yours} { // both know the nodes
					h, err := l.TryAcquire(t.Context(), "warm-up")
					require.NoError(t, err)
					require.NoError(t, h.Release(t.Context()))
				}
				var held *redlock.Handle
				forget(t, servers, func() (h *redlock.Handle) {
					held = onlyHandle(t, mine)
					return held
				})
				if !on {
					eventually(t, func() bool {
						// a node that is dialled anew may be too late for a vote that is split
						second, err := yours.TryAcquire(t.Context(), "a")
						return err == nil && second.Err() == nil
					}, "without the guard there is a second owner")
					require.NoError(t, held.Err())
					return
				}
				requireNoVotes(t, yours)
				require.NoError(t, held.Err())
			})
		}
	}
}

// requireNoVotes checks that a resource which servers have forgotten is refused, and that the
// reason is told.
func requireNoVotes(t *testing.T, l *redlock.Locker) {
	t.Helper()
	var err error
	var q *redlock.QuarantineError
	eventually(t, func() bool { // see above: it may be refused by the others alone
		_, err = l.TryAcquire(t.Context(), "a")
		require.Error(t, err)
		return errors.As(err, &q)
	}, "no word of a restart")
	require.False(t, q.Promoted)
	require.Greater(t, q.Left, guardTime-20*time.Second)
	require.LessOrEqual(t, q.Left, guardTime+time.Second)
	require.Regexp(t,
		`node \d \(127\.0\.0\.1:\d+\): restarted \d+ s ago, has no vote for (4\d|5\d|6[01]) s more`,
		err.Error())
	if locked, err := l.IsLocked(t.Context(), "a"); err == nil {
		require.True(t, locked, "servers that may have forgotten it say that the lock is free")
	} else {
		requireOnly(t, err, redlock.ErrNoQuorum)
	}
}

// onlyHandle locks a resource that is free.
func onlyHandle(t *testing.T, l *redlock.Locker) *redlock.Handle {
	t.Helper()
	h, err := l.TryAcquire(t.Context(), "a")
	require.NoError(t, err)
	return h
}

// Row 29: a majority restarts with its data. Nothing new is had from it, and what there was goes
// on.
func TestLocksThatSurviveARestartGoOnUnderTheGuard(t *testing.T) {
	servers, clients := agedMasters(t, 3, redistest.WithAOF(redistest.FsyncAlways))
	l := open(t, clients, guarded(true)...)
	kept, handed := heldEverywhere(t, l, servers, "a"), heldEverywhere(t, l, servers, "b")
	for _, s := range servers[:2] {
		s.Restart(t)
	}
	_, err := l.TryAcquire(t.Context(), "c")
	requireOnly(t, err, redlock.ErrNoQuorum)
	var q *redlock.QuorumError
	require.ErrorAs(t, err, &q)
	for i, n := range q.Nodes[:2] {
		require.Equal(t, i, n.Node)
		require.IsType(t, &redlock.QuarantineError{}, n.Err)
	}

	require.NoError(t, kept.Extend(t.Context(), guardTTL))
	require.NoError(t, kept.Extend(t.Context(), guardTTL/2), "to less")
	require.NoError(t, kept.Release(t.Context()))
	adopted, err := l.Adopt(t.Context(), []string{"b"}, handed.Token())
	require.NoError(t, err)
	require.NoError(t, adopted.Release(t.Context()))
	for _, s := range servers[:2] { // once it has been up for long enough
		age(t, s, time.Hour+guardTime+2*time.Second)
	}
	h := onlyHandle(t, l)
	require.NoError(t, h.Release(t.Context()))
	noKeys(t, servers)
}

func TestNodeThatRestartedIsNotHealedUnderTheGuardBeforeItsTime(t *testing.T) {
	servers, clients := agedMasters(t, 3)
	var r recorder
	l := open(t, clients, append(guarded(true), redlock.WithObserver(&r))...)
	h := heldEverywhere(t, l, servers, "a")
	servers[2].Restart(t)
	require.NoError(t, h.Extend(t.Context(), guardTTL))
	latestOf(t, &r, func(e redlock.NodeCall) bool { // it was to be healed, and has no vote
		var q *redlock.QuarantineError
		return e.Node == 2 && errors.As(e.Err, &q)
	})
	never(t, 300*time.Millisecond, func() bool { return ownerOn(t, servers[2], "a") != "" },
		"healed too early")

	age(t, servers[2], time.Hour+guardTime+2*time.Second)
	require.NoError(t, h.Extend(t.Context(), guardTTL))
	takenEverywhere(t, h, servers[2])
	require.NoError(t, h.Release(t.Context()))
	noKeys(t, servers)
}

// In real time: fresh servers, and a waiter whose own next try would come much too late.
func TestAcquireWaitsUntilRestartedNodesHaveAVote(t *testing.T) {
	servers, clients := masters(t, 3)
	requireGuardable(t, servers[0])
	l := open(t, clients, redlock.WithTTL(time.Second), redlock.WithRestartGuard(time.Second),
		redlock.WithRetryInterval(time.Hour))
	h, err := l.Acquire(t.Context(), "a", redlock.WithMaxWait(time.Minute))
	require.NoError(t, err)
	for _, s := range servers[:2] {
		require.NotEqual(t, "0", infoField(t, s, "server", "uptime_in_seconds"))
	}
	require.NoError(t, h.Release(t.Context()))
	noKeys(t, servers)
}

func TestGuardCostsNothingWhileNodesDoNotRestart(t *testing.T) {
	servers, clients := agedMasters(t, 3)
	l := open(t, clients, guarded(true)...)
	round := func() {
		h := heldEverywhere(t, l, servers, "a")
		require.NoError(t, h.Release(t.Context()))
		noKeys(t, servers)
	}
	round()
	resetStats(t, servers...)
	for range 5 {
		round()
	}
	for _, s := range servers {
		stats := s.Stats(t)
		require.Equal(t, 10, stats["evalsha"])
		require.Zero(t, stats["eval"]+stats["script|load"]+stats["script"]+stats["info"], "%v",
			stats)
	}
}

// SCRIPT FLUSH takes the scripts and no key.
func TestScriptsThatWereFlushedAreLoadedAtOnceUnderTheGuard(t *testing.T) {
	servers, clients := agedMasters(t, 3)
	l := open(t, clients, guarded(true)...)
	for range 2 {
		h := heldEverywhere(t, l, servers, "a")
		for _, s := range servers {
			s.Do(t, "script", "flush")
		}
		require.NoError(t, h.Release(t.Context()))
		noKeys(t, servers)
	}
}

// hijacked calls on before something is written to a connection.
type hijacked struct {
	net.Conn
	on func(sent []byte)
}

func (c hijacked) Write(p []byte) (int, error) {
	c.on(p)
	return c.Conn.Write(p)
}

// The server answers that it has been up for long, and restarts before it is told the script.
// go-redis would repeat that on another connection.
func TestServerThatRestartsBetweenQuestionAndScriptHasNoVote(t *testing.T) {
	servers, _ := agedMasters(t, 1)
	var once sync.Once
	client := redis.NewClient(&redis.Options{
		Addr: servers[0].Addr(),
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			return hijacked{conn, func(sent []byte) {
				if bytes.Contains(sent, []byte("$6\r\nscript\r\n$4\r\nload\r\n")) {
					once.Do(func() { servers[0].Restart(t) })
				}
			}}, err
		},
	})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	l := open(t, []*redis.Client{client}, guarded(true)...)
	_, err := l.TryAcquire(t.Context(), "a")
	requireOnly(t, err, redlock.ErrNoQuorum)
	_, err = l.TryAcquire(t.Context(), "a")
	var q *redlock.QuarantineError
	require.ErrorAs(t, err, &q)
}

// A replica has been up for as long as its primary, and is promoted.
func TestPromotedReplicaHasNoVoteBeforeItHasBeenSeenForLong(t *testing.T) {
	noLeak(t)
	const long = time.Second
	pair := redistest.StartPair(t)
	requireGuardable(t, pair.Primary())
	upFor(t, pair.Primary(), long+2*time.Second)
	opts := append(shortLived(long), redlock.WithRestartGuard(long))
	l := open(t, []*redis.Client{pair.Name.Client(t)}, opts...)
	h := onlyHandle(t, l)
	require.NoError(t, h.Release(t.Context()))

	upFor(t, pair.Replica(), long+2*time.Second)
	pair.Failover(t)
	began := time.Now()
	var seen []*redlock.QuarantineError
	eventually(t, func() bool {
		h, err := l.TryAcquire(t.Context(), "a")
		var q *redlock.QuarantineError
		if h != nil {
			err = h.Release(t.Context())
		} else if require.ErrorIs(t, err, redlock.ErrNoQuorum); errors.As(err, &q) {
			seen = append(seen, q)
		}
		return err == nil
	}, "no vote at last")
	require.GreaterOrEqual(t, time.Since(began), long)
	require.NotEmpty(t, seen)
	require.True(t, seen[0].Promoted)
	require.Contains(t, seen[0].Error(), "promoted")

	other := open(t, []*redis.Client{pair.Name.Client(t)}, opts...)
	h = onlyHandle(t, other) // for all others, too
	require.NoError(t, h.Release(t.Context()))
}

// Each master of a Redis Cluster by itself.
func TestMasterOfAClusterThatRestartedHasNoVoteInItsSlots(t *testing.T) {
	noLeak(t)
	const long = 5 * time.Second
	cluster := redistest.StartCluster(t, 3)
	requireGuardable(t, cluster.Nodes[0])
	for _, s := range cluster.Nodes {
		upFor(t, s, long+time.Second)
	}
	l := open(t, []*redis.ClusterClient{cluster.Client(t)}, redlock.WithTTL(long),
		redlock.WithRestartGuard(long))
	resources := make([]string, len(cluster.Nodes)) // one for each master
	for i := 0; slices.Contains(resources, ""); i++ {
		name := fmt.Sprintf("r%d", i)
		h, err := l.TryAcquire(t.Context(), name)
		require.NoError(t, err)
		for n, s := range cluster.Nodes {
			if len(s.Keys(t)) > 0 {
				resources[n] = name
			}
		}
		require.NoError(t, h.Release(t.Context()))
	}
	cluster.Nodes[1].Restart(t)
	var q *redlock.QuarantineError
	eventually(t, func() bool { // once the cluster has noticed that it is back
		_, err := l.TryAcquire(t.Context(), resources[1])
		require.ErrorIs(t, err, redlock.ErrNoQuorum)
		return errors.As(err, &q)
	}, "no quarantine")
	for _, n := range []int{0, 2} {
		eventually(t, func() bool {
			h, err := l.TryAcquire(t.Context(), resources[n])
			return err == nil && h.Release(t.Context()) == nil
		}, "no lock in the slots of another master")
	}
	h, err := l.Acquire(t.Context(), resources[1], redlock.WithMaxWait(time.Minute))
	require.NoError(t, err)
	require.NoError(t, h.Release(t.Context()))
}

func TestGuardRefusesLocksThatLiveLonger(t *testing.T) {
	_, clients := masters(t, 1)
	for name, opts := range map[string][]redlock.Option{
		"redlock: TTL (30s) must not be above the restart guard's maximum (10s)": {
			redlock.WithRestartGuard(10 * time.Second),
		},
		"redlock: minimum hold (1m0s) must not be above the restart guard's maximum (30s)": {
			redlock.WithRestartGuard(30 * time.Second), redlock.WithMinHold(time.Minute),
		},
		"redlock: restart guard must be 10ms to 10 years, not 0s": {redlock.WithRestartGuard(0)},
		"redlock: restart guard must be 10ms to 10 years, not -1s": {redlock.WithRestartGuard(
			-time.Second)},
	} {
		_, err := redlock.New(clients, opts...)
		require.EqualError(t, err, name)
	}
	_, err := redlock.New([]redlock.Node{wrapped{clients[0]}},
		redlock.WithRestartGuard(time.Minute))
	require.EqualError(t, err, "redlock: node 0 is a acceptance_test.wrapped without the method "+
		"Conn, which the restart guard needs")

	l := open(t, clients, redlock.WithRestartGuard(30*time.Second), redlock.WithTTL(time.Second))
	_, err = l.TryAcquire(t.Context(), "a", redlock.WithTTL(31*time.Second))
	require.EqualError(t, err,
		"redlock: TTL (31s) must not be above the restart guard's maximum (30s)")
	_, err = l.Once(t.Context(), "a", time.Minute, func(context.Context) error { return nil })
	require.EqualError(t, err, "redlock: nine tenths of the interval (54s) must not be above the "+
		"restart guard's maximum (30s)")
}

// The user of the README, with what it says that the guard needs, and without.
func TestGuardNeedsToAskTheNodes(t *testing.T) {
	servers, _ := agedMasters(t, 1)
	name, rules := userInReadme(t)
	for missing, fails := range map[string]bool{"": false, "+info": true, "+script|load": true} {
		t.Run("without "+missing, func(t *testing.T) {
			allowed := append([]string{}, rules...)
			for _, rule := range []string{"+info", "+script|load"} {
				if rule != missing {
					allowed = append(allowed, rule)
				}
			}
			l := open(t, loggedIn(t, servers, name, allowed), guarded(true)...)
			h, err := l.TryAcquire(t.Context(), "a")
			if !fails {
				require.NoError(t, err)
				require.NoError(t, h.Release(t.Context()))
				return
			}
			require.ErrorIs(t, err, redlock.ErrMisconfigured)
			require.ErrorContains(t, err, "the restart guard ")
			require.ErrorContains(t, err, "NOPERM")
		})
	}
}
