package redlock_test

import (
	"flag"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "4"); err != nil { // the tests that run alongside each other wait most of the time
		panic(err)
	}
	code := m.Run()
	if err := goleak.Find(idleDialer); err != nil && code == 0 {
		println(err.Error())
		code = 1
	}
	os.Exit(code)
}

// idleDialer is the one goroutine that a go-redis client leaves behind: it probes an unreachable server and notices Close
// up to a second late.
var idleDialer = goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial")

// noLeak fails the test if goroutines are left after everything registered later with t.Cleanup has run.
func noLeak(t *testing.T) {
	t.Helper()
	if !alongside(t.Name()) {
		t.Cleanup(func() { goleak.VerifyNone(t, idleDialer) })
	}
}

// companions has the names of tests that run alongside others, whose goroutines they cannot tell from their own.
var companions sync.Map

// alongside reports whether the test, or one that it is part of, runs alongside others.
func alongside(name string) bool {
	_, ok := companions.Load(name)
	i := strings.LastIndexByte(name, '/')
	return ok || i > 0 && alongside(name[:i])
}

// runAlongside is t.Run for the cases of a test that wait most of the time: they wait together. What they leak is the whole
// test's, which calls noLeak before.
func runAlongside(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		companions.Store(t.Name(), nil)
		t.Parallel()
		test(t)
	})
}

// masters starts n servers, with a stock client for each. The test ends without a leaked goroutine.
func masters(t *testing.T, n int, opts ...redistest.Option) ([]*redistest.Server, []*redis.Client) {
	t.Helper()
	noLeak(t)
	servers := redistest.StartN(t, n, opts...)
	return servers, redistest.Clients(t, servers)
}

// proxied starts n servers, each behind a proxy, with a stock client for each proxy.
func proxied(t *testing.T, n int) ([]*redistest.Server, []*redistest.Proxy, []*redis.Client) {
	t.Helper()
	noLeak(t)
	servers := redistest.StartN(t, n)
	proxies := make([]*redistest.Proxy, n)
	clients := make([]*redis.Client, n)
	for i, s := range servers {
		proxies[i] = s.Proxy(t)
		clients[i] = proxies[i].Client(t)
	}
	return servers, proxies, clients
}

// open returns a Locker that is closed at the end of the test.
func open[N redlock.Node](t *testing.T, nodes []N, opts ...redlock.Option) *redlock.Locker {
	t.Helper()
	l, err := redlock.New(nodes, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

// noKeys checks that nothing is left on any of the servers. What is deleted in the background gets a moment.
func noKeys(t *testing.T, servers []*redistest.Server) {
	t.Helper()
	for i, s := range servers {
		require.Eventually(t, func() bool { return len(s.Keys(t)) == 0 }, 5*time.Second, 2*time.Millisecond,
			"keys left on node %d", i)
	}
}

// onlyError drops the result that a test does not look at.
func onlyError[T any](_ T, err error) error { return err }
