package protocol

import (
	"strconv"
	"time"

	"github.com/rediskit/redlock/internal/lease"
	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/quorum"
)

var (
	releaseVerb = &verb{
		name: "release", script: func(s *Scripts) *node.Script { return s.release },
		prepare: repeatIfThere, args: releaseArgs, read: readVerdict,
		rule: leaveRule, deletes: true, queues: true,
	}

	// retireVerb is a release that leaves the keys until a minimum hold is over.
	retireVerb = &verb{
		name: "release", script: func(s *Scripts) *node.Script { return s.extend },
		prepare: repeatWhileHeld, args: retireArgs,
		read: readVerdict, rule: leaveRule, fenced: true,
	}

	// cleanVerb is release where it is the site that matters and not the quorum.
	cleanVerb = &verb{
		name: "release", script: releaseVerb.script,
		prepare: repeatUntilGone, args: releaseArgs, read: readVerdict, rule: allRule,
		deletes: true, queues: true,
	}
)

func leaveRule(_ *Round, t *quorum.Tally) quorum.Outcome { return t.Leave() }

func releaseArgs(a *ask) []any {
	c, s := a.round.claim, a.siteLocked()
	if !a.queued() {
		return []any{c.args[0], c.number}
	}
	leaver, next := "", c.next
	if c.place != nil {
		leaver = c.place.Name
		if next == nil {
			next = c.place // if it still waits: it goes on, without what it was granted
		}
	}
	switch {
	case next == nil && c.number == 0:
		return c.args[:1]
	case next == nil:
		return []any{c.args[0], c.number, s.locks}
	}
	stays := &stayer{next, c.aside, s.node}
	return []any{c.args[0], c.number, s.locks, leaver, stays, (*stayerTicket)(stays),
		(*stayerPatience)(stays)}
}

func retireArgs(a *ask) []any {
	args := extendArgs(a, "cut")
	args[2] = leftUntil{a.call.RepeatUntil}
	return args
}

// leftUntil is a TTL that ends at a fixed time. Each time that it is written to a connection it
// says how much is left by then: a repetition must not keep the keys for longer.
type leftUntil struct{ end time.Time }

// MarshalBinary is what go-redis writes.
func (u leftUntil) MarshalBinary() ([]byte, error) { return []byte(u.String()), nil }

func (u leftUntil) String() string {
	return strconv.FormatInt(max(1, lease.Milliseconds(time.Until(u.end))), 10)
}

// repeatUntilGone has a release that fails repeated for as long as there may be something to
// delete, or where there is nothing, somebody who stands in a queue: the node forgets them.
func repeatUntilGone(a *ask) bool {
	c, s := a.round.claim, a.siteLocked()
	needed := c.longest + residueGrace
	if s.has == nothing && s.latest == nil && c.place != nil {
		needed = max(c.place.Patience, minPatience)
	}
	a.call.SendBy = a.round.asked.Add(needed)
	a.call.RepeatUntil = a.call.SendBy
	return true
}

// repeatIfThere is repeatUntilGone, but for a site that has nothing to delete: its acquire never
// went out, or was refused. It is asked all the same: a quorum of nodes on which the resource is
// free is what lets the next owner in. Where the only call that may have put its owner into the
// queue is the release before, the next release may do for both.
func repeatIfThere(a *ask) bool {
	s, place := a.siteLocked(), a.round.claim.place
	a.round.claim.dropLocked(s)
	if s.has != nothing || s.latest != nil {
		return repeatUntilGone(a)
	}
	a.call.Yields = place == nil || !place.stood[a.site].Load()
	if place == nil || !place.listed[a.site].Load() {
		return sendWithinTimeout(a)
	}
	return repeatUntilGone(a)
}

// repeatWhileHeld has the call repeated until the keys should have expired.
func repeatWhileHeld(a *ask) bool {
	a.call.RepeatUntil = a.round.start.Add(a.round.ttl)
	// Later than that it still cuts keys that live on.
	a.call.SendBy = a.round.asked.Add(a.round.claim.longest + residueGrace)
	return true
}

// Release deletes the keys everywhere, and puts next into the queues, unless that is nil. From here
// on nothing is wanted.
func (c *Claim) Release(next *Place) *Round {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.overLocked(false)
	if c.place != nil {
		// Nobody supersedes the claim any more. And a release that is repeated for long would hold
		// on to all that come after it, from place to claim to place.
		c.place.before.Store(nil)
	}
	if c.next = next; next != nil {
		next.Expect()
	}
	r := c.roundLocked(releaseVerb, c.longest)
	r.final = true
	return r
}

// Retire has the keys expire when left has passed, in place of a release. Nothing is wanted from
// here on, but what a node grants that has been asked before may stay as long as the others' keys.
// A copy of the request that comes late changes nothing: see Shorten.
func (c *Claim) Retire(left time.Duration) *Round {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.overLocked(true)
	c.number++
	r := c.roundLocked(retireVerb, left)
	r.timeout, r.final = c.nodes.TimeoutFor(c.longest), true
	return r
}

// Abandon gives the claim up: what nodes have of it is deleted, and what they will have when an
// acquire is answered at last is deleted then. It returns the round, already sent, that deletes
// what was granted, or nil if nothing was.
//
// Whoever waits keeps the place in the queues: what has not been sent will only stand there.
func (c *Claim) Abandon() *Round {
	c.mu.Lock()
	defer c.unlock()
	c.overLocked(false)
	var granted []int
	for i := range c.sites {
		s := &c.sites[i]
		if !c.place.waits() {
			c.dropLocked(s)
		}
		switch {
		case s.has == unknown:
			c.cleanLocked(i) // on its own: nobody waits for a node that did not answer before
		case s.has == ourKeys:
			granted = append(granted, i)
		case c.place.mayStayAt(i):
			c.cleanLocked(i)
		}
	}
	if len(granted) == 0 {
		return nil
	}
	return c.cleanLocked(granted...)
}

// StepAside has a claim that reaches no quorum leave the queues, where Abandon takes back what it
// was granted, until the next attempt: those behind it may reach a quorum, and would wait for it.
func (c *Claim) StepAside() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.aside = c
}

// cleanLocked deletes what the given sites have of the claim.
func (c *Claim) cleanLocked(sites ...int) *Round {
	if c.place.waits() {
		for _, i := range sites {
			c.place.stands(i)              // before it is: whoever leaves meanwhile must know
			if c.sites[i].has == ourKeys { // then the node would grant them again
				heard, node := c.place.Heard, c.sites[i].node
				c.posted = append(c.posted, func() { heard(node, nil) })
			}
		}
	}
	r := c.partLocked(cleanVerb, c.longest, sites...)
	r.sendLocked()
	return r
}

// holdBackLocked keeps the next acquire of the same keys from overtaking releases that are on their
// way: it would run into the keys of a lock that its caller knows to be released.
func (r *Round) holdBackLocked() {
	for i := range r.asks {
		if a := &r.asks[i]; !a.voted {
			s := a.siteLocked()
			r.claim.nodes.nodes[s.node].HoldBack(&a.call, s.lockKeys())
		}
	}
}
