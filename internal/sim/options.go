package sim

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/rediskit/redlock"
)

// Options are what follows from a seed before anything runs.
type Options struct {
	Seed      uint64
	Profile   Profile
	Nodes     int
	Clients   int
	Tasks     int // of a client, at the same time
	Resources int
	Lua       bool // the nodes run scripts as Lua, and not as Go that does the same
	Stock     bool // go-redis retries when it wants to: a replay is not exact
	// go-redis waits for 0.7 s and does not retry, so that a release may be in a socket next to its
	// acquire
	Brisk    bool
	Duration time.Duration // until everything is healed
	TTL      time.Duration // usual; half of it to twice
	LongTTL  time.Duration // of some locks, which are released before
	Retry    time.Duration // the first pause of a waiter
	Latency  time.Duration // one way, less or more by half
	Deadlock time.Duration // how long a wait lasts before deadlocks are looked for
	// of what tasks do, in percent, is that they wait for locks while they hold one
	Nests    int
	FaultGap time.Duration // between two faults, on average
	Rates    []float64     // of the nodes' clocks
	Fencing  bool          // locks have fencing tokens
	Skew     time.Duration // how far the clients' clocks are off at most
	Amnesia  bool          // nodes restart and forget everything when it hurts
	Guard    time.Duration // of restarts; 0: there is none
}

// Profile is what kind of faults there are.
type Profile uint8

const (
	Storm Profile = iota // anything, anywhere
	// anything, but all of it on the same minority of the nodes, and clients are well
	Minority
	Siege // a minority hangs for longer than go-redis repeats its commands
	Calm  // nothing
)

func (p Profile) String() string { return [...]string{"storm", "minority", "siege", "calm"}[p] }

// profiles are by how often they come.
var profiles = [...]Profile{
	Storm, Storm, Storm, Storm, Storm, Storm, Storm, Storm, Storm, Minority, Minority, Minority,
	Siege, Siege, Siege, Calm,
}

// drift is the library's default, and how far from ours the rates of the nodes' clocks are at most.
// A rate of 1.01 uses up more of a TTL than that: 1% of the node's time.
const drift = 0.01

// FromSeed derives a run's options.
func FromSeed(seed uint64) Options {
	random := seeded(seed, "options")
	pick := func(of ...time.Duration) time.Duration { return of[random.IntN(len(of))] }
	const ms = time.Millisecond
	o := Options{
		Seed:      seed,
		Profile:   profiles[random.IntN(len(profiles))],
		Nodes:     [...]int{3, 3, 3, 5, 5, 1, 2, 4, 7}[random.IntN(9)],
		Clients:   2 + random.IntN(3),
		Tasks:     1 + random.IntN(2),
		Resources: 1 + random.IntN(3),
		Lua:       random.IntN(16) == 0,
		Stock:     random.IntN(5) == 0,
		Duration:  10 * time.Second,
		TTL:       pick(60*ms, 150*ms, 400*ms, 1000*ms, 2000*ms),
		LongTTL:   pick(20_000*ms, 30_000*ms),
		Retry:     pick(10*ms, 30*ms, 100*ms),
		Latency:   pick(100*time.Microsecond, 500*time.Microsecond, 2*ms, 5*ms),
		FaultGap:  pick(150*ms, 400*ms, 1000*ms),
	}
	switch o.Profile {
	case Minority:
		o.Nodes = [...]int{3, 5, 4, 7}[random.IntN(4)]
		o.TTL, o.Latency = pick(3000*ms, 6000*ms), pick(100*time.Microsecond, 500*time.Microsecond)
	case Siege:
		o.Nodes = [...]int{1, 1, 1, 2, 2, 3, 4, 5}[random.IntN(8)]
		o.Clients, o.Tasks, o.Duration, o.FaultGap = 2, 1, 30*time.Second, 2*time.Second
		if o.Nodes > 2 {
			// many connections, so that a request is in a socket and not behind a greeting
			o.Tasks, o.Latency, o.Brisk = 5, pick(3*ms, 5*ms), true
		}
	case Calm:
		o.FaultGap, o.Latency = 0, pick(100*time.Microsecond, 500*time.Microsecond)
	}
	if o.Lua && o.Profile != Siege {
		o.Duration /= 3
	}
	o.Rates = rates(random, o.Nodes)
	o.Fencing, o.Skew = fencing(seed)
	o.Deadlock, o.Nests = nesting(seed)
	if o.Profile == Storm && random.IntN(4) == 0 {
		o.Amnesia, o.TTL, o.LongTTL = true, min(o.TTL, time.Second), 2*time.Second
		o.Guard = o.LongTTL
		o.Fencing = false // what is forgotten are counters too
	}
	return o
}

// nesting is mostly rare: it keeps locks busy.
func nesting(seed uint64) (deadlocks time.Duration, nests int) {
	random := seeded(seed, "nesting")
	return [...]time.Duration{20, 100, 500}[random.IntN(3)] * time.Millisecond,
		[...]int{3, 3, 3, 75}[random.IntN(4)]
}

// fencing is on in most seeds, and most have clocks that are off by hours.
func fencing(seed uint64) (on bool, skew time.Duration) {
	random := seeded(seed, "fencing")
	return random.IntN(8) > 0, [...]time.Duration{0, 10 * time.Hour, 10 * time.Hour,
		40 * time.Hour}[random.IntN(4)]
}

// rates are for all nodes as fast as can be, as slow as can be, or in between.
func rates(random *rand.Rand, n int) []float64 {
	most := drift / (1 - drift) * 0.99
	spread := random.IntN(3)
	rates := make([]float64, n)
	for i := range rates {
		rates[i] = [...]float64{1 + most, 1 - most, 1 + most*(2*random.Float64()-1)}[spread]
	}
	return rates
}

// mostBack is how far a node's clock is set back at most, all in all.
func (o Options) mostBack() time.Duration { return 4 * o.TTL }

// longest returns the longest time for which a key can live, on a slow clock that is set back.
func (o Options) longest() time.Duration {
	return (max(o.LongTTL, 2*o.TTL) + o.mostBack()) * 102 / 100
}

// quorum is what a lock needs.
func (o Options) quorum() int { return o.Nodes/2 + 1 }

// quarantine is how long a node may be without a vote after a restart. It counts seconds, and its
// clock may be set back meanwhile.
func (o Options) quarantine() time.Duration {
	if o.Guard == 0 {
		return 0
	}
	return (o.Guard + 2*time.Second + o.mostBack()) * 102 / 100
}

// steady reports whether a majority of the nodes is always well, and all clients are.
func (o Options) steady() bool { return o.Profile == Minority || o.Profile == Calm }

// sick is how many nodes, the first ones, a minority's faults strike.
func (o Options) sick() int {
	if o.Profile == Minority {
		return (o.Nodes - 1) / 2
	}
	return 0
}

// nodeTimeout is the library's for a TTL. A node that has never answered gets the time that its
// first connection takes, but never more than half of the TTL.
func nodeTimeout(ttl time.Duration) time.Duration {
	return min(max(ttl/2, 20*time.Millisecond), time.Second)
}

// prompt is how long a call may take when nothing is wrong with a majority: round trips to open a
// connection, to greet, to load a script, to wait for those who came before, and to take back.
func (o Options) prompt() time.Duration { return 12 * 3 * o.Latency }

// locker are the options of every Locker.
func (o Options) locker(owner string) []redlock.Option {
	opts := []redlock.Option{redlock.WithOwner(owner), redlock.WithDriftFactor(drift),
		redlock.WithRetryInterval(o.Retry), redlock.WithTTL(o.TTL),
		redlock.WithDeadlockDetection(o.Deadlock)}
	if o.Fencing {
		opts = append(opts, redlock.WithFencing())
	}
	if o.Guard > 0 {
		opts = append(opts, redlock.WithRestartGuard(o.Guard))
	}
	return opts
}

func (o Options) String() string {
	var rates []string
	for _, r := range o.Rates {
		rates = append(rates, fmt.Sprintf("%.4f", r))
	}
	return fmt.Sprintf("seed %d: %s, %d nodes (clocks %s), %d clients with %d tasks each, "+
		"%d resources, TTL %v (long %v), retry %v, latency %v, "+
		"a fault each %v for %v, lua %v, stock %v, brisk %v, fencing %v, skew %v, amnesia %v, "+
		"guard %v, deadlocks after %v (%d%%)",
		o.Seed, o.Profile, o.Nodes, strings.Join(rates, " "), o.Clients, o.Tasks, o.Resources,
		o.TTL, o.LongTTL, o.Retry, o.Latency, o.FaultGap, o.Duration, o.Lua, o.Stock, o.Brisk,
		o.Fencing, o.Skew, o.Amnesia, o.Guard, o.Deadlock, o.Nests)
}

// seeded returns the source of randomness of one thing in a run: none draws from another's, so that
// the order in which goroutines run changes nothing.
func seeded(seed uint64, what ...any) *rand.Rand {
	sum := fnv.New64a()
	fmt.Fprintln(sum, what...)
	return rand.New(rand.NewPCG(seed, sum.Sum64()))
}
