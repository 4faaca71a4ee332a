package protocol

import (
	"context"
	"errors"
	"time"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/quorum"
)

// Heard is how a call to a node ended, for whoever observes the nodes.
type Heard struct {
	Context   context.Context // of the caller; nil where there is none
	Resources []string
	Node      int
	Op        string
	Start     time.Time
	Took      time.Duration // from when the site was asked
	Batch     int           // calls in the round trip
	Late      bool          // nobody waited for it any more
	Err       error         // nil, a *Refusal, or what the server, the network or the client said
}

// For says for whom the round asks, before it is sent: what is told of its calls carries ctx.
func (r *Round) For(ctx context.Context) {
	if r.claim.nodes.Heard != nil {
		r.ctx = ctx
	}
}

// Start returns the moment before the first byte goes out.
func (r *Round) Start() time.Time { return r.start }

// TTL returns what is asked for.
func (r *Round) TTL() time.Duration { return r.ttl }

// Yes returns how many nodes have said yes by now.
func (r *Round) Yes() int {
	r.claim.mu.Lock()
	defer r.claim.mu.Unlock()
	return r.tally.Yes()
}

// Healed returns how many sites had lost our keys, by the answers that there are, and get them
// again.
func (r *Round) Healed() int {
	r.claim.mu.Lock()
	defer r.claim.mu.Unlock()
	return int(r.healed)
}

// tellLocked has an answer told to whoever observes the nodes.
func (a *ask) tellLocked(call *node.Call, err error) {
	r, c := a.round, a.round.claim
	if c.nodes.Heard == nil || errors.Is(err, node.ErrNotSent) || errors.Is(err, node.ErrClosed) {
		return
	}
	took := time.Since(r.asked)
	h := Heard{
		Context: r.ctx, Resources: c.keys.Resources, Node: c.sites[a.site].node, Op: r.verb.name,
		Start: r.asked, Took: took, Batch: int(call.Batch),
		Late: r.outcome != quorum.Open && took > r.timeout, Err: err,
	}
	c.posted = append(c.posted, func() { c.nodes.Heard(h) })
}
