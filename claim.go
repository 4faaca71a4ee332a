package redlock

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/quorum"
)

var (
	//go:embed scripts/acquire.lua
	acquireSource string
	//go:embed scripts/extend.lua
	extendSource string
	//go:embed scripts/release.lua
	releaseSource string
	//go:embed scripts/inspect.lua
	inspectSource string
)

// verb is something to ask of every node: a script, how to read its reply, and when enough nodes have answered.
type verb struct {
	op     string
	script *node.Script

	// read returns nil for yes, a *refusal for no, and another error where the reply says neither.
	read func(q *request, reply any) error

	// rule tells what the votes amount to. Called with the claim's mutex held.
	rule func(r *round) quorum.Outcome

	// deletes marks the verbs that take the lock from a node. They visit every slot of a cluster, where others stop
	// at the first that does not say yes.
	deletes bool
}

var (
	acquireVerb = &verb{
		op: "acquire", script: node.NewScript(acquireSource),
		read: readVerdict, rule: func(r *round) quorum.Outcome { return r.tally.Take() },
	}
	extendVerb = &verb{
		op: "extend", script: node.NewScript(extendSource),
		read: readExtended, rule: func(r *round) quorum.Outcome { return r.tally.Keep() },
	}
	// shortenVerb is extend to an earlier end.
	shortenVerb = &verb{
		op: "extend", script: extendVerb.script,
		read: readVerdict, rule: func(r *round) quorum.Outcome { return r.tally.Keep() },
	}
	releaseVerb = &verb{
		op: "release", script: node.NewScript(releaseSource),
		read: readVerdict, rule: func(r *round) quorum.Outcome { return r.tally.Keep() }, deletes: true,
	}
	// cleanVerb is release where it is the node that matters and not the quorum.
	cleanVerb = &verb{
		op: "release", script: releaseVerb.script,
		read: readVerdict, rule: func(r *round) quorum.Outcome { return r.tally.All() }, deletes: true,
	}
)

// residueGrace is for how long beyond its TTL a key of ours is sought on a node that did not answer: until then the node
// may still run a request that it got long ago.
const residueGrace = time.Minute

// claim is one token and whatever it may have left on the nodes. It sends a token's calls to each node one after the other,
// so that no release overtakes its acquire, and takes back what arrives too late to be wanted.
type claim struct {
	l         *Locker
	resources []string // sorted
	keys      []string // of the resources, in their order
	slots     [][]string
	token     string

	mu    sync.Mutex
	later []func() // to run once the mutex is free: they call code that is not ours
	lanes []lane   // one for each node
	ttl   time.Duration
	lease lease // the last one proved; zero while there is none
	dead  bool  // nothing of the token is wanted any more: what a node grants from now on is taken back
}

// lane is what a claim knows of one node.
type lane struct {
	last     *node.Call // the latest call; the next one goes behind it
	dirty    bool       // the node may have a key of ours
	doubtful bool       // an acquire failed: it may have run, or be on its way and run after a first release
	shaky    bool       // a shortening failed: it may run later and cut a longer lease short
}

// init prepares a claim that has sent nothing yet.
func (c *claim) init(l *Locker, p *plan, token string) {
	c.l, c.resources, c.keys, c.slots = l, p.resources, p.keys, p.slots
	c.token, c.ttl, c.lanes = token, p.ttl, make([]lane, len(l.nodes))
}

// unlock frees the mutex and runs what had to wait for that.
func (c *claim) unlock() {
	later := c.later
	c.later = nil
	c.mu.Unlock()
	for _, f := range later {
		f()
	}
}

// round is one verb sent to the nodes, and their votes. Its fields are guarded by the claim's mutex.
type round struct {
	claim    *claim
	verb     *verb
	start    time.Time // taken before the first byte goes out
	timeout  time.Duration
	tally    quorum.Tally
	outcome  quorum.Outcome
	expired  time.Duration // after which it was settled without the missing votes; 0: it was not
	requests []request
	settled  chan struct{} // closed when the outcome is no longer open
	then     func(*round)  // called when it is settled, with the mutex held; may be nil
	ttl      time.Duration // what extend asks for
}

// request is a round's call to one node. On a cluster it visits the slots one after the other.
type request struct {
	round *round
	node  int
	call  node.Call
	slot  int // of claim.slots
	voted bool
	err   error // why the node did not say yes
	keyState
}

// keyState is what a node says of a key.
type keyState struct {
	held  bool
	owner string        // the value under the key
	left  time.Duration // until the key expires; negative: never
}

// errNotYet stands for a node whose answer was not waited for.
var errNotYet = errors.New("no answer by then")

// newRound prepares a round of the verb among n nodes.
func (c *claim) newRound(v *verb, n int, timeout time.Duration) *round {
	return &round{
		claim: c, verb: v, timeout: timeout, tally: quorum.New(n),
		requests: make([]request, n), settled: make(chan struct{}),
	}
}

// begin sends the round to all nodes. call is the pattern for each node's call. Called with the mutex held.
func (r *round) begin(call node.Call) {
	r.start = time.Now()
	for i := range r.requests {
		r.send(&r.requests[i], i, call)
	}
}

// send sends one request of the round. Called with the mutex held.
func (r *round) send(q *request, to int, call node.Call) {
	c := r.claim
	lane := &c.lanes[to]
	q.round, q.node, q.call = r, to, call
	q.call.Script, q.call.Keys, q.call.Receiver = r.verb.script, c.slot(to, 0), q
	if !c.l.nodes[to].SendAfter(&q.call, lane.last) {
		q.err = ErrClosed
		r.vote(q)
		return
	}
	lane.last = &q.call
}

// slot returns the i-th group of keys that can go to the node in one call, or nil behind the last.
func (c *claim) slot(to, i int) []string {
	switch {
	case c.slots != nil && c.l.sharded[to] && i < len(c.slots):
		return c.slots[i]
	case (c.slots == nil || !c.l.sharded[to]) && i == 0:
		return c.keys
	default:
		return nil
	}
}

// Receive takes one node's reply.
func (q *request) Receive(call *node.Call) (again bool) {
	c := q.round.claim
	c.mu.Lock()
	defer c.unlock()

	err := call.Err
	if err == nil {
		err = q.round.verb.read(q, call.Reply)
	}
	if q.err == nil {
		q.err = err
	}
	c.note(q, err)

	q.slot++
	if next := c.slot(q.node, q.slot); next != nil && (err == nil || q.round.verb.deletes) {
		call.Keys = next
		return true
	}
	first := !q.voted
	q.round.vote(q)
	lane := &c.lanes[q.node]
	if q.round.verb.deletes && q.err == nil && lane.doubtful {
		// An acquire that failed may reach the node after the release that was just answered. What was on its way
		// by then has run before a second one does.
		lane.doubtful = false
		q.slot, call.Keys = 0, c.slot(q.node, 0)
		return true
	}
	if first {
		c.follow(q)
	}
	if lane.last == call {
		lane.last = nil
	}
	return false
}

// note keeps track of what the answer to one call says about what the node has of ours. Called with the mutex held.
func (c *claim) note(q *request, err error) {
	lane := &c.lanes[q.node]
	var refused *refusal
	unsent := errors.Is(err, node.ErrNotSent) || errors.Is(err, node.ErrClosed)
	unclear := err != nil && !unsent && !errors.As(err, &refused)
	switch q.round.verb {
	case acquireVerb:
		lane.dirty = lane.dirty || err == nil || unclear
		lane.doubtful = lane.doubtful || unclear
	case shortenVerb:
		lane.shaky = lane.shaky || unclear
	case releaseVerb, cleanVerb:
		lane.dirty = lane.dirty && err != nil
	}
}

// follow does what remains to be done about a request that was answered, whether or not its round still waited for it.
// Called with the mutex held.
func (c *claim) follow(q *request) {
	r := q.round
	dirty := c.lanes[q.node].dirty
	switch {
	case r.verb == acquireVerb && dirty && c.unwanted():
		c.clean(q.node)
	case r.verb == extendVerb && r.outcome == quorum.Won:
		c.heal(q)
	case r.verb.deletes && dirty && q.failed():
		c.log("a lock could not be deleted on a node and stays there until it expires", q)
	}
}

// heal gives a node that has lost the lock its key back, after an extension that a quorum confirmed. Called with the mutex
// held.
func (c *claim) heal(q *request) {
	var refused *refusal
	if !errors.As(q.err, &refused) || !refused.gone || c.unwanted() {
		return
	}
	c.log("a node has lost the lock and gets it again", q)
	r := c.newRound(acquireVerb, 1, q.round.timeout)
	r.start = time.Now()
	r.send(&r.requests[0], q.node, node.Call{
		Args:   []any{c.token, milliseconds(q.round.ttl)},
		SendBy: c.lease.end(),
	})
}

// failed reports whether the node said neither yes nor no.
func (q *request) failed() bool {
	var refused *refusal
	return q.err != nil && !errors.As(q.err, &refused)
}

// unwanted reports whether a grant comes too late. Called with the mutex held.
func (c *claim) unwanted() bool {
	return c.dead || !c.lease.start.IsZero() && !time.Now().Before(c.lease.end())
}

// log tells the logger of something that has no caller to go to. Called with the mutex held.
func (c *claim) log(msg string, q *request, attrs ...any) {
	attrs = append([]any{"resources", c.resources, "node", q.node, "error", q.err}, attrs...)
	c.later = append(c.later, func() { c.l.logger.Warn("redlock: "+msg, attrs...) })
}

// vote counts a request's result, once, and settles the round if that decides it. Called with the mutex held.
func (r *round) vote(q *request) {
	if q.voted {
		return
	}
	q.voted = true
	if r.outcome != quorum.Open {
		return
	}
	switch {
	case q.err == nil:
		r.tally.Cast(quorum.Yes)
	case q.failed():
		r.tally.Cast(quorum.Failed)
	default:
		r.tally.Cast(quorum.No)
	}
	r.settle()
}

// settle looks whether the votes decide the round. Called with the mutex held.
func (r *round) settle() {
	if r.outcome = r.verb.rule(r); r.outcome == quorum.Open {
		return
	}
	close(r.settled)
	if r.then != nil {
		r.then(r)
	}
}

// expire settles the round with the votes that there are. Called with the mutex held.
func (r *round) expire() {
	if r.outcome == quorum.Open {
		r.expired = time.Since(r.start)
		r.tally.Close()
		r.settle()
	}
}

// wait waits until the round is settled, its time is up, ctx has ended or the Locker is closed; then it is settled. It
// returns what cut it short, if ctx or Close did.
func (r *round) wait(ctx context.Context, closing <-chan struct{}) (cause error) {
	timer := time.NewTimer(r.timeout)
	defer timer.Stop()
	select {
	case <-r.settled:
		return nil
	case <-timer.C:
	case <-ctx.Done():
		cause = context.Cause(ctx)
	case <-closing:
		cause = ErrClosed
	}
	r.claim.mu.Lock()
	defer r.claim.unlock()
	if r.outcome != quorum.Open {
		return nil
	}
	r.expire()
	return cause
}

// shortfall describes a round that was not won.
func (r *round) shortfall() *QuorumError {
	r.claim.mu.Lock()
	defer r.claim.unlock()
	return r.shortfallLocked()
}

func (r *round) shortfallLocked() *QuorumError {
	e := &QuorumError{
		Op: r.verb.op, Need: r.tally.Need(), Got: r.tally.Yes(),
		resources: r.claim.resources, reason: ErrNoQuorum,
	}
	if r.outcome == quorum.Refused {
		e.reason = ErrHeld
	}
	for i := range r.requests {
		q := &r.requests[i]
		switch {
		case !q.voted && r.expired > 0:
			e.Nodes = append(e.Nodes, NodeError{q.node, fmt.Errorf("no answer within %v", r.expired.Round(time.Millisecond))})
		case !q.voted:
			e.Nodes = append(e.Nodes, NodeError{q.node, errNotYet})
		case q.err != nil:
			e.Nodes = append(e.Nodes, NodeError{q.node, q.err})
		}
	}
	return e
}

// abandon gives the claim up: what nodes have of it is deleted, and what they will have when a request is answered at last
// is deleted then. It returns the round that deletes what is there now, or nil. Called with the mutex held.
func (c *claim) abandon() *round {
	c.dead = true
	dirty := make([]int, 0, len(c.lanes))
	for i := range c.lanes {
		c.drop(i)
		if c.lanes[i].dirty {
			dirty = append(dirty, i)
		}
	}
	if len(dirty) == 0 {
		return nil
	}
	return c.clean(dirty...)
}

// clean deletes what the given nodes have of the claim. Called with the mutex held.
func (c *claim) clean(nodes ...int) *round {
	r := c.newRound(cleanVerb, len(nodes), c.l.timeoutFor(c.ttl))
	r.start = time.Now()
	for i, to := range nodes {
		r.send(&r.requests[i], to, c.releaseCall())
	}
	return r
}

// release deletes the claim everywhere. Called with the mutex held.
func (c *claim) release() *round {
	c.dead = true
	r := c.newRound(releaseVerb, len(c.lanes), c.l.timeoutFor(c.ttl))
	r.start = time.Now()
	for i := range c.lanes {
		call := c.releaseCall()
		if c.drop(i) && !c.lanes[i].dirty {
			// Its acquire never went out, so there is nothing to delete. But whether the resource is free there
			// counts: a quorum of nodes on which it is lets the next one in.
			call.RepeatUntil, call.SendBy = time.Time{}, r.start.Add(r.timeout)
		}
		r.send(&r.requests[i], i, call)
	}
	return r
}

// drop takes back the latest call to a node if it has not been sent. Called with the mutex held.
func (c *claim) drop(i int) bool {
	lane := &c.lanes[i]
	if lane.last == nil || !c.l.nodes[i].Drop(lane.last) {
		return false
	}
	q := lane.last.Receiver.(*request)
	lane.last, q.err = nil, node.ErrNotSent
	q.round.vote(q)
	return true
}

func (c *claim) releaseCall() node.Call {
	return node.Call{Args: []any{c.token}, RepeatUntil: time.Now().Add(c.ttl + residueGrace)}
}

// readVerdict reads the reply that the scripts acquire, extend and release share.
func readVerdict(q *request, reply any) error {
	switch v := reply.(type) {
	case int64:
		if v == 1 {
			return nil
		}
	case []any:
		if r, ok := q.refusal(v); ok {
			return r
		}
	}
	return errUnexpected(reply)
}

func errUnexpected(reply any) error { return fmt.Errorf("unexpected reply %.100q", fmt.Sprint(reply)) }

// errShaky is the vote of a node whose confirmation of a longer lease does not count.
var errShaky = errors.New("a shortening of the lease whose answer got lost may still take effect here")

// readExtended is readVerdict for a node on which no earlier call can undo what it confirms.
func readExtended(q *request, reply any) error {
	if q.round.claim.lanes[q.node].shaky {
		return errShaky
	}
	return readVerdict(q, reply)
}

// refusal reads {i} or {i, owner, pttl}.
func (q *request) refusal(v []any) (*refusal, bool) {
	if len(v) != 1 && len(v) != 3 {
		return nil, false
	}
	i, ok := v[0].(int64)
	if !ok || i < 1 || int(i) > len(q.call.Keys) {
		return nil, false
	}
	r := &refusal{resource: q.round.claim.l.resource(q.call.Keys[i-1]), gone: len(v) == 1}
	if r.gone {
		return r, true
	}
	owner, ok1 := v[1].(string)
	pttl, ok2 := v[2].(int64)
	r.owner, r.left = owner, time.Duration(pttl)*time.Millisecond
	return r, ok1 && ok2
}
