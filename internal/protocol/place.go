package protocol

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/rediskit/redlock/internal/lease"
)

// Place is where somebody stands in the queues of a lock: the same name and ticket on all nodes,
// from the first attempt that was refused until the lock is theirs, or they have had enough. It
// outlives the attempts, each of which is a claim of its own.
//
// A call that carries the place says at the moment at which it is written to a connection whether
// they still wait: a call that is sent or repeated late must not put them back.
type Place struct {
	Name   string              // number@inbox: see scripts/queue.lua
	Ticket atomic.Int64        // microseconds, on the nodes' clocks
	Sure   func(node int) bool // the node reaches the inbox: where it reaches nobody, nobody waits

	// Heard is told what a node has said: a refusal, or nil where it has granted the lock, and that
	// grant is on its way back. Called without any lock held.
	Heard func(node int, r *Refusal)

	// Patience is for how long a node waits for them, from each call on that carries the place; and
	// where a node cannot tell whether they have heard its call, only for Unsure.
	Patience, Unsure time.Duration

	state  atomic.Int32
	listed []atomic.Bool         // by site: they may stand in its queue
	stood  []atomic.Bool         // by site: and a call of their own may have put them there, ever
	before atomic.Pointer[Claim] // the latest attempt
	heir   atomic.Pointer[Place] // who stands there since they have left; nil: nobody
}

// The states of a place.
const (
	waiting int32 = iota
	holding       // one of its claims has the lock
	left
)

// NewPlace returns the place of somebody who has not asked for it yet.
func NewPlace(n *Nodes, k Keys, name string) *Place {
	sites := n.sitesOf(&k)
	both := make([]atomic.Bool, 2*sites)
	return &Place{Name: name, listed: both[:sites], stood: both[sites:]}
}

// stands notes that a call of the place's own may have put it into the queue of a site.
func (p *Place) stands(site int) {
	p.stood[site].Store(true)
	p.listed[site].Store(true)
}

// Holds says that one of the place's claims has the lock: it will release it.
func (p *Place) Holds() { p.state.CompareAndSwap(waiting, holding) }

// Expect says that a call is on its way which puts the place into all queues.
func (p *Place) Expect() {
	for i := range p.listed {
		p.listed[i].Store(true)
	}
}

// Leave leaves the queues, and has next stand there, unless that is nil. A claim that has the lock
// does that when it releases it.
func (p *Place) Leave(n *Nodes, k Keys, next *Place) {
	if !p.waits() {
		return
	}
	if next != nil {
		for i := range next.listed {
			next.stands(i) // before it may be: see Expect
		}
		p.heir.Store(next) // before p has left: see stayer
	}
	p.state.Store(left)
	p.leave(n, k)
}

// Retire leaves the queues for a claim that keeps its keys: no release does it.
func (p *Place) Retire(n *Nodes, k Keys) {
	p.state.Store(left)
	p.leave(n, k)
}

// leave takes the place out of the queues, and puts the heir there.
func (p *Place) leave(n *Nodes, k Keys) {
	if p.mayStay() {
		c := &Claim{}
		c.Init(n, &k, NewToken(""), minPatience)
		c.place = p
		c.Abandon()
	}
}

func (p *Place) waits() bool { return p != nil && p.state.Load() == waiting }

// mayStay reports whether a site may have them in its queue.
func (p *Place) mayStay() bool {
	for i := range p.listed {
		if p.listed[i].Load() {
			return true
		}
	}
	return false
}

// mayStayAt reports whether a site may have in its queue who does not wait any more.
func (p *Place) mayStayAt(site int) bool { return p != nil && !p.waits() && p.listed[site].Load() }

// minPatience is for how long a leave is repeated that fails.
const minPatience = 10 * time.Second

// taking is the mode of scripts/wait.lua: "stand" where the attempt is over, and all that is left
// to do is to stand in the queue; "over" where nothing is: Leave takes the place out of the queues,
// and may have somebody else to put there.
type taking struct{ c *Claim }

// MarshalBinary is what go-redis writes.
func (t taking) MarshalBinary() ([]byte, error) { return []byte(t.String()), nil }

func (t taking) String() string {
	switch {
	case !t.c.ended.Load():
		return "take"
	case t.c.place.waits():
		return "stand"
	default:
		return "over"
	}
}

// patienceAt is for how long a node waits for the place, behind a sign: see scripts/queue.lua.
func (p *Place) patienceAt(node int) string {
	sign, patience := "-", p.Unsure
	if p.Sure(node) {
		sign, patience = "+", p.Patience
	}
	return sign + strconv.FormatInt(lease.Milliseconds(patience), 10)
}
