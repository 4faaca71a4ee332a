package protocol

import (
	"time"

	"github.com/rediskit/redlock/internal/lease"
	"github.com/rediskit/redlock/internal/node"
)

var (
	extendVerb = &verb{
		name: "extend", script: func(s *Scripts) *node.Script { return s.extend },
		prepare: sendUnlessBusy, args: func(a *ask) []any { return extendArgs(a, "keep") },
		read: readVerdict, rule: keepRule, heals: true, fenced: true,
	}

	// shortenVerb is extend to an earlier end.
	shortenVerb = &verb{
		name: "extend", script: extendVerb.script,
		prepare: sendUnlessBusy, args: func(a *ask) []any { return extendArgs(a, "cut") },
		read: readVerdict, rule: keepRule, heals: true, fenced: true,
	}
)

func extendArgs(a *ask, mode string) []any {
	c, r := a.round.claim, a.round
	args := []any{c.args[0], r.number, lease.Milliseconds(r.ttl), mode}
	if a.fenced() {
		args = append(args, fenceText(c.fence))
	}
	return args
}

// sendUnlessBusy is sendWithinTimeout for calls of a round that does not pile up behind an acquire.
func sendUnlessBusy(a *ask) bool {
	if a.round.modest && a.siteLocked().latest != nil {
		a.err = errBusy
		return false
	}
	return sendWithinTimeout(a)
}

// Extend asks the nodes to keep the lock for at least ttl from now. then is called when that is
// settled, without any lock held.
func (c *Claim) Extend(ttl time.Duration, then func(*Round)) *Round {
	return c.extension(extendVerb, ttl, then)
}

// Renew is Extend with nobody waiting: votes that come after the deadline can still win it, and
// then is called once more.
func (c *Claim) Renew(ttl time.Duration, then func(*Round)) *Round {
	r := c.extension(extendVerb, ttl, then)
	r.modest, r.late = true, true
	return r
}

// Shorten asks the nodes to keep the lock for exactly ttl from now. The caller has ended its own
// lease earlier by then: however few nodes hear of it, nobody trusts the lock for longer than they
// keep it.
//
// It takes the next number, which later extensions carry too. A copy of the request that comes late
// finds that number on the nodes that they have reached, and changes nothing there.
func (c *Claim) Shorten(ttl time.Duration, then func(*Round)) *Round {
	c.mu.Lock()
	c.number++
	if end := time.Now().Add(ttl); end.Before(c.until) {
		c.until = end // what a node is asked for meanwhile carries the number
	}
	c.mu.Unlock()
	return c.extension(shortenVerb, ttl, then)
}

func (c *Claim) extension(v *verb, ttl time.Duration, then func(*Round)) *Round {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.longest = max(c.longest, ttl)
	r := c.roundLocked(v, ttl)
	r.then = then
	return r
}
