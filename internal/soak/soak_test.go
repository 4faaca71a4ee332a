//go:build linux

package main

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rediskit/redlock/internal/redistest"
)

func TestMain(m *testing.M) {
	clientMain() // this binary is the clients' too
	redis.SetLogger(silence{})
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// short makes a short run, and longer ones until one satisfies, with leases that allow for a machine which has other things to
// do.
func short(t *testing.T, scenario string, duration time.Duration, satisfies func(*verdict) bool) *verdict {
	t.Helper()
	redistest.Start(t) // skips the test where there is no Redis
	for try := 1; ; try++ {
		s, err := newSettings(scenario, uint64(time.Now().UnixNano()), time.Duration(try)*duration)
		require.NoError(t, err)
		s.Clients, s.Workers = 3, 4
		s.MinTTL, s.MaxTTL, s.NodeTimeout = 500*time.Millisecond, 1200*time.Millisecond, 200*time.Millisecond
		t.Log(s)
		v, err := run(t.Context(), s)
		require.NoError(t, err)
		require.Empty(t, v.troubles)
		t.Log(v.conclusion())
		for _, n := range append(v.numbers(), v.faultNumbers()...) {
			t.Logf("%-32s %s", n.Name, n.Value)
		}
		if try == 3 || satisfies(v) {
			return v
		}
	}
}

func TestNoPromiseBreaksUnderFaultsThatMayHappen(t *testing.T) {
	v := short(t, safe, 10*time.Second, func(v *verdict) bool { return len(v.violations) > 0 || v.passed() })
	require.Empty(t, v.violations)
	require.Empty(t, v.shortages)
}

// Without this one nobody would know whether the one above can fail.
func TestCheckerSeesWhatNodesWithoutMemoryDo(t *testing.T) {
	promises := make(map[string]int)
	short(t, careless, 6*time.Second, func(v *verdict) bool {
		for _, violation := range v.violations {
			promises[violation.Promise]++
		}
		return promises["mutual exclusion"] > 0 && promises["linearizability"] > 0
	})
	require.Positive(t, promises["mutual exclusion"])
	require.Positive(t, promises["linearizability"])
}
