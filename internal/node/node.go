// Package node turns script calls into traffic to one Redis master.
//
// Calls queue up and a few workers take everything that waits and send it as one pipeline, a single call as a plain
// EVALSHA. Without load a call goes out at once; under load many share a round trip. A worker lives as long as there is
// something to send: an idle node has no goroutine.
//
// The workers are all that ever waits for go-redis. Their callers do not: a stock go-redis client can neither be
// interrupted in flight nor held to a deadline of ours, so a node that hangs must cost nobody but its workers.
package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Client is what a Node needs of go-redis.
type Client interface {
	redis.Scripter
	Pipeline() redis.Pipeliner
}

const (
	maxWorkers = 2    // one batch on its way while the next one gathers
	maxBatch   = 256  // calls in one pipeline: what one stalled connection can hold up
	maxRepeats = 8192 // calls waiting to be repeated: what an outage can pile up

	firstPause = 50 * time.Millisecond // before the first repetition; doubles
	maxPause   = time.Second
)

var (
	// ErrNotSent is what a call ends with that was dropped before it went out: the node knows nothing of it.
	ErrNotSent = errors.New("not sent: the node has not taken earlier calls yet")

	// ErrClosed is what calls end with that were still unsent when the node was closed.
	ErrClosed = errors.New("not sent: closed")
)

// Node sends calls to one master. It is safe for concurrent use.
type Node struct {
	client Client
	ctx    context.Context // of all calls; ended only by Close
	cancel context.CancelFunc

	mu      sync.Mutex
	queue   queue
	sweepAt int           // look for calls past their SendBy when the queue is that long
	workers int           // goroutines that send what is queued
	helpers int           // goroutines that deliver what was dropped
	unended int           // calls taken on and not done
	repeats []*Call       // calls waiting for their next try
	pause   *time.Timer   // until the next try; nil while repeats is empty
	closing bool          // nothing is repeated any more
	closed  bool          // nothing is taken on any more
	idle    chan struct{} // closed when the last call is done and the last worker gone; made by Close
}

// New returns the node behind client. The client stays the caller's.
func New(client Client) *Node {
	ctx, cancel := context.WithCancel(context.Background())
	return &Node{client: client, ctx: ctx, cancel: cancel, sweepAt: minSweep}
}

// Send hands the call to the node. It returns false, and the Receiver never gets the call, if the node is closed.
func (n *Node) Send(c *Call) bool { return n.SendAfter(c, nil) }

// SendAfter is Send for a call that must not reach the node before earlier is done, if earlier is not nil. At most one
// call follows another.
func (n *Node) SendAfter(c, earlier *Call) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.unended++
	if earlier != nil && earlier.state != fresh && earlier.state != done {
		c.state = parked
		earlier.follower = c
		return true
	}
	n.enqueue(c)
	return true
}

// Drop takes back a call that has not been sent. It reports whether it could: then the node knows nothing of the call, and
// its Receiver never gets it.
func (n *Node) Drop(c *Call) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.state != queued || c.failures > 0 {
		return false
	}
	n.queue.remove(c)
	n.end(c)
	return true
}

// Close waits until every call is done, but no longer than ctx lasts. Then it drops what is not sent and keeps go-redis
// from trying again, and gives the calls in flight the time of grace to come back. It returns an error if some have not:
// they end when go-redis gives them up.
func (n *Node) Close(ctx context.Context, grace time.Duration) error {
	idle := n.startClosing()
	select {
	case <-idle:
		n.cancel()
		return nil
	case <-ctx.Done():
	}
	n.abandon()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-idle:
		return nil
	case <-timer.C:
		n.mu.Lock()
		defer n.mu.Unlock()
		return fmt.Errorf("%d calls are still with the Redis client, which has not given them up", n.unended)
	}
}

// startClosing ends the repetitions and returns a channel that closes when nothing is left to do.
func (n *Node) startClosing() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closing = true
	if n.idle == nil {
		n.idle = make(chan struct{})
	}
	if repeats := n.takeRepeats(); len(repeats) > 0 {
		n.deliverSoon(repeats)
	}
	n.checkIdle()
	return n.idle
}

// abandon refuses new calls, ends those that are not sent and keeps go-redis from repeating those that are.
func (n *Node) abandon() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	n.cancel()
	var unsent []*Call
	for c := n.queue.head; c != nil; c = n.queue.head {
		n.queue.remove(c)
		c.state, c.Err = sent, ErrClosed
		unsent = append(unsent, c)
	}
	if len(unsent) > 0 {
		n.deliverSoon(unsent)
	}
}

// checkIdle tells Close when there is nothing left. Called with the mutex held.
func (n *Node) checkIdle() {
	if n.idle == nil || n.unended+n.workers+n.helpers > 0 {
		return
	}
	n.closed = true
	select {
	case <-n.idle:
	default:
		close(n.idle)
	}
}

// enqueue adds a call to the queue and sees to it that somebody sends it. Called with the mutex held.
func (n *Node) enqueue(c *Call) {
	n.queue.push(c)
	if n.queue.length >= n.sweepAt {
		n.sweep()
	}
	if n.workers < maxWorkers {
		n.workers++
		go n.work()
	}
}

// end marks a call as done and lets its follower go. Called with the mutex held.
func (n *Node) end(c *Call) {
	c.state = done
	n.unended--
	next := c.follower
	if next == nil {
		n.checkIdle()
		return
	}
	c.follower = nil
	n.enqueue(next)
}
