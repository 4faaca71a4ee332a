package redlock

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/quorum"
)

// Status is what the nodes say about a resource.
type Status struct {
	Resource string
	Locked   bool          // some owner has, or may have, a quorum
	Owner    string        // the owner's label, "" if free; "unknown" if the lock is not one of this library's
	TTL      time.Duration // what is left of the lock at most; negative: it never expires
	Fence    uint64        // the owner's fencing token; 0 for a lock without fencing
	Waiters  int           // registered on the nodes
}

var (
	// inspectVerb asks who has one key. A node says yes by telling.
	inspectVerb = &verb{op: "inspect", script: node.NewScript(inspectSource), read: readOwner, rule: ownerKnown}

	// adoptVerb asks whether the keys hold our token.
	adoptVerb = &verb{
		op: "adopt", script: inspectVerb.script,
		read: readKept, rule: func(r *round) quorum.Outcome { return r.tally.Keep() },
	}
)

// IsLocked reports whether some owner has the resource, or may have it as far as the nodes that answer can tell. It is false
// only when no owner can have a quorum. What it says may be over by the time it is read: to do something under the lock,
// acquire it. It fails with a [QuorumError] that matches [ErrNoQuorum] when too few nodes answer to tell, with [ErrClosed],
// and with the cause of ctx.
func (l *Locker) IsLocked(ctx context.Context, resource string) (bool, error) {
	s, err := l.Inspect(ctx, resource)
	return s.Locked, err
}

// Inspect tells what the nodes say about the resource. It fails as IsLocked does.
func (l *Locker) Inspect(ctx context.Context, resource string) (Status, error) {
	s := Status{Resource: resource}
	p, err := l.plan([]string{resource}, nil)
	if err != nil {
		return s, err
	}
	if err := l.enter(ctx, "inspect", p.resources); err != nil {
		return s, err
	}
	defer l.leave()
	c := &claim{}
	c.init(l, p, "")

	c.mu.Lock()
	r := c.newRound(inspectVerb, len(l.nodes), l.timeoutFor(p.ttl))
	r.begin(node.Call{SendBy: time.Now().Add(r.timeout)}, true)
	r.run()

	cause := r.wait(ctx, l.closing)
	if r.outcome == quorum.Unreachable {
		if cause != nil {
			return s, &interrupted{cause, r.shortfall()}
		}
		return s, r.shortfall()
	}
	if r.outcome == quorum.Won {
		s.Locked = true
		s.Owner, s.TTL = r.holder()
	}
	return s, nil
}

// WaitForUnlock returns nil as soon as it has seen the resource free, in the sense of [Locker.IsLocked]; somebody else may
// have taken it by then. It waits as long as ctx lasts, also through outages. Its error matches the last thing seen
// ([ErrHeld] or [ErrNoQuorum]) and the cause of ctx; or it is [ErrClosed].
func (l *Locker) WaitForUnlock(ctx context.Context, resource string) error {
	p, err := l.plan([]string{resource}, nil)
	if err != nil {
		return err
	}
	var reason error
	for pauses := newBackoff(p.retryInterval); ; {
		s, err := l.Inspect(ctx, resource)
		if err == nil && !s.Locked {
			return nil
		}
		pause := pauses.next(ctx)
		switch {
		case err == nil:
			reason = stateError("wait for", p.resources, ErrHeld)
			if s.TTL >= 0 {
				pause = min(pause, s.TTL+time.Millisecond)
			}
		case !cutShort(err):
			reason = err
		}
		cause := l.over(ctx)
		if cause == nil {
			cause = l.sleep(ctx, pause)
		}
		if cause != nil {
			return gaveUp("wait for", p.resources, cause, reason, err)
		}
	}
}

// ownerKnown is the rule for an inspection: won if the resource is or may be locked, refused if it cannot be.
func ownerKnown(r *round) quorum.Outcome {
	n, answered, pending := len(r.requests), r.tally.Yes(), r.tally.Pending()
	_, nodes := quorum.Leader(r.owners())
	switch {
	case nodes >= quorum.Size(n):
		return quorum.Won
	case !quorum.MayHold(n, answered, nodes):
		return quorum.Refused
	case answered+pending < quorum.Size(n) && quorum.MayHold(n, answered+pending, nodes):
		return quorum.Unreachable
	case pending > 0:
		return quorum.Open
	default:
		return quorum.Won // nobody is known to have a quorum, but somebody may
	}
}

// owners returns the owners that nodes have named. Called with the mutex held.
func (r *round) owners() []string {
	var owners []string
	for i := range r.requests {
		if q := &r.requests[i]; q.voted && q.held {
			owners = append(owners, q.owner)
		}
	}
	return owners
}

// holder returns the label of the owner that most nodes name, and when the last node will have let go of an owner who has, or
// may have, a quorum.
func (r *round) holder() (label string, left time.Duration) {
	r.claim.mu.Lock()
	defer r.claim.unlock()
	owners := r.owners()
	leader, _ := quorum.Leader(owners)
	for i := range r.requests {
		q := &r.requests[i]
		if !q.voted || !q.held || !quorum.MayHold(len(r.requests), r.tally.Yes(), count(owners, q.owner)) {
			continue
		}
		if q.left < 0 {
			return ownerLabel(leader), -1
		}
		left = max(left, q.left)
	}
	return ownerLabel(leader), left
}

// count returns how often owner stands among the owners.
func count(owners []string, owner string) (n int) {
	for _, o := range owners {
		if o == owner {
			n++
		}
	}
	return n
}

// readOwner reads inspect's reply for one key.
func readOwner(q *request, reply any) error {
	found, err := readKeys(q, reply)
	if err == nil {
		q.keyState = found[0]
	}
	return err
}

// readKept reads inspect's reply for keys that should hold our token, and for how long they all will.
func readKept(q *request, reply any) error {
	found, err := readKeys(q, reply)
	if err != nil {
		return err
	}
	if q.slot == 0 {
		q.left = math.MaxInt64
	}
	for i, key := range found {
		if !key.held || key.owner != q.round.claim.token || key.left < 0 {
			return &refusal{
				resource: q.round.claim.l.resource(q.call.Keys[i]),
				gone:     !key.held, owner: key.owner, left: key.left,
			}
		}
		q.left = min(q.left, key.left)
	}
	return nil
}

// readKeys reads {owner, pttl, owner, pttl, ...}.
func readKeys(q *request, reply any) ([]keyState, error) {
	v, ok := reply.([]any)
	if !ok || len(v) != 2*len(q.call.Keys) {
		return nil, errUnexpected(reply)
	}
	found := make([]keyState, 0, len(v)/2)
	for pair := range slices.Chunk(v, 2) {
		key, ok := readKey(pair[0], pair[1])
		if !ok {
			return nil, errUnexpected(reply)
		}
		found = append(found, key)
	}
	return found, nil
}
