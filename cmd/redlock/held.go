package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/redis/go-redis/v9"
	"golang.org/x/term"

	"github.com/rediskit/redlock"
)

// token proves the ownership of a lock. It may begin with a hyphen.
type token string

// Decode is called by kong.
func (t *token) Decode(ctx *kong.DecodeContext) error {
	next := ctx.Scan.Pop()
	if next.IsEOL() {
		return errors.New("expected a token")
	}
	*t = token(next.String())
	if next.Type == kong.UntypedToken {
		*t = token(fmt.Sprint(next.Value))
	}
	return nil
}

// heldFlags name a lock that was taken before.
type heldFlags struct {
	Token token    `placeholder:"T" env:"REDLOCK_TOKEN" help:"What acquire has printed. COMMAND of run has it in its environment."`
	Also  []string `sep:"none" placeholder:"NAME" help:"What else was locked with it. May be repeated."`
}

// adopt looks the lock up on the nodes.
func (f *heldFlags) adopt(ctx context.Context, l *locker, name string) (*redlock.Handle, error) {
	if f.Token == "" {
		return nil, errors.New("no token: give --token or set REDLOCK_TOKEN")
	}
	return l.Adopt(ctx, append([]string{name}, f.Also...), string(f.Token))
}

// extendCmd extends a lock.
type extendCmd struct {
	heldFlags

	TTL  time.Duration `name:"ttl" placeholder:"D" default:"30s" help:"How long the lock is to live from now on: 30s by default."`
	Name string        `arg:"" name:"NAME" help:"What was locked."`
}

// Help is shown by kong.
func (*extendCmd) Help() string {
	return `Prints the token that is to be used from then on: a lock that is to end earlier gets a new one. The exit status is 124 if the lock is gone, or somebody else's.`
}

// Run is called by kong.
func (c *extendCmd) Run(g *globals) error {
	return g.with(func(ctx context.Context, l *locker) error {
		h, err := c.adopt(ctx, l, c.Name)
		if err != nil {
			return err
		}
		if err := h.Extend(ctx, c.TTL); err != nil {
			return err
		}
		_, err = fmt.Println(h.Token())
		return err
	})
}

// releaseCmd gives a lock up.
type releaseCmd struct {
	heldFlags

	Force bool   `help:"Take the lock from whoever has it. On a terminal it asks first."`
	Yes   bool   `help:"Do not ask."`
	Name  string `arg:"" name:"NAME" help:"What was locked."`
}

// Help is shown by kong.
func (*releaseCmd) Help() string {
	return `The exit status is 124 if the lock is gone, or somebody else's.

--force is for a lock whose owner is dead and whose TTL is long. An owner that is alive learns of it at its next renewal and goes on until then: two have the lock meanwhile.`
}

// Run is called by kong.
func (c *releaseCmd) Run(g *globals) error {
	if c.Force {
		return c.force(g)
	}
	return g.with(func(ctx context.Context, l *locker) error {
		h, err := c.adopt(ctx, l, c.Name)
		if err != nil {
			return err
		}
		return h.Release(ctx)
	})
}

// force takes the lock from whoever has it, and from nobody who gets it meanwhile. A signal ends
// the process at once, also while it asks.
func (c *releaseCmd) force(g *globals) error {
	if !c.Yes && !term.IsTerminal(int(os.Stdin.Fd())) {
		return errors.New("release --force needs --yes where there is no terminal to ask on")
	}
	l, err := g.open()
	if err != nil {
		return err
	}
	defer l.close(closeTime)
	ctx := context.Background()
	status, err := l.Inspect(ctx, c.Name)
	if err != nil {
		return err
	}
	values, errs := onEach(l.clients, func(_ int, node *redis.Client) (string, error) {
		value, err := node.Get(ctx, l.key(c.Name)).Result()
		if errors.Is(err, redis.Nil) {
			return "", nil
		}
		return value, err
	})
	if !status.Locked && strings.Join(values, "") == "" {
		return c.forced(l, errs, quoted(c.Name)+" is free")
	}
	if !c.Yes && !agreed(status) {
		return errors.New("not released")
	}
	return c.forced(l, c.delete(ctx, l, values), quoted(c.Name)+" is released")
}

// deleteValue deletes a key that still has the value that was seen.
var deleteValue = redis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`)

// delete takes the lock off the nodes that have these values.
func (c *releaseCmd) delete(ctx context.Context, l *locker, values []string) []error {
	for _, v := range slices.Compact(slices.Sorted(slices.Values(values))) {
		if v == "" {
			continue
		}
		// A holder's goes as its own release would go, which calls whoever waits. What that leaves
		// behind is deleted below.
		if h, err := l.Adopt(ctx, []string{c.Name}, v); err == nil {
			h.Release(ctx)
		}
	}
	_, errs := onEach(l.clients, func(i int, node *redis.Client) (any, error) {
		if values[i] == "" {
			return nil, node.Ping(ctx).Err()
		}
		return deleteValue.Run(ctx, node, []string{l.key(c.Name)}, values[i]).Result()
	})
	return errs
}

// agreed asks whether a lock is to be taken from its owner.
func agreed(s redlock.Status) bool {
	holder := "nobody has a majority"
	if s.Locked {
		holder = "held by " + quoted(s.Owner) + ", " + expiry(s.TTL)
	}
	fmt.Fprintf(os.Stderr, "redlock: %s: %s. Release it? [y/N] ", quoted(s.Resource), holder)
	var answer string
	fmt.Scanln(&answer) // nothing is a no
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes")
}

// forced says what came of it, where a node may not have done it.
func (c *releaseCmd) forced(l *locker, errs []error, done string) error {
	failed := 0
	for i, err := range errs {
		if err != nil {
			failed++
			complain(fmt.Errorf("%s: %w", nodeName(i, l.clients[i]), err))
		}
	}
	if most := (len(errs) - 1) / 2; failed > most {
		return &exit{codeNoQuorum, fmt.Errorf("%d of %d nodes failed: %s may still be locked",
			failed, len(errs), quoted(c.Name))}
	}
	_, err := fmt.Println(done)
	return err
}
