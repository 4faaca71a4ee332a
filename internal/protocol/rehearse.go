package protocol

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rediskit/redlock/internal/quorum"
)

// Rehearse runs every script on one node, under keys that nobody else knows, and leaves nothing
// there. It returns what failed first: what the server, the network or the client said, a
// *NoAnswer, or the cause of ctx or of the end of the Locker.
func (n *Nodes) Rehearse(ctx context.Context, node int, k Keys, ttl time.Duration) error {
	c := &Claim{}
	c.Init(n, &k, NewToken("check"), ttl)
	c.sites = slices.DeleteFunc(c.sites, func(s site) bool { return s.node != node })
	for _, v := range []*verb{acquireVerb, extendVerb, findVerb, cleanVerb} {
		c.mu.Lock()
		r := c.partLocked(v, ttl, 0)
		if v == extendVerb {
			r.ttl = 2 * ttl // an extension to less sets nothing
			c.longest = r.ttl
		}
		c.mu.Unlock()
		r.For(ctx)
		r.Send()
		cause := r.Wait(ctx)
		if r.Outcome() == quorum.Won && v == acquireVerb {
			cause = c.rehearseWaiting(ctx, r.ttl)
			if cause == nil {
				continue
			}
			c.Abandon()
			return cause
		}
		if r.Outcome() == quorum.Won {
			continue
		}
		err := r.failure()
		c.Abandon() // also after a release: its answer may be missing
		if cause != nil {
			return cause
		}
		return err
	}
	return nil
}

// rehearseWaiting has somebody stand in the queue of a lock that the claim has, and leave it again.
func (c *Claim) rehearseWaiting(ctx context.Context, ttl time.Duration) error {
	place := NewPlace(c.nodes, *c.keys, "1@redlock:check")
	place.Sure, place.Heard = func(int) bool { return false }, func(int, *Refusal) {}
	place.Ticket, place.Patience, place.Unsure = 1, ttl, ttl
	waiter := &Claim{}
	waiter.Init(c.nodes, c.keys, NewToken("check"), ttl)
	waiter.sites, waiter.place = slices.Clone(c.sites[:1]), place
	waiter.sites[0].latest, waiter.sites[0].has = nil, nothing
	waiter.mu.Lock()
	r := waiter.partLocked(standVerb, ttl, 0)
	waiter.mu.Unlock()
	r.For(ctx)
	r.Send()
	cause := r.Wait(ctx)
	place.state.Store(left)
	if cleaned := waiter.Abandon(); cleaned != nil {
		cleaned.Wait(ctx)
	}
	err := r.failure()
	var refused *Refusal
	switch {
	case errors.As(err, &refused):
		return c.rehearseFollowing(ctx, ttl)
	case cause != nil:
		return cause
	default:
		return err
	}
}

// rehearseFollowing asks who has a lock that the claim has, if deadlocks are looked for.
func (c *Claim) rehearseFollowing(ctx context.Context, ttl time.Duration) error {
	if !c.nodes.Hints {
		return nil
	}
	l := newLook()
	asking, v := c.nodes.follow(l, c.keys.prefix, c.keys.Resources[0], ttl)
	asking.sites = slices.DeleteFunc(asking.sites, func(s site) bool { return s.node != c.sites[0].node })
	asking.mu.Lock()
	r := asking.partLocked(v, ttl, 0)
	asking.mu.Unlock()
	r.For(ctx)
	r.Send()
	if cause := r.Wait(ctx); cause != nil {
		return cause
	}
	return r.failure()
}

// failure returns why the first site of a round that was not won did not say yes.
func (r *Round) failure() error {
	r.claim.mu.Lock()
	defer r.claim.mu.Unlock()
	if a := &r.asks[0]; a.voted {
		return a.err
	}
	return &NoAnswer{r.expired.Round(time.Millisecond), r.claim.nodes.nodes[r.node(0)].LastError()}
}
