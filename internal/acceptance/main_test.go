package acceptance_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/locktest"
	"github.com/rediskit/redlock/internal/redistest"
)

func TestMain(m *testing.M) { locktest.Main(m) }

// Short names for what most tests use.
var (
	noLeak       = locktest.NoLeak
	runAlongside = locktest.RunAlongside
	masters      = locktest.Masters
	noKeys       = locktest.NoKeys
	lockKey      = locktest.LockKey
)

const (
	stranger = locktest.Stranger
	tenYears = locktest.TenYears
)

// open returns a Locker that is closed at the end of the test.
func open[N redlock.Node](t *testing.T, nodes []N, opts ...redlock.Option) *redlock.Locker {
	t.Helper()
	return locktest.Open(t, nodes, opts...)
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

// onlyError drops the result that a test does not look at.
func onlyError[T any](_ T, err error) error { return err }
