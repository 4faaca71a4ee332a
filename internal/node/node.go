// Package node turns script calls into traffic to one Redis master.
//
// Calls queue up and a few workers take everything that waits and send it in one round trip, the calls of one script as a
// single EVALSHA. Without load a call goes out at once; under load many share a round trip, and Redis's cost of running a
// script. A worker lives as long as there is something to send: an idle node has no goroutine.
//
// The workers are all that ever waits for go-redis. Their callers do not: a stock go-redis client can neither be
// interrupted in flight nor held to a deadline of ours, so a node that hangs must cost nobody but its workers.
package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	maxBatch   = 256  // calls in one round trip: what one stalled connection can hold up
	maxKeys    = 1024 // keys in one command of several calls: for how long Redis serves nobody else
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
	client  Client
	sharded bool            // a Redis Cluster
	ctx     context.Context // of all calls; ended only by Close
	cancel  context.CancelFunc

	mu        sync.Mutex
	quick     quick
	pace      pace
	queue     queue
	lingering map[string]*Call // by key; see Linger
	sweepAt   int              // look for calls past their SendBy when the queue is that long
	workers   int              // goroutines that send what is queued
	helpers   int              // goroutines that deliver what was dropped
	unended   int              // calls taken on and not done
	repeats   []*Call          // calls waiting for their next try
	pause     *time.Timer      // until the next try; nil while repeats is empty
	closing   bool             // nothing is repeated any more
	closed    bool             // nothing is taken on any more
	idle      chan struct{}    // closed when the last call is done and the last worker gone; made by Close
}

// New returns the node behind client, which is a Redis Cluster if sharded is true. The client stays the caller's.
func New(client Client, sharded bool) *Node {
	ctx, cancel := context.WithCancel(context.Background())
	return &Node{client: client, sharded: sharded, ctx: ctx, cancel: cancel, sweepAt: minSweep, lingering: make(map[string]*Call), quick: newQuick(client), pace: newPace(client)}
}

// Send hands the call to the node. It returns false, and the Receiver never gets the call, if the node is closed.
func (n *Node) Send(c *Call) bool { return n.SendAfter(c, nil) }

// SendAfter is Send for a call that must not reach the node before earlier is done, if earlier is not nil.
func (n *Node) SendAfter(c, earlier *Call) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.unended++
	c.follow(earlier)
	c.bound = c.waits > 0
	if c.Yields && len(n.lingering) > 0 {
		for _, key := range c.Keys {
			c.follow(n.lingering[key])
		}
	}
	if c.waits > 0 {
		c.state = parked
		return true
	}
	n.enqueue(c)
	return true
}

// follow makes c wait for another call, if that is not nil and not done.
func (c *Call) follow(earlier *Call) {
	if earlier == nil || earlier.state == fresh || earlier.state == done {
		return
	}
	if len(earlier.followers) == cap(earlier.followers) { // before the list grows: those that were dropped need no place
		earlier.followers = slices.DeleteFunc(earlier.followers, func(f *Call) bool { return f.state == done })
	}
	earlier.followers = append(earlier.followers, c)
	c.waits++
}

// Linger makes later calls that yield wait until c is done, if it is not, where they share one of the keys. It is for what
// nobody waits for any more, and which the next one must not overtake all the same. It ends when c has failed once: a node
// that does not do what it is asked would keep others waiting for as long as that is repeated.
func (n *Node) Linger(c *Call, keys []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.state == fresh || c.state == done || c.failures > 0 {
		return
	}
	c.lingers = keys
	for _, key := range keys {
		n.lingering[key] = c
	}
}

// Drop takes back a call that waits to be sent for the first time, unless it waits for an earlier one that it was sent after:
// whoever comes next on that lane relies on it. It reports whether it could: then the node knows nothing
// of the call, and its Receiver never gets it.
func (n *Node) Drop(c *Call) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.tried || c.state != queued && (c.state != parked || c.bound) {
		return false
	}
	if c.state == queued {
		n.queue.remove(c)
	}
	n.end(c)
	return true
}

// Close waits until every call is done, but no longer than ctx lasts. Then it drops what is not sent and keeps go-redis
// from trying again, and gives the calls in flight the time of grace to come back. It returns an error if some have not:
// they end when go-redis gives them up.
func (n *Node) Close(ctx context.Context, grace time.Duration) error {
	idle := n.startClosing()
	if !within(idle, ctx.Done()) {
		n.abandon()
		timer := time.NewTimer(grace)
		defer timer.Stop()
		if !within(idle, timer.C) {
			n.mu.Lock()
			defer n.mu.Unlock()
			return fmt.Errorf("%d calls are still with the Redis client, which has not given them up", n.unended)
		}
	}
	n.cancel()
	return nil
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
	n.callWorker()
}

// end marks a call as done and lets go of those that wait for it. Called with the mutex held.
func (n *Node) end(c *Call) {
	c.state = done
	n.unended--
	n.stopLingering(c)
	n.letGo(c.followers)
	c.followers = nil
	n.checkIdle()
}

// stopLingering lets calls of other owners overtake c. Called with the mutex held.
func (n *Node) stopLingering(c *Call) {
	for _, key := range c.lingers {
		if n.lingering[key] == c {
			delete(n.lingering, key)
		}
	}
	c.lingers = nil
}

// letOthersGo ends the wait of the calls that wait for c only because it lingers. Called with the mutex held.
func (n *Node) letOthersGo(c *Call) {
	if c.lingers == nil {
		return
	}
	n.stopLingering(c)
	var others, own []*Call
	for _, f := range c.followers {
		if f.bound {
			own = append(own, f)
		} else {
			others = append(others, f)
		}
	}
	c.followers = own
	n.letGo(others)
}

// letGo ends the wait of calls for another one. Called with the mutex held.
func (n *Node) letGo(followers []*Call) {
	for _, f := range followers {
		if f.waits--; f.waits == 0 && f.state == parked {
			n.enqueue(f)
		}
	}
}
