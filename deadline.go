package redlock

import (
	"sync"
	"time"
)

// deadlines ends the patience of calls that wait for nodes. Calls that begin at nearly the same time share a timer: where
// one is set for each, Go's scheduler has to wake a thread each time, to wait for that timer, and this costs a tenth of a
// call to a server on the same machine.
type deadlines struct {
	mu   sync.Mutex
	due  time.Time     // when over closes
	over chan struct{} // the channel that was given out last
}

// sharedPart is what part of his patience a call may lose to the one whose deadline it shares.
const sharedPart = 32

// after returns a channel that closes when d has passed since start, or up to a 32nd of d earlier.
func (ds *deadlines) after(start time.Time, d time.Duration) <-chan struct{} {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	due := start.Add(d)
	if lost := due.Sub(ds.due); lost < 0 || lost > d/sharedPart {
		over := make(chan struct{})
		time.AfterFunc(time.Until(due), func() { close(over) })
		ds.due, ds.over = due, over
	}
	return ds.over
}
