package redlock

import (
	"context"
	"errors"

	"github.com/rediskit/redlock/internal/lease"
	"github.com/rediskit/redlock/internal/protocol"
	"github.com/rediskit/redlock/internal/quorum"
)

// Adopt continues a lock that another process has handed over by its token ([Handle.Token]). It
// looks on the nodes how long a quorum will keep the lock at least, and returns a Handle that is
// valid for that long, less the drift; Extend and renewal (with the TTL of opts) take it from
// there. The old handle does not know; drop it without Release. Nor does a minimum hold come along:
// give [WithMinHold] again. A node of a minority that the former owner's request reaches only after
// the lock was released keeps the key until it expires.
//
// Adopt fails with [ErrLost] when the resources are free, under another token or never expire, with
// [ErrNoQuorum] when too few nodes answer, and otherwise as TryAcquire does.
func (l *Locker) Adopt(ctx context.Context, resources []string, token string,
	opts ...AcquireOption) (*Handle, error) {
	if token == "" {
		return nil, errors.New("redlock: the token is empty")
	}
	p, err := l.plan(resources, opts)
	if err != nil {
		return nil, err
	}
	if p.account = l.account(ctx, p); p.account != nil {
		p.account.adopted = true
	}
	h, err := l.adopt(ctx, p, token)
	return l.acquired(p, h, err)
}

// adopt looks for a token on the nodes and makes it a Handle.
func (l *Locker) adopt(ctx context.Context, p *plan, token string) (*Handle, error) {
	if err := l.enter(ctx, "adopt", p.keys.Resources); err != nil {
		return nil, err
	}
	defer l.leave()
	p.account.tries()
	h := l.newHandle(p, token)
	r := h.claim.Find(p.ttl)
	r.For(ctx)
	r.Send()
	cause := r.Wait(ctx)
	if r.Outcome() == quorum.Won {
		kept := lease.Lease{Start: r.Lease().Start, TTL: min(r.Kept(), l.longestTTL()),
			Drift: l.drift}
		found := r
		if r, cause = l.fence(ctx, h, found, kept); r.Outcome() == quorum.Won {
			return l.takeOver(h, found, kept, p)
		}
	}
	switch {
	case cause != nil:
		return nil, cutAttempt(ctx, cause, l.quorumError(r, p.keys.Resources))
	case r.Outcome() == quorum.Refused:
		return nil, l.lost(r)
	default:
		return nil, l.quorumError(r, p.keys.Resources)
	}
}

// takeOver begins the life of an adopted handle with what a quorum keeps.
func (l *Locker) takeOver(h *Handle, found *protocol.Round, kept lease.Lease,
	p *plan) (*Handle, error) {
	if l.fencing && h.Fence() == 0 {
		return nil, stateError(found.Op(), h.claim.Resources(), errNoFence)
	}
	err := h.begin(found, kept, p)
	switch {
	case err == nil:
		return h, nil
	case errors.Is(err, ErrClosed):
		return nil, err
	}
	return nil, l.lost(found) // kept for less than can be trusted
}
