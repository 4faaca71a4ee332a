package acceptance_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// requireFindings checks what Check says: one line for each text that is wanted, about that node.
func requireFindings(t *testing.T, err error, servers []*redistest.Server, want map[int]string) {
	t.Helper()
	var e *redlock.CheckError
	require.ErrorAs(t, err, &e)
	require.Len(t, e.Nodes, len(want), err)
	lines := strings.Split(err.Error(), "\n")
	require.Len(t, lines, len(want))
	for i, n := range e.Nodes {
		require.Contains(t, n.Err.Error(), want[n.Node], "node %d", n.Node)
		require.Contains(t, lines[i], want[n.Node])
		if servers != nil {
			require.Equal(t, servers[n.Node].Addr(), n.Addr)
			require.Contains(t, lines[i], n.Addr)
		}
	}
}

func TestCheckOfHealthyNodesFindsNothingAndLeavesNothing(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	require.NoError(t, open(t, clients).Check(ctx))
	require.NoError(t, open(t, clients, redlock.WithKeyPrefix("")).Check(ctx))
	for _, s := range servers {
		s.Do(t, "config", "set", "appendonly", "yes")
	}
	for _, o := range []redlock.Option{
		redlock.WithFencing(), redlock.WithDeadlockDetection(time.Second),
	} {
		require.NoError(t, open(t, clients, o).Check(ctx))
	}
	noKeys(t, servers)

	cluster := redistest.StartCluster(t, 3)
	require.NoError(t, open(t, []*redis.ClusterClient{cluster.Client(t)}).Check(ctx))
	require.NoError(t, open(t, []wrapped{{cluster.Client(t)}}).Check(ctx))
	sentinel := redistest.StartSentinel(t)
	require.NoError(t, open(t, []*redis.Client{sentinel.Client(t)}).Check(ctx))
}

// The nodes have as long to answer as for a lock.
func TestCheckFindsNothingWrongWithANodeThatIsFarAway(t *testing.T) {
	servers, proxies, clients := proxied(t, 1)
	proxies[0].Delay(100 * time.Millisecond)
	require.NoError(t, open(t, clients).Check(context.Background()))
	noKeys(t, servers)
}

func TestCheckFindsNodesThatCannotBeReached(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients, redlock.WithNodeTimeout(3*time.Second))
	require.NoError(t, l.Check(ctx))
	require.NoError(t, servers[2].Kill())
	err := l.Check(ctx)
	requireFindings(t, err, servers, map[int]string{2: "cannot be reached"})
	require.NotErrorIs(t, err, redlock.ErrNoQuorum)

	thaw := freeze(t, servers[1])
	err = l.Check(ctx)
	requireFindings(t, err, servers, map[int]string{1: "cannot be reached: no answer within ",
		2: "cannot be reached"})
	require.ErrorIs(t, err, redlock.ErrNoQuorum)
	require.NotErrorIs(t, err, redlock.ErrMisconfigured)

	short, cancel := context.WithTimeoutCause(ctx, 50*time.Millisecond, errStop)
	defer cancel()
	err = l.Check(short)
	require.ErrorIs(t, err, errStop)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	var e *redlock.CheckError
	require.ErrorAs(t, err, &e)
	require.Contains(t, err.Error(), "had not answered yet")
	thaw()
	servers[2].Restart(t)
	eventually(t, func() bool { return l.Check(ctx) == nil }, "not well again")
	noKeys(t, servers)
	require.NoError(t, l.Close())
	require.ErrorIs(t, l.Check(ctx), redlock.ErrClosed)
}

func TestCheckFindsWhatIsNoMaster(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	orphan(t, servers[1])
	err := open(t, clients).Check(ctx)
	requireFindings(t, err, servers, map[int]string{1: "is a replica of 127.0.0.1:1"})
	require.NotErrorIs(t, err, redlock.ErrNoQuorum)
	servers[1].Do(t, "replicaof", servers[0].Addr()[:9], servers[0].Addr()[10:])
	requireFindings(t, open(t, clients).Check(ctx), servers,
		map[int]string{1: "is a replica of " + servers[0].Addr()})
	orphan(t, servers[2])
	err = open(t, clients).Check(ctx)
	requireFindings(t, err, servers, map[int]string{1: "is a replica of", 2: "use a master"})
	require.ErrorIs(t, err, redlock.ErrMisconfigured)
	require.ErrorIs(t, err, redlock.ErrNoQuorum)
}

func TestCheckFindsOneServerThatIsNamedTwice(t *testing.T) {
	ctx := context.Background()
	noLeak(t)
	servers := redistest.StartN(t, 2)
	clients := []*redis.Client{servers[0].Client(t), servers[1].Client(t),
		servers[1].Proxy(t).Client(t)}
	err := open(t, clients).Check(ctx)
	requireFindings(t, err, nil, map[int]string{2: "is the same server as node 1"})
	require.NotErrorIs(t, err, redlock.ErrNoQuorum)
	clients = append(clients[1:], servers[1].Proxy(t).Client(t))
	require.ErrorIs(t, open(t, clients).Check(ctx), redlock.ErrMisconfigured)
}

func TestCheckFindsWhatTheUserMayNotUse(t *testing.T) {
	ctx := context.Background()
	servers, _ := masters(t, 3)
	name, rules := userInReadme(t)
	l := open(t, loggedIn(t, servers, name, rules))
	require.NoError(t, l.Check(ctx), "INFO is forbidden, which is no failure")
	require.NotEmpty(t, denied(t, servers))

	for _, command := range []string{
		"evalsha", "eval", "set", "get", "del", "pttl", "pexpire", "exists",
		"zadd", "zrem", "zrangebyscore", "zscore", "zcount", "hset", "hget", "hdel", "hgetall",
		"publish", "subscribe",
	} {
		want := "cannot be used for locks: "
		if command == "publish" || command == "subscribe" {
			want = "gives no messages, so that waiting calls ask it again and again: "
		}
		servers[1].Do(t, "script", "flush") // so that EVAL is needed
		servers[1].Do(t, "acl", "setuser", name, "-"+command)
		// What may not be deleted stays for two node timeouts.
		err := open(t, sameUser(t, servers, name), redlock.WithNodeTimeout(2*time.Second),
			redlock.WithDeadlockDetection(time.Second)).Check(ctx)
		require.Error(t, err, command)
		requireFindings(t, err, servers, map[int]string{1: want})
		require.Contains(t, err.Error(), "see Permissions in the README", command)
		servers[1].Do(t, "acl", "setuser", name, "+"+command)
	}
	noKeys(t, servers)
	servers[1].Do(t, "acl", "setuser", name, "resetchannels", "&other:*")
	requireFindings(t, open(t, sameUser(t, servers, name)).Check(ctx), servers,
		map[int]string{1: "gives no messages"})
	servers[1].Do(t, "acl", "setuser", name, "&redlock:*")
	for _, s := range servers[1:] {
		s.Do(t, "acl", "setuser", name, "resetkeys", "~other:*")
	}
	err := open(t, sameUser(t, servers, name)).Check(ctx)
	requireFindings(t, err, servers, map[int]string{1: "cannot be used for locks: ",
		2: "cannot be used for locks: "})
	require.ErrorIs(t, err, redlock.ErrMisconfigured)
	require.NoError(t, open(t, sameUser(t, servers, name), redlock.WithKeyPrefix("")).Check(ctx),
		"other names may be allowed")
}

// sameUser returns clients that log in as a user who exists.
func sameUser(t *testing.T, servers []*redistest.Server, name string) []*redis.Client {
	t.Helper()
	clients := make([]*redis.Client, len(servers))
	for i, s := range servers {
		clients[i] = redis.NewClient(&redis.Options{Addr: s.Addr(), Username: name,
			Password: "secret"})
		t.Cleanup(func() { _ = clients[i].Close() })
	}
	return clients
}

func TestCheckFindsServersThatForgetFencingTokens(t *testing.T) {
	servers, clients := masters(t, 3)
	servers[1].Do(t, "config", "set", "appendonly", "yes")
	err := open(t, clients, redlock.WithFencing()).Check(context.Background())
	requireFindings(t, err, servers, map[int]string{0: "set appendonly to yes",
		2: "set appendonly to yes"})
	require.NotErrorIs(t, err, redlock.ErrNoQuorum)
	noKeys(t, servers)
}

func TestCheckFindsServersThatMayEvictLocks(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	// without a limit nothing is evicted
	servers[0].Do(t, "config", "set", "maxmemory-policy", "volatile-ttl")
	servers[1].Do(t, "config", "set", "maxmemory", "100mb")
	require.NoError(t, open(t, clients).Check(ctx))
	servers[1].Do(t, "config", "set", "maxmemory-policy", "allkeys-lru")
	err := open(t, clients).Check(ctx)
	requireFindings(t, err, servers,
		map[int]string{1: "set maxmemory-policy to noeviction (it is allkeys-lru"})
	require.NotErrorIs(t, err, redlock.ErrNoQuorum)
	require.False(t, errors.Is(err, redlock.ErrMisconfigured))
}
