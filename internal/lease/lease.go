// Package lease does all arithmetic with time, on plain values: it reads no clock and starts
// nothing.
package lease

import "time"

// Lease is the time for which a quorum of nodes has confirmed a lock. All of it is local monotonic
// time: a node's clock is never compared with ours.
type Lease struct {
	Start time.Time     // before the request that was confirmed went out
	TTL   time.Duration // what the nodes gave
	Drift float64       // how much faster than ours their clocks may run, as a fraction
}

// rounding covers what Redis loses by counting milliseconds, on both sides.
const rounding = 2 * time.Millisecond

// Length returns how long after its start the lease can be trusted. The formula is that of the
// Redlock specification (https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/).
func (l Lease) Length() time.Duration {
	return l.TTL - time.Duration(float64(l.TTL)*l.Drift) - rounding
}

// End returns when the lease is over.
func (l Lease) End() time.Time { return l.Start.Add(l.Length()) }

// Holds reports whether the lease can still be trusted at the given time.
func (l Lease) Holds(now time.Time) bool { return now.Before(l.End()) }

// Milliseconds returns d as Redis counts it, rounded up: a key may outlive its lease, but never the
// other way round.
func Milliseconds(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}
