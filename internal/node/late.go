package node

import (
	"context"
	"errors"
	"slices"
	"time"
)

// What is different while a late Close waits: its ctx has ended, its time of grace has not.

// tripContextLocked returns the context of a round trip that begins. Late ones can be cancelled one
// by one: when they take long, go-redis is not to try them again.
func (n *Node) tripContextLocked(t *trip) context.Context {
	if n.phase != late {
		return n.ctx
	}
	ctx, cancel := context.WithCancel(n.ctx)
	t.cancel = cancel
	return ctx
}

// renewed returns the context for the rest of a round trip: hurry may have ended the first one.
func (n *Node) renewed(ctx context.Context, t *trip) context.Context {
	if ctx.Err() == nil {
		return ctx
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.tripContextLocked(t)
}

// loadedLocked notes that a worker has calls to send, and whether Close waits for them. A late one
// does not wait for repetitions, which would keep each other alive, nor for a master that fails at
// once.
func (n *Node) loadedLocked(s *stream, t *trip) {
	if n.phase == late {
		t.counts = !s.failsAtOnceLocked() && slices.ContainsFunc(t.batch, isWanted)
	} else {
		t.counts = len(t.batch) > 0
	}
	if t.counts {
		n.busy++
	}
}

// unloadLocked notes that a worker has delivered what it had, and with that has queued what was
// parked behind it.
func (n *Node) unloadLocked(t *trip) {
	if t.counts {
		n.busy--
	}
	clear(t.batch) // the calls are their Receivers' now
	t.batch, t.counts = t.batch[:0], false
	if n.phase == late {
		n.checkIdleLocked()
	}
}

// promptly is how soon a call comes back that hurry has cut short: from a pause of go-redis's, or
// before it got a connection. One that comes later was not answered in time.
const promptly = 100 * time.Millisecond

// againLocked queues the calls of a round trip again that hurry has cut short, unless their master
// fails at once: the others might have been answered.
func (n *Node) againLocked(ctx context.Context, s *stream, t *trip) {
	cut := n.phase == late && ctx.Err() != nil && t.cancel == nil
	if !cut || s.failsAtOnceLocked() || time.Since(n.hurried) > promptly {
		return
	}
	t.batch = slices.DeleteFunc(t.batch, func(c *Call) bool {
		// Not past its time: it would end as one that was never sent.
		again := errors.Is(c.Err, context.Canceled) && !c.expired(time.Now())
		if again {
			c.Repeated = true
			n.enqueueLocked(c)
		}
		return again
	})
}

// lastTrip is how long after hurry a round trip may begin. One that begins later, on a connection
// that hangs, would not be over within the time of grace that a Locker gives.
const lastTrip = 2500 * time.Millisecond

// tooLateLocked reports whether nothing is sent any more.
func (n *Node) tooLateLocked() bool {
	return n.phase == late && time.Since(n.hurried) > lastTrip
}

func isWanted(c *Call) bool { return !c.spare }

// waitsLocked reports whether a late Close has something to wait for.
func (n *Node) waitsLocked() bool {
	if n.busy > 0 || n.returns.returning {
		return true
	}
	if n.tooLateLocked() {
		return false
	}
	return slices.ContainsFunc(n.streams, func(s *stream) bool {
		return !s.failsAtOnceLocked() && s.queue.contains(isWanted)
	})
}
