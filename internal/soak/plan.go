//go:build linux

package main

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// step is one fault of a plan.
type step struct {
	at     time.Duration // from the beginning of the faults
	kind   string
	target int           // number of the node, or of the client
	side   int           // of the doors; -1: all
	dur    time.Duration // how long it lasts; a quarantine comes on top
	jump   time.Duration // of a clock, or the length of a delay
	// TTL, which a quarantine lasts for; 0: there is none, since the restart guard sees the loss
	longest time.Duration
	after   time.Duration // for how long the node is of no use when the fault is mended
	outage  bool          // it is one of those that silence a majority
}

// What can happen to a client.
const (
	clientPause = "stop the client"
	clientKill  = "kill the client"
	clientDies  = "dies while it holds" // by itself
)

const (
	slack    = 400 * time.Millisecond // a server's restart and the like take their time
	settling = 300 * time.Millisecond // between two faults of a node
)

// planner draws a plan. No plan has more than a minority of the nodes impaired at the same time,
// but for the outages, which take nothing but time from them, or what the restart guard does not
// rely on.
type planner struct {
	settings settings
	rng      *rand.Rand
	nodes    []traits
	free     []time.Duration // when each node has got over its last fault
	impaired []time.Duration // when each node is of use again
	steps    []step
}

// newPlan returns the faults of a run, in order.
func newPlan(s settings, nodes []traits) []step {
	p := &planner{
		settings: s,
		rng:      rand.New(rand.NewPCG(s.Seed, 1)),
		nodes:    nodes,
		free:     make([]time.Duration, len(nodes)),
		impaired: make([]time.Duration, len(nodes)),
	}
	p.strikeNodes()
	p.strikeClients()
	if s.Scenario == careless {
		p.flushAtOnce()
	}
	slices.SortStableFunc(p.steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	return p.steps
}

const outageEvery = 9 * time.Second

func (p *planner) strikeNodes() {
	outage := outageEvery / 2
	for at := slack; at < p.settings.Duration; at += between(p.rng, 50*time.Millisecond,
		400*time.Millisecond) {
		if at > outage {
			outage += outageEvery
			p.outage(at)
			continue
		}
		p.strikeOne(at)
	}
}

// strikeOne lets something happen to some node that is free for it.
func (p *planner) strikeOne(at time.Duration) {
	f, fit := p.choose(at)
	if len(fit) == 0 || !f.impairs && p.rng.IntN(3) > 0 { // what is over at once fits always
		return
	}
	s := p.newStep(at, f, pick(p.rng, fit...))
	if f.impairs {
		s.dur = p.while()
	}
	switch f.kind {
	case "clock ahead":
		s.jump = between(p.rng, 100*time.Millisecond, pick(p.rng, time.Second, 5*time.Minute))
	case "clock back":
		s.jump = between(p.rng, 100*time.Millisecond, 5*time.Second)
	case "delay":
		s.jump = between(p.rng, 5*time.Millisecond, 300*time.Millisecond)
	}
	p.add(s, f)
}

// while draws how long a fault lasts: often a moment, sometimes much longer than any lease.
func (p *planner) while() time.Duration {
	longest := 5 * p.settings.MaxTTL / 2
	return min(between(p.rng, 50*time.Millisecond, longest),
		between(p.rng, 50*time.Millisecond, longest))
}

// choose draws one of the faults that may happen now, and returns the nodes that it may strike.
func (p *planner) choose(at time.Duration) (chosen fault, nodes []int) {
	enough := p.impairedAt(at) >= (len(p.nodes)-1)/2
	total := 0
	for _, f := range faults {
		fit := p.fit(f, at)
		if f.weight == 0 || len(fit) == 0 || f.impairs && enough {
			continue
		}
		total += f.weight
		if p.rng.IntN(total) < f.weight {
			chosen, nodes = f, fit
		}
	}
	return chosen, nodes
}

// fit returns the nodes that the fault may strike.
func (p *planner) fit(f fault, at time.Duration) (nodes []int) {
	for i, t := range p.nodes {
		if p.free[i] <= at && (f.fits == nil || f.fits(t)) {
			nodes = append(nodes, i)
		}
	}
	return nodes
}

func (p *planner) newStep(at time.Duration, f fault, target int) step {
	side := -1
	if f.sided && p.rng.IntN(2) == 0 {
		side = p.rng.IntN(sides)
	}
	return step{at: at, kind: f.kind, target: target, side: side}
}

// add takes a step into the plan, unless it would last beyond the end.
func (p *planner) add(s step, f fault) {
	s.longest, s.after = 0, 0
	if f.loses && !(f.restarts && p.settings.Guard) {
		s.longest = p.settings.MaxTTL
		s.after = s.longest + margin
	}
	if f.restarts {
		s.after = max(s.after, p.settings.barred())
	}
	ends := s.at + s.dur + s.after
	if ends+slack > p.settings.Duration {
		return
	}
	p.free[s.target] = ends + settling
	if f.impairs {
		p.free[s.target] += slack
		p.impaired[s.target] = ends + slack
	}
	p.steps = append(p.steps, s)
}

// impairedAt returns how many nodes are of no use at a time.
func (p *planner) impairedAt(at time.Duration) (n int) {
	for _, until := range p.impaired {
		if until > at {
			n++
		}
	}
	return n
}

// outage stops what it takes for a majority to be silent, or where that is to do no harm, restarts
// it without its data.
func (p *planner) outage(at time.Duration) {
	f, dur := faultOf("pause"), between(p.rng, p.settings.MaxTTL/4, 3*p.settings.MaxTTL/2)
	if p.settings.Guard && p.rng.IntN(2) == 0 {
		f, dur = faultOf(restartEmpty), 0
	}
	silent := p.impairedAt(at)
	for _, i := range p.rng.Perm(len(p.nodes)) {
		if p.free[i] > at || silent > len(p.nodes)/2 {
			continue
		}
		s := p.newStep(at, f, i)
		s.dur, s.outage = dur, true
		p.add(s, f)
		silent++
	}
}

func (p *planner) strikeClients() {
	free := make([]time.Duration, p.settings.Clients)
	for at := slack; ; at += between(p.rng, 100*time.Millisecond, 900*time.Millisecond) {
		s := step{at: at, kind: clientPause, target: p.rng.IntN(len(free)), side: -1}
		s.dur = p.while()
		if p.rng.IntN(3) == 0 {
			s.kind, s.dur = clientKill, 0
		}
		if at+s.dur+slack > p.settings.Duration {
			return
		}
		if free[s.target] > at {
			continue
		}
		free[s.target] = at + s.dur + slack
		p.steps = append(p.steps, s)
	}
}

const flushEvery = 700 * time.Millisecond

// flushAtOnce empties a majority again and again, whatever else there is.
func (p *planner) flushAtOnce() {
	for at := time.Second; at+slack < p.settings.Duration; at += flushEvery {
		for _, i := range p.rng.Perm(len(p.nodes))[:len(p.nodes)/2+1] {
			p.steps = append(p.steps, step{at: at, kind: flushAtOnce, target: i, side: -1})
		}
	}
}
