//go:build unix

package main_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

// ttl returns for how long a server will keep a lock.
func ttl(t *testing.T, s *redistest.Server, name string) time.Duration {
	t.Helper()
	ms, _ := s.Do(t, "pttl", "lock:"+name).(int64)
	return time.Duration(ms) * time.Millisecond
}

func TestLockForAScript(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	r := redlock(t, servers, "acquire", "-n", "--ttl", "1m", "--also", "db", "job").requireCode(t,
		0)
	require.Empty(t, r.stderr)
	token := strings.TrimSuffix(r.stdout, "\n")
	for _, s := range servers {
		require.Equal(t, token, value(t, s, "job"))
		require.Equal(t, token, value(t, s, "db"))
	}
	host, err := os.Hostname()
	require.NoError(t, err)
	require.Contains(t, redlock(t, servers, "status", "job").requireCode(t, 1).stdout, host+":")

	out := redlock(t, servers, "extend", "--token", token, "--also=db", "--ttl", "5m",
		"job").requireCode(t, 0).stdout
	require.Equal(t, token+"\n", out)
	require.Greater(t, ttl(t, servers[0], "db"), 4*time.Minute)

	out = redlock(t, servers, "extend", "--token", token, "--also=db", "--ttl", "2m",
		"job").requireCode(t, 0).stdout
	require.NotEqual(t, token+"\n", out, "a lock that ends earlier has another token")
	require.Less(t, ttl(t, servers[0], "db"), 3*time.Minute)
	redlock(t, servers, "release", "--token", token, "--also", "db", "job").requireCode(t, 124)
	redlock(t, servers, "release", "--token", strings.TrimSpace(out), "--also", "db",
		"job").requireCode(t, 0)
	for _, s := range servers {
		require.Empty(t, s.Keys(t))
	}
	require.Contains(t, redlock(t, servers, "release", "--token", strings.TrimSpace(out),
		"job").requireCode(t, 124).stderr, "lock lost")
	require.Contains(t, redlock(t, servers, "release", "job").requireCode(t, 125).stderr,
		"no token: give --token or set REDLOCK_TOKEN")
}

func TestTokenMayBeginWithAHyphen(t *testing.T) {
	t.Parallel()
	servers := one(t)
	for _, token := range []string{"-AAAAAAAAAAAAAAAAAAAAA:x", "--AAAAAAAAAAAAAAAAAAAA:x", "-n"} {
		for _, args := range [][]string{{"--token", token}, {"--token=" + token}} {
			servers[0].Do(t, "set", "lock:job", token, "px", 60_000)
			out := redlock(t, servers, append([]string{"extend", "--ttl=90", "job"},
				args...)...).requireCode(t, 0).stdout
			require.Equal(t, token+"\n", out)
			redlock(t, servers, append(append([]string{"release"}, args...), "job")...).requireCode(
				t, 0)
			require.Empty(t, servers[0].Keys(t))
		}
	}
}

func TestCommandMayExtendItsLock(t *testing.T) {
	t.Parallel()
	servers := one(t)
	r := redlock(t, servers, "run", "job", "sh", "-c",
		binary+` extend --ttl 1h "$REDLOCK_RESOURCE" && `+binary+` status job --json`)
	r.requireCode(t, 1)
	require.Contains(t, r.stdout, `"ttl":3`)
	require.Empty(t, servers[0].Keys(t))
}

func TestAcquiredLockExpires(t *testing.T) {
	t.Parallel()
	servers := one(t)
	redlock(t, servers, "acquire", "--ttl", "500ms", "job").requireCode(t, 0)
	redlock(t, servers, "acquire", "--ttl", "10m", "--max-hold", "60", "-w", "10",
		"job").requireCode(t, 0)
	require.LessOrEqual(t, ttl(t, servers[0], "job"), time.Minute)
	redlock(t, servers, "acquire", "--ttl", "10", "--min-hold", "60", "other").requireCode(t, 0)
	require.Greater(t, ttl(t, servers[0], "other"), 30*time.Second)
}

func TestOwnerIsShown(t *testing.T) {
	t.Parallel()
	servers := one(t)
	redlock(t, servers, "acquire", "--owner", "deploy of alice", "job").requireCode(t, 0)
	require.Contains(t, redlock(t, servers, "status", "job").requireCode(t, 1).stdout,
		"deploy of alice")
}

func TestForceTakesALockFromItsOwner(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	require.Equal(t, "\"job\" is free\n", redlock(t, servers, "release", "--force", "--yes",
		"job").requireCode(t, 0).stdout)
	set := map[string]func(s *redistest.Server){
		"a lock": func(s *redistest.Server) {
			take(t, []*redistest.Server{s}, "job", time.Minute)
		},
		"for ever": func(s *redistest.Server) { s.Do(t, "set", "lock:job", "x") },
		"on one node": func(s *redistest.Server) {
			s.Do(t, "set", "lock:job", s.Addr(), "px", 60_000)
		},
		"on one, for all": func(s *redistest.Server) { s.Do(t, "set", "lock:job", s.Addr()) },
	}
	for name, lock := range set {
		for _, s := range servers {
			lock(s)
		}
		require.Contains(t, redlock(t, servers, "release", "--force", "job").requireCode(t,
			125).stderr, "needs --yes")
		require.Equal(t, "\"job\" is released\n",
			redlock(t, servers, "release", "--force", "--yes", "job").requireCode(t, 0).stdout,
			name)
		for _, s := range servers {
			require.Empty(t, s.Keys(t), name)
		}
	}
}
