package redlock

import (
	"slices"
	"sync"
	"time"
)

// deadlines ends the patience of calls that wait for nodes. Calls that begin at nearly the same time share a timer: where
// one is set for each, Go's scheduler has to wake a thread each time, to wait for that timer, and this costs a tenth of a
// call to a server on the same machine.
type deadlines struct {
	mu      sync.Mutex
	pending []deadline // in the order in which they are due
}

type deadline struct {
	due  time.Time
	over chan struct{} // closed then
}

// sharedPart is what part of his patience a call may lose to the one whose deadline it shares.
const sharedPart = 32

// after returns a channel that closes when d has passed since start, or up to a 32nd of d earlier.
func (ds *deadlines) after(start time.Time, d time.Duration) <-chan struct{} {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	due := start.Add(d)
	i := len(ds.pending) // behind those that are not later
	for i > 0 && ds.pending[i-1].due.After(due) {
		i--
	}
	if i > 0 && due.Sub(ds.pending[i-1].due) <= d/sharedPart {
		return ds.pending[i-1].over
	}
	over := make(chan struct{})
	ds.pending = slices.Insert(ds.pending, i, deadline{due, over})
	time.AfterFunc(time.Until(due), ds.expire)
	return over
}

// expire closes the channels that are due.
func (ds *deadlines) expire() {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	now, n := time.Now(), 0
	for n < len(ds.pending) && !ds.pending[n].due.After(now) {
		close(ds.pending[n].over)
		n++
	}
	ds.pending = slices.Delete(ds.pending, 0, n)
}
