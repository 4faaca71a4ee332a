package otelredlock

import (
	"context"
	"errors"

	"github.com/rediskit/redlock"
)

// outcome is how an acquisition or an extension ended, as an index into names.
type outcome int

const (
	acquired outcome = iota
	held
	noQuorum
	canceled
	deadlock
	closed
	otherError
	outcomes int = iota
)

var outcomeNames = [outcomes]string{"acquired", "held", "no_quorum", "canceled", "deadlock",
	"closed", "error"}

// outcomeOf tells what came of an acquisition. A caller who left a wait has one of two outcomes: an
// outage is an outage whoever has seen it, while a lock that is held is nothing wrong, so that it
// matters that the caller was cancelled. A deadline is a way to say how long to wait: where
// somebody has the lock until then, it is held.
func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return acquired
	case errors.Is(err, redlock.ErrDeadlock):
		return deadlock
	case errors.Is(err, redlock.ErrClosed):
		return closed
	case errors.Is(err, redlock.ErrNoQuorum):
		return noQuorum
	case errors.Is(err, context.Canceled):
		return canceled
	case errors.Is(err, redlock.ErrHeld):
		return held
	case errors.Is(err, context.DeadlineExceeded):
		return canceled
	}
	return otherError
}

// renewal is how an extension ended, as an index into renewalNames.
type renewal int

const (
	extended renewal = iota
	unanswered
	denied
	failed
	renewals int = iota
)

var renewalNames = [renewals]string{"extended", "no_quorum", "lost", "error"}

func renewalOf(err error) renewal {
	switch {
	case err == nil:
		return extended
	case errors.Is(err, redlock.ErrLost):
		return denied
	case errors.Is(err, redlock.ErrNoQuorum):
		return unanswered
	}
	return failed
}

// reply is how a call to a node ended, as an index into replyNames.
type reply int

const (
	yes reply = iota
	no
	late
	broken
	replies int = iota
)

var replyNames = [replies]string{"ok", "refused", "late", "error"}

func replyOf(e redlock.NodeCall) reply {
	switch {
	case e.Err != nil && !e.Refused:
		return broken
	case e.Late:
		return late
	case e.Refused:
		return no
	}
	return yes
}

// ops are what the nodes are asked for, as an index: see opOf.
var ops = [...]string{"acquire", "extend", "release", "inspect", "adopt", "other"}

func opOf(op string) int {
	for i, known := range ops {
		if op == known {
			return i
		}
	}
	return len(ops) - 1
}

// flag makes an index of yes or no.
func flag(on bool) int {
	if on {
		return 1
	}
	return 0
}
