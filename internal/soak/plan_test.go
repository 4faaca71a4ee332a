//go:build linux

package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// five is the nodes of a run.
func five(clock bool) []traits {
	return []traits{{aof: true, clock: clock}, {aof: true, clock: clock}, {aof: true, clock: clock},
		{clock: clock}, {clock: clock}}
}

func plan(t *testing.T, scenario string, seed uint64, duration time.Duration,
	nodes []traits) []step {
	t.Helper()
	s, err := newSettings(scenario, seed, duration)
	require.NoError(t, err)
	return newPlan(s, nodes)
}

func TestSeedDecidesThePlan(t *testing.T) {
	first := plan(t, safe, 1, time.Minute, five(true))
	require.Equal(t, first, plan(t, safe, 1, time.Minute, five(true)))
	require.NotEqual(t, first, plan(t, safe, 2, time.Minute, five(true)))

	s, err := newSettings(safe, 1, time.Minute)
	require.NoError(t, err)
	again, err := newSettings(safe, 1, time.Minute)
	require.NoError(t, err)
	require.Equal(t, s, again)
	_, err = newSettings("reckless", 1, time.Minute)
	require.ErrorContains(t, err, `"reckless"`)
}

// span is when a step keeps its node from being of use, by the plan.
func span(s step) (from, to time.Duration) {
	return s.at, s.at + s.dur + s.after
}

func forNodes(steps []step) (found []step) {
	for _, s := range steps {
		if s.kind != clientPause && s.kind != clientKill {
			found = append(found, s)
		}
	}
	return found
}

// guarded reports whether the clients of a run have the restart guard.
func guarded(t *testing.T, seed uint64) bool {
	t.Helper()
	s, err := newSettings(safe, seed, time.Minute)
	require.NoError(t, err)
	return s.Guard
}

func TestPlanKeepsToItsRules(t *testing.T) {
	for seed := range uint64(100) {
		nodes := five(seed%2 == 0)
		duration := 10 * time.Second * time.Duration(1+seed%6)
		for _, s := range plan(t, safe, seed, duration, nodes) {
			require.Less(t, s.at+s.dur, duration, "ends in time: %+v", s)
		}
		steps := forNodes(plan(t, safe, seed, duration, nodes))
		for i, s := range steps {
			f := faultOf(s.kind)
			from, _ := span(s)
			require.True(t, f.weight > 0 || f.kind == restartEmpty && guarded(t, seed),
				"is within the assumptions: %+v", s)
			require.True(t, f.fits == nil || f.fits(nodes[s.target]), "fits: %+v", s)
			require.Equal(t, f.loses && !(f.restarts && guarded(t, seed)), s.longest > 0, "%+v", s)
			if f.loses {
				require.Equal(t, -1, s.side, "keeps all clients out: %+v", s)
			}
			impaired, outage := 0, false
			for j, other := range steps {
				begun, ended := span(other)
				overlap := begun <= from && from < ended
				if i != j && other.target == s.target {
					require.False(t, overlap, "one at a time: %+v, %+v", other, s)
				}
				if overlap && faultOf(other.kind).impairs {
					impaired++
					outage = outage || other.outage
				}
			}
			if f.impairs && !outage {
				require.LessOrEqual(t, impaired, 2, "a minority: %+v", s)
			}
		}
	}
}

func TestPlanLeavesNothingOut(t *testing.T) {
	kinds, silenced := make(map[string]int), 0
	for _, s := range plan(t, safe, 3, 10*time.Minute, five(true)) {
		kinds[s.kind]++
		if s.outage {
			silenced++
		}
	}
	for _, f := range faults {
		if f.weight > 0 {
			require.Greater(t, kinds[f.kind], 5, f.kind)
		}
	}
	require.Greater(t, kinds[clientPause], 100)
	require.Greater(t, kinds[clientKill], 50)
	require.Greater(t, silenced, 50)
	require.True(t, guarded(t, 3))
	require.Greater(t, kinds[restartEmpty], 20)
}

func TestOnlyCarelessNodesVoteOnAfterALoss(t *testing.T) {
	count := func(scenario string) (n int) {
		for _, s := range plan(t, scenario, 1, 10*time.Second, five(true)) {
			if s.kind == flushAtOnce {
				n++
			}
		}
		return n
	}
	require.Zero(t, count(safe))
	require.Greater(t, count(careless), 3*10)
}
