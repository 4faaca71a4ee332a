//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// The scenarios.
const (
	safe = "safe" // faults that the library's assumptions allow: no promise may break
	// nodes lose their data and vote on at once: the checker must see promises break
	careless = "careless"
	// one master, which Sentinel replaces: shows what asynchronous replication weakens
	failover = "sentinel"
)

// settings are what a run is made of. All but the first three follow from the seed.
type settings struct {
	Scenario string
	Seed     uint64
	Duration time.Duration // of the faults; the run takes a few seconds more

	Clients     int           // processes
	Workers     int           // in each, all with one Locker
	Resources   int           // at a time; the lower the number, the more wanted
	MinTTL      time.Duration // of an acquisition
	MaxTTL      time.Duration // no lease is longer
	NodeTimeout time.Duration // 0: the library's own
	Retry       time.Duration // between the tries of a waiting Acquire
	// the locks have fencing tokens, and what they guard relies on nothing else
	Fencing   bool
	Guard     bool          // servers that have restarted have no vote for MaxTTL
	Deadlocks time.Duration // after which a wait looks for a deadlock; 0: never
}

// From time to time all resources get new names, so that the search for an order of events is one
// of bounded histories.
const epoch = 20 * time.Second

// newSettings derives everything from the seed.
func newSettings(scenario string, seed uint64, duration time.Duration) (settings, error) {
	switch scenario {
	case safe, careless, failover:
	default:
		return settings{}, fmt.Errorf("no such scenario: %q (there are %s, %s, %s)", scenario, safe,
			careless, failover)
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	s := settings{Scenario: scenario, Seed: seed, Duration: duration}
	s.Clients = 4 + rng.IntN(3)
	s.Workers = 4 + rng.IntN(2)
	s.Resources = 6 + rng.IntN(5)
	s.MinTTL = 200 * time.Millisecond
	s.MaxTTL = pick(rng, 600*time.Millisecond, 800*time.Millisecond, time.Second)
	s.NodeTimeout = pick(rng, 0, 50*time.Millisecond, 100*time.Millisecond)
	s.Retry = pick(rng, 5*time.Millisecond, 20*time.Millisecond, 100*time.Millisecond)
	if scenario != failover && rng.IntN(4) > 0 {
		// the guard gives a promoted replica no vote: nothing would be left to show
		s.Fencing, s.Guard, s.Deadlocks = true, true,
			pick(rng, 50*time.Millisecond, 200*time.Millisecond)
	}
	return s, nil
}

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }

// between returns a duration from low to high.
func between(rng *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(rng.Int64N(int64(max(high-low, 1))))
}

// resource names the i-th resource of the epoch.
func resource(i int, now time.Duration) string { return fmt.Sprintf("r%d/%d", i, now/epoch) }

// guardSlack is how much longer than MaxTTL a server has no vote that has restarted: it counts
// seconds.
const guardSlack = 2 * time.Second

// barred returns for how long a server has no vote that has restarted.
func (s settings) barred() time.Duration {
	if !s.Guard {
		return 0
	}
	return s.MaxTTL + guardSlack
}

func (s settings) String() string {
	timeout := "default"
	if s.NodeTimeout > 0 {
		timeout = s.NodeTimeout.String()
	}
	with := "without options"
	if s.Fencing || s.Guard {
		with = fmt.Sprintf("fencing %t, restart guard %t, deadlocks sought after %v", s.Fencing,
			s.Guard, s.Deadlocks)
	}
	return fmt.Sprintf("scenario %s, seed %d, duration %v: %d processes of %d workers, "+
		"%d resources, TTL %v to %v, node timeout %s, retry interval %v, %s",
		s.Scenario, s.Seed, s.Duration, s.Clients, s.Workers, s.Resources, s.MinTTL, s.MaxTTL,
		timeout, s.Retry, with)
}
