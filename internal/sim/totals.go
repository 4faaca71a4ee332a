package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Totals count what happened, over many runs: a run in which nothing does proves nothing. Safe for
// concurrent use.
type Totals struct {
	grants    atomic.Int64 // locks
	refusals  atomic.Int64 // attempts and waits that ended because somebody else had the lock
	outages   atomic.Int64 // and because too few nodes answered
	losses    atomic.Int64 // locks that ended with their lease
	extended  atomic.Int64
	shortened atomic.Int64
	multi     atomic.Int64 // locks of several resources
	raised    atomic.Int64 // locks on whose fence the nodes had to be made to agree
	runs      atomic.Int64 // of scripts
	deadlocks atomic.Int64 // that somebody was told of
	// keys that a request made which came later than its release, as documented
	late      atomic.Int64
	simulated atomic.Int64 // time

	mu     sync.Mutex
	faults map[string]int
}

func (t *Totals) fault(kind string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.faults == nil {
		t.faults = make(map[string]int)
	}
	t.faults[kind]++
}

// Add adds what others have counted.
func (t *Totals) Add(o *Totals) {
	for _, pair := range [][2]*atomic.Int64{
		{&t.grants, &o.grants}, {&t.refusals, &o.refusals}, {&t.outages, &o.outages},
		{&t.losses, &o.losses},
		{&t.extended, &o.extended}, {&t.shortened, &o.shortened}, {&t.multi, &o.multi},
		{&t.runs, &o.runs},
		{&t.raised, &o.raised}, {&t.late, &o.late}, {&t.deadlocks, &o.deadlocks},
		{&t.simulated, &o.simulated},
	} {
		pair[0].Add(pair[1].Load())
	}
	o.mu.Lock()
	faults := maps.Clone(o.faults)
	o.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.faults == nil {
		t.faults = make(map[string]int)
	}
	for kind, n := range faults {
		t.faults[kind] += n
	}
}

// Lacking returns of what there was too little for that many runs to mean anything.
func (t *Totals) Lacking(runs int64) []string {
	var lacking []string
	least := func(what string, got, want int64) {
		if got < want {
			lacking = append(lacking, fmt.Sprintf("%s: %d, at least %d wanted", what, got, want))
		}
	}
	least("grants", t.grants.Load(), 15*runs)
	least("refusals", t.refusals.Load(), 8*runs)
	least("outages", t.outages.Load(), runs)
	least("locks that ended with their lease", t.losses.Load(), 2*runs)
	least("extensions", t.extended.Load(), 2*runs)
	least("shortenings", t.shortened.Load(), runs/2)
	least("locks of several resources", t.multi.Load(), runs)
	least("deadlocks", t.deadlocks.Load(), runs/4)
	least("fences that took a second round", t.raised.Load(), runs)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, kind := range faultKinds {
		least("faults of the kind "+kind, int64(t.faults[kind]), runs/10)
	}
	least("faults of the kind amnesia", int64(t.faults["amnesia"]), runs/5)
	return lacking
}

func (t *Totals) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var faults []string
	for _, kind := range slices.Sorted(maps.Keys(t.faults)) {
		faults = append(faults, fmt.Sprintf("%s %d", kind, t.faults[kind]))
	}
	return fmt.Sprintf("%v simulated; %d grants (%d of several resources, %d with a second round "+
		"for the fence), %d refusals, %d outages, %d ended with their lease, %d extended, "+
		"%d shortened; "+
		"%d deadlocks, %d calls of scripts, %d keys of late requests; faults: %s",
		time.Duration(t.simulated.Load()).Round(time.Second), t.grants.Load(), t.multi.Load(),
		t.raised.Load(), t.refusals.Load(), t.outages.Load(), t.losses.Load(),
		t.extended.Load(), t.shortened.Load(), t.deadlocks.Load(), t.runs.Load(), t.late.Load(),
		strings.Join(faults, ", "))
}
