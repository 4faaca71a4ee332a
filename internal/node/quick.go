package node

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// A call that a worker sends costs two changes of goroutine, which is a good part of the round trip to a Redis on the same
// machine or in the same rack. Where there is only one node, its caller has nothing to do but wait, and may as well send
// the call himself: if nothing else is under way, if the node has just shown that it answers at once, and if the client can
// be held to a deadline (ContextTimeoutEnabled; a stock client cannot, and a read that hangs would keep the caller).
//
// His deadline is short. If it passes, because the node hangs or the server was busy for a moment, the call is left to a
// worker, which repeats it, and the caller waits as usual. A hook that itself takes its time has the caller wait for it,
// once: the next calls are a worker's.
//
// A copy of a stock client with short timeouts (redis.Client.WithTimeout) would do without that option, but such copies have
// lost the hooks of the original in recent versions (v9.23 is one): tracing would not see the calls.
const (
	quickTimeout = 25 * time.Millisecond // what a node that has begun to hang costs the first caller, about twice
	quickTrip    = time.Millisecond      // round trips up to here are worth it
	quickAge     = time.Second           // for how long an answer vouches for the next
)

// quick tells when callers may send their calls themselves. The zero value never does.
type quick struct {
	able  bool      // the client heeds deadlines
	until time.Time // when the last quick answer ceases to vouch for the node

	ctx     context.Context // shared by the calls of a quickTimeout: a timer for each would cost more than the rest
	cancel  context.CancelFunc
	renewAt time.Time
}

// newQuick tells whether client is a go-redis client to a single server that heeds deadlines. What wraps one may not, and
// neither does the dialling of TLS (in older versions of go-redis) and of Sentinel's clients, which ask the sentinels first.
func newQuick(client Client) quick {
	c, ok := client.(*redis.Client)
	if !ok {
		return quick{}
	}
	o := c.Options()
	return quick{able: o.ContextTimeoutEnabled && o.TLSConfig == nil && o.Addr != "FailoverClient"}
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
	if now.After(n.quick.renewAt) {
		n.quick.renew(n.ctx, now)
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
	c.Err = errPanicked
	defer func() {
		if c.Err == nil || answered(c.Err) {
			n.deliver(batch[:])
		} else {
			n.tryAgain(c)
		}
		n.handOver()
	}()
	n.exchange(n.quick.ctx, batch[:]) // no one but us replaces it while workers > 0
}

// errPanicked stands until there is another error, or none: a hook of the user's client can panic, and the caller survive it.
var errPanicked = errors.New("panicked")

// tryAgain leaves a call that was not answered to a worker.
func (n *Node) tryAgain(c *Call) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c.Repeated = true
	n.quick.until = time.Time{}
	n.queue.push(c)
}

// answered reports whether an error is what the server said.
func answered(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// handOver lets a worker take the place of a caller who is done.
func (n *Node) handOver() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.queue.length > 0 {
		go n.work(n.pace.distant())
		return
	}
	n.workers--
	n.checkIdle()
}

// vouch notes how long a round trip took. Called with the mutex held.
func (q *quick) vouch(started, now time.Time) {
	q.until = time.Time{}
	if now.Sub(started) <= quickTrip {
		q.until = now.Add(quickAge)
	}
}

// renew makes the context of the next calls.
func (q *quick) renew(ctx context.Context, now time.Time) {
	if q.cancel != nil {
		q.cancel() // frees its timer
	}
	q.renewAt = now.Add(quickTimeout)
	q.ctx, q.cancel = context.WithTimeout(ctx, 2*quickTimeout)
}
