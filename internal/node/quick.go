package node

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// A call that a worker sends costs two changes of goroutine, which is as much as the whole round trip to a Redis on the
// same machine or in the same rack. Where there is only one node, its caller has nothing to do but wait, and may as well send
// the call himself: if nothing else is under way, if the node has just shown that it answers at once, and if the client can
// be held to a deadline (ContextTimeoutEnabled; a stock client cannot, and a read that hangs would keep the caller).
//
// His deadline is short. If it passes, because the node hangs or the server was busy for a moment, the call is left to a
// worker, which repeats it, and the caller waits as usual.
const (
	quickTimeout = 25 * time.Millisecond // what a node that has begun to hang costs the first caller, about twice
	quickTrip    = time.Millisecond      // round trips up to here are worth it
	quickAge     = time.Second           // for how long an answer vouches for the next
)

// quick tells when callers may send their calls themselves. The zero value never does.
type quick struct {
	able  bool      // the client heeds deadlines
	until time.Time // when the last quick answer ceases to vouch for the node

	ctx     context.Context // shared by the calls of a quickTimeout
	renewAt time.Time
	cancel  context.CancelFunc
}

// newQuick tells whether client is a plain go-redis client that heeds deadlines. Only that: what wraps one may not.
func newQuick(client Client) quick {
	c, ok := client.(*redis.Client)
	return quick{able: ok && c.Options().ContextTimeoutEnabled}
}

// Reserve is Send for a caller who would do nothing but wait, for that long. If it returns true, he must call Run next; else
// the call was not taken on.
func (n *Node) Reserve(c *Call, patience time.Duration) bool {
	if !n.quick.able || patience < 4*quickTimeout {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if n.closing || n.workers > 0 || n.unended > 0 || !now.Before(n.quick.until) {
		return false
	}
	if now.After(n.quick.renewAt) { // a timer for each call would cost more than the rest
		n.quick.release()
		n.quick.renewAt = now.Add(quickTimeout)
		n.quick.ctx, n.quick.cancel = context.WithTimeout(n.ctx, 2*quickTimeout)
	}
	n.workers++
	n.unended++
	n.pace.start(now, n.workers)
	c.state, c.tried = sent, true
	return true
}

// Run sends a reserved call on the caller's goroutine. When it returns, the call is done or a worker has it.
func (n *Node) Run(c *Call) {
	batch := [1]*Call{c}
	ctx := n.quick.ctx // no one but us replaces it while workers > 0
	n.exchange(ctx, batch[:])

	var answered redis.Error
	if c.Err == nil || errors.As(c.Err, &answered) {
		n.deliver(batch[:])
	} else {
		c.Repeated = true
		n.mu.Lock()
		n.quick.until = time.Time{}
		n.queue.push(c)
		n.mu.Unlock()
	}
	n.handOver()
}

// handOver lets a worker take the place of a caller who is done.
func (n *Node) handOver() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.queue.length > 0 {
		go n.work()
		return
	}
	n.workers--
	n.checkIdle()
}

// vouch notes how long a round trip took. Called with the mutex held.
func (q *quick) vouch(started, now time.Time) {
	if now.Sub(started) <= quickTrip {
		q.until = now.Add(quickAge)
	}
}

// release frees the context's timer.
func (q *quick) release() {
	if q.cancel != nil {
		q.cancel()
	}
}
