package redlock

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
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

	// args returns the arguments for one slot of a cluster, where they differ; nil: they do not.
	args func(q *request) []any

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
		read: readMark, rule: func(r *round) quorum.Outcome { return r.tally.Keep() },
	}
	// moveVerb is extend after a shortening.
	moveVerb = &verb{
		op: "extend", script: extendVerb.script, args: moveArgs,
		read: readMark, rule: func(r *round) quorum.Outcome { return r.tally.Keep() },
	}
	// cutVerb is extend to an earlier end.
	cutVerb = &verb{
		op: "extend", script: extendVerb.script, args: cutArgs,
		read: readMark, rule: func(r *round) quorum.Outcome { return r.tally.Keep() },
	}
	releaseVerb = &verb{
		op: "release", script: node.NewScript(releaseSource),
		read: readVerdict, rule: func(r *round) quorum.Outcome { return r.tally.Leave() }, deletes: true,
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
	args      [2]any // token and TTL, as scripts take them

	mu    sync.Mutex
	ends  []func()      // of contexts, to run once the mutex is free: they may run code that is not ours
	lanes []lane        // one for each node
	ttl   time.Duration // the longest that was asked for
	lease lease         // the last one proved; zero while there is none
	dead  bool          // nothing of the token is wanted any more: what a node grants from now on is taken back
}

// lane is what a claim knows of one node.
type lane struct {
	last     *node.Call // the latest call; the next one goes behind it
	dirty    bool       // the node may have a key of ours
	doubtful bool       // an acquire got no answer: it may have run, or be on its way and run after a first release
	leaving  bool       // a release has been sent
	cuts     []cut      // shortenings that were sent, which may run late
}

// cut is a shortening: it takes effect where its mark stands, which is never the case again after a while.
type cut struct {
	mark  int64
	until time.Time
}

// remember notes the marks of a shortening, none of which stands any more at the given time.
func (l *lane) remember(marks []int64, until time.Time) {
	for _, mark := range marks {
		l.cuts = append(l.cuts, cut{mark, until})
	}
}

// standing returns the cuts whose marks may still stand, and forgets the others.
func (l *lane) standing(now time.Time) []cut {
	l.cuts = slices.DeleteFunc(l.cuts, func(c cut) bool { return now.After(c.until) })
	return l.cuts
}

// init prepares a claim that has sent nothing yet.
func (c *claim) init(l *Locker, p *plan, token string) {
	c.l, c.resources, c.keys, c.slots = l, p.resources, p.keys, p.slots
	c.token, c.ttl, c.lanes = token, p.ttl, make([]lane, len(l.nodes))
	c.args = [2]any{token, milliseconds(p.ttl)}
}

// unlock frees the mutex and runs what had to wait for that.
func (c *claim) unlock() {
	ends := c.ends
	c.ends = nil
	c.mu.Unlock()
	for _, f := range ends {
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
	settled  chan struct{}  // closed when the outcome is no longer open; made by wait
	attended bool           // its caller is about to run it and wait
	ours     bool           // and has the only call to send himself
	optional bool           // not sent to nodes that have not answered the call before
	then     func(*round)   // called when it is settled, with the mutex held; may be nil
	late     func(*request) // called for votes after that, with the mutex held; may be nil
	ttl      time.Duration  // what extend asks for
}

// request is a round's call to one node. On a cluster it visits the slots one after the other.
type request struct {
	round *round
	node  int
	call  node.Call
	slot  int // of claim.slots
	voted bool
	err   error   // why the node did not say yes
	marks []int64 // extend: when the keys of each slot expire, on the node's clock
	keyState
}

// yes reports whether the node said yes. Called with the mutex held.
func (q *request) yes() bool { return q.voted && q.err == nil }

// keyState is what a node says of a key.
type keyState struct {
	held  bool
	owner string        // the value under the key
	left  time.Duration // until the key expires; negative: never
}

var (
	errNotYet = errors.New("no answer by then")                        // it was not waited for
	errBusy   = errors.New("has not answered the request before this") // and was not asked

	errOvertaken = errors.New("not shortened: a later extension is on its way")
)

// newRound prepares a round of the verb among n nodes.
func (c *claim) newRound(v *verb, n int, timeout time.Duration) *round {
	r := &round{
		claim: c, verb: v, timeout: timeout, tally: quorum.New(n),
		requests: make([]request, n),
	}
	for i := range r.requests {
		r.requests[i].round, r.requests[i].node = r, i
	}
	return r
}

// begin sends the round to all nodes. call is the pattern for each node's call. attended says that the caller waits for the
// round next: he must call run and wait. Called with the mutex held.
func (r *round) begin(call node.Call, attended bool) {
	r.start, r.attended = time.Now(), attended
	for i := range r.requests {
		r.send(&r.requests[i], i, call)
	}
}

// send sends one request of the round. Called with the mutex held.
func (r *round) send(q *request, to int, call node.Call) {
	c := r.claim
	lane := &c.lanes[to]
	q.node, q.call = to, call
	q.call.Script, q.call.Keys, q.call.Receiver = r.verb.script, c.slot(to, 0), q
	q.call.Yields = r.verb == acquireVerb
	if r.verb.args != nil {
		q.call.Args = r.verb.args(q)
	}
	if r.optional && lane.last != nil {
		q.err = errBusy
		r.vote(q)
		return
	}
	lane.leaving = lane.leaving || r.verb.deletes
	n := c.l.nodes[to]
	if r.attended && len(c.lanes) == 1 && lane.last == nil && n.Reserve(&q.call, r.timeout) {
		r.ours = true
	} else if !n.SendAfter(&q.call, lane.last) {
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
	c.noteAcquire(q, err, call.Repeated || time.Since(q.round.start) > q.round.timeout)

	q.slot++
	more := err == nil || q.round.verb.deletes && !errors.Is(err, node.ErrClosed)
	if next := c.slot(q.node, q.slot); next != nil && more {
		call.Keys = next
		if q.round.verb.args != nil {
			call.Args = q.round.verb.args(q)
		}
		return true
	}
	first := !q.voted
	late := q.round.late
	q.round.vote(q)
	if first && late != nil {
		late(q)
	}
	lane := &c.lanes[q.node]
	if q.round.verb.deletes && !failed(q.err) {
		lane.dirty = false
	}
	if q.round.verb.deletes && !failed(q.err) && lane.doubtful {
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

// noteAcquire keeps track of what a node may have of ours. A server's error too leaves that open: go-redis may have repeated the
// command, and an earlier copy, whose reply got lost, may have run. So does a no that comes late: a node that resumes may run
// the repetition, which is refused, before the first copy. Called with the mutex held.
func (c *claim) noteAcquire(q *request, err error, repeated bool) {
	if q.round.verb != acquireVerb {
		return
	}
	lane := &c.lanes[q.node]
	unanswered := failed(err) && !errors.Is(err, node.ErrNotSent) && !errors.Is(err, node.ErrClosed)
	lane.doubtful = lane.doubtful || repeated || unanswered
	lane.dirty = lane.dirty || err == nil || lane.doubtful
}

// follow does what remains to be done about a request that was answered, whether or not its round still waited for it.
// Called with the mutex held.
func (c *claim) follow(q *request) {
	r := q.round
	dirty := c.lanes[q.node].dirty
	switch {
	case r.verb == acquireVerb && dirty && c.unwanted():
		if !c.lanes[q.node].leaving {
			c.clean(q.node)
		}
	case (r.verb == extendVerb || r.verb == moveVerb) && r.outcome == quorum.Won:
		c.heal(q)
	case r.verb.deletes && dirty && failed(q.err):
		c.log(slog.LevelWarn, "a lock could not be deleted on a node and stays there until it expires", q)
	case r.outcome != quorum.Open && failed(q.err):
		c.log(slog.LevelDebug, "a node that was not waited for failed", q)
	}
}

// heal gives a node that has lost the lock its key back, after an extension that a quorum confirmed. Called with the mutex
// held.
func (c *claim) heal(q *request) {
	var refused *refusal
	if !errors.As(q.err, &refused) || !refused.gone || c.unwanted() {
		return
	}
	c.log(slog.LevelInfo, "a node has lost the lock and gets it again", q)
	r := c.newRound(acquireVerb, 1, q.round.timeout)
	r.start = time.Now()
	r.send(&r.requests[0], q.node, node.Call{
		Args:   []any{c.token, milliseconds(q.round.ttl)},
		SendBy: c.lease.end(),
	})
}

// failed reports whether a node that answered with err said neither yes nor no.
func failed(err error) bool {
	if err == nil {
		return false
	}
	var refused *refusal
	return !errors.As(err, &refused)
}

// unwanted reports whether a grant comes too late. Called with the mutex held.
func (c *claim) unwanted() bool {
	return c.dead || !c.lease.start.IsZero() && !time.Now().Before(c.lease.end())
}

// log tells of a node's answer that has no caller to go to. Called with the mutex held.
func (c *claim) log(level slog.Level, msg string, q *request) {
	c.l.log.add(level, msg, "op", q.round.verb.op, "resources", c.resources, "node", q.node, "error", q.err)
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
	case failed(q.err):
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
	if r.verb.deletes {
		r.linger()
	}
	if r.settled != nil {
		close(r.settled)
	}
	if r.then != nil {
		r.then(r)
	}
}

// linger keeps the next attempt on the same resources from overtaking what is still on its way: it would run into the keys
// of a lock that its caller knows to be released. Called with the mutex held.
func (r *round) linger() {
	for i := range r.requests {
		if q := &r.requests[i]; !q.voted {
			r.claim.l.nodes[q.node].Linger(&q.call, r.claim.keys)
		}
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

// run sends what the caller of a round has to send himself, and unlocks the claim for that. Called with the mutex held.
func (r *round) run() {
	ours := r.ours
	r.claim.unlock()
	if ours {
		r.claim.l.nodes[0].Run(&r.requests[0].call)
	}
}

// wait waits until the round is settled, its time is up, ctx has ended or the Locker is closed; then it is settled. It
// returns what cut it short, if ctx or Close did.
func (r *round) wait(ctx context.Context, closing <-chan struct{}) (cause error) {
	settled := r.unsettled()
	if settled == nil {
		return nil
	}
	select {
	case <-settled:
		return nil
	case <-r.claim.l.deadlines.after(r.start, r.timeout):
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

// unsettled returns what will be closed when the round is settled, or nil if it is.
func (r *round) unsettled() <-chan struct{} {
	r.claim.mu.Lock()
	defer r.claim.mu.Unlock()
	if r.outcome != quorum.Open {
		return nil
	}
	if r.settled == nil {
		r.settled = make(chan struct{})
	}
	return r.settled
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
// is deleted then. It returns the round that deletes what was granted, or nil. Called with the mutex held.
func (c *claim) abandon() *round {
	c.dead = true
	var granted []int
	for i := range c.lanes {
		c.drop(i)
		switch lane := &c.lanes[i]; {
		case lane.doubtful:
			c.clean(i) // a node that did not answer is not waited for now either
		case lane.dirty:
			granted = append(granted, i)
		}
	}
	if len(granted) == 0 {
		return nil
	}
	return c.clean(granted...)
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

// release deletes the claim everywhere; the caller must run it and wait. Called with the mutex held.
func (c *claim) release() *round {
	c.dead = true
	r := c.newRound(releaseVerb, len(c.lanes), c.l.timeoutFor(c.ttl))
	r.start, r.attended = time.Now(), true
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

// longest returns for how long, on this process's clock, a key may live that a node keeps for as long as was ever asked for.
func (c *claim) longest() time.Duration {
	return c.ttl + time.Duration(float64(c.ttl)*c.l.drift) + time.Second
}

func (c *claim) releaseCall() node.Call {
	return node.Call{Args: c.args[:1], RepeatUntil: time.Now().Add(c.ttl + residueGrace)}
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

// readMark reads the reply of extend.
func readMark(q *request, reply any) error {
	if mark, ok := reply.(int64); ok && mark > 0 {
		q.marks = append(q.marks, mark)
		return nil
	}
	return readVerdict(q, reply)
}

// refusal reads {i} or {i, owner, pttl}.
func (q *request) refusal(v []any) (*refusal, bool) {
	if len(v) != 1 && len(v) != 3 {
		return nil, false
	}
	i, ok := v[0].(int64)
	if !ok || i < 1 || i > int64(len(q.call.Keys)) {
		return nil, false
	}
	r := &refusal{resource: q.round.claim.l.resource(q.call.Keys[i-1]), gone: len(v) == 1}
	if r.gone {
		return r, true
	}
	key, ok := readKey(v[1], v[2])
	r.owner, r.left = key.owner, key.left
	return r, ok && key.held
}

// readKey reads what GET and PTTL say of a key: -1 stands for no expiry, and -2, with no value, for no key.
func readKey(owner, pttl any) (key keyState, ok bool) {
	key.owner, key.held = owner.(string)
	ms, isNumber := pttl.(int64)
	// Cut to what a Duration can hold with a millisecond to spare.
	key.left = time.Duration(min(max(ms, -2), math.MaxInt64/int64(time.Millisecond)-1)) * time.Millisecond
	return key, isNumber && (key.held && ms >= -1 || owner == nil && ms == -2)
}
