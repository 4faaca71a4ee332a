package protocol

import (
	"errors"
	"math"
	"slices"
	"time"

	"github.com/rediskit/redlock/internal/lease"
	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/quorum"
)

var (
	acquireVerb = &verb{
		name: "acquire", script: func(s *Scripts) *node.Script { return s.acquire },
		prepare: sendUnlessBusy, args: acquireArgs, read: readVerdict, rule: takeRule,
		takes: true, queues: true, fenced: true,
	}

	// standVerb is acquire for somebody who stands in the queues until it is their turn.
	standVerb = &verb{
		name: "acquire", script: func(s *Scripts) *node.Script { return s.wait },
		prepare: sendWithinTimeout, args: standArgs, read: readVerdict, rule: takeRule,
		takes: true, stands: true, queues: true, fenced: true,
	}

	// healVerb is acquire for a site that has lost our keys, while a quorum has them.
	healVerb = &verb{
		name: "acquire", script: acquireVerb.script,
		prepare: sendWhileWanted, args: healArgs, read: readVerdict, rule: allRule, takes: true,
		fenced: true,
	}
)

func takeRule(_ *Round, t *quorum.Tally) quorum.Outcome { return t.Take() }
func keepRule(_ *Round, t *quorum.Tally) quorum.Outcome { return t.Keep() }
func allRule(_ *Round, t *quorum.Tally) quorum.Outcome  { return t.All() }

func acquireArgs(a *ask) []any {
	c := a.round.claim
	if a.queued() && !a.fenced() {
		return c.args[:2]
	}
	args := c.args[:3]
	if a.fenced() {
		args = c.args[:]
	}
	if locks := len(a.lockKeys()); locks != c.args[2] { // one of several groups on a Redis Cluster
		args = slices.Clone(args)
		args[2] = locks
	}
	return args
}

func standArgs(a *ask) []any {
	c, s := a.round.claim, a.siteLocked()
	args := []any{c.args[0], c.args[1], s.locks, c.place.Name, c.place.Ticket.Load(),
		c.place.patienceAt(s.node), taking{c}}
	if a.fenced() {
		args = append(args, c.args[3])
	}
	return args
}

func healArgs(a *ask) []any {
	c := a.round.claim
	args := []any{withNumber(c.token, c.number), lease.Milliseconds(a.round.ttl), len(a.lockKeys())}
	if a.fenced() {
		args = append(args, "="+fenceText(c.fence)) // whoever is next must get more
	}
	return args
}

// sendWithinTimeout has the call dropped if it still waits to be sent when nobody waits for it.
// That is later than the round's deadline where a process computes on all of its processors, and
// whoever is to send it waits for its turn: see pardonLocked.
func sendWithinTimeout(a *ask) bool {
	a.call.SendBy = a.round.asked.Add(2 * a.round.timeout)
	return true
}

func sendWhileWanted(a *ask) bool {
	a.call.SendBy = a.round.claim.until
	return true
}

// Acquire asks the nodes for the lock.
func (c *Claim) Acquire(ttl time.Duration) *Round {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.roundLocked(acquireVerb, ttl)
}

// Stand asks the nodes for the lock, at a place in their queues.
func (c *Claim) Stand(ttl time.Duration, at *Place) *Round {
	if before := at.before.Swap(c); before != nil {
		before.supersede()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.place = at
	return c.roundLocked(standVerb, ttl)
}

// Place returns where the claim's owner stands in the queues, which its release leaves; nil:
// nowhere.
func (c *Claim) Place() *Place {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.place
}

// Join asks a node for the lock that others have granted: it was still somebody else's there when
// they did, and now the node calls. It leaves the queue if the lock has ended meanwhile.
func (c *Claim) Join(node int) {
	c.mu.Lock()
	defer c.unlock()
	for i := range c.sites {
		s := &c.sites[i]
		switch {
		case s.node != node || s.has != nothing || s.latest != nil:
		case c.wantedLocked():
			c.partLocked(healVerb, c.leftLocked(), i).sendLocked()
		case c.place.mayStayAt(i):
			c.cleanLocked(i)
		}
	}
}

// leftLocked is for how long a node is to keep the lock that gets it after the others: no longer
// than it is wanted, which a shortening may have made less than was ever asked for.
func (c *Claim) leftLocked() time.Duration {
	if c.until.IsZero() {
		return c.longest
	}
	return max(time.Until(c.until), time.Millisecond)
}

// NodeTime is what a node's clock showed when it answered.
type NodeTime struct {
	Node         int
	Shown        int64 // microseconds
	Asked, Heard time.Time
}

// Times returns what the nodes' clocks showed, where they have said so.
func (r *Round) Times() (times []NodeTime) {
	r.claim.mu.Lock()
	defer r.claim.mu.Unlock()
	for i := range r.asks {
		if a := &r.asks[i]; a.shown > 1 {
			times = append(times, NodeTime{r.node(i), a.shown, r.start.Add(a.asked),
				r.start.Add(a.heard)})
		}
	}
	return times
}

// supersede takes back what has not been sent: a newer attempt of the same waiter is on its way.
func (c *Claim) supersede() {
	c.mu.Lock()
	defer c.unlock()
	for i := range c.sites {
		c.dropLocked(&c.sites[i])
	}
}

// queueLocked keeps track of where the owner of a claim may stand, after an answer.
func (c *Claim) queueLocked(a *ask, err error) {
	if v := a.round.verb; !v.stands && !v.watches || errors.Is(err, node.ErrNotSent) ||
		errors.Is(err, node.ErrClosed) || forbidden(err) {
		return
	}
	if a.round.verb.watches {
		if err != nil || a.key().held { // a look that finds the key free leaves no queue
			c.place.stands(a.site)
		}
		return
	}
	if err != nil {
		c.place.stands(a.site)
	} else {
		c.place.listed[a.site].Store(false)
	}
	var refused *Refusal
	if errors.As(err, &refused) {
		heard, node := c.place.Heard, c.sites[a.site].node
		if len(c.sites) > len(c.nodes.nodes) {
			refused = refused.timeless()
		}
		c.posted = append(c.posted, func() { heard(node, refused) })
	}
}

// Again is Acquire for a claim that was refused and is not over, and gives each node that long to
// answer. One that has granted the lock before says yes again, and tops the time up. One that has
// not answered yet is not asked: it will not be faster now.
func (r *Round) Again(patience time.Duration) *Round {
	again := r.claim.Acquire(r.ttl)
	again.timeout, again.modest, again.before, again.contest, again.ctx = patience, true, r.beaten,
		r.contest, r.ctx
	return again
}

// healLocked gives a site that has lost our keys its keys back, after an extension that a quorum
// has confirmed: quorums heal.
func (c *Claim) healLocked(a *ask) {
	var refused *Refusal
	if !errors.As(a.err, &refused) || !refused.Gone || !c.wantedLocked() {
		return
	}
	if a.round.number != c.number {
		return // a shortening was begun since: with its number, this TTL would stand against it
	}
	s := &c.sites[a.site]
	if s.has == ourKeys { // else it was only late with its first grant
		c.nodes.tell(Trouble{Kind: Healed, Node: s.node, Resources: c.keys.Resources})
		a.round.healed++
		s.has = nothing
	}
	if s.latest == nil { // else the acquire that is under way does it
		c.partLocked(healVerb, a.round.ttl, a.site).sendLocked()
	}
}

// Stranger returns the value, under the lock keys that are in our way, that most nodes name of
// those that are no tokens of this library; "" if there is none. Whoever has set it calls nobody
// when it is free.
func (r *Round) Stranger() string {
	r.claim.mu.Lock()
	defer r.claim.mu.Unlock()
	var strangers []string
	for i := range r.asks {
		var refused *Refusal
		if errors.As(r.asks[i].err, &refused) && refused.Owner != "" {
			if _, ours := Label(refused.Owner); !ours {
				strangers = append(strangers, refused.Owner)
			}
		}
	}
	most, _ := quorum.Leader(strangers)
	return most
}

// FreeIn returns when, by what the nodes say, enough foreign locks will have expired for an attempt
// to succeed. What a node has granted, in time or after the decision, is free again by then; nodes
// that have not answered may be free as soon as the first of the others. Redis rounds down, so a
// millisecond is added. Where a quorum has granted the lock, but too late, that millisecond is the
// whole wait.
func (r *Round) FreeIn() time.Duration {
	r.claim.mu.Lock()
	defer r.claim.unlock()
	missing := r.tally.Need()
	var left []time.Duration
	silent := 0
	for i := range r.claim.nodes.nodes {
		var refused *Refusal
		var barred *node.Quarantine
		switch said, decided := r.saidLocked(i); {
		case !decided:
			silent++
		case said == nil:
			missing--
		case errors.As(said, &refused) && refused.Left >= 0 && !refused.Waited:
			// else it never expires
			left = append(left, refused.Left)
		case errors.As(said, &barred):
			left = append(left, barred.Left)
		}
	}
	if missing < 1 && r.outcome == quorum.Refused {
		return time.Millisecond
	}
	slices.Sort(left)
	if len(left) > 0 {
		left = slices.Insert(left, 0, slices.Repeat(left[:1], silent)...)
	}
	if missing < 1 || len(left) < missing {
		return math.MaxInt64
	}
	return left[missing-1] + time.Millisecond
}
