package redlock

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/quorum"
)

// lease is the time for which a quorum of nodes has confirmed a lock. It lives on this process's monotonic clock alone.
type lease struct {
	start time.Time     // before the request that was confirmed went out
	ttl   time.Duration // what the nodes gave
	drift float64       // how much faster than ours their clocks may run
}

// rounding covers what Redis loses by counting milliseconds, on both sides.
const rounding = 2 * time.Millisecond

// length returns for how long after its start the lease can be trusted.
func (l lease) length() time.Duration {
	return l.ttl - time.Duration(float64(l.ttl)*l.drift) - rounding
}

// end returns when the lease is over.
func (l lease) end() time.Time { return l.start.Add(l.length()) }

// Handle is one acquisition, of one resource or of several. It is safe for concurrent use.
//
// A Handle that is neither renewed nor watched (by Done or Context) costs nothing while it is held: it needs no Release
// where its lock shall live for its whole TTL, and may be forgotten.
type Handle struct {
	claim claim // its mutex guards what follows

	err      error         // why the handle ended; nil while the lock is held
	done     chan struct{} // made by Done
	contexts map[*lockContext]struct{}
	released *round // Release's; nil before
	wasLost  bool   // before Release was called
	told     bool   // result is set
	result   error  // of Release

	renewal   renewal
	extension uint64 // number of the latest extension that was begun
	shortened uint64 // number of the latest one that shortened the lease: what was begun before it counts no more
	watching  bool   // the Locker's schedule has the handle

	// Guarded by the schedule's mutex.
	at    time.Time // when tick is due
	place int       // in the schedule's heap, from 1 on; 0: not there
}

// newHandle returns the handle of an attempt that has sent nothing yet.
func (l *Locker) newHandle(p *plan, token string) *Handle {
	h := &Handle{}
	h.claim.init(l, p, token)
	h.renewal = renewal{on: p.renewal == renewalOn, full: p.ttl, ttl: p.ttl, maxHold: p.maxHold}
	return h
}

// begin starts the life of the handle, if the round has won it a lease of the given TTL and something of that is left.
func (h *Handle) begin(r *round, ttl time.Duration) error {
	if r.outcome != quorum.Won {
		return r.shortfall()
	}
	c := &h.claim
	c.mu.Lock()
	defer c.unlock()
	c.lease = lease{start: r.start, ttl: ttl, drift: c.l.drift}
	c.ttl = max(c.ttl, ttl)
	if now := time.Now(); !now.Before(c.lease.end()) {
		e := r.shortfallLocked()
		e.detail = fmt.Sprintf("not in time: of %v nothing is left after %v", c.lease.ttl, now.Sub(c.lease.start))
		return e
	}
	if closed, ok := c.l.closedAt(); ok && closed.Before(c.lease.end()) {
		h.end(ErrClosed)
		return stateError(r.verb.op, c.resources, ErrClosed)
	}
	if h.renewal.on {
		h.startRenewal()
	}
	return nil
}

// Resources returns what the handle holds: sorted, without duplicates.
func (h *Handle) Resources() []string { return slices.Clone(h.claim.resources) }

// Token returns the random value that stands under the lock keys and proves the ownership; whoever has it can release or
// [Locker.Adopt] the lock. It does not order holders: it is not a fencing token.
func (h *Handle) Token() string { return h.claim.token }

// Fence returns the lock's fencing token; 0 for a lock that was taken without fencing.
func (h *Handle) Fence() uint64 { return 0 }

// ValidUntil returns until when the lock is proved to be held, on this process's monotonic clock: compare it with
// [time.Now], and do not send it elsewhere. Extend and renewal move it. After the handle has ended it is the last value.
func (h *Handle) ValidUntil() time.Time {
	h.claim.mu.Lock()
	defer h.claim.unlock()
	return h.claim.lease.end()
}

// Done returns a channel that is closed when the lock is released or lost, or the Locker closed: at ValidUntil at the
// latest, and so before another client can get the lock. The call itself compares the clock, so that a process which was
// stopped for a while gets the truth at its first look.
func (h *Handle) Done() <-chan struct{} {
	h.claim.mu.Lock()
	defer h.claim.unlock()
	if h.look() != nil {
		if h.done == nil {
			h.done = closedChannel
		}
		return h.done
	}
	if h.done == nil {
		h.done = make(chan struct{})
		h.watch()
	}
	return h.done
}

// closedChannel is Done's where the lock had ended before anybody asked.
var closedChannel = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Err returns nil while the lock is held, and then for good [ErrReleased], [ErrLost] or [ErrClosed]. Like Done it compares
// the clock itself.
func (h *Handle) Err() error {
	h.claim.mu.Lock()
	defer h.claim.unlock()
	return h.look()
}

// Context returns a context that ends with parent, or when the lock ends: then its cause ([context.Cause]) is what Err
// returns.
func (h *Handle) Context(parent context.Context) context.Context {
	inner, cancel := context.WithCancelCause(parent)
	ctx := &lockContext{Context: inner, h: h, cancel: cancel}
	if err := h.register(ctx); err != nil {
		cancel(err)
	}
	return ctx
}

// register makes sure that the context ends with the lock, or returns why the lock has ended.
func (h *Handle) register(ctx *lockContext) error {
	h.claim.mu.Lock()
	defer h.claim.unlock()
	if h.look() == nil {
		h.watch()
	}
	if h.err != nil {
		return h.err
	}
	if h.contexts == nil {
		h.contexts = make(map[*lockContext]struct{}, 1)
	}
	h.contexts[ctx] = struct{}{}
	ctx.stop = context.AfterFunc(ctx.Context, func() { h.forget(ctx) })
	return nil
}

// forget drops a context whose parent has ended. With the last of them nobody may be watching any more.
func (h *Handle) forget(ctx *lockContext) {
	h.claim.mu.Lock()
	defer h.claim.unlock()
	delete(h.contexts, ctx)
	if len(h.contexts) == 0 && h.done == nil && !h.renewal.on {
		h.unwatch()
	}
}

// lockContext is a context that looks whether the lock still holds before it answers, so that it never says "go on" after
// the end of the lease, not even in a process that was stopped and whose timers have yet to fire.
type lockContext struct {
	context.Context
	h      *Handle
	cancel context.CancelCauseFunc
	stop   func() bool // of the wait for the parent's end
}

func (c *lockContext) Done() <-chan struct{} {
	c.look()
	return c.Context.Done()
}

func (c *lockContext) Err() error {
	c.look()
	return c.Context.Err()
}

func (c *lockContext) look() {
	if err := c.h.Err(); err != nil {
		c.cancel(err)
	}
}

// look compares the clock and returns h.err. Called with the mutex held.
func (h *Handle) look() error {
	if h.err != nil {
		return h.err
	}
	end := h.claim.lease.end()
	if closed, ok := h.claim.l.closedAt(); ok && closed.Before(end) {
		h.end(ErrClosed)
	} else if !time.Now().Before(end) {
		h.lost("its lease is over")
	}
	return h.err
}

// lose ends the handle after a round in which the nodes denied it, and takes back what is left of the lock. Called with the
// mutex held.
func (h *Handle) lose(r *round) {
	h.lost(r.shortfallLocked().said())
	h.claim.abandon()
}

// lost ends the handle with ErrLost. Called with the mutex held.
func (h *Handle) lost(why string) {
	c := &h.claim
	h.end(ErrLost)
	c.dead = true
	c.l.log.add(slog.LevelWarn, "lock lost", "resources", c.resources, "reason", why)
}

// end ends the handle for good. Called with the mutex held and h.err nil.
func (h *Handle) end(err error) {
	h.err = err
	if h.done != nil {
		close(h.done)
	}
	for ctx := range h.contexts {
		ctx.stop()
		h.claim.ends = append(h.claim.ends, func() { ctx.cancel(err) })
	}
	h.contexts = nil
	h.unwatch()
}

// watch makes sure that the end of the lease and of the Locker are noticed when they come. Called with the mutex held.
func (h *Handle) watch() {
	if h.watching {
		return
	}
	h.watching = true
	h.arm()
}

// unwatch undoes watch. Called with the mutex held.
func (h *Handle) unwatch() {
	if h.watching {
		h.watching = false
		h.claim.l.schedule.remove(h)
	}
}

// Extend sets the lease to ttl from now, longer or shorter than what is left of it: 10 ms to 10 years. It takes as long as
// a quorum of nodes takes to answer, twice if it shortens, and at most the node timeout ([WithNodeTimeout]) each time.
//
// It returns [ErrLost] when the lock is over, gone or somebody else's, and never makes it anew; [ErrReleased] after Release
// and [ErrClosed] after Close; a [QuorumError] that matches [ErrNoQuorum] when too few nodes answer; and that together with
// the cause of ctx when ctx ends first. The lease is then what it was before, except where a shortening may have
// reached some nodes: then it is the shorter one.
//
// Automatic renewal goes on after an Extend, with ttl if that is less than the TTL of the lock.
func (h *Handle) Extend(ctx context.Context, ttl time.Duration) error {
	c := &h.claim
	if err := c.l.checkTTL(ttl); err != nil {
		return err
	}
	if ended := h.Err(); ended != nil {
		return stateError("extend", c.resources, ended)
	}
	if err := c.l.enter(ctx, "extend", c.resources); err != nil {
		return err
	}
	defer c.l.leave()
	c.mu.Lock()
	if h.look() != nil {
		defer c.unlock()
		return stateError("extend", c.resources, h.err)
	}
	r := h.beginExtend(ttl, true, func(r *round) {
		if r.outcome == quorum.Won {
			h.renewal.ttl = min(h.renewal.full, ttl)
		}
	})
	shorter := h.candidate(r).end().Before(c.lease.end())
	r.run()

	err := h.await(ctx, r)
	if err != nil || !shorter {
		return err
	}
	return h.shorten(ctx, r)
}

// beginExtend asks the nodes to keep the lock for at least ttl. When the round is settled, note is called before anything
// follows from it. Called with the mutex held.
func (h *Handle) beginExtend(ttl time.Duration, attended bool, note func(*round)) *round {
	c := &h.claim
	c.ttl = max(c.ttl, ttl)
	verb := extendVerb
	if h.shortened > 0 {
		verb = moveVerb
	}
	r := h.newExtension(verb, ttl)
	number := h.extension
	r.then = func(r *round) {
		note(r)
		h.extended(r, number)
		h.arm()
	}
	r.optional = !attended
	r.begin(node.Call{
		Args:   []any{c.token, milliseconds(ttl), "keep", ""}, // moveVerb has its own
		SendBy: time.Now().Add(r.timeout),
	}, attended)
	return r
}

// newExtension prepares a round that extends the lease. Called with the mutex held.
func (h *Handle) newExtension(v *verb, ttl time.Duration) *round {
	c := &h.claim
	h.extension++
	r := c.newRound(v, len(c.lanes), c.l.timeoutFor(ttl))
	r.ttl = ttl
	return r
}

// moveArgs are the arguments of an extension that leaves no mark of an earlier shortening standing.
func moveArgs(q *request) []any {
	c := q.round.claim
	var marks []string
	for _, cut := range c.lanes[q.node].standing(time.Now()) {
		marks = append(marks, strconv.FormatInt(cut.mark, 10))
	}
	return []any{c.token, milliseconds(q.round.ttl), "move", strings.Join(marks, ",")}
}

// cutArgs are the arguments that shorten the keys of a slot, if they still expire when the extension before found them to.
func cutArgs(q *request) []any {
	c := q.round.claim
	return []any{c.token, milliseconds(q.round.ttl), "cut", q.marks[q.slot]}
}

// candidate returns the lease that the extension would prove.
func (h *Handle) candidate(r *round) lease {
	return lease{start: r.start, ttl: r.ttl, drift: h.claim.l.drift}
}

// extended takes the result of an extension. Called with the mutex held.
func (h *Handle) extended(r *round, number uint64) {
	c := &h.claim
	if h.look() != nil {
		return
	}
	switch r.outcome {
	case quorum.Won:
		if next := h.candidate(r); number > h.shortened && next.end().After(c.lease.end()) {
			c.lease = next
		}
		for i := range r.requests {
			if r.requests[i].voted {
				c.heal(&r.requests[i])
			}
		}
	case quorum.Refused:
		h.lose(r)
	}
}

// await waits for an extension and returns what came of it.
func (h *Handle) await(ctx context.Context, r *round) error {
	c := &h.claim
	cause := r.wait(ctx, c.l.closing)
	c.mu.Lock()
	defer c.unlock()
	ended := h.look()
	switch {
	case r.outcome == quorum.Refused && ended == ErrLost:
		return r.shortfallLocked().lost()
	case ended != nil:
		return stateError(r.verb.op, c.resources, ended)
	case r.outcome == quorum.Won:
		return nil
	case cause != nil:
		return &interrupted{cause, r.shortfallLocked()}
	default:
		return r.shortfallLocked()
	}
}

// shorten ends the lease earlier, after a round has shown that it is ours. It does so here before it tells the nodes: however
// few of them hear of it, nobody trusts the lock for longer than they keep it. A node cuts its keys' time only if they expire
// when that round found them to, and no extension from now on lets them do so again: a cut that comes late changes nothing.
func (h *Handle) shorten(ctx context.Context, proved *round) error {
	c := &h.claim
	c.mu.Lock()
	next := h.candidate(proved)
	switch {
	case h.look() != nil:
		defer c.unlock()
		return stateError("extend", c.resources, h.err)
	case !next.end().Before(c.lease.end()):
		defer c.unlock()
		return nil // another call, at the same time, has shortened it further
	}
	r := h.newExtension(cutVerb, proved.ttl)
	number := h.extension
	h.shortened = number
	c.lease = next
	r.then = func(r *round) {
		if r.outcome == quorum.Refused && h.look() == nil {
			h.lose(r)
		}
	}
	r.start, r.attended = time.Now(), true
	cut := func(p *request) {
		q := &r.requests[p.node]
		q.marks, q.err = p.marks, p.err
		switch {
		case !p.yes() || c.dead: // whether a lock is cut that has ended meanwhile, nobody asks
		case h.extension > number:
			// A later extension is on its way to the node, and knows nothing of this mark: it may leave it standing.
			q.err = errOvertaken
		default:
			c.lanes[p.node].remember(p.marks, time.Now().Add(c.longest()))
			r.send(q, p.node, node.Call{SendBy: time.Now().Add(r.timeout)})
			return
		}
		r.vote(q)
	}
	for i := range proved.requests {
		if p := &proved.requests[i]; p.voted {
			cut(p)
		}
	}
	proved.late = cut // and the others as they answer
	h.arm()
	r.run()
	return h.await(ctx, r)
}

// Release gives the lock up: the handle ends at once, then the keys are deleted where they hold our token, and nowhere
// else. It is idempotent: the first call decides, later ones return its result. It belongs into a defer: ctx's end does not
// keep it from its work. It returns as soon as a quorum of nodes has confirmed, and waits no
// longer than the node timeout ([WithNodeTimeout]); what other nodes have is deleted in the background.
//
// It returns nil when nothing of the lock is left on a quorum; [ErrLost] when the lock had been lost, or its validity was
// over, or another owner has it, or a lock of several resources is partly gone; [ErrClosed] on a closed Locker, where the
// keys expire by themselves; and a [QuorumError] that matches [ErrNoQuorum] when too few nodes answer: then too the
// deletion goes on in the background until the keys have expired.
func (h *Handle) Release(ctx context.Context) error {
	c := &h.claim
	closed := c.l.enter(context.Background(), "release", c.resources)
	if closed == nil {
		defer c.l.leave()
	}
	c.mu.Lock()
	switch {
	case h.released != nil:
		c.unlock()
	case h.look() == ErrClosed || closed != nil:
		defer c.unlock()
		return stateError("release", c.resources, h.err)
	default:
		h.wasLost = h.err != nil
		if !h.wasLost {
			h.end(ErrReleased)
		}
		h.released = c.release()
		h.released.run()
	}
	r := h.released

	r.wait(context.Background(), nil)
	c.mu.Lock()
	defer c.unlock()
	if !h.told {
		h.told, h.result = true, h.releaseResult(r)
	}
	return h.result
}

// releaseResult is what the first Release makes of its round. Called with the mutex held.
func (h *Handle) releaseResult(r *round) error {
	switch {
	case h.wasLost:
		return stateError("release", h.claim.resources, ErrLost)
	case r.outcome == quorum.Won:
		return nil
	case r.outcome == quorum.Refused:
		return r.shortfallLocked().lost()
	default:
		return r.shortfallLocked()
	}
}
