package fencemodel

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Counterexample is a run that breaks a promise.
type Counterexample struct {
	Promise string
	Steps   []string
}

func (c *Counterexample) String() string {
	return fmt.Sprintf("%s:\n  %s", c.Promise, strings.Join(c.Steps, "\n  "))
}

// search looks at all states that can be reached, those that take few steps first.
type search struct {
	model
	seen   map[key]struct{}
	states []State
	from   []int32 // where each of them came from
}

// All looks at every run of two attempts on three nodes (whatever rules say of their numbers), for
// every way in which counters and proposals may relate to each other within small numbers. It
// returns how many states there are, and a shortest run that breaks a promise, if there is one:
// then it stops.
func All(rules Rules) (states int, found *Counterexample) {
	rules.Nodes, rules.Attempts = 3, 2
	for _, start := range starts() {
		s := search{model: model{rules, start.proposals}, seen: make(map[key]struct{})}
		s.add(State{Nodes: start.nodes}, -1)
		found = s.run()
		states += len(s.states)
		if found != nil {
			break
		}
	}
	return states, found
}

// run looks at one state after the other.
func (s *search) run() *Counterexample {
	for i := 0; i < len(s.states); i++ {
		at := s.states[i]
		if promise := at.broken(); promise != "" {
			return &Counterexample{promise, s.way(i)}
		}
		if at.Attempts[0].Fence > 0 && at.Attempts[1].Fence > 0 {
			continue // both have what they will have
		}
		s.next(at, func(step step) bool {
			s.add(step.to, i)
			return true
		})
	}
	return nil
}

func (s *search) add(at State, from int) {
	k := keyOf(at)
	if _, seen := s.seen[k]; seen {
		return
	}
	s.seen[k] = struct{}{}
	s.states, s.from = append(s.states, at), append(s.from, int32(from))
}

// way tells how a state is reached.
func (s *search) way(i int) (steps []string) {
	for ; s.from[i] >= 0; i = int(s.from[i]) {
		s.next(s.states[s.from[i]], func(step step) bool {
			if step.to != s.states[i] {
				return true
			}
			steps = append(steps, step.what())
			return false
		})
	}
	steps = append(steps, fmt.Sprintf("counters %d, %d, %d", s.states[0].Nodes[0].Fence,
		s.states[0].Nodes[1].Fence, s.states[0].Nodes[2].Fence))
	slices.Reverse(steps)
	return steps
}

// start is where a search begins.
type start struct {
	nodes     [maxNodes]Node
	proposals [maxAttempts]uint8
}

// starts are the beginnings that differ in more than the names of nodes and attempts: counters of 0
// to 2, of which one is 0 (only differences matter), and proposals that are behind all of them,
// among them, or ahead.
func starts() (all []start) {
	const most = 2
	for b := uint8(0); b <= most; b++ {
		for c := b; c <= most; c++ {
			for p := uint8(1); p <= most+1; p++ {
				for q := p; q <= most+1; q++ {
					all = append(all, start{[maxNodes]Node{{}, {Fence: b}, {Fence: c}},
						[maxAttempts]uint8{p, q}})
				}
			}
		}
	}
	return all
}

// key is a state of three nodes and two attempts in 128 bits, without the names of the nodes. No
// counter exceeds 7.
type key [2]uint64

func keyOf(s State) (k key) {
	var columns [3]uint64 // 15 bits each
	for x, n := range s.Nodes[:3] {
		columns[x] = uint64(n.Owner) | uint64(n.By)<<2 | uint64(n.Fence)<<4 | bit(n.Heard)<<8 |
			uint64(s.Attempts[0].Told[x])<<9 | uint64(s.Attempts[1].Told[x])<<12
	}
	slices.SortFunc(columns[:], cmp.Compare[uint64])
	k[0] = columns[0] | columns[1]<<16 | columns[2]<<32
	for i, a := range s.Attempts[:2] {
		k[1] |= (bit(a.Started) | bit(a.After > 0)<<1 | bit(a.Over)<<2 | uint64(
			a.Round)<<3 | uint64(a.Fence)<<6 | uint64(a.Raises)<<9 | bit(a.Crossed)<<17) << (20 * i)
	}
	return k
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// Walks goes through runs at random, each of so many steps, and returns how many fences there were,
// how many of them took more than one round, and a run that breaks a promise, if there is one.
func Walks(rules Rules, random *rand.Rand, runs,
	steps int) (fences, raised int, found *Counterexample) {
	for range runs {
		w := model{Rules: rules}
		var at State
		for i := range rules.Attempts {
			w.proposals[i] = 1 + uint8(random.IntN(int(rules.Most)/2))
		}
		for i := range rules.Nodes {
			at.Nodes[i].Fence = uint8(random.IntN(int(rules.Most) / 2))
		}
		var path []string
		for range steps {
			chosen, ok := w.any(at, random)
			if !ok {
				break
			}
			at = chosen.to
			path = append(path, chosen.what())
			if promise := at.broken(); promise != "" {
				return fences, raised, &Counterexample{promise, path}
			}
		}
		for _, a := range at.Attempts {
			fences += int(bit(a.Fence > 0))
			raised += int(bit(a.Fence > 0 && a.Raises > 0))
		}
	}
	return fences, raised, nil
}

// any returns one of the steps that may follow, at random.
func (m *model) any(at State, random *rand.Rand) (chosen step, ok bool) {
	count := 0
	m.next(at, func(next step) bool {
		if count++; random.IntN(count) == 0 {
			chosen = next
		}
		return true
	})
	return chosen, count > 0
}
