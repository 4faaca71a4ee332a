// Package fencemodel is the protocol of the fencing tokens without everything else, so small that
// all of its runs can be looked at: nodes that have a lock and a counter, and attempts that take
// the lock and agree on a fence.
//
// A request, once sent, may reach any node at any time, and again and again, or never: so they are
// lost, late, repeated and reordered. Answers are lost too, or late. Proposals are any numbers: so
// clocks may show anything. A node may drop the lock whenever it likes: so keys expire early, and
// are released, at any time.
//
// What is left out is of no consequence for the order of fences: time, and all that an attempt may
// do with its lock.
package fencemodel

import "fmt"

const (
	maxNodes    = 7
	maxAttempts = 4
)

// Rules say how the protocol goes. The zero value is as it is; each of the others has a mistake.
type Rules struct {
	NoSecondRound bool // the largest that was told is the fence
	// a quorum that has told the fence or more is enough, in place of exactly the fence
	AtLeast      bool
	HealsWithout bool // a node that gets the lock again from its holder is not told the fence

	// Expiry lets nodes drop the lock at any time. Without it they keep it until the attempt is
	// over.
	Expiry bool

	// Restarts lets nodes lose everything. See Forgets.
	Restarts Forgets

	// Nodes and Attempts are how many there are, up to 7 and 4.
	Nodes, Attempts int

	// Most is what no counter exceeds, up to 63.
	Most uint8
}

// Forgets says when a node may lose its lock and its counter. But for AnyTime that is never while
// an attempt is under way that was so when a node forgot something before.
type Forgets uint8

const (
	Never   Forgets = iota
	Known           // if so many others know as much that each quorum has one of them
	Healed          // while somebody holds the lock whose latest extension has reached all others
	AnyTime         // always
)

// Node is one of the nodes.
type Node struct {
	Owner uint8 // an attempt, counted from 1; 0: nobody
	Fence uint8 // the counter
	By    uint8 // whose the lock was when the counter was raised last
	Heard bool  // the owner's latest extension has reached it
}

// Attempt is one that takes the lock.
type Attempt struct {
	Started bool
	Round   uint8           // the fence that it raises to; 0: it acquires
	Raises  uint64          // those that it ever sent, as a set
	Told    [maxNodes]uint8 // what each node has answered in this round; 0: nothing yet
	Fence   uint8           // what it has got; 0: nothing yet
	After   uint8           // those that had got their fences when it was started, as a set
	Over    bool            // it has given up or released the lock
	Crossed bool            // a node has forgotten everything while it was under way
}

// State is where a run has come to.
type State struct {
	Nodes    [maxNodes]Node
	Attempts [maxAttempts]Attempt
}

// model is a run's rules and the proposals of the attempts.
type model struct {
	Rules
	proposals [maxAttempts]uint8
}

// step is what may happen next.
type step struct {
	to   State
	what func() string
}

// next calls yield with each state that may follow, until it returns false.
func (m *model) next(s State, yield func(step) bool) {
	for a := range m.Attempts {
		if !m.attemptSteps(s, a, yield) {
			return
		}
	}
	for x := range m.Nodes {
		if !m.nodeSteps(s, x, yield) {
			return
		}
	}
}

// attemptSteps are what an attempt does, and what its requests do on the nodes.
func (m *model) attemptSteps(s State, a int, yield func(step) bool) bool {
	at := s.Attempts[a]
	if !at.Started {
		s.Attempts[a].Started = true
		for b, other := range s.Attempts {
			if other.Fence > 0 {
				s.Attempts[a].After |= 1 << b
			}
		}
		return yield(step{s, func() string {
			return fmt.Sprintf("%c starts and proposes %d", 'A'+a, m.proposals[a])
		}})
	}
	for x := range m.Nodes {
		if !m.requestSteps(s, a, x, yield) {
			return false
		}
	}
	if at.Over || m.Expiry {
		return true // with expiry nodes drop the lock anyway
	}
	s.Attempts[a].Over = true
	return yield(step{s, func() string { return fmt.Sprintf("%c is over", 'A'+a) }})
}

// requestSteps let the requests of an attempt reach a node.
func (m *model) requestSteps(s State, a, x int, yield func(step) bool) bool {
	if to, ok := m.acquire(s, a, x, m.proposals[a]); ok {
		if !m.answer(s, to, a, x, 0, "acquire", yield) {
			return false
		}
	}
	for fence := uint8(1); fence <= m.Most; fence++ {
		if s.Attempts[a].Raises&(1<<fence) == 0 {
			continue
		}
		if to, ok := m.raise(s, a, x, fence); ok && !m.answer(s, to, a, x, fence, "raise", yield) {
			return false
		}
	}
	return m.Restarts != Healed || m.extend(s, a, x, yield)
}

// answer has a node answer a request of the given round, which has brought the node from s to
// another state. The answer is lost; or it is the one that the attempt will go by. It might read it
// later: that would change nothing, since it draws its conclusion from the first quorum.
func (m *model) answer(s, to State, a, x int, round uint8, request string,
	yield func(step) bool) bool {
	n := to.Nodes[x]
	text := func() string {
		return fmt.Sprintf("%c's %s %d reaches node %d: lock of %c, counter %d", 'A'+a, request,
			round, x, '@'+rune(n.Owner), n.Fence)
	}
	if to != s && !yield(step{to, text}) {
		return false
	}
	at := &to.Attempts[a]
	if at.Fence > 0 || at.Over || at.Round != round || at.Told[x] > 0 {
		return true
	}
	at.Told[x] = n.Fence
	conclusion := m.conclude(at)
	return yield(step{to, func() string { return text() + ", answered" + conclusion }})
}

// acquire is what acquire.lua does.
func (m *model) acquire(s State, a, x int, least uint8) (State, bool) {
	n := &s.Nodes[x]
	switch int(n.Owner) {
	case 0:
		n.Owner, n.Fence, n.By, n.Heard = uint8(a+1), max(n.Fence+1, least), m.by(a), false
	case a + 1:
	default:
		return s, false
	}
	return s, n.Fence <= m.Most
}

// raise is what extend.lua does.
func (m *model) raise(s State, a, x int, fence uint8) (State, bool) {
	n := &s.Nodes[x]
	if int(n.Owner) != a+1 {
		return s, false
	}
	if fence > n.Fence {
		n.Fence, n.By = fence, m.by(a)
	}
	return s, true
}

// by keeps the states fewer where it does not matter who has raised a counter.
func (m *model) by(a int) uint8 {
	if m.Restarts != Known {
		return 0
	}
	return uint8(a + 1)
}

// extend is an extension by the holder, which heals a node that has lost the lock.
func (m *model) extend(s State, a, x int, yield func(step) bool) bool {
	at := s.Attempts[a]
	if at.Fence == 0 || at.Over || s.Nodes[x].Heard && int(s.Nodes[x].Owner) == a+1 {
		return true
	}
	to, ok := m.raise(s, a, x, at.Fence)
	if s.Nodes[x].Owner == 0 {
		least := at.Fence
		if m.HealsWithout {
			least = m.proposals[a]
		}
		to, ok = m.acquire(s, a, x, least)
	}
	if !ok {
		return true
	}
	n := &to.Nodes[x]
	n.Heard = true
	return yield(step{to, func() string {
		return fmt.Sprintf("%c's extension reaches node %d: "+
			"counter %d", 'A'+a, x, n.Fence)
	}})
}

// conclude takes the answers of a quorum, if there is one, for a fence, or raises the counters.
func (m *model) conclude(at *Attempt) string {
	read, least, most := 0, m.Most, uint8(0)
	for _, told := range at.Told {
		if told > 0 {
			read, least, most = read+1, min(least, told), max(most, told)
		}
	}
	switch {
	case read < m.quorum():
		return ""
	case least == most, m.NoSecondRound:
		at.Fence = most
	case m.AtLeast && at.Round > 0 && least >= at.Round:
		at.Fence = at.Round
	default:
		at.Round = most
		at.Raises |= 1 << most
		at.Told = [maxNodes]uint8{}
		return fmt.Sprintf("; %d to %d: it raises", least, most)
	}
	at.Told = [maxNodes]uint8{}
	return fmt.Sprintf("; it has the fence %d", at.Fence)
}

// nodeSteps are what happens to a node by itself.
func (m *model) nodeSteps(s State, x int, yield func(step) bool) bool {
	n := s.Nodes[x]
	if n.Owner > 0 && (m.Expiry || s.Attempts[n.Owner-1].Over) {
		to := s
		to.Nodes[x].Owner, to.Nodes[x].Heard = 0, false
		if !yield(step{to, func() string {
			return fmt.Sprintf("node %d drops the lock of %c", x, '@'+rune(n.Owner))
		}}) {
			return false
		}
	}
	if n == (Node{}) || !m.mayForget(s, x) {
		return true
	}
	s.Nodes[x] = Node{}
	for a := range s.Attempts {
		at := &s.Attempts[a]
		at.Crossed = at.Crossed || m.Restarts != AnyTime && at.underWay()
	}
	return yield(step{s, func() string { return fmt.Sprintf("node %d loses everything", x) }})
}

// underWay reports whether the attempt asks for the lock.
func (at *Attempt) underWay() bool { return at.Started && at.Fence == 0 && !at.Over }

// mayForget reports whether the node may lose what it has.
func (m *model) mayForget(s State, x int) bool {
	n, others := s.Nodes[x], 0
	for _, at := range s.Attempts {
		if at.Crossed && at.underWay() {
			return false
		}
	}
	for y, o := range s.Nodes[:m.Nodes] {
		switch {
		case y == x:
		case m.Restarts == Known && (o.Fence > n.Fence || o.Fence == n.Fence && o.By == n.By):
			others++
		case m.Restarts == Healed && o.Heard && !s.Attempts[o.Owner-1].Over:
			others++
		}
	}
	return m.Restarts == AnyTime || m.Restarts == Known && others >= m.Nodes-m.quorum()+1 ||
		m.Restarts == Healed && others == m.Nodes-1
}

func (m *model) quorum() int { return m.Nodes/2 + 1 }

// broken says which promise a state breaks, or "".
func (s *State) broken() string {
	for i, a := range s.Attempts {
		for j, b := range s.Attempts[:i] {
			switch {
			case a.Fence == 0 || b.Fence == 0:
			case a.Fence == b.Fence:
				return "two holders have the same fence"
			case a.After&(1<<j) != 0 && a.Fence < b.Fence, b.After&(1<<i) != 0 && b.Fence < a.Fence:
				return "a later holder has the smaller fence"
			}
		}
	}
	return ""
}
