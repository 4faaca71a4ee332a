//go:build linux

package main

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rediskit/redlock/internal/locktest"
	"github.com/rediskit/redlock/internal/redistest"
)

func TestMain(m *testing.M) {
	clientMain() // this binary is the clients' too
	redis.SetLogger(silence{})
	goleak.VerifyTestMain(m, locktest.ClientLeaks()...)
}

// short makes a short run, and longer ones until one satisfies, with leases that allow for a
// machine which has other things to do: there is less to see on it in the same time.
func short(t *testing.T, scenario string, duration time.Duration, change func(*settings),
	satisfies func(*verdict) bool) *verdict {
	t.Helper()
	redistest.Start(t) // skips the test where there is no Redis
	for try := 1; ; try++ {
		s, err := newSettings(scenario, uint64(time.Now().UnixNano()), time.Duration(try)*duration)
		require.NoError(t, err)
		s.Clients, s.Workers = 3, 4
		s.MinTTL, s.MaxTTL, s.NodeTimeout = 500*time.Millisecond, 1200*time.Millisecond,
			200*time.Millisecond
		if change != nil {
			change(&s)
		}
		t.Log(s)
		v, err := run(t.Context(), s)
		require.NoError(t, err)
		require.Empty(t, v.troubles)
		t.Log(v.conclusion())
		for _, n := range append(v.numbers(), v.faultNumbers()...) {
			t.Logf("%-32s %s", n.Name, n.Value)
		}
		if try == 5 || satisfies(v) {
			return v
		}
	}
}

func TestNoPromiseBreaksUnderFaultsThatMayHappen(t *testing.T) {
	v := short(t, safe, 10*time.Second, nil, func(v *verdict) bool {
		return len(v.violations) > 0 || v.passed()
	})
	require.Empty(t, v.violations)
	require.Empty(t, v.shortages)
}

// promises returns how often each promise was broken.
func (v *verdict) promises() map[string]int {
	broken := make(map[string]int)
	for _, violation := range v.violations {
		broken[violation.Promise]++
	}
	return broken
}

// Without this one nobody would know whether the one above can fail.
func TestCheckerSeesWhatNodesWithoutMemoryDo(t *testing.T) {
	fencing := func(on bool) func(*settings) {
		return func(s *settings) { s.Fencing, s.Resources = on, 3 } // few, so that holders meet
	}
	broken := make(map[string]int)
	short(t, careless, 6*time.Second, fencing(false), func(v *verdict) bool {
		for promise, n := range v.promises() {
			broken[promise] += n
		}
		return broken["mutual exclusion"] > 0 && broken["linearizability"] > 0 &&
			broken["register"] > 0
	})
	for _, promise := range []string{"mutual exclusion", "linearizability", "register"} {
		require.Positive(t, broken[promise], promise)
	}

	v := short(t, careless, 9*time.Second, fencing(true), func(v *verdict) bool {
		return v.ofRegisters() > 0 || v.promises()["mutual exclusion"] > 0 && v.stale > 0
	})
	require.Positive(t, v.promises()["mutual exclusion"], "two holders are alive at the same time")
	require.Positive(t, v.stale, "and one of them writes")
	require.Zero(t, v.ofRegisters(), "which what the lock guards does not let happen")
}
