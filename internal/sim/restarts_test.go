//go:build go1.25

package sim_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/history"
	"github.com/rediskit/redlock/internal/sim"
)

// What TestSeeds finds nothing wrong with is dangerous: without the guard the same restarts soon
// lead to two holders.
func TestRestartsWithoutTheGuardBreakMutualExclusion(t *testing.T) {
	const most = 200
	tried := 0
	for seed := uint64(1); tried < most; seed++ {
		o := sim.FromSeed(seed)
		if !o.Amnesia {
			continue
		}
		tried++
		o.Guard = 0
		outcome := live(t, o)
		require.NotNil(t, outcome)
		if slices.ContainsFunc(outcome.Violations(),
			func(v history.Violation) bool { return v.Promise == "mutual exclusion" }) {
			t.Logf("seed %d, after %d worlds", seed, tried)
			return
		}
	}
	t.Fatalf("no two holders in %d worlds in which nodes forget their locks", most)
}
