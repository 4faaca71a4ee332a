package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
)

// checkCmd says what is wrong with the nodes.
type checkCmd struct{}

// Help is shown by kong.
func (*checkCmd) Help() string {
	return `Looks at each node: whether it answers, is a master, is no other node of the list, and never evicts keys. The exit status is 0 if all is well, 1 if something is wrong, and 69 if too few nodes answer.`
}

// checker says, node by node, what is wrong before it hurts.
type checker interface {
	Check(ctx context.Context) error
}

// Run is called by kong.
func (c *checkCmd) Run(g *globals) error {
	return g.with(func(ctx context.Context, l *locker) error {
		var nodes checker = &nodeChecker{l.clients}
		err := nodes.Check(ctx)
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

// nodeChecker checks what a client can ask a node.
type nodeChecker struct{ clients []*redis.Client }

// Check returns an error for each thing that is wrong.
func (c *nodeChecker) Check(ctx context.Context) error {
	runs, errs := onEach(c.clients, func(_ int, node *redis.Client) (string, error) { return checkNode(ctx, node) })
	var all []error
	failed, known := 0, map[string]int{}
	for i, err := range errs {
		var found finding
		if err != nil {
			all = append(all, fmt.Errorf("%s: %w", nodeName(i, c.clients[i]), err))
		}
		if err != nil && !errors.As(err, &found) {
			failed++
			continue
		}
		if first, twice := known[runs[i]]; twice && runs[i] != "" {
			all = append(all, fmt.Errorf("nodes %d and %d are one server: a quorum of them is worth nothing", first, i))
		}
		known[runs[i]] = i
	}
	if failed > (len(c.clients)-1)/2 {
		all = append(all, redlock.ErrNoQuorum)
	}
	return errors.Join(all...)
}

// finding is what is wrong with a node that answers.
type finding string

func (f finding) Error() string { return string(f) }

// checkNode returns which server a node is, and what is wrong with it.
func checkNode(ctx context.Context, node *redis.Client) (run string, err error) {
	if err := node.Ping(ctx).Err(); err != nil {
		return "", err
	}
	text, err := node.Info(ctx).Result()
	if err != nil {
		return "", err
	}
	info := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		info[key] = value
	}
	if role := info["role"]; role != "master" {
		return info["run_id"], finding(fmt.Sprintf("is a %s of %s, not a master", role, info["master_host"]))
	}
	if policy := info["maxmemory_policy"]; info["maxmemory"] != "0" && policy != "noeviction" {
		return info["run_id"], finding(fmt.Sprintf("may evict locks: its maxmemory-policy is %s, and should be noeviction", policy))
	}
	return info["run_id"], nil
}
