package redlock

import (
	"log/slog"
	"time"

	"github.com/rediskit/redlock/internal/quorum"
)

// renewal keeps a lease alive. Between two renewals nothing runs.
type renewal struct {
	on      bool
	full    time.Duration // the TTL of the lock
	ttl     time.Duration // what a renewal asks for: less than full after an Extend to less
	maxHold time.Duration // 0: no bound
	until   time.Time     // the end of maxHold; zero: no bound
	round   *round        // the one under way, or nil
	failed  time.Time     // when the last one failed; zero: it did not
}

// startRenewal begins to renew the first lease. Called with the mutex held.
func (h *Handle) startRenewal() {
	if h.renewal.maxHold > 0 {
		h.renewal.until = h.claim.lease.start.Add(h.renewal.maxHold)
	}
	h.watch()
}

// due returns when the next renewal should begin: when a third of the TTL has passed, or half of the lease where a great drift
// makes that sooner, and after a failure a little later. After an Extend to more it is when as much is left of the lease as
// then.
func (r *renewal) due(l lease) time.Time {
	usual := lease{ttl: r.ttl, drift: l.drift}.length()
	due := l.end().Add(min(r.ttl-r.ttl*2/3, usual/2) - usual)
	if r.failed.IsZero() {
		return due
	}
	return later(due, r.failed.Add(min(max(r.ttl/30, 5*time.Millisecond), time.Second)))
}

// next returns the TTL that a renewal at the given time asks for: less than usual where the longest hold ends sooner.
func (r *renewal) next(now time.Time) time.Duration {
	if r.until.IsZero() {
		return r.ttl
	}
	return min(r.ttl, r.until.Sub(now))
}

// useful reports whether a renewal at the given time would carry the lease further.
func (r *renewal) useful(l lease, now time.Time) bool {
	if !r.on || !r.until.IsZero() && !l.start.Add(l.ttl).Before(r.until) {
		return false
	}
	next := lease{start: now, ttl: r.next(now), drift: l.drift}
	return next.end().After(l.end())
}

// tick is what the Locker's schedule does with the handle: it sees the end of the lease, gives up a renewal that takes too long, and begins
// the one that is due.
func (h *Handle) tick() {
	c := &h.claim
	c.mu.Lock()
	defer c.unlock()
	if h.look() != nil {
		return
	}
	now := time.Now()
	if r := h.renewal.round; r != nil && !now.Before(r.start.Add(r.timeout)) {
		r.expire()
	}
	if h.renewal.round == nil && !now.Before(h.renewal.due(c.lease)) && h.renewal.useful(c.lease, now) {
		h.renew(now)
	}
	h.arm()
}

// renew extends the lease without anybody waiting for it. Called with the mutex held.
func (h *Handle) renew(now time.Time) {
	c := &h.claim
	r := h.beginExtend(h.renewal.next(now), false, func(r *round) {
		h.renewal.round, h.renewal.failed = nil, time.Time{}
		if r.outcome != quorum.Unreachable {
			return
		}
		h.renewal.failed = time.Now()
		c.l.log.add(slog.LevelWarn, "renewal failed and is tried again",
			"resources", c.resources, "left", time.Until(c.lease.end()), "error", r.shortfallLocked())
	})
	if r.outcome == quorum.Open {
		h.renewal.round = r
	}
}

// arm has tick called when whatever comes next is due. Called with the mutex held.
func (h *Handle) arm() {
	if h.err != nil || !h.watching {
		return
	}
	now := time.Now()
	next := h.claim.lease.end()
	var event time.Time
	if r := h.renewal.round; r != nil {
		event = r.start.Add(r.timeout)
	} else if event = h.renewal.due(h.claim.lease); !h.renewal.useful(h.claim.lease, later(event, now)) {
		event = next
	}
	if event.Before(next) {
		next = event
	}
	if !h.claim.l.schedule.set(h, next) {
		h.watching = false
		h.end(ErrClosed)
	}
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
