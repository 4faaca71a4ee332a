package redlock

import (
	"context"
	"errors"
	"time"

	"github.com/rediskit/redlock/internal/jitter"
)

// Lead campaigns for name and runs fn as its leader: no two processes lead at the same time. The
// context that fn gets ends with ctx and with the leadership, before anybody else can be leader;
// then fn should return at once. Campaigning is acquiring name as [Locker.Acquire] does, except
// that it goes on as long as ctx lasts, through outages too: [WithMaxWait] and [WithMaxOutage] have
// no effect. The leadership is renewed unless [WithAutoRenewal] says no; [WithMaxHold] ends each
// term.
//
// When the leadership is lost, or fn returns nil, Lead campaigns again, but not before fn has
// returned. Between two terms of a candidate lies the retry interval ([WithRetryInterval]), more or
// less by half of it, and it doubles, up to eight times that, while terms are shorter than the
// pause: so a function that returns at once does not spin, and one that gives the leadership up
// lets others have it.
//
// Lead returns when ctx ends, with its cause, after fn has returned and the leadership was given
// up: the next leader need not wait for the TTL. It returns fn's error if that is fn's own (joined
// with ctx's cause if that has ended too), but not one that matches [context.Canceled] or the cause
// of fn's context after that has ended. And it returns [ErrClosed], [ErrMisconfigured] where
// campaigning does not help, and an error for invalid arguments.
func (l *Locker) Lead(ctx context.Context, name string, fn func(ctx context.Context) error,
	opts ...AcquireOption) error {
	p, err := l.plan([]string{name}, opts)
	if err != nil {
		return err
	}
	p.maxWait, p.maxOutage = 0, 0
	p.renewedUnlessTold()
	p.campaign = &candidate{}
	pause := p.retryInterval
	for {
		h, err := l.get(ctx, p)
		if err != nil {
			return ownError(ctx, err)
		}
		began := time.Now()
		err = ownError(ctx, l.term(ctx, h, fn))
		if err != nil {
			return err
		}
		if time.Since(began) > pause {
			pause = p.retryInterval
		}
		if err := l.sleep(ctx, jitter.Around(ctx, pause)); err != nil {
			return err
		}
		pause = min(2*pause, 8*p.retryInterval)
	}
}

// term runs fn as the leader and gives the leadership up. It returns fn's error, without what fn
// was told by a leadership that had ended.
func (l *Locker) term(ctx context.Context, h *Handle,
	fn func(ctx context.Context) error) (err error) {
	defer func() { _ = l.letGo(ctx, h) }() // also when fn panics; a loss is no error of Lead's
	err = fn(h.Context(ctx))
	if ended := h.Err(); ended != nil && (errors.Is(err, context.Canceled) ||
		errors.Is(err, ended)) {
		return nil
	}
	return err
}

// ownError returns what a call that ended with err has to say once ctx may have ended too: then
// what that told it is not an error of its own.
func ownError(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	cause := context.Cause(ctx)
	if err == nil || errors.Is(err, ctx.Err()) || errors.Is(err, cause) ||
		errors.Is(err, context.Canceled) {
		return cause
	}
	return errors.Join(err, cause)
}

// candidate is what an observer is told of one call of Lead.
type candidate struct {
	sawLeader time.Time // when a leader was known last; zero: never
}

// saw notes whether an attempt that began then met a leader.
func (c *candidate) saw(began time.Time, err error) {
	if c != nil && errors.Is(err, ErrHeld) {
		c.sawLeader = began
	}
}

// leads is the event of a term that begins.
func (c *candidate) leads(done AcquireDone) LeaderChanged {
	e := LeaderChanged{Context: done.Context, Resources: done.Resources, Leading: true,
		Term: done.Fence}
	if !c.sawLeader.IsZero() {
		e.Gap = time.Since(c.sawLeader)
	}
	return e
}

// stepsDown is the event of a term that ends.
func (c *candidate) stepsDown(end LeaseEnded) LeaderChanged {
	c.sawLeader = end.Start.Add(end.Held)
	return LeaderChanged{Context: end.Context, Resources: end.Resources, Term: end.Fence,
		Cause: end.Cause}
}
