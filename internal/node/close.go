package node

import (
	"context"
	"fmt"
	"time"
)

// phase tells how far Close has got.
type phase uint8

const (
	open    phase = iota
	closing       // Close waits for all calls; those that fail are repeated at short intervals
	late          // its ctx has ended: it waits for calls in flight, and what can be sent meanwhile
	closed        // it waits no longer: nothing is taken on, sent or repeated any more
)

// Close waits until every call is done. When ctx ends it keeps go-redis from trying again, and
// waits for the time of grace for the calls in flight. For as long as it waits, calls that are
// queued or parked behind others are sent as soon as they can be, and failed calls are repeated. It
// gives up earlier, after ctx, if the node fails at once and nothing is in flight.
//
// It returns an error if calls are still in flight then: they end when go-redis gives them up.
func (n *Node) Close(ctx context.Context, grace time.Duration) error {
	idle := n.beginClosing()
	if within(idle, ctx.Done()) {
		return nil
	}
	n.hurry()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	if within(idle, timer.C) {
		return nil
	}
	<-n.giveUp()
	return n.leftOver()
}

// within waits for done or end, and reports whether it is done.
func within[T any](done <-chan struct{}, end <-chan T) bool {
	select {
	case <-done:
		return true
	case <-end:
	}
	select {
	case <-done: // both are
		return true
	default:
		return false
	}
}

// beginClosing returns a channel that closes when nothing is left to do.
func (n *Node) beginClosing() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.phase = max(n.phase, closing)
	if n.idle == nil {
		n.idle, n.rest = make(chan struct{}), make(chan struct{})
	}
	n.resumeLocked() // what waits for its next try has waited long enough
	n.checkIdleLocked()
	return n.idle
}

// hurry ends go-redis's own repetitions of what is in flight. What is sent from now on has another
// context.
func (n *Node) hurry() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.phase >= late {
		return
	}
	n.phase, n.hurried = late, time.Now()
	n.cancel()
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.checkIdleLocked()
}

// giveUp ends what is not sent. It returns a channel that closes when the Receivers know.
func (n *Node) giveUp() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.giveUpLocked()
	n.checkIdleLocked()
	return n.rest
}

func (n *Node) giveUpLocked() {
	n.phase = closed // first: what follows the calls that end here is not queued any more
	n.cancel()
	for _, c := range n.takeRepeatsLocked() {
		n.returnLocked(c, c.Err)
	}
	for _, s := range n.streams {
		s.stopAlarmLocked()
		for c := s.queue.head; c != nil; c = s.queue.head {
			s.queue.remove(c)
			n.returnUnsentLocked(c, ErrClosed)
		}
		for _, t := range s.trips {
			for _, c := range t.batch {
				n.returnFollowersLocked(c)
			}
		}
	}
}

// returnFollowersLocked ends the calls that wait for one in flight. Those behind them end with
// them.
func (n *Node) returnFollowersLocked(c *Call) {
	for _, f := range c.followers {
		if f.state == parked && f.waits > 0 {
			n.returnLocked(f, ErrClosed)
		}
	}
}

// checkIdleLocked tells Close when there is nothing left to do.
func (n *Node) checkIdleLocked() {
	if n.phase == open {
		return
	}
	if n.phase == late && !n.waitsLocked() {
		n.giveUpLocked()
	}
	if n.unended+n.workers == 0 {
		for _, s := range n.streams {
			s.stopAlarmLocked()
		}
	}
	if n.helpers > 0 {
		return
	}
	if n.unended+n.workers == 0 {
		n.phase = closed
		n.cancel() // of probes
		if n.probes == 0 {
			closeOnce(n.idle)
		}
	}
	if n.phase == closed && n.workers == n.tripsLocked() {
		closeOnce(n.rest)
	}
}

func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// tripsLocked returns how many workers are inside go-redis.
func (n *Node) tripsLocked() (trips int) {
	for _, s := range n.streams {
		trips += len(s.trips)
	}
	return trips
}

// leftOver tells what is still inside go-redis.
func (n *Node) leftOver() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	calls := 0
	for _, s := range n.streams {
		for _, t := range s.trips {
			calls += len(t.batch)
		}
	}
	switch {
	case calls > 0:
		return fmt.Errorf("%d calls are still with the Redis client, which has not given them up",
			calls)
	case n.tripsLocked() > 0:
		return fmt.Errorf(
			"the Redis client has not given up looking for the masters of the cluster")
	case n.probes > 0:
		return fmt.Errorf("the Redis client has not given up a connection that it was making")
	default:
		return nil
	}
}
