package protocol

import (
	"context"
	"errors"
	"time"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/quorum"
)

// Look is a question to all nodes: who keeps a lock from others, and what do they wait for? That is
// who has it, or while it is free, who is first in its queue.
type Look struct {
	round *Round

	// Guarded by the mutex of the round's claim.
	owners  []string            // one for each node on which somebody keeps the key
	queued  map[string]bool     // those who are first in the queue, and do not have it
	notices map[string][]string // by the owner's name
}

// Sight is the answer.
type Sight struct {
	// Owner is the lock key's value, or the name in its queue, if a quorum of nodes has the same;
	// else "".
	Owner   string
	Queued  bool     // it is the name in its queue
	Notices []string // what this owner lets others read, as often as nodes have it
}

// Follow asks about one resource. The nodes have as long to answer as for a lock with the given
// TTL.
func (n *Nodes) Follow(prefix, resource string, ttl time.Duration) *Look {
	l := newLook()
	c, v := n.follow(l, prefix, resource, ttl)
	l.round = c.roundLocked(v, ttl)
	return l
}

func newLook() *Look {
	return &Look{queued: make(map[string]bool), notices: make(map[string][]string)}
}

func (n *Nodes) follow(l *Look, prefix, resource string, ttl time.Duration) (*Claim, *verb) {
	key := KeyName(prefix, resource)
	keys := Keys{Resources: []string{resource}, prefix: prefix,
		all: group{keys: watchable(nil, key), locks: 3}}
	c := &Claim{}
	c.Init(n, &keys, "", ttl)
	return c, &verb{
		name: "inspect", script: func(s *Scripts) *node.Script { return s.follow },
		prepare: sendWithinTimeout, args: func(*ask) []any { return nil }, read: l.readLocked,
		rule: l.ruleLocked, hints: true,
	}
}

// Send sends the question.
func (l *Look) Send() { l.round.Send() }

// Wait waits for the answers, and returns what there are if time is up or ctx has ended.
func (l *Look) Wait(ctx context.Context) Sight {
	l.round.Wait(ctx)
	l.round.claim.mu.Lock()
	defer l.round.claim.mu.Unlock()
	owner, nodes := quorum.Leader(l.owners)
	if nodes < l.round.tally.Need() {
		return Sight{}
	}
	return Sight{owner, l.queued[owner], l.notices[OwnerName(owner)]}
}

// ruleLocked settles the question as soon as a quorum names the same owner.
func (l *Look) ruleLocked(_ *Round, t *quorum.Tally) quorum.Outcome {
	if _, nodes := quorum.Leader(l.owners); nodes >= t.Need() || t.Pending() == 0 {
		return quorum.Won
	}
	return quorum.Open
}

// readLocked reads {owner, {field, value, ...}}, which who is first in the queue may follow.
func (l *Look) readLocked(_ *ask, reply any) error {
	v, ok := reply.([]any)
	if !ok || len(v) < 2 {
		return errUnexpected(reply)
	}
	fields, ok := v[1].([]any)
	if !ok || len(fields)%2 != 0 {
		return errUnexpected(reply)
	}
	owner, held := v[0].(string)
	if !held && len(v) > 2 {
		owner, held = v[2].(string)
		l.queued[owner] = held
	}
	if !held {
		return nil
	}
	l.owners = append(l.owners, withoutNumber(owner))
	name, texts := "", []string(nil)
	for i := 0; i < len(fields); i += 2 {
		field, ok1 := fields[i].(string)
		text, ok2 := fields[i+1].(string)
		switch {
		case !ok1 || !ok2:
			return errUnexpected(reply)
		case field == "owner":
			name = text
		default:
			texts = append(texts, text)
		}
	}
	l.notices[name] = append(l.notices[name], texts...)
	return nil
}

// Refusers returns, by resource, the values of the lock keys that have refused the round.
func (r *Round) Refusers() map[string]string {
	r.claim.mu.Lock()
	defer r.claim.mu.Unlock()
	owners := make(map[string][]string)
	for i := range r.asks {
		var refused *Refusal
		if errors.As(r.asks[i].err, &refused) && !refused.Gone {
			owners[refused.Resource] = append(owners[refused.Resource],
				withoutNumber(refused.Owner))
		}
	}
	leaders := make(map[string]string, len(owners))
	for resource, values := range owners {
		leaders[resource], _ = quorum.Leader(values)
	}
	return leaders
}

// Prefix returns what stands before the resources in the keys.
func (k Keys) Prefix() string { return k.prefix }

// KeyName returns the key of a resource.
func KeyName(prefix, resource string) string {
	if prefix == "" {
		return resource
	}
	return prefix + ":" + resource
}
