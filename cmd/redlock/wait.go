package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rediskit/redlock"
)

// waitCmd waits until a lock is free.
type waitCmd struct {
	Wait *time.Duration `short:"w" placeholder:"D" help:"Wait for at most D. By default it waits until the lock is free."`
	Name string         `arg:"" name:"NAME" help:"What is locked."`
}

// Help is shown by kong.
func (*waitCmd) Help() string {
	return `Takes nothing: somebody else may have the lock when it returns. The exit status is 75 if the lock is still held after D, and 69 if it cannot be told.`
}

// Run is called by kong.
func (c *waitCmd) Run(g *globals) error {
	return g.with(func(ctx context.Context, l *locker) error {
		if c.Wait == nil {
			return l.WaitForUnlock(ctx, c.Name)
		}
		// The first look has its time, however short D is.
		status, last := l.Inspect(ctx, c.Name)
		if last == nil && !status.Locked || errors.Is(last, redlock.ErrMisconfigured) {
			return last
		}
		if last == nil {
			last = fmt.Errorf("wait for %s: %w", quoted(c.Name), redlock.ErrHeld)
		}
		limited, cancel := context.WithTimeoutCause(ctx, *c.Wait,
			fmt.Errorf("the maximum wait of %v is over", *c.Wait))
		defer cancel()
		err := l.WaitForUnlock(limited, c.Name)
		if err == nil || errors.Is(err, redlock.ErrHeld) || errors.Is(err, redlock.ErrNoQuorum) ||
			ctx.Err() != nil {
			return err
		}
		return last // D was over before another look
	})
}
