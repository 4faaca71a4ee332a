package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/rediskit/redlock"
)

// checkCmd says what is wrong with the nodes.
type checkCmd struct{}

// Help is shown by kong.
func (*checkCmd) Help() string {
	return `Looks at each node: whether it answers, is a master, is no other node of the list, and never evicts keys. The exit status is 0 if all is well, 1 if something is wrong, and 69 if too few nodes answer.`
}

// Run is called by kong.
func (c *checkCmd) Run(g *globals) error {
	return g.with(func(ctx context.Context, l *locker) error {
		err := l.Check(ctx)
		switch {
		case err == nil:
			_, err = fmt.Printf("%d of %d nodes are well\n", len(l.clients), len(l.clients))
			return err
		case errors.Is(err, redlock.ErrNoQuorum):
			return &exit{codeNoQuorum, err}
		default:
			return &exit{codeLocked, err}
		}
	})
}
