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

// short makes a short run.
func short(t *testing.T, scenario string, duration time.Duration) *verdict {
	t.Helper()
	redistest.Start(t) // skips the test where there is no Redis
	s, err := newSettings(scenario, uint64(time.Now().UnixNano()), duration)
	require.NoError(t, err)
	t.Log(s)
	v, err := run(t.Context(), s)
	require.NoError(t, err)
	t.Log(v.conclusion())
	for _, n := range append(v.numbers(), v.faultNumbers()...) {
		t.Logf("%-32s %s", n.Name, n.Value)
	}
	return v
}

func TestNoPromiseBreaksUnderFaultsThatMayHappen(t *testing.T) {
	v := short(t, safe, 10*time.Second)
	require.Empty(t, v.violations)
	require.Empty(t, v.shortages)
	require.True(t, v.passed())
}

// Without this one nobody would know whether the one above can fail.
func TestCheckerSeesWhatNodesWithoutMemoryDo(t *testing.T) {
	v := short(t, careless, 6*time.Second)
	promises := make(map[string]int)
	for _, violation := range v.violations {
		promises[violation.Promise]++
	}
	require.Greater(t, promises["mutual exclusion"], 0)
	require.Greater(t, promises["linearizability"], 0)
	require.True(t, v.passed(), v.conclusion())
}
