package protocol

import (
	"math"
	"slices"
	"time"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/quorum"
)

var (
	// inspectVerb asks who has one key. Any answer is a yes.
	inspectVerb = &verb{
		name: "inspect", script: func(s *Scripts) *node.Script { return s.inspect },
		prepare: sendWithinTimeout, args: inspectArgs, read: readOwner, rule: ownerKnown,
		queues: true, fenced: true,
	}

	// watchVerb is inspect for somebody who wants to be told when the key is free.
	watchVerb = &verb{
		name: "inspect", script: func(s *Scripts) *node.Script { return s.watch },
		prepare: sendWithinTimeout, args: watchArgs, read: readOwner, rule: ownerKnown,
		queues: true, watches: true,
	}

	// findVerb asks whether the keys hold our token.
	findVerb = &verb{
		name: "adopt", script: func(s *Scripts) *node.Script { return s.find },
		prepare: sendWithinTimeout, args: inspectArgs, read: readKept, rule: findRule, fenced: true,
	}
)

func inspectArgs(a *ask) []any {
	switch {
	case a.queued():
		return []any{len(a.lockKeys()), "queues"}
	case a.fenced():
		return []any{len(a.lockKeys())}
	default:
		return nil
	}
}

func watchArgs(a *ask) []any {
	if !a.queued() {
		return nil
	}
	p := a.round.claim.place
	return []any{p.Name, p.patienceAt(a.siteLocked().node)}
}

// Inspect asks who has the key of a single resource. A round that is won tells by Holder; one that
// is refused says that nobody can have a quorum.
func (n *Nodes) Inspect(k Keys, ttl time.Duration) *Round {
	c := &Claim{}
	c.Init(n, &k, "", ttl)
	return c.roundLocked(inspectVerb, ttl)
}

// Watch is Inspect for somebody who wants to be told when the resource is free.
func (n *Nodes) Watch(k Keys, ttl time.Duration, at *Place) *Round {
	c := &Claim{}
	c.Init(n, &k, NewToken(""), ttl) // it has nothing, but may have to leave a queue
	c.place = at
	return c.roundLocked(watchVerb, ttl)
}

// Waiting returns how many wait for the resource: as many as the node says that has the most.
func (r *Round) Waiting() (most int) {
	r.claim.mu.Lock()
	defer r.claim.mu.Unlock()
	for i := range r.asks {
		most = max(most, r.asks[i].key().waiting)
	}
	return most
}

// Find asks whether the keys hold the claim's token, and for how long. A round that is won tells by
// Kept.
func (c *Claim) Find(ttl time.Duration) *Round {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.sites {
		c.sites[i].has = ourKeys // as far as we know: whoever took the lock was not this process
	}
	return c.roundLocked(findVerb, ttl)
}

// ownerKnown is the rule for an inspection: won if the resource is or may be locked, refused if it
// cannot be.
func ownerKnown(r *Round, t *quorum.Tally) quorum.Outcome {
	n, answered, pending := len(r.asks), t.Yes(), t.Pending()
	_, nodes := quorum.Leader(r.ownersLocked())
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

// ownersLocked returns the tokens of the owners that nodes have named.
func (r *Round) ownersLocked() []string {
	var owners []string
	for i := range r.asks {
		if key := r.asks[i].key(); r.asks[i].voted && key.held {
			owners = append(owners, withoutNumber(key.owner))
		}
	}
	return owners
}

// Holder returns the lock key's value that most nodes name, with the fence that most of them name
// for it (0: none), and the latest expiry of any key whose owner may have a quorum.
func (r *Round) Holder() (value string, fence uint64, left time.Duration) {
	r.claim.mu.Lock()
	defer r.claim.mu.Unlock()
	owners := r.ownersLocked()
	value, _ = quorum.Leader(owners)
	fence = r.fenceOfLocked(value)
	for i := range r.asks {
		key := r.asks[i].key()
		if !r.asks[i].voted || !key.held || !quorum.MayHold(len(r.asks), r.tally.Yes(),
			count(owners, withoutNumber(key.owner))) {
			continue
		}
		if key.left < 0 {
			return value, fence, -1
		}
		left = max(left, key.left)
	}
	return value, fence, left
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

// Kept returns for how long a quorum of nodes will keep the token at least.
func (r *Round) Kept() time.Duration {
	r.claim.mu.Lock()
	defer r.claim.mu.Unlock()
	var left []time.Duration // of the nodes that have it on all their sites
	for voter := range r.claim.nodes.nodes {
		if said, decided := r.saidLocked(voter); !decided || said != nil {
			continue
		}
		shortest := time.Duration(math.MaxInt64)
		for i := range r.asks {
			if r.node(i) == voter {
				shortest = min(shortest, r.asks[i].key().left)
			}
		}
		left = append(left, shortest)
	}
	slices.Sort(left)
	if missing := r.tally.Need(); len(left) >= missing {
		return left[len(left)-missing]
	}
	return 0
}

// readOwner reads inspect's reply for one key.
func readOwner(a *ask, reply any) error {
	waiting, known := int64(0), 2
	if a.fenced() {
		known = 3
	}
	if v, ok := reply.([]any); ok && len(v) == known+1 {
		waiting, _ = v[known].(int64)
		reply = v[:known]
	}
	found, err := readKeys(a, reply)
	if err == nil {
		a.found = &found[0]
		a.found.waiting = int(waiting)
		a.report(a.found.fence)
	}
	return err
}

// readKept reads inspect's reply for keys that should hold our token, and for how long they all
// will. A lock that never expires is refused: its first extension would give it an end.
func readKept(a *ask, reply any) error {
	found, err := readKeys(a, reply)
	if err != nil {
		return err
	}
	shortest := a.key()
	for i, key := range found {
		if !key.held || key.owner != a.round.claim.token || key.left < 0 {
			return &Refusal{
				Resource: a.round.claim.keys.resource(a.lockKeys()[i]),
				Gone:     !key.held, Owner: key.owner, Left: key.left,
			}
		}
		shortest.left = min(shortest.left, key.left)
		a.report(key.fence)
	}
	a.found = &shortest
	return nil
}
