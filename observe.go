package redlock

import (
	"context"
	"errors"
	"time"

	"github.com/rediskit/redlock/internal/protocol"
	"github.com/rediskit/redlock/internal/quorum"
)

// Observer is told what happens: see [WithObserver].
type Observer interface {
	// Observe takes an event. It is called synchronously, from many goroutines at the same time,
	// and never under a lock of the library's: it may call the methods of Handles and Lockers, save
	// Locker.Close. The goroutines that call it carry the answers of the nodes, renew locks and
	// notice their end: what it takes delays that. So it should be quick, and start a goroutine for
	// whatever waits.
	Observe(Event)
}

// WithObserver sets who is told of events: for metrics, traces and logs. Without it, or with nil,
// nothing is told, and nothing is paid.
//
// With an observer the Locker watches each of its handles as if Done had been called, so that its
// end is noticed and told when it comes. A handle is then kept in memory until it ends, also one
// that was forgotten, and with it the context of its acquisition.
func WithObserver(o Observer) Option {
	return lockerOption(func(c *config) { c.observer = o })
}

// tell passes an event on. It is called without any lock held.
func (l *Locker) tell(e Event) {
	l.log.Observe(e)
	if l.observer != nil {
		l.observer.Observe(e)
	}
}

// account is what an observer is to be told of one acquisition, and of the lock that comes of it.
// Without an observer there is none: all its methods work on nil.
type account struct {
	ctx      context.Context // of the call
	start    time.Time       // of the call
	attempts int
	tried    time.Time // when the latest attempt began
	waited   bool
	adopted  bool
	granted  int        // nodes
	lock     uint64     // the number of the lock
	campaign *candidate // of Lead; nil: it is no leadership

	// Guarded by the handle's mutex.
	ended    time.Time   // when the lock was lost, or given up
	untold   []Event     // until tellUntold is called
	unlogged *LeaseEnded // a loss that the log has not been told of; nil: there is none
}

// account returns the account of a call that begins, nil without an observer.
func (l *Locker) account(ctx context.Context, p *plan) *account {
	if l.observer == nil {
		return nil
	}
	return &account{ctx: ctx, start: time.Now(), campaign: p.campaign}
}

// tries notes that an attempt begins.
func (a *account) tries() {
	if a != nil {
		a.attempts++
		a.tried = time.Now()
	}
}

// waits takes why an attempt failed that another one follows, and tells that once.
func (a *account) waits(l *Locker, p *plan, err error) {
	if a == nil {
		return
	}
	a.campaign.saw(a.tried, err)
	a.tellWaiting(l, p, err)
}

// standsInLine tells that a call waits for others of its Locker, which came before it.
func (a *account) standsInLine(l *Locker, p *plan) {
	if a != nil {
		a.tellWaiting(l, p, stateError("acquire", p.keys.Resources, ErrHeld))
	}
}

func (a *account) tellWaiting(l *Locker, p *plan, err error) {
	if a.waited {
		return
	}
	a.waited = true
	l.tell(Waiting{Context: a.ctx, Resources: p.keys.Resources, Start: a.start, Err: err})
}

// try makes one attempt. Like get it tells the observer what came of that, and only then brings the
// handle to life: its end must not be told before its beginning.
func (l *Locker) try(ctx context.Context, p *plan) (*Handle, error) {
	p.account = l.account(ctx, p)
	h, _, err := l.attempt(ctx, p, nil)
	return l.acquired(p, h, err)
}

// get waits for the lock.
func (l *Locker) get(ctx context.Context, p *plan) (*Handle, error) {
	p.account = l.account(ctx, p)
	h, err := l.acquire(ctx, p)
	return l.acquired(p, h, err)
}

func (l *Locker) acquired(p *plan, h *Handle, err error) (*Handle, error) {
	if p.account != nil {
		l.tellAcquired(p, h, err)
	}
	if err != nil {
		return nil, err
	}
	h.start()
	return h, nil
}

// tellAcquired tells the end of an acquisition. If the observer panics, nobody gets the handle: the
// lock is released, and nothing more is told of it.
func (l *Locker) tellAcquired(p *plan, h *Handle, err error) {
	told := false
	defer func() {
		if !told && err == nil {
			h.account, h.minHold = nil, 0 // nobody else has the handle yet
			_ = h.Release(context.Background())
		}
	}()
	a := p.account
	done := AcquireDone{
		Context: a.ctx, Resources: p.keys.Resources, Start: a.start,
		Duration: time.Since(a.start), Attempts: a.attempts, Waited: a.waited,
		Adopted: a.adopted, Nodes: l.nodes.Len(), Locker: l.number, Err: err,
	}
	var short *QuorumError
	switch {
	case err == nil:
		a.lock = l.locks.Add(1)
		done.Granted, done.Lock, done.Fence = a.granted, a.lock, h.Fence()
		done.Validity = max(0, time.Until(h.lease.End())) // nobody else has the handle yet
	case errors.As(err, &short):
		done.Granted = short.Got
	}
	l.tell(done)
	if a.campaign != nil && err == nil {
		l.tell(a.campaign.leads(done))
	}
	told = true
}

// endsLocked has the end of a lock told: by tellUntold, which is called when the mutex is free.
func (h *Handle) endsLocked(cause Cause, reason string) {
	a := h.account
	if a == nil && cause.err() != ErrLost {
		return // not even the log would tell it
	}
	now, end := time.Now(), h.lease.End()
	if closed, ok := h.l.closedAt(); ok && cause == CauseClosed {
		now = closed
	}
	if now.After(end) {
		now = end
	}
	e := LeaseEnded{
		Resources: h.claim.Resources(), Start: h.acquired, Held: now.Sub(h.acquired),
		Left:  end.Sub(now),
		Cause: cause, Reason: reason, Fence: h.Fence(), Err: cause.err(),
	}
	if a == nil {
		h.posted = append(h.posted, func() { h.l.tell(e) })
		return
	}
	e.Context, e.Locker, e.Lock, a.ended = a.ctx, h.l.number, a.lock, now
	if a.untold = append(a.untold, e); cause == CauseExpired && !h.reliedOn() {
		a.unlogged = &e
	} else {
		h.l.log.Observe(e)
	}
	if a.campaign != nil {
		a.untold = append(a.untold, a.campaign.stepsDown(e))
	}
	if cause != CauseReleased {
		h.posted = append(h.posted, h.tellUntold)
	}
}

// reliedOn reports whether the end of a lease is worth a warning. It is not where only the observer
// has the handle watched: a lock may be meant to run out.
func (h *Handle) reliedOn() bool {
	return !h.ringing || h.renewal.On || h.done != nil || len(h.contexts) > 0
}

// warnLocked logs a loss after all: there is a Release.
func (h *Handle) warnLocked() {
	if a := h.account; a != nil && a.unlogged != nil {
		h.l.log.Observe(*a.unlogged)
		a.unlogged = nil
	}
}

// tellUntold tells the observer what has been noted in the account. The log has it already.
func (h *Handle) tellUntold() {
	if h.account == nil {
		return
	}
	h.mu.Lock()
	events := h.account.untold
	h.account.untold = nil
	h.unlock()
	for _, e := range events {
		h.l.observer.Observe(e)
	}
}

// releaseDone notes the end of a Release that began then.
func (h *Handle) releaseDone(ctx context.Context, start time.Time) {
	h.mu.Lock()
	defer h.unlock()
	e := ReleaseDone{
		Context: ctx, Resources: h.claim.Resources(), Start: start, Duration: time.Since(start),
		Locker: h.l.number,
		Lock:   h.account.lock, Err: h.released,
	}
	if h.err != ErrReleased {
		e.Overrun = max(0, start.Sub(h.account.ended))
	}
	h.account.untold = append(h.account.untold, e)
}

// renewalDoneLocked has a renewal told that has ended with so much of the former lease left.
func (h *Handle) renewalDoneLocked(r *protocol.Round, outcome quorum.Outcome, left time.Duration,
	failures int) {
	if h.account == nil && failures == 0 {
		return // not even the log would tell it
	}
	e := ExtendDone{
		Resources: h.claim.Resources(), Start: r.Start(), Duration: time.Since(r.Start()),
		Renewal: true,
		TTL:     r.TTL(), Left: max(0, left), Healed: r.Healed(), Failures: failures,
		Err: h.cameOf(r, outcome, h.err),
	}
	if h.account != nil {
		e.Locker, e.Lock = h.l.number, h.account.lock
	}
	if h.err == nil {
		e.Validity = max(0, time.Until(h.lease.End()))
	}
	h.posted = append(h.posted, func() { h.l.tell(e) })
}

// extendTold is extend for a handle that somebody observes.
func (h *Handle) extendTold(ctx context.Context, ttl time.Duration) error {
	start, before := time.Now(), h.ValidUntil()
	healed, err := h.extend(ctx, ttl)
	now := time.Now()
	e := ExtendDone{
		Context: ctx, Resources: h.claim.Resources(), Start: start, Duration: now.Sub(start),
		TTL:  ttl,
		Left: max(0, before.Sub(now)), Healed: healed, Locker: h.l.number, Lock: h.account.lock,
		Err: err,
	}
	if h.Err() == nil {
		e.Validity = max(0, h.ValidUntil().Sub(now))
	}
	h.l.tell(e)
	return err
}

// heard tells how a call to a node ended.
func (l *Locker) heard(h protocol.Heard) {
	var refusal *protocol.Refusal
	l.tell(NodeCall{
		Context: h.Context, Resources: h.Resources, Node: h.Node, Addr: l.nodes.Addr(h.Node),
		Op:    h.Op,
		Start: h.Start, Duration: h.Took, Batch: h.Batch, Late: h.Late,
		Refused: errors.As(h.Err, &refusal), Err: forPeople(h.Err),
	})
}

// heardIfObserved returns heard, or nil without an observer: then no answer is looked at twice.
func (l *Locker) heardIfObserved() func(protocol.Heard) {
	if l.observer == nil {
		return nil
	}
	return l.heard
}

// trouble tells of what no caller learns otherwise.
func (l *Locker) trouble(t protocol.Trouble) {
	switch t.Kind {
	case protocol.NodeFails, protocol.NodeAnswers:
		l.tell(NodeState{
			Node: t.Node, Addr: t.Addr, Up: t.Kind == protocol.NodeAnswers, Reachable: t.Reachable,
			Needed: t.Needed, Op: t.Op, Err: t.Err, Down: t.For, Failed: t.Calls, Stayed: t.Stays,
		})
	default:
		l.log.trouble(t)
	}
}
