//go:build unix

package main_test

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	require.Equal(t, "LOCK  STATE  WAITING\njob   free   0\n",
		redlock(t, servers, "status", "job").requireCode(t, 0).stdout)
	take(t, servers, "job", time.Minute)
	for _, s := range servers {
		s.Do(t, "set", "lock:eternal", "not a token of ours")
	}
	r := redlock(t, servers, "status", "free", "job", "eternal").requireCode(t, 1)
	require.Regexp(t, `(?m)^job +locked +somebody +(1m0|59|58)s +0$`, r.stdout)
	require.Regexp(t, `(?m)^eternal +locked +unknown +for ever +0$`, r.stdout)
	require.Empty(t, r.stderr)

	pause(t, servers[0], servers[1])
	r = redlock(t, servers, "status", "job").requireCode(t, 69)
	require.Contains(t, r.stdout, "unknown")
	require.Contains(t, r.stderr, "no quorum of nodes answered")
}

func TestStatusInJSON(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	take(t, servers, "job", time.Minute)
	lines := strings.Split(redlock(t, servers, "status", "--json", "job", "<free>").requireCode(t,
		1).stdout, "\n")
	require.Len(t, lines, 3)
	var locked map[string]any
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &locked))
	require.InDelta(t, 60, locked["ttl"], 20)
	delete(locked, "ttl")
	require.Equal(t, map[string]any{"resource": "job", "state": "locked", "owner": "somebody",
		"waiters": 0.0}, locked)
	require.Equal(t, `{"resource":"<free>","state":"free","waiters":0}`, lines[1])
}

func TestNamesOfOthersDoNotReachTheTerminal(t *testing.T) {
	t.Parallel()
	servers := one(t)
	servers[0].Do(t, "set", "lock:a\x1b[2Jb", "AAAAAAAAAAAAAAAAAAAAAA:c\x1b]0;d\a", "px", 60_000)
	out := redlock(t, servers, "top", "--once").requireCode(t, 0).stdout
	require.Contains(t, out, `"a\x1b[2Jb"  locked  "c\x1b]0;d\a"`)
}

func TestTopShowsTheLocksThereAre(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	take(t, servers, "job:1", time.Minute)
	take(t, servers, "other", time.Minute)
	take(t, servers[:1], "minority", time.Minute)
	servers[0].Do(t, "set", "locks:x", "another application's")
	servers[0].Do(t, "zadd", "lock:set", 1, "x")
	for _, s := range servers {
		s.Do(t, "set", "lock:{job}:1:fence", "7")
		s.Do(t, "set", "{lock:other}:fence", "7")
	}
	take(t, servers, "{job}:fence", time.Minute) // a lock that looks like a counter
	names := func(args ...string) (all []string) {
		lines := strings.Split(redlock(t, servers,
			append([]string{"top", "--once"}, args...)...).requireCode(t, 0).stdout, "\n")
		require.Contains(t, lines[0], "nodes 3/3")
		for _, line := range lines[2:] {
			if line != "" {
				all = append(all, strings.Fields(line)[0])
			}
		}
		return all
	}
	require.Equal(t, []string{"job:1", "other", "{job}:fence"}, names())
	require.Equal(t, []string{"job:1"}, names("job:*"))
	require.Empty(t, names("jo"))
	require.Zero(t, servers[0].Stats(t)["keys"])
	require.NotZero(t, servers[0].Stats(t)["scan"])
}

func TestTopFollowsWhatHappens(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	p := launch(t, servers, "top", "--json", "-i", "0.1")
	next := func() (s struct {
		Nodes []struct{ Addr, Error string }
		Locks []struct {
			Resource, Owner string
			Held            float64
		}
	}) {
		require.NoError(t, json.Unmarshal([]byte(p.line()), &s))
		return s
	}
	require.Empty(t, next().Locks)
	take(t, servers, "job", time.Minute)
	held := func() float64 {
		if s := next(); len(s.Locks) == 1 {
			return s.Locks[0].Held
		}
		return 0
	}
	eventually(t, func() bool { return held() > 0.3 }, "the lock grows old")
	for _, s := range servers {
		s.Do(t, "set", "lock:job", "BBBBBBBBBBBBBBBBBBBBBB:next", "px", 60_000)
	}
	eventually(t, func() bool { return held() < 0.3 }, "another owner begins anew")
	require.NoError(t, servers[1].Kill())
	eventually(t, func() bool { return next().Nodes[1].Error != "" }, "the node fails")
	require.Len(t, next().Locks, 1)
	require.NoError(t, p.Process.Signal(syscall.SIGINT))
	p.finish().requireCode(t, 130)
}

func TestTopSaysWhichNodesFail(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	require.NoError(t, servers[1].Kill())
	r := redlock(t, servers, "top", "--once").requireCode(t, 0)
	require.Contains(t, r.stdout, "nodes 2/3\nnode 1 ("+servers[1].Addr()+"): ")
	require.NoError(t, servers[2].Kill())
	require.Contains(t, redlock(t, servers, "top", "--once").requireCode(t, 69).stderr,
		"2 of 3 nodes do not answer")
}

func TestWaitUntilFree(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	redlock(t, servers, "wait", "job").requireCode(t, 0)
	take(t, servers, "job", time.Minute)
	for _, d := range []string{"0", "0.3"} {
		require.Contains(t, redlock(t, servers, "wait", "-w", d, "job").requireCode(t, 75).stderr,
			"held by another owner")
	}
	p := launch(t, servers, "wait", "job")
	for _, s := range servers {
		eventually(t, func() bool { return s.Stats(t)["evalsha"] > 2 }, "it waits")
		s.Do(t, "del", "lock:job")
	}
	p.finish().requireCode(t, 0)
}

func TestCheck(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	require.Equal(t, "3 of 3 nodes are well\n",
		redlock(t, servers, "check").requireCode(t, 0).stdout)

	servers[0].Do(t, "config", "set", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
	twice := strings.Replace(urls(servers[2:]), "127.0.0.1", "localhost", 1)
	r := redlock(t, nil, "check", "--nodes", urls(servers)+","+twice).requireCode(t, 1)
	require.Contains(t, r.stderr, "node 0 ("+servers[0].Addr()+"): may evict locks")
	require.Contains(t, r.stderr, "is the same server as node 2")
	servers[1].Do(t, "replicaof", "127.0.0.1", "1")
	r = redlock(t, servers, "check").requireCode(t, 1)
	require.Contains(t, r.stderr, "node 1 ("+servers[1].Addr()+"): is a replica of 127.0.0.1")
	require.NoError(t, servers[0].Kill())
	redlock(t, servers, "check").requireCode(t, 69)
}
