package redlock

import (
	"context"
	"time"

	"github.com/rediskit/redlock/internal/lease"
	"github.com/rediskit/redlock/internal/protocol"
	"github.com/rediskit/redlock/internal/quorum"
)

// Extend sets the lease to ttl from now, longer or shorter than what is left of it: 10 ms to 10
// years. It takes as long as a quorum of nodes takes to answer, twice if it shortens, and at most
// the node timeout ([WithNodeTimeout]) each time.
//
// It returns [ErrLost] when the lock is over, gone or somebody else's, and never makes it anew;
// [ErrReleased] after Release and [ErrClosed] after Close; a [QuorumError] that matches
// [ErrNoQuorum] when too few nodes answer; and that together with ctx's error and cause when ctx
// ends first. The lease is then what it was before, except where a shortening may have reached some
// nodes: then it is the shorter one.
//
// Automatic renewal goes on after an Extend, with ttl if that is less than the TTL of the lock.
func (h *Handle) Extend(ctx context.Context, ttl time.Duration) error {
	if err := h.l.checkTTL(ttl); err != nil {
		return err
	}
	if h.account != nil {
		return h.extendTold(ctx, ttl)
	}
	_, err := h.extend(ctx, ttl)
	return err
}

// extend is Extend with a valid argument. It tells how many sites were healed.
func (h *Handle) extend(ctx context.Context, ttl time.Duration) (healed int, err error) {
	if ended := h.Err(); ended != nil {
		return 0, stateError("extend", h.claim.Resources(), ended)
	}
	if err := h.l.enter(ctx, "extend", h.claim.Resources()); err != nil {
		return 0, err
	}
	defer h.l.leave()
	h.mu.Lock()
	if h.lookLocked() != nil {
		defer h.unlock()
		return 0, stateError("extend", h.claim.Resources(), h.err)
	}
	// Under the mutex: a Release from here on takes a later number than the extension, which so
	// cannot lengthen the life of keys that are to stay until the end of a minimum hold.
	r := h.claim.Extend(ttl, func(r *protocol.Round) { h.extended(r, ttl) })
	shorter := r.Lease().End().Before(h.lease.End()) ||
		// which that may yet give
		h.renewing != nil && r.Lease().End().Before(h.renewing.Lease().End())
	h.unlock()
	r.For(ctx)
	r.Send()
	if err = h.await(ctx, r); err == nil && shorter {
		err = h.shorten(ctx, r.Lease())
	}
	return r.Healed(), err
}

// extended takes the result of an extension by hand, which renewal then goes on with.
func (h *Handle) extended(r *protocol.Round, ttl time.Duration) {
	h.mu.Lock()
	defer h.unlock()
	if h.lookLocked() != nil {
		h.tooLateLocked(r)
		return
	}
	outcome := r.Outcome()
	if outcome == quorum.Won {
		h.renewal.TTL = min(h.renewal.Full, ttl)
	}
	h.settledLocked(r, outcome)
}

// tooLateLocked takes back what an extension has given to a lock that was lost meanwhile: the nodes
// may have run it between the end of the lease and that of the keys. A minimum hold stays.
func (h *Handle) tooLateLocked(r *protocol.Round) {
	switch left := h.minHoldLeftLocked(); {
	case h.err != ErrLost || r.Outcome() != quorum.Won:
	case left > 0:
		h.posted = append(h.posted, func() { h.claim.Retire(left).Send() })
	default:
		h.posted = append(h.posted, func() { h.claim.Abandon() })
	}
}

// settledLocked moves the lease after an extension, or ends the handle where the nodes deny the
// lock.
func (h *Handle) settledLocked(r *protocol.Round, outcome quorum.Outcome) {
	switch outcome {
	case quorum.Won:
		if began := r.Start().Sub(h.acquired); began > h.proved {
			h.proved = began
		}
		// Not after a later shortening, which may undo what the round proves.
		if next := r.Lease(); next.End().After(h.lease.End()) && !r.Overtaken() {
			h.lease = next
			h.claim.Prove(next)
		}
	case quorum.Refused:
		h.refusedLocked(r)
	}
	h.armLocked()
}

// shorten ends the lease earlier, after a round has shown that the lock is ours and that a quorum
// keeps it for so long.
func (h *Handle) shorten(ctx context.Context, proved lease.Lease) error {
	h.mu.Lock()
	switch {
	case h.lookLocked() != nil:
		defer h.unlock()
		return stateError("extend", h.claim.Resources(), h.err)
	case !proved.End().Before(h.lease.End()):
		defer h.unlock()
		return nil // another call, at the same time, has shortened it further
	}
	// First here and then on the nodes: however few of them hear of it, nobody trusts the lock for
	// longer than they keep it. The number is taken under the mutex, so that no extension that was
	// begun before can move the lease from now on.
	h.lease = proved
	h.claim.Prove(proved)
	r := h.claim.Shorten(max(proved.TTL, h.minHoldLeftLocked()), h.shortened)
	h.armLocked()
	h.unlock()
	r.For(ctx)
	r.Send()
	return h.await(ctx, r)
}

// shortened takes the result of a shortening: the lease has moved before.
func (h *Handle) shortened(r *protocol.Round) {
	h.mu.Lock()
	defer h.unlock()
	if r.Outcome() == quorum.Refused && h.lookLocked() == nil {
		h.refusedLocked(r)
	}
}

// await waits for an extension and returns what came of it.
func (h *Handle) await(ctx context.Context, r *protocol.Round) error {
	cause := r.Wait(ctx)
	err := h.cameOf(r, r.Outcome(), h.Err())
	if short, ok := err.(*QuorumError); ok && cause != nil {
		return interrupt(ctx, cause, short)
	}
	return err
}

// cameOf returns what came of an extension: of a handle that has ended, if ended is not nil.
func (h *Handle) cameOf(r *protocol.Round, outcome quorum.Outcome, ended error) error {
	switch {
	case outcome == quorum.Refused && ended == ErrLost:
		return h.l.lost(r)
	case ended != nil:
		return stateError("extend", h.claim.Resources(), ended)
	case outcome == quorum.Won:
		return nil
	}
	e := h.l.quorumError(r, h.claim.Resources())
	if outcome == quorum.Refused { // and yet it is held: see refusedLocked
		e.reason = ErrNoQuorum
	}
	return e
}
