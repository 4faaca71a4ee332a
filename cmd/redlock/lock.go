package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/rediskit/redlock"
)

// lockFlags are the flags of the commands that take a lock.
type lockFlags struct {
	NoWait           bool           `short:"n" xor:"wait" help:"Do not wait: fail at once if somebody else has the lock."`
	Wait             *time.Duration `short:"w" xor:"wait" placeholder:"D" help:"Wait for at most D. By default it waits until it has the lock."`
	ConflictExitCode int            `short:"E" name:"conflict-exit-code" placeholder:"N" default:"75" help:"The exit status if somebody else has the lock: 0 to 255, 75 by default. With 0 nothing is said either."`
	TTL              time.Duration  `name:"ttl" placeholder:"D" default:"30s" help:"How long the lock lives if nobody renews it: 30s by default."`
	Also             []string       `sep:"none" placeholder:"NAME" help:"Lock this too: all or nothing. May be repeated."`
	MinHold          time.Duration  `placeholder:"D" help:"Keep it locked for at least D, however soon it is released. For jobs that many hosts start at about the same time."`
	MaxHold          time.Duration  `placeholder:"D" help:"Hold it for at most D. A longer TTL is cut to that."`
	Owner            string         `placeholder:"LABEL" env:"REDLOCK_OWNER" help:"What others see as the owner: host:pid by default."`
}

// Validate is called by kong.
func (f *lockFlags) Validate() error {
	if f.ConflictExitCode < 0 || f.ConflictExitCode > 255 {
		return fmt.Errorf("--conflict-exit-code must be 0 to 255, not %d", f.ConflictExitCode)
	}
	return nil
}

// lease returns for how long the lock lives if nobody renews it.
func (f *lockFlags) lease() time.Duration {
	if f.MaxHold > 0 {
		return min(f.TTL, f.MaxHold)
	}
	return f.TTL
}

// take locks a name and whatever else the flags say.
func (f *lockFlags) take(ctx context.Context, l *locker, name string,
	more ...redlock.AcquireOption) (*redlock.Handle, error) {
	opts := append([]redlock.AcquireOption{
		redlock.WithTTL(f.lease()), redlock.WithMinHold(f.MinHold), redlock.WithMaxHold(f.MaxHold),
	}, more...)
	if f.Owner != "" {
		opts = append(opts, redlock.WithOwner(f.Owner))
	}
	acquire := l.AcquireMulti
	switch {
	case f.NoWait, f.Wait != nil && *f.Wait == 0:
		acquire = l.TryAcquireMulti
	case f.Wait != nil:
		opts = append(opts, redlock.WithMaxWait(*f.Wait))
	}
	h, err := acquire(ctx, f.names(name), opts...)
	if err == nil && ctx.Err() != nil {
		// the signal came too late to keep the lock from being taken
		err = errors.Join(context.Cause(ctx), h.Release(ctx))
	}
	if err != nil {
		return nil, f.conflict(err)
	}
	return h, nil
}

func (f *lockFlags) names(name string) []string { return append([]string{name}, f.Also...) }

// conflict gives an error the exit code that it is to have.
func (f *lockFlags) conflict(err error) error {
	switch {
	case !errors.Is(err, redlock.ErrHeld):
		return err
	case f.ConflictExitCode == 0:
		return &exit{code: 0}
	default:
		return &exit{f.ConflictExitCode, err}
	}
}

// hostPID is an owner's label: a process, and where it runs.
func hostPID(pid int) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown" // a label for people: not worth failing for
	}
	return fmt.Sprintf("%s:%d", host, pid)
}

// acquireCmd takes a lock for a script.
type acquireCmd struct {
	lockFlags

	Name string `arg:"" name:"NAME" help:"What to lock."`
}

// Help is shown by kong.
func (*acquireCmd) Help() string {
	return `Prints the token that extend and release need. The lock is not renewed: it ends after --ttl, or after --min-hold if that is longer, unless it is extended or released.

    token=$(redlock acquire -n --ttl 10m deploy) || exit
    trap 'redlock release --token="$token" deploy' EXIT

"redlock run" does that, and more, for a single command.`
}

// Run is called by kong.
func (c *acquireCmd) Run(g *globals) error {
	return g.with(func(ctx context.Context, l *locker) error {
		// The owner is who will have the token: redlock is gone in a moment.
		h, err := c.take(ctx, l, c.Name, redlock.WithOwner(hostPID(os.Getppid())))
		if err != nil {
			return err
		}
		l.said("locked %s for %v", quoted(h.Resources()...),
			time.Until(h.ValidUntil()).Round(time.Millisecond))
		_, err = fmt.Println(h.Token())
		return err
	})
}
