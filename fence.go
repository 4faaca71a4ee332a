package redlock

import (
	"context"
	"errors"

	"github.com/rediskit/redlock/internal/lease"
	"github.com/rediskit/redlock/internal/protocol"
	"github.com/rediskit/redlock/internal/wallclock"
)

// WithFencing gives each lock a fencing token, [Handle.Fence]: a number that is larger than that of
// every earlier holder of the resource, or of any of the resources. A storage that remembers the
// largest token it has seen can refuse a holder that was paused for longer than its lock lived and
// does not know it yet. By default there are no tokens.
//
// All processes that lock a resource must use the option. It costs a second key for each resource
// on each node, which stays for a week after its last use, or eight times the TTL if that is more;
// and one more round trip, up to the node timeout, where the nodes have to be made to agree. They
// agree at once if the clocks of the clients do; the tokens increase whatever the clocks show.
//
// What it assumes, what follows when nodes lose their data, and how a storage uses the token stands
// in docs/fencing.md in the repository.
func WithFencing() Option {
	return lockerOption(func(c *config) { c.fencing = true })
}

var errNoFence = errors.New(
	"redlock: the lock was taken without fencing, and this Locker has WithFencing")

// Fence returns the lock's fencing token: larger than that of every earlier holder of any of its
// resources, and at least 1. It is 0 without [WithFencing]. It never changes. [Locker.Adopt] keeps
// it if a quorum still tells it, and takes a larger one otherwise.
func (h *Handle) Fence() uint64 { return h.claim.Fence() }

// propose says what time it is, which the fencing token of a lock is at least.
func (l *Locker) propose(ctx context.Context, h *Handle) {
	if l.fencing {
		h.claim.Propose(wallclock.Now(ctx))
	}
}

// fence makes the nodes agree on the fencing token of a lock that a round has won and that they
// keep for as long as kept says. It returns the round that tells what came of it, and what cut it
// short.
func (l *Locker) fence(ctx context.Context, h *Handle, won *protocol.Round,
	kept lease.Lease) (*protocol.Round, error) {
	if !l.fencing {
		return won, nil
	}
	return h.claim.AgreeFence(ctx, won, kept.Start.Add(kept.TTL))
}
