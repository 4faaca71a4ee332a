package redlock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rediskit/redlock/internal/jitter"
)

// acquire tries until it has the lock, ctx ends, the longest wait is over or the Locker is closed.
func (l *Locker) acquire(ctx context.Context, p *plan) (*Handle, error) {
	if p.maxWait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, p.maxWait, fmt.Errorf("the maximum wait of %v is over", p.maxWait))
		defer cancel()
	}
	var reason error // of the last attempt that came to its end
	for pauses := newBackoff(p.retryInterval); ; {
		h, hint, err := l.attempt(ctx, p)
		if err == nil {
			return h, nil
		}
		if !cutShort(err) {
			reason = err
		}
		cause := l.over(ctx)
		if cause == nil {
			cause = l.sleep(ctx, min(pauses.next(ctx), hint))
		}
		if cause != nil {
			return nil, gaveUp("acquire", p.resources, cause, reason, err)
		}
	}
}

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

// cutShort reports whether err is of an attempt that ctx or Close ended.
func cutShort(err error) bool {
	var q *QuorumError
	var cut *interrupted
	return errors.As(err, &cut) || !errors.As(err, &q)
}

// gaveUp is the error of a wait that cause has ended. Its reason is that of the last attempt that came to its end, if there
// was one.
func gaveUp(op string, resources []string, cause, reason, last error) error {
	switch {
	case cause == ErrClosed:
		return stateError(op, resources, ErrClosed)
	case reason != nil:
		return &interrupted{cause, reason}
	default:
		return last
	}
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
	case <-l.closing:
		return ErrClosed
	}
}

// backoff is a pause that doubles from one try to the next, up to eight times the first, and is spread at random by half of
// itself.
type backoff struct{ pause, most time.Duration }

func newBackoff(first time.Duration) *backoff { return &backoff{pause: first, most: 8 * first} }

func (b *backoff) next(ctx context.Context) time.Duration {
	d := b.pause
	b.pause = min(2*d, b.most)
	return jitter.Around(ctx, d)
}
