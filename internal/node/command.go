package node

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// A call goes out as one EVALSHA. Several that wait together go out in one pipeline.

// command is a call on the wire.
type command struct {
	call *Call
	cmd  *redis.Cmd
}

// errNil stands for a script's nil reply. go-redis's own would count as an error of the server's,
// and so as proof that the script has not run.
var errNil = errors.New("unexpected reply nil")

// exchange sends a batch and waits for the replies.
func (n *Node) exchange(ctx context.Context, t *trip) {
	for _, c := range t.batch {
		t.commands = append(t.commands, command{call: c})
	}
	n.pass(ctx, t, t.commands, false)
	// The calls of a batch belong to different owners, so their order does not matter.
	if unknown := which(t.commands, notCached); len(unknown) > 0 {
		n.passUnknown(n.renewed(ctx, t), t, unknown)
		merge(t.commands, unknown)
	}
	for i := range t.commands {
		t.commands[i].finish()
	}
	clear(t.commands)
	t.commands = t.commands[:0]
}

// passUnknown sends commands again whose scripts the server's cache does not have: as text, or, if
// they have a guard, by their digests once it lets the server have the text.
func (n *Node) passUnknown(ctx context.Context, t *trip, unknown []command) {
	guarded := which(unknown, func(c *command) bool { return c.call.Script.guard > 0 })
	if len(guarded) < len(unknown) {
		plain := which(unknown, func(c *command) bool { return c.call.Script.guard == 0 })
		n.pass(ctx, t, plain, true)
		merge(unknown, plain)
	}
	if len(guarded) == 0 {
		return
	}
	if admitted := n.admit(n.renewed(ctx, t), guarded); len(admitted) > 0 {
		n.pass(n.renewed(ctx, t), t, admitted, false)
		merge(unknown, admitted)
	}
}

// pass sends commands in a pipeline, by their scripts' digests or as text.
//
// When go-redis decides whether to try a pipeline again, and whether to drop the connection, it
// looks at the first command only. So the commands after it that got an error on which it would
// act go into a pipeline of their own, where it sees one: else it would keep the connection to a
// demoted primary for ever.
func (n *Node) pass(ctx context.Context, t *trip, commands []command, text bool) {
	pipeline(ctx, n.client, commands, text)
	if len(commands) == 1 || actedOn(&commands[0]) {
		return
	}
	if hidden := which(commands, actedOn); len(hidden) > 0 {
		pipeline(n.renewed(ctx, t), n.client, hidden, text)
		merge(commands, hidden)
	}
}

// which returns the commands for which is says yes.
func which(commands []command, is func(*command) bool) []command {
	var some []command
	for i := range commands {
		if is(&commands[i]) {
			some = append(some, commands[i])
		}
	}
	return some
}

// merge takes over the replies of some of the commands, in their order.
func merge(commands, some []command) {
	for i := range commands {
		if len(some) > 0 && commands[i].call == some[0].call {
			commands[i], some = some[0], some[1:]
		}
	}
}

// pipeline makes one round trip.
func pipeline(ctx context.Context, client Client, commands []command, text bool) {
	if len(commands) == 1 {
		alone(ctx, client, &commands[0], text)
		return
	}
	size := 0
	for i := range commands {
		size += commands[i].size()
	}
	args := make([]any, 0, size) // of all commands: one allocation
	pipe := client.Pipeline()
	for i := range commands {
		start := len(args)
		args = commands[i].appendTo(args, text)
		commands[i].prepare(ctx, args[start:len(args):len(args)])
		_ = pipe.Process(ctx, commands[i].cmd)
	}
	_, err := pipe.Exec(ctx)
	for i := range commands {
		// go-redis does not tell each command that it got no connection (v9.7).
		if cmd := commands[i].cmd; err != nil && cmd.Err() == nil && cmd.Val() == nil {
			cmd.SetErr(err)
		}
	}
}

// alone sends a single command. What wraps a client of go-redis gets it as EvalSha, the method
// that it may have made its own; the clients themselves get it with fewer allocations.
func alone(ctx context.Context, client Client, c *command, text bool) {
	script, call := c.call.Script, c.call
	switch client := client.(type) {
	case *redis.Client:
		c.prepare(ctx, c.appendTo(make([]any, 0, c.size()), text))
		_ = client.Process(ctx, c.cmd)
	case *redis.ClusterClient:
		c.prepare(ctx, c.appendTo(make([]any, 0, c.size()), text))
		_ = client.Process(ctx, c.cmd)
	default:
		if text {
			c.cmd = client.Eval(ctx, script.source.(string), call.Keys, call.Args...)
		} else {
			c.cmd = client.EvalSha(ctx, script.digest.(string), call.Keys, call.Args...)
		}
	}
}

// keyPosition is where the keys of EVALSHA begin.
const keyPosition = 3

func (c *command) size() int { return keyPosition + len(c.call.Keys) + len(c.call.Args) }

// appendTo adds the words of the command to args.
func (c *command) appendTo(args []any, text bool) []any {
	if text {
		args = append(args, "eval", c.call.Script.source)
	} else {
		args = append(args, "evalsha", c.call.Script.digest)
	}
	args = append(args, len(c.call.Keys))
	if c.call.KeyArgs != nil {
		args = append(args, c.call.KeyArgs...)
	} else {
		for _, key := range c.call.Keys {
			args = append(args, key)
		}
	}
	return append(args, c.call.Args...)
}

func (c *command) prepare(ctx context.Context, args []any) {
	c.cmd = redis.NewCmd(ctx, args...)
	if len(c.call.Keys) > 0 {
		c.cmd.SetFirstKeyPos(keyPosition)
	}
	// Recent versions of go-redis (v9.23 is one) ask a random node of a cluster for the list of
	// all commands before they send one by itself that does not say this, and hold up all others
	// while that node hangs.
	if cmd, ok := any(c.cmd).(interface{ SetStepCount(int8) }); ok {
		cmd.SetStepCount(1)
	}
}

// finish hands the call its reply.
func (c *command) finish() {
	before := c.call.Err
	c.call.Reply, c.call.Err = c.cmd.Val(), unquoted(c.cmd.Err())
	if c.call.Err != nil {
		c.call.Reply = nil
	}
	if c.call.Err == redis.Nil {
		c.call.Err = errNil
	}
	if c.call.failures > 0 && before != nil && errors.Is(c.call.Err, context.Canceled) {
		c.call.Err = cutShort(before)
	}
}

// cutTry is the error of a repetition that Close has cut short. It has shown nothing: a call that
// is given up then says why it failed before.
type cutTry struct{ before error }

func (*cutTry) Error() string { return context.Canceled.Error() }
func (*cutTry) Unwrap() error { return context.Canceled }

func cutShort(before error) error {
	if _, again := before.(*cutTry); again {
		return before
	}
	return &cutTry{before}
}

// unquoted returns an error reply without the arguments that it quotes: one of them is a token,
// which must not get into logs.
func unquoted(err error) error {
	if err == nil || !answered(err) {
		return err
	}
	if said, _, quotes := strings.Cut(err.Error(), ", with args "); quotes {
		return reply(said)
	}
	return err
}

func notCached(c *command) bool {
	err := c.cmd.Err()
	return err != nil && redis.HasErrorPrefix(err, "NOSCRIPT")
}

// actsOn has the errors that make go-redis try a command again or drop its connection, or do both.
var actsOn = []string{
	"READONLY ", "LOADING ", "MASTERDOWN ", "CLUSTERDOWN ", "TRYAGAIN ", "NOREPLICAS ", "MOVED ",
	"max number of clients reached",
}

func actedOn(c *command) bool { return hasPrefix(c.cmd.Err(), actsOn) }

// hasPrefix reports whether err is the server's and begins with one of the prefixes.
func hasPrefix(err error, prefixes []string) bool {
	return err != nil && slices.ContainsFunc(prefixes, func(prefix string) bool {
		return redis.HasErrorPrefix(err, prefix)
	})
}
