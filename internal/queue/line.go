package queue

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rediskit/redlock/internal/protocol"
)

const (
	patience  = 10 * time.Second // a node waits that long for somebody of whom it hears nothing
	coverTime = time.Second      // see group.covered
	freshness = time.Second      // for that long after the last wait another one is likely
	sweepTime = 5 * time.Second  // after that long without anybody the subscription ends
)

// Line is where everybody in one Locker waits.
type Line struct {
	nodes   *protocol.Nodes
	life    context.Context // the Locker's
	channel string
	trouble func(node int, err error) // told once, when a subscription cannot be had

	mu      sync.Mutex
	number  uint64
	groups  map[groupName]*group
	members map[uint64]member // who gets messages, by number
	inboxes *protocol.Inboxes // nil: nobody has needed them for a while
	told    bool              // trouble was
	sweeper *time.Timer       // nil: there is nothing to sweep
	clock   *clock
	closed  bool
}

// member is somebody who gets messages.
type member interface {
	// hearLocked takes a message from a node, which was sent when its clock showed that time. What
	// it returns, if it does, is run without the mutex.
	hearLocked(node int, word string, shown int64) (then func())
	// expiredLocked reports whether the member has been forgotten by whoever made it.
	expiredLocked(now time.Time) bool
}

// The words that nodes say: see scripts/queue.lua. The last one is our own, for a subscription that
// has been confirmed: messages may have been lost before, and from now on we can be called.
const (
	wordCome    = "come"
	wordStandBy = "stand-by"
	wordFree    = "free"
	wordUp      = "up"
)

// group is everybody in a Locker who waits for the same resources.
type group struct {
	name    groupName
	trying  bool      // somebody makes a first attempt, ahead of all who wait: see Try
	waiters []*Waiter // in the order in which they came; only the first is in the nodes' queues
	holder  *Waiter   // has the lock, and will put the first one into the queues; nil: nobody
	covered time.Time // until when: see Waiter.Won
	used    time.Time // when somebody last waited
	seen    seen      // what those who wait here know of the resources
	watch   *watch    // nil: nobody watches
}

// seen is what was last seen of some resources. The zero value: nothing yet.
type seen struct {
	held bool  // somebody here had them
	err  error // what an attempt, or a look, of somebody here has come to; nil: see held
}

// New returns the line of a Locker. channel is its inbox. trouble is told, once, why messages
// cannot be had from a node.
func New(n *protocol.Nodes, channel string, trouble func(node int, err error)) *Line {
	return &Line{
		nodes: n, life: n.Life, channel: channel, trouble: trouble,
		groups: make(map[groupName]*group), members: make(map[uint64]member),
		clock: newClock(n.Len()),
	}
}

// Close ends the subscriptions. Nobody waits any more by then, or will again.
func (l *Line) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.sweeper != nil {
		l.sweeper.Stop()
	}
	l.hangUpLocked()
}

func (l *Line) hangUpLocked() {
	if l.inboxes != nil {
		l.inboxes.Close()
		l.inboxes = nil
	}
}

// Look takes from a round what it tells of the nodes' clocks.
//
// A claim asks for the Line's mutex with its own held, so whoever has the Line's must not ask a
// claim or a round for anything.
func (l *Line) Look(r *protocol.Round) {
	times := r.Times()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range times {
		l.clock.look(t.Node, t.Shown, t.Asked, t.Heard)
	}
}

// groupLocked returns the group of some resources.
func (l *Line) groupLocked(k protocol.Keys) *group {
	name := nameOf(k.Resources)
	g := l.groups[name]
	if g == nil {
		g = &group{name: name}
		l.groups[name] = g
	}
	l.sweepLaterLocked()
	return g
}

// groupName tells the groups apart, whatever bytes are in the names of their resources.
type groupName struct {
	resources int
	names     string
}

func nameOf(resources []string) groupName {
	if len(resources) == 1 {
		return groupName{1, resources[0]}
	}
	var names strings.Builder
	for _, r := range resources {
		names.WriteString(strconv.Itoa(len(r)) + ":" + r)
	}
	return groupName{len(resources), names.String()}
}

// forgetLocked forgets a group in which nobody had to wait, at once: there may be very many of
// them.
func (l *Line) forgetLocked(g *group) {
	if !g.trying && len(g.waiters) == 0 && g.holder == nil && g.watch == nil && g.used.IsZero() {
		delete(l.groups, g.name)
	}
}

// enlistLocked has a member get messages, and sees to it that there are some.
func (l *Line) enlistLocked(number uint64, m member) {
	l.members[number] = m
	if l.inboxes == nil && !l.closed {
		l.inboxes = l.nodes.Listen(l.channel, l.receive, l.changed)
	}
}

// nameLocked returns a new member's number, and its name on the nodes.
func (l *Line) nameLocked() (number uint64, name string) {
	l.number++
	return l.number, strconv.FormatUint(l.number, 10) + "@" + l.channel
}

// sure is a place's: see protocol.Inboxes.Sure.
func (l *Line) sure(node int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inboxes != nil && l.inboxes.Sure(node)
}

// receive takes a message: a word, a member's number, and the node's time.
func (l *Line) receive(node int, payload string) {
	fields := strings.Fields(payload)
	if len(fields) != 3 {
		return // not of this library
	}
	number, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return
	}
	shown, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return
	}
	var then func()
	l.mu.Lock()
	if m := l.members[number]; m != nil {
		then = m.hearLocked(node, fields[0], shown)
	}
	l.mu.Unlock()
	if then != nil {
		then()
	}
}

// changed learns that a subscription stands, or does not.
func (l *Line) changed(node int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		for _, m := range l.members {
			m.hearLocked(node, wordUp, 0)
		}
		return
	}
	if !l.told && !l.closed {
		l.told = true
		l.trouble(node, err)
	}
}

// sweepLaterLocked sees to it that what is not used any more is forgotten.
func (l *Line) sweepLaterLocked() {
	if l.sweeper == nil && !l.closed {
		l.sweeper = time.AfterFunc(sweepTime, l.sweep)
	}
}

func (l *Line) sweep() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweeper = nil
	now := time.Now()
	for name, g := range l.groups {
		if !g.trying && len(g.waiters) == 0 && g.watch == nil && now.Sub(g.used) > freshness {
			delete(l.groups, name)
		}
	}
	for number, m := range l.members {
		if m.expiredLocked(now) {
			delete(l.members, number)
		}
	}
	if len(l.members) == 0 {
		l.hangUpLocked()
	}
	if len(l.groups)+len(l.members) > 0 {
		l.sweepLaterLocked()
	}
}
