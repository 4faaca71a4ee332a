package redlock

import (
	"time"

	"github.com/rediskit/redlock/internal/protocol"
	"github.com/rediskit/redlock/internal/quorum"
)

// tick is what the handle's alarm rings: it sees the end of the lease, gives up a renewal that
// takes too long, and begins the one that is due. Between two ticks nothing runs.
func (h *Handle) tick() {
	h.mu.Lock()
	defer h.unlock()
	h.ringing = true
	over := h.lookLocked() != nil
	h.ringing = false
	if over {
		return
	}
	now := time.Now()
	if r := h.renewing; r != nil {
		if !now.Before(r.Deadline()) {
			h.posted = append(h.posted, func() { h.giveUp(r) })
			return
		}
	} else if !now.Before(h.renewal.Due(h.lease)) && h.renewal.Useful(h.lease, now) {
		h.renewing = h.claim.Renew(h.renewal.Next(now), h.renewed)
		h.posted = append(h.posted, h.renewing.Send)
	}
	h.armLocked()
}

// giveUp ends a renewal that takes too long, unless an answer has given it more time meanwhile.
func (h *Handle) giveUp(r *protocol.Round) {
	r.Expire()
	h.mu.Lock()
	defer h.unlock()
	h.armLocked()
}

// renewed takes the result of a renewal. One that had failed may be won yet, by answers that come
// late: then it is called again.
func (h *Handle) renewed(r *protocol.Round) {
	h.mu.Lock()
	defer h.unlock()
	first := h.renewing == r
	if first {
		h.renewing = nil
	}
	// of one moment: a late answer may yet win it
	outcome, left := r.Outcome(), time.Until(h.lease.End())
	if h.lookLocked() != nil {
		h.tooLateLocked(r)
		if h.err == ErrLost && first { // else it was told that it failed, and proves nothing now
			h.renewalDoneLocked(r, outcome, 0, h.failures)
		}
		return
	}
	failures := h.failures
	if outcome == quorum.Unreachable {
		failures++
		h.renewal.Failed, h.failures = time.Now(), failures
	} else {
		h.renewal.Failed, h.failures = time.Time{}, 0
	}
	h.settledLocked(r, outcome)
	h.renewalDoneLocked(r, outcome, left, failures)
}

// armLocked has tick called when whatever comes next is due.
func (h *Handle) armLocked() {
	if h.err != nil || !h.watching {
		return
	}
	next := h.renewal.Wake(h.lease, time.Now())
	if h.renewing != nil {
		next = h.lease.End()
		// Once it is settled, its deadline is nothing to wait for: renewed is on its way.
		if deadline := h.renewing.Deadline(); deadline.Before(next) &&
			h.renewing.Outcome() == quorum.Open {
			next = deadline
		}
	}
	if !h.l.schedule.Set(&h.alarm, next) {
		h.watching = false
		h.endLocked(CauseClosed, "")
	}
}
