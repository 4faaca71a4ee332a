package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/rediskit/redlock"
)

// runCmd runs a command under a lock.
type runCmd struct {
	lockFlags

	Grace   *time.Duration `short:"k" placeholder:"D" help:"If the lock cannot be renewed, send TERM to COMMAND so long before it ends: 5s by default, or a quarter of the TTL if that is less. At its end COMMAND is killed."`
	Name    string         `arg:"" name:"NAME" help:"What to lock."`
	Command []string       `arg:"" passthrough:"partial" name:"COMMAND" help:"What to run, and its arguments."`
}

// defaultGrace is the grace where no flag says another one.
const defaultGrace = 5 * time.Second

// Help is shown by kong.
func (*runCmd) Help() string {
	return `COMMAND gets the standard input, the environment and the signals that redlock gets, and REDLOCK_RESOURCE, REDLOCK_TOKEN and (with fencing) REDLOCK_FENCE. The lock is renewed while it runs, and released when it ends.

    redlock run -n invoices -- ./send-invoices --all     # skip it if another host does it
    redlock run -w 10m -k 30s deploy -- ./deploy.sh      # queue up for ten minutes`
}

// Validate is called by kong.
func (c *runCmd) Validate() error {
	if err := c.lockFlags.Validate(); err != nil {
		return err
	}
	// Kong leaves in the -- that stands in front of COMMAND.
	if len(c.Command) > 0 && c.Command[0] == "--" {
		c.Command = c.Command[1:]
	}
	if len(c.Command) == 0 || c.Command[0] == "" {
		return errors.New("expected a command to run")
	}
	// A lock that is in order is renewed when a third of its TTL has passed.
	if longest := c.lease() / 2; c.grace() > longest {
		return fmt.Errorf("--grace must be at most half of the TTL, %v, not %v", longest, c.grace())
	}
	return nil
}

// grace returns how long before the end of the lock COMMAND is asked to end.
func (c *runCmd) grace() time.Duration {
	if c.Grace != nil {
		return *c.Grace
	}
	return min(defaultGrace, c.lease()/4)
}

// Run is called by kong.
func (c *runCmd) Run(g *globals) error {
	path, err := lookUp(c.Command[0])
	if err != nil {
		return err
	}
	l, err := g.open()
	if err != nil {
		return err
	}
	signals := listen()
	var h *redlock.Handle
	err = untilSignal(signals, func(ctx context.Context) (err error) {
		h, err = c.take(ctx, l, c.Name, redlock.WithAutoRenewal(true),
			redlock.WithOwner(hostPID(os.Getpid())))
		return err
	})
	if err != nil {
		l.close(closeTime)
		return err
	}
	l.said("locked %s: running %s", quoted(h.Resources()...), c.Command[0])
	cmd, err := start(path, c.Command, c.Name, h)
	if err != nil {
		err = errors.Join(err, h.Release(context.Background()))
		l.close(closeTime)
		return err
	}
	return (&watch{l: l, h: h, cmd: cmd, name: c.Command[0], grace: c.grace(),
		signals: signals}).run()
}
