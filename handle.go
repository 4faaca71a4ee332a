package redlock

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rediskit/redlock/internal/lease"
	"github.com/rediskit/redlock/internal/protocol"
	"github.com/rediskit/redlock/internal/queue"
	"github.com/rediskit/redlock/internal/timers"
)

// Handle is one acquisition of one or more resources. It is safe for concurrent use.
//
// A Handle that is neither renewed nor watched (by Done, Context or an observer) costs nothing
// while it is held. It needs no Release if its lock should live for its whole TTL, and may be
// forgotten.
type Handle struct {
	l        *Locker
	claim    protocol.Claim
	acquired time.Time     // the start of the first lease
	minHold  time.Duration // see WithMinHold
	line     *queue.Waiter // others here wait for the lock's end; nil: nobody does

	mu     sync.Mutex
	posted []func() // what must not run under the mutex: see unlock
	lease  lease.Lease
	// proved is when the latest extension that was won had been begun, after acquired.
	proved   time.Duration
	err      error                            // why the handle ended; nil while the lock is held
	done     chan struct{}                    // made by Done
	contexts map[context.Context]*lockContext // until they end, or Release has ended them
	renewal  lease.Renewal
	renewing *protocol.Round // under way; nil: none is
	failures int             // renewals that failed since the last one that did not
	watching bool            // the Locker's schedule has the alarm
	ringing  bool            // it is the alarm that looks, and no caller
	given    bool            // Release was called
	lost     bool            // it had ended before that
	alarm    timers.Alarm

	release  sync.Once // the first call decides
	released error     // its result

	account *account // for the observer; nil without one
}

// newHandle returns the handle of an attempt that has sent nothing yet.
func (l *Locker) newHandle(p *plan, token string) *Handle {
	h := &Handle{l: l, minHold: p.minHold}
	h.claim.Init(l.nodes, &p.keys, token, p.firstTTL())
	h.renewal = lease.Renewal{On: p.renewal == renewalOn, Full: p.ttl, TTL: p.ttl}
	return h
}

// begin starts the life of the handle with the lease that a round has won.
func (h *Handle) begin(r *protocol.Round, won lease.Lease, p *plan) error {
	h.mu.Lock()
	defer h.unlock()
	// The clock again: the answers may have come when nothing of the lease was left.
	if now := time.Now(); !won.Holds(now) {
		e := h.l.quorumError(r, h.claim.Resources())
		e.reason = ErrNoQuorum
		e.detail = fmt.Sprintf("not in time: of %v nothing is left after %v", won.TTL,
			now.Sub(won.Start))
		return e
	}
	h.acquired, h.lease = won.Start, won
	h.claim.Prove(won)
	if p.maxHold > 0 && p.maxHold < won.TTL { // under Once the first lease may be longer
		h.lease.TTL = p.maxHold
	}
	if closed, ok := h.l.closedAt(); ok && closed.Before(won.End()) {
		h.endLocked(CauseClosed, "") // before there is anybody to tell
		return stateError(r.Op(), h.claim.Resources(), ErrClosed)
	}
	if h.renewal.On && p.maxHold > 0 {
		h.renewal.Until = won.Start.Add(p.maxHold)
	}
	if h.account = p.account; h.account != nil {
		h.account.granted = r.Yes()
	}
	return nil
}

// start has the handle renewed and its end noticed, where somebody wants that from the beginning.
func (h *Handle) start() {
	watched := h.renewal.On || h.account != nil
	if !watched && h.line == nil {
		return
	}
	h.mu.Lock()
	defer h.unlock()
	if h.lookLocked() == nil && watched {
		h.watchLocked()
	}
}

// unlock frees the mutex and then runs what was posted: contexts that end run code of the user's,
// and rounds that are sent may call back at once.
func (h *Handle) unlock() {
	posted := h.posted
	h.posted = nil
	h.mu.Unlock()
	for _, f := range posted {
		f()
	}
}

// standing says that others in this Locker wait for the end of the lock. It is called before start,
// which notices an end that has come by then: no end is told before its beginning.
func (h *Handle) standing(line *queue.Waiter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.line = line
}

// Resources returns what the handle holds: sorted, without duplicates.
func (h *Handle) Resources() []string { return slices.Clone(h.claim.Resources()) }

// Token returns the random value that stands under the lock keys and proves the ownership. Whoever
// has it can release or [Locker.Adopt] the lock, so keep it out of logs. It does not order holders:
// it is not a fencing token. An [Handle.Extend] that shortens the lock changes it.
func (h *Handle) Token() string { return h.claim.Token() }

// String returns the resources and the state of the handle, never its token.
func (h *Handle) String() string {
	h.mu.Lock()
	defer h.unlock()
	state := "released"
	switch h.lookLocked() {
	case nil:
		state = fmt.Sprintf("held for %v more", time.Until(h.lease.End()).Round(time.Millisecond))
	case ErrLost:
		state = "lost"
	case ErrClosed:
		state = "closed"
	}
	return fmt.Sprintf("lock on %s: %s", quoted(h.claim.Resources()), state)
}

// GoString returns what String does, so that no format prints the token.
func (h *Handle) GoString() string { return h.String() }

// ValidUntil returns until when the lock is proved to be held, on this process's monotonic clock:
// compare it with [time.Now], and do not send it elsewhere. Extend and renewal move it. After the
// handle has ended it is the last value.
func (h *Handle) ValidUntil() time.Time {
	h.mu.Lock()
	defer h.unlock()
	return h.lease.End()
}

// Done returns a channel that is closed when the lock is released or lost, or the Locker closed: at
// ValidUntil at the latest, and so before another client can get the lock. The call itself compares
// the clock, so a process that was stopped for a while learns the truth at its first look.
func (h *Handle) Done() <-chan struct{} {
	h.mu.Lock()
	defer h.unlock()
	switch {
	case h.lookLocked() != nil && h.done == nil:
		h.done = closedChannel
	case h.done == nil:
		h.done = make(chan struct{})
		h.watchLocked()
	}
	return h.done
}

// closedChannel is Done's where the lock had ended before anybody asked.
var closedChannel = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Err returns nil while the lock is held, and then for good [ErrReleased], [ErrLost] or
// [ErrClosed]. Like Done it compares the clock itself.
func (h *Handle) Err() error {
	h.mu.Lock()
	defer h.unlock()
	return h.lookLocked()
}

// lookLocked compares the clock and returns h.err.
func (h *Handle) lookLocked() error {
	if h.err != nil {
		return h.err
	}
	end := h.lease.End()
	if closed, ok := h.l.closedAt(); ok && closed.Before(end) {
		h.endLocked(CauseClosed, "")
	} else if !time.Now().Before(end) {
		h.endLocked(h.whyOverLocked())
	}
	return h.err
}

// whyOverLocked says why the lease is over.
func (h *Handle) whyOverLocked() (Cause, string) {
	switch {
	case h.failures > 0:
		return CauseExpired, fmt.Sprintf("its lease is over: %d renewals in a row failed",
			h.failures)
	case !h.renewal.Until.IsZero() && !h.lease.Start.Add(h.lease.TTL).Before(h.renewal.Until):
		return CauseMaxHold, "its maximum hold is over"
	case h.renewal.On:
		return CauseExpired, "its lease is over: no renewal was answered in time"
	default:
		return CauseExpired, "its lease is over and it is not renewed"
	}
}

// refusedLocked ends the handle after a round in which the nodes denied it, and takes back what is
// left of the lock. It does not if a round that was begun later has been won: some of those nodes
// may have denied the lock before they got it again.
func (h *Handle) refusedLocked(r *protocol.Round) {
	if h.proved > r.Start().Sub(h.acquired) {
		return
	}
	answers, cause := h.l.answers(r.Shortfall()), CauseGone
	for _, n := range answers {
		if _, taken := n.Err.(*HeldError); taken {
			cause = CauseTaken
		}
	}
	h.endLocked(cause, said(answers))
	h.posted = append(h.posted, func() { h.claim.Abandon() })
}

// endLocked ends the handle for good. h.err is nil before.
func (h *Handle) endLocked(cause Cause, reason string) {
	err := cause.err()
	h.err = err
	h.claim.End(err == ErrReleased && h.minHoldLeftLocked() > 0) // see farewell
	if h.done != nil {
		close(h.done)
	}
	for _, ctx := range h.contexts {
		ctx.stop()
	}
	h.cancelLocked()
	if line := h.line; line != nil && err != ErrReleased { // else Release hands the lock over
		h.posted = append(h.posted, line.Lost)
	}
	h.unwatchLocked()
	h.endsLocked(cause, reason)
}

// watchLocked makes sure that the end of the lease and of the Locker are noticed when they come.
func (h *Handle) watchLocked() {
	if !h.watching {
		h.watching = true
		if h.alarm.Ring == nil { // else it may be ringing right now
			h.alarm.Ring = h.tick
		}
		h.armLocked()
	}
}

// unwatchLocked undoes watchLocked.
func (h *Handle) unwatchLocked() {
	if h.watching {
		h.watching = false
		h.l.schedule.Remove(&h.alarm)
	}
}
