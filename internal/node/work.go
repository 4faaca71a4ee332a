package node

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// minSweep is the queue's length below which nobody looks for stale calls: the next batch finds them anyway.
const minSweep = 2 * maxBatch

// work sends what is queued until nothing is. A worker for a distant node first lets everybody run who has just been answered:
// what they ask for next shares the round trip, where it would wait for the next worker.
func (n *Node) work(distant bool) {
	growStack()
	batch := make([]*Call, 0, 8)
	for {
		if distant {
			runtime.Gosched()
		}
		var stale []*Call
		batch, stale = n.take(batch[:0])
		if len(batch) == 0 && len(stale) == 0 {
			return
		}
		n.deliver(stale)
		n.exchange(n.ctx, batch)
		n.deliver(batch)
	}
}

// growStack makes the stack as large as a call of go-redis needs it, while there is nothing on it to copy. Growing step by
// step, deeper and deeper down, costs a short-lived goroutine a fifth of its time.
//
//go:noinline
func growStack() {
	var frame [12 << 10]byte
	runtime.KeepAlive(&frame)
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
			c.tried = true
			batch = append(batch, c)
		}
	}
	if n.queue.length == 0 {
		n.sweepAt = minSweep
	}
	switch {
	case len(batch) > 0:
		n.pace.start(now, n.workers)
		n.callWorker() // for what did not fit in
	case len(stale) == 0:
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
func (n *Node) exchange(ctx context.Context, batch []*Call) {
	if len(batch) == 0 {
		return
	}
	started := time.Now()
	if len(batch) == 1 {
		alone(ctx, n.client, batch)
	} else {
		together(ctx, n.client, n.pack(batch))
	}
	if batch[0].Err == nil {
		n.mu.Lock()
		now := time.Now()
		n.quick.vouch(started, now)
		n.pace.answered(started, now)
		n.mu.Unlock()
	}
}

// alone sends the only call of a batch, and takes no more memory than that needs.
func alone(ctx context.Context, client Client, batch []*Call) {
	m := command{script: batch[0].Script, calls: batch}
	m.send(ctx, client, false)
	if m.notCached() {
		m.send(ctx, client, true)
	}
	m.distribute()
}

// together sends commands in one pipeline.
func together(ctx context.Context, client Client, commands []*command) {
	roundTrip(ctx, client, commands, false)
	if unknown := notCached(commands); len(unknown) > 0 {
		roundTrip(ctx, client, unknown, true)
	}
	for _, m := range commands {
		m.distribute()
	}
}

// command is one EVALSHA that carries the requests of several calls.
type command struct {
	script *Script
	calls  []*Call
	keys   int
	reply  *redis.Cmd
}

// pack puts calls of the same script into one command, as far as they fit. The keys of a command to a Redis Cluster must
// share a slot, so there each call has its own.
func (n *Node) pack(batch []*Call) []*command {
	var commands []*command
	for _, c := range batch {
		i := slices.IndexFunc(commands, func(m *command) bool {
			return !n.sharded && m.script == c.Script && m.keys+len(c.Keys) <= maxKeys
		})
		if i < 0 {
			i = len(commands)
			commands = append(commands, &command{script: c.Script})
		}
		commands[i].calls = append(commands[i].calls, c)
		commands[i].keys += len(c.Keys)
	}
	return commands
}

// notCached returns the commands whose scripts the node does not know.
func notCached(commands []*command) []*command {
	var unknown []*command
	for _, m := range commands {
		if m.notCached() {
			unknown = append(unknown, m)
		}
	}
	return unknown
}

func (m *command) notCached() bool {
	err := m.reply.Err()
	return err != nil && redis.HasErrorPrefix(err, "NOSCRIPT")
}

// roundTrip runs the commands in one pipeline, by their scripts' digests or by their text.
func roundTrip(ctx context.Context, client Client, commands []*command, text bool) {
	if len(commands) == 1 {
		commands[0].send(ctx, client, text)
		return
	}
	pipe := client.Pipeline()
	for _, m := range commands {
		m.send(ctx, pipe, text)
	}
	_, err := pipe.Exec(ctx)
	for _, c := range commands {
		if err != nil && c.reply.Err() == nil && c.reply.Val() == nil {
			c.reply.SetErr(err) // go-redis does not tell each command where it got no connection (v9.7)
		}
	}
}

// send gives the command to a client, or to a pipeline for later.
func (m *command) send(ctx context.Context, to redis.Scripter, text bool) {
	keys := m.calls[0].Keys
	if len(m.calls) > 1 {
		keys = make([]string, 0, m.keys)
	}
	args := make([]any, 0, len(m.calls)*(1+len(m.calls[0].Args)))
	for _, c := range m.calls {
		if len(m.calls) > 1 {
			keys = append(keys, c.Keys...)
		}
		args = append(append(args, len(c.Keys)), c.Args...)
	}
	if text {
		m.reply = to.Eval(ctx, m.script.source, keys, args...)
	} else {
		m.reply = to.EvalSha(ctx, m.script.digest, keys, args...)
	}
}

// distribute hands each call its part of the reply.
func (m *command) distribute() {
	replies, err := m.reply.Slice()
	switch {
	case err == redis.Nil: // which counts as an error of the server's, and so as proof that the script has not run
		err = errors.New("unexpected reply nil")
	case err == nil && len(replies) != len(m.calls):
		err = fmt.Errorf("%d replies to %d requests", len(replies), len(m.calls))
	}
	for i, c := range m.calls {
		if c.Reply, c.Err = nil, err; err != nil {
			continue
		}
		c.Reply, c.Err = replies[i], failureOf(replies[i])
	}
}

// failureOf returns the error in a request's reply, if it is one. It has the type of go-redis's own.
func failureOf(reply any) error {
	if failure, ok := reply.(error); ok {
		return failure
	}
	if list, ok := reply.([]any); ok && len(list) == 1 {
		if text, ok := list[0].(string); ok {
			return likeError(redis.Nil, text)
		}
	}
	return nil
}

// likeError makes an error of a type that we cannot name.
func likeError[E ~string](_ E, text string) E { return E(text) }

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
	n.letOthersGo(c)
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
