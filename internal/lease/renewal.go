package lease

import "time"

// Renewal says when a lease is renewed, and for how long.
type Renewal struct {
	On     bool
	Full   time.Duration // the TTL of the lock
	TTL    time.Duration // what a renewal asks for: less than Full after an extension to less
	Until  time.Time     // no renewal carries the lease past this; zero: no bound
	Failed time.Time     // when the latest renewal failed; zero: it did not
}

// Due returns when the next renewal should begin: after a third of the TTL, or after half of the
// lease where a large drift makes that sooner. After an extension to more, that is when as much of
// the lease is left as it usually is then. After a failure it is a little later.
func (r Renewal) Due(l Lease) time.Time {
	usual := Lease{TTL: r.TTL, Drift: l.Drift}.Length()
	due := l.End().Add(min(r.TTL-r.TTL*2/3, usual/2) - usual)
	if r.Failed.IsZero() {
		return due
	}
	again := r.Failed.Add(min(max(r.TTL/30, 5*time.Millisecond), time.Second))
	return later(due, again)
}

// Next returns the TTL that a renewal at the given time asks for: less than usual close to Until.
func (r Renewal) Next(now time.Time) time.Duration {
	if r.Until.IsZero() {
		return r.TTL
	}
	return min(r.TTL, r.Until.Sub(now))
}

// Useful reports whether a renewal at the given time would carry the lease further.
func (r Renewal) Useful(l Lease, now time.Time) bool {
	if !r.On || !r.Until.IsZero() && !l.Start.Add(l.TTL).Before(r.Until) {
		return false
	}
	next := Lease{Start: now, TTL: r.Next(now), Drift: l.Drift}
	return next.End().After(l.End())
}

// Wake returns when a renewal that would be useful is due, seen from now, or the end of the lease
// where none would be.
func (r Renewal) Wake(l Lease, now time.Time) time.Time {
	due, end := r.Due(l), l.End()
	if due.Before(end) && r.Useful(l, later(due, now)) {
		return due
	}
	return end
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
