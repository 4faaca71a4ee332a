package protocol

import (
	"context"
	"slices"
	"time"

	"github.com/rediskit/redlock/internal/quorum"
)

// Rehearse runs every script on one node, under keys that nobody else knows, and leaves nothing
// there. It returns what failed first: what the server, the network or the client said, a
// *NoAnswer, or the cause of ctx or of the end of the Locker.
func (n *Nodes) Rehearse(ctx context.Context, node int, k Keys, ttl time.Duration) error {
	c := &Claim{}
	c.Init(n, k, NewToken("check"), ttl)
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

// failure returns why the first site of a round that was not won did not say yes.
func (r *Round) failure() error {
	r.claim.mu.Lock()
	defer r.claim.mu.Unlock()
	if a := &r.asks[0]; a.voted {
		return a.err
	}
	return &NoAnswer{r.expired.Round(time.Millisecond), r.claim.nodes.nodes[r.node(0)].LastError()}
}
