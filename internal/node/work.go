package node

import (
	"time"

	"github.com/redis/go-redis/v9"
)

// minSweep is the queue's length below which nobody looks for stale calls: the next batch finds them anyway.
const minSweep = 2 * maxBatch

// work sends what is queued until nothing is.
func (n *Node) work() {
	batch := make([]*Call, 0, 8)
	for {
		var stale []*Call
		batch, stale = n.take(batch[:0])
		if len(batch) == 0 && len(stale) == 0 {
			return
		}
		n.deliver(stale)
		n.exchange(batch)
		n.deliver(batch)
	}
}

// take moves the next calls from the queue into batch, and apart from them those that nobody waits for any more. When it
// returns neither, the worker has been signed off.
func (n *Node) take(batch []*Call) (_, stale []*Call) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	for c := n.queue.head; c != nil && len(batch) < maxBatch; c = n.queue.head {
		n.queue.remove(c)
		c.state = sent
		if c.expired(now) {
			stale = append(stale, c)
		} else {
			batch = append(batch, c)
		}
	}
	if len(batch) == 0 && len(stale) == 0 {
		n.workers--
		n.checkIdle()
	}
	return batch, stale
}

// expired reports whether the call has lost its purpose, and marks it so.
func (c *Call) expired(now time.Time) bool {
	if c.SendBy.IsZero() || now.Before(c.SendBy) {
		return false
	}
	c.Err = ErrNotSent
	return true
}

// sweep drops the calls that nobody waits for any more. It runs each time the queue has doubled, so that a node that hangs
// holds no more than about twice what is still wanted of it. Called with the mutex held.
func (n *Node) sweep() {
	now := time.Now()
	var stale []*Call
	for c := n.queue.head; c != nil; {
		next := c.next
		if c.expired(now) {
			n.queue.remove(c)
			c.state = sent
			stale = append(stale, c)
		}
		c = next
	}
	n.sweepAt = max(minSweep, 2*n.queue.length)
	if len(stale) > 0 {
		n.deliverSoon(stale)
	}
}

// deliverSoon delivers calls from a goroutine of their own: the caller holds the mutex, and who called it may hold locks
// that Receivers take. Called with the mutex held.
func (n *Node) deliverSoon(calls []*Call) {
	n.helpers++
	go func() {
		n.deliver(calls)
		n.mu.Lock()
		defer n.mu.Unlock()
		n.helpers--
		n.checkIdle()
	}()
}

// exchange sends the calls and waits for their replies. What the node's script cache does not know is sent again as text;
// the calls of one batch belong to different owners, so their order does not matter.
func (n *Node) exchange(batch []*Call) {
	if len(batch) == 0 {
		return
	}
	n.roundTrip(batch, false)
	var unknown []*Call
	for _, c := range batch {
		if redis.HasErrorPrefix(c.Err, "NOSCRIPT") {
			unknown = append(unknown, c)
		}
	}
	if len(unknown) > 0 {
		n.roundTrip(unknown, true)
	}
}

// roundTrip runs the calls in one pipeline, by their scripts' digests or by their text.
func (n *Node) roundTrip(batch []*Call, text bool) {
	if len(batch) == 1 {
		c := batch[0]
		c.Reply, c.Err = c.command(n, n.client, text).Result()
		return
	}
	pipe := n.client.Pipeline()
	cmds := make([]*redis.Cmd, len(batch))
	for i, c := range batch {
		cmds[i] = c.command(n, pipe, text)
	}
	_, _ = pipe.Exec(n.ctx) // each command has its own error
	for i, c := range batch {
		c.Reply, c.Err = cmds[i].Result()
	}
}

func (c *Call) command(n *Node, to redis.Scripter, text bool) *redis.Cmd {
	if text {
		return to.Eval(n.ctx, c.Script.source, c.Keys, c.Args...)
	}
	return to.EvalSha(n.ctx, c.Script.digest, c.Keys, c.Args...)
}

// deliver hands calls back to their Receivers, except those that are to be repeated.
func (n *Node) deliver(calls []*Call) {
	for _, c := range calls {
		if n.repeat(c) {
			continue
		}
		if c.Receiver.Receive(c) && n.sendAgain(c) {
			continue
		}
		n.mu.Lock()
		n.end(c)
		n.mu.Unlock()
	}
}

// sendAgain queues a call whose Receiver has more for it to do; on a closed node that ends at once.
func (n *Node) sendAgain(c *Call) bool {
	n.mu.Lock()
	if !n.closed {
		n.enqueue(c)
		n.mu.Unlock()
		return true
	}
	n.mu.Unlock()
	c.Reply, c.Err = nil, ErrClosed
	c.Receiver.Receive(c)
	return false
}

// repeat puts a failed call aside for another try, if it wants one.
func (n *Node) repeat(c *Call) bool {
	if c.Err == nil || c.RepeatUntil.IsZero() {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing || len(n.repeats) >= maxRepeats || time.Now().After(c.RepeatUntil) {
		return false
	}
	c.state = parked
	c.failures++
	n.repeats = append(n.repeats, c)
	if n.pause == nil {
		n.pause = time.AfterFunc(pauseAfter(c.failures), n.resume)
	}
	return true
}

// pauseAfter returns how long to wait after so many failures.
func pauseAfter(failures int) time.Duration {
	return min(maxPause, firstPause<<min(failures-1, 10))
}

// resume queues everything that waits for another try: what one call shows of the node holds for all of them.
func (n *Node) resume() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.takeRepeats() {
		n.enqueue(c)
	}
}

// takeRepeats empties the list of calls that wait for another try. Called with the mutex held.
func (n *Node) takeRepeats() []*Call {
	repeats := n.repeats
	n.repeats = nil
	if n.pause != nil {
		n.pause.Stop()
		n.pause = nil
	}
	return repeats
}
