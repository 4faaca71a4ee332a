package redlock

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/rediskit/redlock/internal/protocol"
	"github.com/rediskit/redlock/internal/queue"
	"github.com/rediskit/redlock/internal/quorum"
)

// plan is an acquisition whose arguments have been checked.
type plan struct {
	callConfig
	keys    protocol.Keys
	account *account // nil without an observer

	campaign *candidate // of Lead; else nil
}

// plan checks the arguments of an acquisition.
func (l *Locker) plan(resources []string, opts []AcquireOption) (*plan, error) {
	call, err := l.forCall(opts)
	if err != nil {
		return nil, err
	}
	sorted, err := normalise(resources)
	if err != nil {
		return nil, err
	}
	keys := l.nodes.Keys(l.prefix, sorted)
	if misfit, found := l.nodes.Misfit(keys); found {
		return nil, fmt.Errorf("redlock: resource %s cannot be locked on a Redis Cluster: "+
			"because of its braces, the key of its queue would have another slot; "+
			"leave out empty braces, and a } that no { comes before", protocol.Quote(misfit))
	}
	return &plan{callConfig: call, keys: keys}, nil
}

// renewedUnlessTold returns the plan with renewal, unless an option said no.
func (p *plan) renewedUnlessTold() *plan {
	if p.renewal == renewalUnset {
		p.renewal = renewalOn
	}
	return p
}

// firstTTL returns the TTL that the acquisition itself asks for: the minimum hold must outlast a
// crash.
func (p *plan) firstTTL() time.Duration { return max(p.ttl, p.minHold) }

// attempt tries once. It returns the round that tells what the nodes have said, if they were asked.
//
// Whoever stands in the nodes' queues gives its place there; at is nil for those who do not.
func (l *Locker) attempt(ctx context.Context, p *plan,
	at *protocol.Place) (h *Handle, r *protocol.Round, err error) {
	if err := l.enter(ctx, "acquire", p.keys.Resources); err != nil {
		return nil, nil, err
	}
	defer l.leave()
	p.account.tries()
	h, r, err = l.tryOnce(ctx, p, at)
	if err != nil && r.Moving() {
		// On a Redis Cluster that moves a slot, a script with several of its keys has to wait for
		// the end of that, and one with a single key has not.
		// A place in the queues is for a claim on the whole, so the next attempt begins anew.
		apart := *p
		apart.keys = p.keys.Apart()
		h, r, err = l.tryOnce(ctx, &apart, nil)
	}
	return h, r, err
}

// tryOnce asks the nodes for the lock, and takes back what some have granted if it cannot be had.
func (l *Locker) tryOnce(ctx context.Context, p *plan,
	at *protocol.Place) (*Handle, *protocol.Round, error) {
	// A fresh token for each attempt: no late clean-up of one can hurt the next.
	h := l.newHandle(p, protocol.NewToken(p.owner))
	l.propose(ctx, h)
	won, cause := l.ask(ctx, h, p.firstTTL(), at)
	r, outcome := won, won.Outcome() // one look: a grant that comes after it has not been fenced
	if outcome == quorum.Won {
		r, cause = l.fence(ctx, h, won, won.Lease())
		outcome = r.Outcome()
	}
	var err error
	if outcome != quorum.Won {
		err = l.quorumError(r, p.keys.Resources)
	} else if err = h.begin(won, won.Lease(), p); err == nil {
		return h, r, nil
	}
	if outcome == quorum.Unreachable {
		h.claim.StepAside()
	}
	cleaned := h.claim.Abandon()
	if cause != nil {
		return nil, r, cutAttempt(ctx, cause, err)
	}
	if cleaned != nil && at == nil {
		// What was granted is gone before anybody tries again. A straggler is followed in the
		// background.
		cleaned.Wait(ctx)
	}
	return nil, r, err
}

// ask asks the nodes for the lock. It returns the round that tells what came of it, and what cut it
// short.
func (l *Locker) ask(ctx context.Context, h *Handle, ttl time.Duration,
	at *protocol.Place) (r *protocol.Round, cause error) {
	if at == nil {
		return l.contend(ctx, h, ttl)
	}
	r = h.claim.Stand(ttl, at) // whose turn it is, the queues decide
	r.For(ctx)
	r.Send()
	return r, r.Wait(ctx)
}

// acquire waits for the lock: until it has it, ctx ends, the longest wait is over or the Locker is
// closed, or until an attempt shows that waiting does not help.
func (l *Locker) acquire(ctx context.Context, p *plan) (*Handle, error) {
	if err := l.enter(ctx, "acquire", p.keys.Resources); err != nil {
		return nil, err
	}
	defer l.leave()
	began, polls := time.Now(), 8*p.retryInterval
	t, alone := l.line.Try(p.keys, began)
	if !alone {
		return l.wait(ctx, p, began, l.line.Join(p.keys, polls), nil, nil)
	}
	tried := false
	defer func() {
		if !tried { // an observer has panicked, or ctx: nobody else may wait for this attempt
			t.Join(polls).Leave()
		}
	}()
	// with the whole node timeout, however short the maximum wait is
	h, r, err := l.attempt(ctx, p, nil)
	tried = true
	if err != nil {
		return l.wait(ctx, p, began, t.Join(polls), r, err)
	}
	if q := t.Won(&h.claim, h.ValidUntil()); q != nil {
		h.standing(q)
	}
	return h, nil
}

// wait waits in line. If an attempt has been made before, err is how it failed, and r what the
// nodes have said to it.
func (l *Locker) wait(ctx context.Context, p *plan, began time.Time, q *queue.Waiter,
	r *protocol.Round, err error) (*Handle, error) {
	w := l.newWait(ctx, "acquire", p, began, q)
	defer func() { w.cancel() }()
	w.place = q.Name
	if err != nil {
		w.attempts, w.tried = 1, began
	}
	w.watch(p, nil)
	won := false
	defer func() {
		if !won { // after a panic too
			q.Leave()
		}
	}()
	h, err := l.stand(w, p, q, r, err)
	if err != nil {
		return nil, err
	}
	won = true
	if q.Won(&h.claim, h.ValidUntil()) {
		h.standing(q)
	}
	return h, nil
}

// stand stands in line and tries when it is due. If an attempt has been made, r and err are what
// came of it.
func (l *Locker) stand(w *wait, p *plan, q *queue.Waiter, r *protocol.Round,
	err error) (*Handle, error) {
	if err == nil {
		if q.Behind() {
			p.account.standsInLine(l, p)
		}
		if cause := w.turn(q); cause != nil {
			return l.lastTry(w, p, q, cause)
		}
	}
	var at *protocol.Place
	for {
		if err != nil {
			if err := l.again(w, p, q, r, err, at != nil); err != nil {
				return nil, err
			}
		}
		var h *Handle
		// The first attempt has the whole node timeout, however short the maximum wait is.
		at = q.Place()
		h, r, err = l.attempt(w.attemptContext(), p, at)
		if err == nil {
			l.line.Look(r)
			w.outageOver()
			return h, nil
		}
	}
}

// again waits until another attempt is due after one that has failed. It returns the call's error
// where there will be none.
func (l *Locker) again(w *wait, p *plan, q *queue.Waiter, r *protocol.Round, err error,
	stood bool) error {
	hint := time.Duration(math.MaxInt64)
	if r != nil {
		l.line.Look(r)
		failed(q, r, err)
		w.watch(p, r)
		hint = q.Hint(r.FreeIn())
		defer l.line.Look(r) // when the others have answered
	}
	if errors.Is(err, ErrHeld) && q.BackInLine() {
		return w.turnAgain(q, err)
	}
	if !stood && q.Name() != "" {
		return w.atOnce(err) // to stand in the nodes' queues: only from there is anybody called
	}
	w.atLeast(p.retryInterval * time.Duration(q.Before()+1))
	if r != nil {
		w.compete(r.Stranger(), q.Asks())
	}
	return w.pause(hint, err)
}

// failed tells those who wait here what came of an attempt of the first one.
func failed(q *queue.Waiter, r *protocol.Round, err error) {
	switch {
	case errors.Is(err, ErrHeld):
		q.Refused(r, err)
	case errors.Is(err, ErrNoQuorum):
		q.Unanswered(err)
	}
}

// lastTry is for whoever has had enough before they have tried: where ctx lasts, one attempt shows
// why they have not got the lock.
func (l *Locker) lastTry(w *wait, p *plan, q *queue.Waiter, cause error) (*Handle, error) {
	if err := w.inVain(cause); err != nil {
		return nil, err
	}
	if cause == ErrClosed || w.outer.Err() != nil {
		return nil, w.gaveUp(cause, w.behind(cause))
	}
	h, _, err := l.attempt(w.attemptContext(), p, q.Place())
	if err != nil {
		return nil, w.pause(0, err) // which ends at once, with the call's error
	}
	return h, nil
}
