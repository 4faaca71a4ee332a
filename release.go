package redlock

import (
	"context"
	"time"

	"github.com/rediskit/redlock/internal/protocol"
	"github.com/rediskit/redlock/internal/quorum"
)

// Release gives the lock up: the handle ends at once, and its contexts with it; then the keys are
// deleted where they hold our token, and nowhere else. It is idempotent: the first call decides,
// later ones return its result. It is safe to defer: a cancelled ctx does not stop it. It returns
// as soon as a quorum of nodes has confirmed, and waits no longer than the node timeout
// ([WithNodeTimeout]); what other nodes have is deleted in the background.
//
// Before the end of [WithMinHold] the keys are not deleted, but set to expire then.
//
// It returns nil when nothing of the lock is left on a quorum; [ErrLost] when the lock had been
// lost, or its validity was over, or another owner has it, or a lock of several resources is partly
// gone; [ErrClosed] on a closed Locker, where the keys expire by themselves; and a [QuorumError]
// that matches [ErrNoQuorum] when too few nodes answer: then too the deletion goes on in the
// background until the keys have expired.
func (h *Handle) Release(ctx context.Context) error {
	// Not even the values of ctx are of use: what is sent goes out together with what others send.
	closed := h.l.enter(context.Background(), "release", h.claim.Resources())
	if closed == nil {
		defer h.l.leave()
		// The contexts end here, before the first byte goes out: the next owner must find none
		// alive.
		h.endByHand()
	} else {
		h.Err() // ends it
	}
	h.tellUntold() // out of every Do: an observer may call Release
	h.release.Do(func() {
		if h.account != nil {
			defer h.releaseDone(ctx, time.Now())
		}
		if closed != nil || h.Err() == ErrClosed {
			h.released = stateError("release", h.claim.Resources(), ErrClosed)
		} else {
			h.released = h.letGo(ctx)
		}
	})
	h.tellUntold()
	h.mu.Lock()
	h.contexts = nil
	h.mu.Unlock()
	return h.released
}

// endByHand ends the handle, unless it has ended, and returns when all its contexts have: each
// Release ends them itself. Waiting for another one that does would be waiting for oneself where an
// observer, told of that very end, calls Release.
func (h *Handle) endByHand() {
	h.mu.Lock()
	defer h.unlock()
	first := !h.given
	if h.given = true; first {
		h.lost = h.lookLocked() != nil
		h.warnLocked()
	}
	if first && !h.lost {
		h.endLocked(CauseReleased, "")
	} else {
		h.cancelLocked()
	}
}

// cancelLocked has the contexts cancelled: the handle has ended.
func (h *Handle) cancelLocked() {
	err := h.err
	for _, ctx := range h.contexts {
		h.posted = append(h.posted, func() { ctx.cancel(err) })
	}
}

// letGo takes the lock of a handle that has ended off the nodes.
func (h *Handle) letGo(ctx context.Context) error {
	r := h.farewell()
	r.For(ctx)
	r.Send()
	r.Wait(context.Background())
	switch outcome := r.Outcome(); {
	case h.lost:
		return stateError("release", h.claim.Resources(), ErrLost)
	case outcome == quorum.Won:
		return nil
	case outcome == quorum.Refused:
		return h.l.lost(r)
	default:
		return h.l.quorumError(r, h.claim.Resources())
	}
}

// farewell prepares what takes the lock off the nodes, now or when the minimum hold is over.
func (h *Handle) farewell() *protocol.Round {
	h.mu.Lock()
	line, left := h.line, h.minHoldLeftLocked()
	h.mu.Unlock()
	if left > 0 { // of a lost lock too: its lease may end a little earlier
		if line != nil {
			line.Lost() // whoever is next here finds out by itself when the keys expire
		}
		if place := h.claim.Place(); place != nil {
			place.Retire(h.l.nodes, h.claim.Keys())
		}
		return h.claim.Retire(left)
	}
	if line == nil {
		return h.claim.Release(nil)
	}
	return h.claim.Release(line.Release())
}

// holdNoLonger takes the minimum hold back.
func (h *Handle) holdNoLonger() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.minHold = 0
}

// minHoldLeftLocked returns for how long the nodes must go on to keep the keys.
func (h *Handle) minHoldLeftLocked() time.Duration { return time.Until(h.acquired.Add(h.minHold)) }
