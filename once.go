package redlock

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Once runs fn at most once in every interval over all processes that call it with the same name,
// however their clocks and ticks differ, and reports whether it ran here. It makes one attempt:
// where somebody has run fn in this interval, or is running it, Once returns (false, nil). While fn
// runs the lock is renewed, and fn's context ends with it. When fn fails or panics, the next caller
// may try at once.
//
// The interval, 10 ms to 10 years, counts from when fn was begun. The resource stays locked for
// nine tenths of it, or until a minute before its end where that is later: so a tick that comes a
// little early, or a call that was a little late the last time, does not miss an interval. A crash
// should not cost the next intervals: so a TTL that is longer than the interval is cut to that, but
// not below a second, nor below four node timeouts ([WithNodeTimeout]).
//
// Its errors are fn's, joined with [ErrLost] as [Locker.Do] does, and those of [Locker.TryAcquire]
// other than [ErrHeld].
func (l *Locker) Once(ctx context.Context, name string, every time.Duration,
	fn func(ctx context.Context) error, opts ...AcquireOption) (ran bool, err error) {
	if every < minTTL || every > maxTTL {
		return false, fmt.Errorf("redlock: interval must be %v to 10 years, not %v", minTTL, every)
	}
	p, err := l.plan([]string{name}, opts)
	if err != nil {
		return false, err
	}
	p.minHold = every - min(every/10, time.Minute)
	if err := l.checkGuard("nine tenths of the interval", p.minHold); err != nil {
		return false, err
	}
	p.ttl = min(p.ttl, max(every, time.Second, 4*l.nodeTimeout))
	h, err := l.try(ctx, p.renewedUnlessTold())
	if errors.Is(err, ErrHeld) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, l.run(ctx, h, func(ctx context.Context) error {
		failed := true
		defer func() {
			if failed { // before run releases the lock: then nothing is left of it
				h.holdNoLonger()
			}
		}()
		err := fn(ctx)
		failed = err != nil
		return err
	})
}
