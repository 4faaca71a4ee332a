//go:build linux

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rediskit/redlock/internal/history"
)

// verdict is what a run has come to.
type verdict struct {
	settings   settings
	events     []history.Event
	tenures    []history.Tenure
	violations []history.Violation
	shortages  []string // too little happened for the run to say anything
	troubles   []error  // what went wrong with the run itself: a client that does not stop, say

	grants, multi, held, noQuorum, late int
	lost, crashes, extended, swaps      int
	stale                               int // writes that came too late, and were refused
	deadlocks                           int
	faults                              map[string]int
	waits                               []time.Duration // of all grants, sorted
	unexpected                          map[string]int  // refusals that nobody should see
}

func judge(s settings, events []history.Event, broken []history.Violation, stale int) *verdict {
	v := &verdict{
		settings: s, events: events, tenures: history.Tenures(events), stale: stale,
		violations: append(history.Check(events), broken...),
		faults:     make(map[string]int), unexpected: make(map[string]int),
	}
	for _, e := range events {
		v.count(e)
	}
	for _, t := range v.tenures {
		if t.End == noteLost {
			v.lost++
		}
	}
	slices.Sort(v.waits)
	for note, n := range v.unexpected {
		v.violations = append(v.violations, history.Violation{Promise: "errors",
			Text: fmt.Sprintf("%d acquisitions ended in: %s", n, note)})
	}
	v.shortages = v.missing()
	return v
}

func (v *verdict) count(e history.Event) {
	switch e.Kind {
	case history.Acquired:
		v.grants++
		if len(e.Resources) > 1 {
			v.multi++
		}
		v.waits = append(v.waits, e.At-e.Began)
	case history.Refused:
		v.refuse(e.Note)
	case history.Extended:
		v.extended++
	case history.Swapped:
		v.swaps++
	case history.Crashed:
		v.crashes++
	case history.Fault:
		v.faults[e.Token]++ // the kind
	}
}

func (v *verdict) refuse(note string) {
	switch note {
	case noteHeld:
		v.held++
	case noteNoQuorum:
		v.noQuorum++
	case noteLate:
		v.late++
	case noteDeadlock:
		v.deadlocks++
	case noteStopped:
	default:
		v.unexpected[note]++
	}
}

// missing says what there was too little of. A run in which nothing happens proves nothing.
func (v *verdict) missing() (shortages []string) {
	seconds := v.settings.Duration.Seconds()
	nodeFaults, clientFaults := v.totals()
	for _, m := range []struct {
		what     string
		got      int
		perSec   float64
		scenario string // "": all
	}{
		{"grants", v.grants, 5, ""},
		{"refusals because somebody else has the lock", v.held, 1, ""},
		{"grants of several resources", v.multi, 0.2, ""},
		{"extensions", v.extended, 0.3, ""},
		{"writes to registers", v.swaps, 2, ""},
		{"locks held to their end", v.lost, 0.5, ""},
		{"faults of nodes", nodeFaults, 0.7, safe},
		{"faults of clients", clientFaults, 0.3, safe},
		{"failovers", v.faults[failoverKind], 0.03, failover},
	} {
		if need := int(m.perSec * seconds); (m.scenario == "" ||
			m.scenario == v.settings.Scenario) && m.got < need {
			shortages = append(shortages, fmt.Sprintf("too few %s: %d, at least %d are needed",
				m.what, m.got, need))
		}
	}
	return shortages
}

// totals returns how many faults struck nodes and clients.
func (v *verdict) totals() (nodes, clients int) {
	for kind, n := range v.faults {
		switch kind {
		case clientPause, clientKill, clientDies:
			clients += n
		default:
			nodes += n
		}
	}
	return nodes, clients
}

// expectsViolations reports whether the scenario is there to show some.
func (v *verdict) expectsViolations() bool { return v.settings.Scenario != safe }

// passed reports whether the run is what it should be. Careless faults that break nothing would
// mean that the harness sees nothing; a failover has the right to go well.
func (v *verdict) passed() bool {
	switch {
	case len(v.shortages)+len(v.troubles) > 0:
		return false
	case v.settings.Scenario == safe:
		return len(v.violations) == 0
	case v.settings.Scenario == careless:
		return len(v.violations) > 0 && (!v.settings.Fencing || v.ofRegisters() == 0)
	default:
		return true
	}
}

// ofRegisters returns how many of the violations are such that a register has been written by two
// at a time.
func (v *verdict) ofRegisters() (n int) {
	for _, violation := range v.violations {
		if violation.Promise == "register" {
			n++
		}
	}
	return n
}

// wait returns a percentile of the time that grants took.
func (v *verdict) wait(percent int) time.Duration {
	if len(v.waits) == 0 {
		return 0
	}
	return v.waits[min(len(v.waits)*percent/100, len(v.waits)-1)]
}

// number is one line of the summary.
type number struct {
	Name, Value string
}

// numbers are the summary.
func (v *verdict) numbers() []number {
	nodes, clients := v.totals()
	return []number{
		{"grants", fmt.Sprintf("%d (%d of several resources)", v.grants, v.multi)},
		{"refusals", fmt.Sprintf("%d held, %d no quorum, %d too late, %d deadlocks", v.held,
			v.noQuorum, v.late, v.deadlocks)},
		{"locks lost or held to their end", fmt.Sprint(v.lost)},
		{"extensions", fmt.Sprint(v.extended)},
		{"register writes", fmt.Sprintf("%d, and %d late ones refused", v.swaps, v.stale)},
		{"time to a grant", fmt.Sprintf("median %v, 90%% %v, 99%% %v, longest %v",
			rounded(v.wait(50)), rounded(v.wait(90)), rounded(v.wait(99)), rounded(v.wait(100)))},
		{"client processes that died", fmt.Sprint(v.crashes)},
		{"faults", fmt.Sprintf("%d of nodes, %d of clients", nodes, clients)},
		{"violations", fmt.Sprint(len(v.violations))},
	}
}

// faultNumbers are the faults by kind.
func (v *verdict) faultNumbers() (numbers []number) {
	kinds := slices.SortedFunc(maps.Keys(v.faults), func(a, b string) int {
		return cmp.Or(cmp.Compare(v.faults[b], v.faults[a]), cmp.Compare(a, b))
	})
	for _, kind := range kinds {
		numbers = append(numbers, number{kind, fmt.Sprint(v.faults[kind])})
	}
	return numbers
}

func rounded(d time.Duration) string { return d.Round(100 * time.Microsecond).String() }

// conclusion is the verdict in a sentence.
func (v *verdict) conclusion() string {
	switch n := len(v.violations); {
	case len(v.troubles) > 0:
		return fmt.Sprintf("FAILED: %d violations, and %v", n, errors.Join(v.troubles...))
	case len(v.shortages) > 0:
		return "failed: " + strings.Join(v.shortages, "; ")
	case v.settings.Scenario == safe && n == 0:
		return "passed: no promise was broken"
	case v.settings.Scenario == safe:
		return fmt.Sprintf("FAILED: %d violations", n)
	case v.settings.Scenario == careless && n == 0:
		return "FAILED: nodes lost their data and voted on, and the checker saw nothing"
	case v.settings.Scenario == careless && v.settings.Fencing && v.ofRegisters() > 0:
		return fmt.Sprintf(
			"FAILED: %d violations, and fencing tokens have not kept the registers from them", n)
	case v.settings.Scenario == careless && v.settings.Fencing:
		return fmt.Sprintf("%d violations, as expected: nodes lost their data and voted on, "+
			"which the library assumes not to happen; fencing tokens have kept the registers right",
			n)
	case v.settings.Scenario == careless:
		return fmt.Sprintf("%d violations, as expected: nodes lost their data and voted on, "+
			"which the library assumes not to happen", n)
	default:
		return fmt.Sprintf("%d violations: a failover may lose locks that the old master had "+
			"granted, and for a while both grant", n)
	}
}

// print writes the summary for a terminal.
func (v *verdict) print(w io.Writer) {
	for _, n := range v.numbers() {
		fmt.Fprintf(w, "%-32s %s\n", n.Name, n.Value)
	}
	for _, n := range v.faultNumbers() {
		fmt.Fprintf(w, "    %-28s %s\n", n.Name, n.Value)
	}
	for i, violation := range v.violations {
		if i == 20 {
			fmt.Fprintf(w, "... and %d more\n", len(v.violations)-i)
			break
		}
		fmt.Fprintln(w, violation)
	}
	fmt.Fprintln(w, v.conclusion())
}
