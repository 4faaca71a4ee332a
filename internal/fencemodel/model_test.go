package fencemodel_test

import (
	"flag"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/fencemodel"
)

var (
	most = flag.Int("most", 4, "how far counters go in the search: 5 takes ten times as long as 4")
	runs = flag.Int("runs", 1500, "how many runs go at random, for each of the rules")
	seed = flag.Uint64("seed", 1, "of these")
)

// sound are the rules under which the promises hold, with how far the counters go by default: the
// states grow fast with it.
var sound = []struct {
	name  string
	rules fencemodel.Rules
	least int // states
}{
	{"keys may expire at any time", fencemodel.Rules{Expiry: true}, 1_000_000},
	{"nodes may forget what others know", fencemodel.Rules{Restarts: fencemodel.Known}, 100_000},
	{"all nodes restart, one after the other, while the lock is held",
		fencemodel.Rules{Restarts: fencemodel.Healed}, 1_000_000},
}

func TestFencesAreUniqueAndIncreaseInEveryRun(t *testing.T) {
	for _, c := range sound {
		t.Run(c.name, func(t *testing.T) {
			c.rules.Most = uint8(*most)
			if c.rules.Restarts == fencemodel.Known {
				c.rules.Most-- // these are many more
			}
			if raceDetector {
				c.rules.Most, c.least = 3, 10_000
			}
			states, found := fencemodel.All(c.rules)
			require.Nil(t, found)
			require.Greater(t, states, c.least, "too little was looked at")
			t.Logf("%d states", states)
		})
	}
}

func TestMistakesAreFound(t *testing.T) {
	for name, rules := range map[string]fencemodel.Rules{
		"no second round": {NoSecondRound: true},
		"at least in place of exactly, where keys expire early": {AtLeast: true, Expiry: true},
		"healed without the fence, where nodes restart": {HealsWithout: true,
			Restarts: fencemodel.Healed},
		"counters lost on a node that makes the quorum": {Restarts: fencemodel.AnyTime},
		"counters lost on a node that makes it, where keys expire": {Restarts: fencemodel.AnyTime,
			Expiry: true},
		"a node forgets what is known, where keys expire early too": {Restarts: fencemodel.Known,
			Expiry: true},
	} {
		t.Run(name, func(t *testing.T) {
			rules.Most = 4
			_, found := fencemodel.All(rules)
			require.NotNil(t, found)
			t.Log(found)
		})
	}
}

// More nodes and attempts than can be looked at in full.
func TestFencesAreUniqueAndIncreaseInRunsAtRandom(t *testing.T) {
	for _, c := range sound {
		for _, size := range [][2]int{{3, 4}, {4, 3}, {5, 4}, {7, 3}} {
			c.rules.Nodes, c.rules.Attempts, c.rules.Most = size[0], size[1], 63
			n := *runs
			if raceDetector {
				n /= 10
			}
			fences, raised, found := fencemodel.Walks(c.rules, rand.New(rand.NewPCG(*seed, 0)), n,
				150)
			require.Nil(t, found, "%s, %v", c.name, size)
			t.Logf("%s, %v: %d fences, %d of them in more than one round", c.name, size, fences,
				raised)
			require.Greater(t, fences, n/10, "too little happened")
			require.Greater(t, raised, n/50, "too little happened")
		}
	}
}

func TestMistakeIsFoundAtRandom(t *testing.T) {
	rules := fencemodel.Rules{NoSecondRound: true, Expiry: true, Nodes: 5, Attempts: 4, Most: 63}
	_, _, found := fencemodel.Walks(rules, rand.New(rand.NewPCG(*seed, 0)), 500, 150)
	require.NotNil(t, found)
}
