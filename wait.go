package redlock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rediskit/redlock/internal/deadlock"
	"github.com/rediskit/redlock/internal/jitter"
	"github.com/rediskit/redlock/internal/queue"
)

// over returns why there is no point in going on, or nil.
func (l *Locker) over(ctx context.Context) error {
	if _, closed := l.closedAt(); closed {
		return ErrClosed
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// sleep waits for d, or until ctx ends or the Locker is closed; then it returns the cause.
func (l *Locker) sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.life.Done():
		return ErrClosed
	}
}

// wait is a call that tries again and again.
type wait struct {
	l         *Locker
	plan      *plan
	op        string
	resources []string
	outer     context.Context // the caller's
	ctx       context.Context // with the maximum wait
	cancel    context.CancelFunc
	attempts  int
	line      inLine
	place     func() string // the name in the nodes' queues, or ""
	next      time.Duration // the next pause
	longest   time.Duration
	stranger  string    // see compete; "" before the first
	reason    error     // of the last attempt that came to its end
	tried     time.Time // when the latest attempt began
	// outage is when the first of the last attempts began that all found no quorum; zero: none did.
	outage    time.Time
	maxOutage time.Duration
	began     time.Time
	watching  *deadlock.Watch // for deadlocks; nil: nobody does
}

// inLine is a waiter or a watcher of the queue.
type inLine interface {
	Wait(ctx context.Context, d time.Duration) error
	Seen() (held bool, err error)
}

func (l *Locker) newWait(ctx context.Context, op string, p *plan, began time.Time,
	q inLine) *wait {
	w := &wait{
		l: l, plan: p, op: op, resources: p.keys.Resources, outer: ctx, ctx: ctx, cancel: func() {},
		line: q, next: p.retryInterval, longest: min(8*p.retryInterval, queue.MostPause),
		maxOutage: p.maxOutage, began: began,
	}
	if p.maxWait > 0 {
		w.ctx, w.cancel = context.WithDeadlineCause(ctx, began.Add(p.maxWait),
			fmt.Errorf("the maximum wait of %v is over", p.maxWait))
	}
	return w
}

// turn waits until it is this wait's turn to ask the nodes, and returns what ends it before.
func (w *wait) turn(q *queue.Waiter) (cause error) {
	handed, cause := q.Turn(w.ctx)
	if handed { // the nodes have been told, and call when it is this one's turn
		cause = q.Wait(w.ctx, jitter.Around(w.outer, min(w.next, w.longest)))
	}
	return cause
}

// turnAgain is turn for a wait that has asked the nodes in an outage, which is over: err is how its
// last attempt has failed. It returns the call's error where there will be no other.
func (w *wait) turnAgain(q *queue.Waiter, err error) error {
	w.reason = err
	w.outageOver()
	if cause := w.turn(q); cause != nil {
		return w.gaveUp(cause, err)
	}
	return nil
}

// attemptContext returns the context of the next attempt.
func (w *wait) attemptContext() context.Context {
	w.attempts++
	w.tried = time.Now()
	if w.attempts == 1 {
		return w.outer
	}
	return w.ctx
}

// pause waits until the next attempt is due: after a pause that doubles from one to the next, up to
// the longest, and is spread at random by half of itself; or sooner, after hint. It returns the
// call's error where there will be no next attempt.
func (w *wait) pause(hint time.Duration, err error) error {
	if !cutShort(err) {
		w.reason = err
	}
	if errors.Is(err, ErrMisconfigured) {
		return err
	}
	w.noteOutage(err)
	d := min(jitter.Around(w.outer, min(w.next, w.longest)), hint)
	w.next = min(2*w.next, w.longest)
	if w.maxOutage > 0 && !w.outage.IsZero() {
		left := time.Until(w.outage.Add(w.maxOutage))
		if left <= 0 {
			return err
		}
		d = min(d, left)
	}
	cause := w.l.over(w.ctx)
	if cause == nil {
		w.plan.account.waits(w.l, w.plan, err)
		cause = w.line.Wait(w.ctx, d)
	}
	if cause == nil {
		return nil
	}
	return w.gaveUp(cause, err)
}

// atOnce is pause without a pause.
func (w *wait) atOnce(err error) error {
	next := w.next
	err = w.pause(0, err)
	w.next = next
	return err
}

// atLeast makes the next pause as long as d, but not longer than the longest.
func (w *wait) atLeast(d time.Duration) { w.next = min(max(w.next, d), w.longest) }

// compete makes the next pause short where others, who poll, have got the lock since the latest
// attempt: nobody is called when they release it. This wait then asks as often as all those would
// for whom it asks. While one stranger keeps the lock, the pauses grow as they always do.
func (w *wait) compete(stranger string, waiters int) {
	if stranger == "" || stranger == w.stranger {
		return
	}
	w.stranger = stranger
	if waiters > 0 {
		w.next = max(w.plan.retryInterval/time.Duration(2*waiters),
			min(w.plan.retryInterval, leastPause))
	}
}

// leastPause is between the attempts that are made for many.
const leastPause = 5 * time.Millisecond

// noteOutage keeps track of whether the nodes are out of reach, and tells the logger once when a
// wait begins to wait for them.
func (w *wait) noteOutage(err error) {
	switch {
	case cutShort(err):
	case !errors.Is(err, ErrNoQuorum):
		w.outageOver()
	case w.outage.IsZero():
		w.outage = w.tried
		w.l.log.warn("waiting for an outage to end", "op", w.op, "resources", w.resources,
			"error", err)
	}
}

// outageOver says that the nodes are in reach again.
func (w *wait) outageOver() {
	if !w.outage.IsZero() {
		w.l.log.info("outage is over", "op", w.op, "resources", w.resources,
			"lasted", time.Since(w.outage))
		w.outage = time.Time{}
	}
}

// gaveUp is the error of a wait that cause has ended. Its reason is that of the last attempt that
// came to its end, here or of somebody for whom this one has waited, if there was one.
func (w *wait) gaveUp(cause, last error) error {
	if err := w.inVain(cause); err != nil {
		return err
	}
	if cause == ErrClosed {
		return stateError(w.op, w.resources, ErrClosed)
	}
	reason := w.reason
	if reason == nil {
		reason = w.seenHere()
	}
	if reason != nil {
		return interrupt(w.outer, cause, reason)
	}
	return last
}

// seenHere is what those who wait here last saw, as a reason; nil: nothing is known yet.
func (w *wait) seenHere() error {
	held, err := w.line.Seen()
	if held {
		return stateError(w.op, w.resources, ErrHeld)
	}
	return err
}

// errBehind is for a wait that nobody's attempt has shown anything yet.
var errBehind = errors.New("others of this Locker are still asking for it")

// behind is what a wait comes to that cause has ended before its turn has come.
func (w *wait) behind(cause error) error {
	return cutAttempt(w.outer, cause, stateError(w.op, w.resources, errBehind))
}
