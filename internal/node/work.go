package node

import (
	"context"
	"runtime"
	"time"
)

const (
	maxBatch  = 256          // calls in one round trip: what one stalled connection can hold up
	loneBatch = 64           // the same where there is no other node: see Node.Alone
	triesOut  = 16           // the same while it is in doubt that the master answers at all
	minSweep  = 2 * maxBatch // below that nobody looks for stale calls: the next batch finds them
)

// work sends what is queued until nothing is. A worker for a distant master first lets everybody
// run who has just been answered: what they ask for next shares the round trip, where it would
// wait for the next worker.
func (s *stream) work(t *trip, distant bool) {
	growStack()
	for {
		if distant {
			runtime.Gosched()
		}
		ctx, ok := s.take(t)
		if !ok {
			return
		}
		s.node.exchange(ctx, t)
		s.back(ctx, t)
		s.node.deliver(t.batch)
	}
}

// growStack makes the stack as large as a call of go-redis needs it, while there is nothing on it
// to copy. Growing step by step, deeper and deeper down, costs a worker that lives for one call
// about a twentieth of its time.
//
//go:noinline
func growStack() {
	var frame [12 << 10]byte
	runtime.KeepAlive(&frame)
}

// take moves the next calls from the queue into the trip's batch, and drops those that nobody waits
// for any more. If there are none, or the worker was stuck, it signs the worker off and returns
// false.
func (s *stream) take(t *trip) (context.Context, bool) {
	n := s.node
	n.mu.Lock()
	defer n.mu.Unlock()
	n.unloadLocked(t)
	now := time.Now()
	if t.stuck || n.tooLateLocked() || !s.loadLocked(t, now) {
		s.signOffLocked(t)
		return nil, false
	}
	s.beginLocked(t, now)
	s.callWorkerLocked() // for what did not fit in
	return n.tripContextLocked(t), true
}

// loadLocked fills the trip. It reports whether there was anything to send.
func (s *stream) loadLocked(t *trip, now time.Time) bool {
	t.patience = 0
	most := s.mostLocked()
	for c := s.queue.head; c != nil && len(t.batch) < most; c = s.queue.head {
		s.queue.remove(c)
		if c.expired(now) {
			s.node.returnUnsentLocked(c, ErrNotSent)
			continue
		}
		c.state, c.tried = sent, true
		t.batch = append(t.batch, c)
		t.patience = max(t.patience, c.patience())
	}
	for _, c := range t.batch {
		c.Batch = uint16(len(t.batch))
	}
	if s.queue.length == 0 {
		s.sweepAt = minSweep
	}
	s.node.loadedLocked(s, t)
	return len(t.batch) > 0
}

// mostLocked returns how many calls a round trip may carry. While a worker is stuck, and nothing
// that was sent later has been answered, a hung master should not collect more than it takes to
// find out. A late answer to what was sent before proves nothing: the master may have hung since.
func (s *stream) mostLocked() int {
	for _, t := range s.trips {
		if t.stuck && !s.health.asked.After(t.began) {
			return triesOut
		}
	}
	return s.batch
}

// back notes what a round trip has shown.
func (s *stream) back(ctx context.Context, t *trip) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	s.noteLocked(ctx, t)
	s.node.againLocked(ctx, s, t)
	s.finishLocked(t)
}

// expired reports whether the call has lost its purpose: for the first time, or again.
func (c *Call) expired(now time.Time) bool {
	return !c.SendBy.IsZero() && !now.Before(c.SendBy) ||
		c.failures > 0 && !c.RepeatUntil.IsZero() && !now.Before(c.RepeatUntil)
}

// sweepLocked drops the calls that nobody waits for any more. It runs each time the queue has
// doubled, so that a master that hangs holds no more than about twice what is still wanted of it.
func (s *stream) sweepLocked() {
	now := time.Now()
	s.queue.each(func(c *Call) {
		if c.expired(now) {
			s.queue.remove(c)
			s.node.returnUnsentLocked(c, ErrNotSent)
		}
	})
	s.sweepAt = max(minSweep, 2*s.queue.length)
}

// returns are calls that end unsent, on their way back to their Receivers.
type returns struct {
	calls     []*Call
	returning bool // a goroutine delivers them
}

// returnLocked gives a call that is in no queue back to its Receiver, from a goroutine of its own:
// whoever calls the Node's method may hold locks that the Receiver takes.
func (n *Node) returnLocked(c *Call, err error) {
	c.state, c.Reply, c.Err = sent, nil, err
	n.returns.calls = append(n.returns.calls, c)
	if !n.returns.returning {
		n.returns.returning = true
		n.helpers++
		go n.deliverReturns()
	}
}

// returnUnsentLocked is returnLocked for a call that is not sent any more. One that was tried ends
// with the error of its last try: the node may know of it.
func (n *Node) returnUnsentLocked(c *Call, err error) {
	if c.Err != nil {
		err = c.Err
	}
	n.returnLocked(c, err)
}

func (n *Node) deliverReturns() {
	for {
		n.mu.Lock()
		calls := n.returns.calls
		n.returns.calls = nil
		if len(calls) == 0 {
			n.returns.returning = false
			n.helpers--
			n.checkIdleLocked()
			n.mu.Unlock()
			return
		}
		n.mu.Unlock()
		n.deliver(calls)
	}
}

// deliver hands calls back to their Receivers, except those that are to be repeated.
func (n *Node) deliver(calls []*Call) {
	for _, c := range calls {
		if n.repeat(c) {
			continue
		}
		if cut, ok := c.Err.(*cutTry); ok { // which may still reach the node
			c.Err, c.Repeated = cut.before, true
		}
		unsent := c.Err == ErrClosed
		if c.Receiver.Receive(c) && !unsent {
			n.sendAgain(c)
			continue
		}
		// Only now: what the Receiver sent behind c has its place among c's followers.
		n.mu.Lock()
		n.endLocked(c)
		n.mu.Unlock()
	}
}

// sendAgain queues a call whose Receiver has more for it to do.
func (n *Node) sendAgain(c *Call) {
	n.findSlot(c)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.enqueueLocked(c)
}
