package node

import (
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	maxRepeats = 8192 // calls waiting to be repeated: what an outage can pile up

	firstPause = 50 * time.Millisecond // before the first repetition; doubles
	maxPause   = time.Second
)

// repeats has the calls that wait for their next try, and their Err.
type repeats struct {
	calls []*Call
	pause *time.Timer // until then; nil while there are none
}

// repeat puts a failed call aside for another try, if it wants one and may have it.
func (n *Node) repeat(c *Call) bool {
	if c.Err == nil || c.RepeatUntil.IsZero() || c.Err == ErrNotSent || c.Err == ErrClosed {
		return false
	}
	if c.failures == 0 || c.Moving(c.Err) { // before the next try can go out and overwrite c.Err
		c.Repeating = true
		again := c.Receiver.Receive(c)
		c.Repeating = false
		if again {
			n.sendAgain(c)
			return true
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.phase == closed || len(n.repeats.calls) >= maxRepeats || c.expired(time.Now()) {
		return false
	}
	c.spare = n.phase == late
	c.Repeated = c.Repeated || !answered(c.Err)
	c.state = parked
	c.failures++
	n.letOthersGoLocked(c)
	n.repeats.calls = append(n.repeats.calls, c)
	if n.repeats.pause == nil {
		n.helpers++
		n.repeats.pause = time.AfterFunc(n.pauseAfterLocked(int(c.failures)), n.resume)
	}
	return true
}

// Moving reports whether an error is because a Redis Cluster moves the slot of several keys of the
// call: it may be sent anew with one of them. It is ASK where go-redis has been sent to and fro
// until it gave up.
func (c *Call) Moving(err error) bool {
	return err != nil && len(c.Keys) > 1 && (redis.HasErrorPrefix(err, "TRYAGAIN") ||
		redis.HasErrorPrefix(err, "ASK"))
}

// pauseAfterLocked returns how long to wait after so many failures. Close has no time to lose.
func (n *Node) pauseAfterLocked(failures int) time.Duration {
	if n.phase != open {
		return firstPause
	}
	return min(maxPause, firstPause<<min(failures-1, 10))
}

// resume is what the timer does.
func (n *Node) resume() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.helpers--
	n.resumeLocked()
	n.checkIdleLocked()
}

// resumeLocked queues everything that waits for another try: what one call shows of the node holds
// for all of them.
func (n *Node) resumeLocked() {
	for _, c := range n.takeRepeatsLocked() {
		n.enqueueLocked(c)
	}
}

// takeRepeatsLocked empties the list of calls that wait for another try.
func (n *Node) takeRepeatsLocked() []*Call {
	calls := n.repeats.calls
	if n.repeats.pause != nil && n.repeats.pause.Stop() {
		n.helpers--
	}
	n.repeats = repeats{}
	return calls
}
