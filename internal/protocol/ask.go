package protocol

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/quorum"
)

// ask is a round's call to one site. Its fields are guarded by the claim's mutex.
type ask struct {
	round *Round
	call  node.Call
	parts *parts        // nil: it is about all keys of the site
	found *keyState     // what the site has said of a key; nil: it was not asked that
	shown int64         // what its clock showed, in microseconds; small: unknown
	asked time.Duration // when it was asked, from the round's start on
	heard time.Duration // when it answered
	err   error         // why the site did not say yes
	fences
	site  int
	voted bool
}

// parts are the keys of a site that is asked about one after the other: see apartLocked.
type parts struct {
	keys  []string // that it is asked about now
	rest  []string // still to come; nil: all have been asked about
	worst error    // of the answers
}

func (a *ask) siteLocked() *site { return &a.round.claim.sites[a.site] }

// lockKeys returns the lock keys that the call is about.
func (a *ask) lockKeys() []string {
	if a.parts != nil {
		return a.parts.keys
	}
	return a.siteLocked().lockKeys()
}

// key returns what the site has said of a key.
func (a *ask) key() keyState {
	if a.found == nil {
		return keyState{left: math.MaxInt64}
	}
	return *a.found
}

var errBusy = errors.New("still waiting for an earlier request")

// askLocked sends the call.
func (r *Round) askLocked(a *ask) {
	c, s := r.claim, a.siteLocked()
	a.parts, a.found, a.fences = nil, nil, fences{}
	moves := r.verb.deletes && (c.place != nil || c.next != nil) // somebody in the queues
	a.call = node.Call{
		Script: r.verb.script(c.nodes.Scripts), Receiver: a, Patience: r.timeout,
		HeldBack: r.verb.takes,
	}
	a.call.Keys, a.call.KeyArgs = s.carried(r.verb.queues, a.fenced())
	a.asked = r.asked.Sub(r.start)
	if !r.verb.prepare(a) {
		r.voteLocked(a, a.err)
		return
	}
	a.call.Args = r.verb.args(a)
	s.leaving = s.leaving || r.verb.deletes
	if moves {
		// What the same waiters send next must not overtake it.
		a.call.HoldsBack = s.lockKeys()
	}
	// Behind the acquire that the site has not answered: a release that overtook it would find
	// nothing to delete, and an extension would take the lock for gone.
	if !c.nodes.nodes[s.node].SendAfter(&a.call, s.latest) {
		r.voteLocked(a, context.Cause(c.nodes.Life))
		return
	}
	if r.verb.takes {
		s.latest = &a.call
	}
}

// Receive takes the site's answer.
func (a *ask) Receive(call *node.Call) (again bool) {
	r, c := a.round, a.round.claim
	c.mu.Lock()
	defer c.unlock()
	s := a.siteLocked()
	a.heard = time.Since(r.start)
	err := a.said(call)
	a.tellLocked(call, err)
	if a.apartLocked(call, &err) {
		return true
	}
	r.note(s.node, err)
	if call.Repeating {
		// The first answer is the vote. What the repetitions bring is for tidying up.
		r.voteLocked(a, err)
		return false
	}
	c.noteLocked(a, err, call.Repeated)
	c.queueLocked(a, err)
	if s.latest == call {
		s.latest = nil
	}
	if next := r.nextLocked(a, err); next != nil {
		a.voted = true
		r.asked = time.Now()
		r.askLocked(next)
		return false
	}
	r.voteLocked(a, err)
	if r.verb.deletes && !failed(err) {
		return c.deletedLocked(s)
	}
	c.followLocked(a, err)
	return false
}

// note takes how a call to a node ended.
func (r *Round) note(node int, err error) {
	if r.verb.hints && code(err) != "" {
		r.claim.nodes.noHint(node, err)
		return
	}
	r.claim.nodes.note(node, r.verb.name, err, r.asked)
}

// queued reports whether the call carries the queues of its keys.
func (a *ask) queued() bool {
	others := len(a.call.Keys) - len(a.lockKeys())
	if a.fenced() {
		others -= len(a.lockKeys())
	}
	return others > 0
}

// said returns what an answer amounts to: nil for yes.
func (a *ask) said(call *node.Call) error {
	if call.Err != nil {
		return call.Err
	}
	return a.round.verb.read(a, call.Reply)
}

// apartLocked asks a site about one key after the other where it is told to try again: a Redis
// Cluster that moves a slot answers scripts with several of its keys so until the end of that. It
// reports whether there is one more to ask about, and else what they have said. Queues are left
// out then. An acquire is not cut up, since it takes all keys or none: see Keys.Apart.
func (a *ask) apartLocked(call *node.Call, err *error) (again bool) {
	p := a.parts
	switch {
	case (len(a.lockKeys()) > 1 || a.queued()) && call.Moving(*err) && !a.round.verb.takes &&
		!a.round.verb.hints:
		p = &parts{rest: a.siteLocked().lockKeys()}
		a.parts, a.fences = p, fences{}
	case p == nil || p.rest == nil || call.Repeating:
		return false
	default:
		p.worst = graver(p.worst, *err)
	}
	if len(p.rest) == 0 {
		*err, p.rest = p.worst, nil
		a.aboutLocked(a.siteLocked().lockKeys())
		return false
	}
	first := p.rest[:1]
	p.rest = p.rest[1:]
	a.aboutLocked(first)
	return true
}

// aboutLocked makes the call one about these lock keys of its site, without their queues.
func (a *ask) aboutLocked(keys []string) {
	a.parts.keys, a.call.Keys, a.call.KeyArgs = keys, keys, nil
	if a.fenced() {
		a.call.Keys = withCounters(keys)
	}
	a.call.Args = a.round.verb.args(a)
}

// deletedLocked notes that a release was answered, and reports whether it takes another one. An
// acquire that failed may reach the node after the first release. What was on its way when that was
// answered has run before a second one does.
func (c *Claim) deletedLocked(s *site) (again bool) {
	again = s.has == unknown
	s.has = nothing
	if again {
		s.has = ourKeys
	}
	return again
}

// nextLocked returns the site that is asked after this one has answered, if one is.
func (r *Round) nextLocked(a *ask, err error) *ask {
	i := a.site + 1 // in a round over all nodes, asks are numbered as sites are
	if !r.verb.inTurn() || r.each || err != nil || i == len(r.asks) || r.node(i) != r.node(i-1) {
		return nil
	}
	if !r.claim.wantedLocked() {
		return nil
	}
	return &r.asks[i]
}

// noteLocked keeps track of what a site may have of ours after an acquire. An error leaves that
// open: go-redis may have repeated the command, and an earlier copy, whose reply was lost, may have
// run. So does a no that comes late: a node that resumes may run the repetition, which is refused,
// before the first copy.
func (c *Claim) noteLocked(a *ask, err error, repeated bool) {
	if err == nil && a.low > 0 {
		c.sites[a.site].fence = a.low
	}
	if !a.round.verb.takes || errors.Is(err, node.ErrNotSent) || errors.Is(err, node.ErrClosed) ||
		forbidden(err) {
		return
	}
	s := &c.sites[a.site]
	late := a.heard > a.round.asked.Sub(a.round.start)+a.round.timeout
	switch {
	case repeated || late || failed(err):
		s.has = unknown
	case err == nil:
		s.has = max(s.has, ourKeys)
	}
}

// followLocked does what remains to be done about an answer, whether or not its round still waited
// for it.
func (c *Claim) followLocked(a *ask, err error) {
	r, s := a.round, &c.sites[a.site]
	stays := c.retired && s.has == ourKeys // and is cut by the call behind
	switch {
	case r.verb.takes && !stays && s.has != nothing && !s.leaving && !c.wantedLocked():
		c.cleanLocked(a.site)
	case (r.verb.watches || r.verb.stands && c.over) && !s.leaving && c.place.mayStayAt(a.site):
		c.cleanLocked(a.site)
	case r.verb.heals && r.outcome == quorum.Won:
		c.healLocked(a)
	case r.verb.takes && err == nil:
		c.raiseLocked(a.site, c.until)
	case r.verb.deletes && s.has == ourKeys && failed(err) && time.Now().Before(a.call.RepeatUntil):
		c.nodes.nodes[s.node].health.stays.Add(1)
	}
}
