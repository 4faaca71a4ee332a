// Package timers serves many waits with few timers.
package timers

import (
	"slices"
	"sync"
	"time"
)

// Deadlines ends the patience of calls that wait for nodes. Calls that begin at nearly the same
// time share a timer: if each had its own, Go's scheduler would wake a thread for each, to wait for
// that timer, and this costs a tenth of a call to a server on the same machine. The zero value is
// ready.
type Deadlines struct {
	mu      sync.Mutex
	pending []deadline // in the order in which they are due
}

type deadline struct {
	due  time.Time
	over chan struct{} // closed then
}

// sharing is the fraction by which a call may time out early, to share a timer.
const sharing = 32

// After returns a channel that closes when d has passed since start, or up to a 32nd of d earlier.
func (ds *Deadlines) After(start time.Time, d time.Duration) <-chan struct{} {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	due := start.Add(d)
	i := len(ds.pending) // behind those that are not later
	for i > 0 && ds.pending[i-1].due.After(due) {
		i--
	}
	if i > 0 && due.Sub(ds.pending[i-1].due) <= d/sharing {
		return ds.pending[i-1].over
	}
	over := make(chan struct{})
	ds.pending = slices.Insert(ds.pending, i, deadline{due, over})
	time.AfterFunc(time.Until(due), ds.expire)
	return over
}

// expire closes the channels that are due.
func (ds *Deadlines) expire() {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	now, n := time.Now(), 0
	for n < len(ds.pending) && !ds.pending[n].due.After(now) {
		close(ds.pending[n].over)
		n++
	}
	ds.pending = slices.Delete(ds.pending, 0, n)
}
