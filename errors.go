package redlock

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// What an operation can end with. Tell them apart with [errors.Is].
var (
	// ErrHeld means that somebody else has the resource, or that several competitors have split the nodes among
	// them. Trying again later makes sense.
	ErrHeld = errors.New("redlock: held by another owner")

	// ErrNoQuorum means that too few nodes answered: an outage, not contention.
	ErrNoQuorum = errors.New("redlock: no quorum of nodes answered")

	// ErrLost means that the lock expired, was taken over, or can no longer be proved to be held.
	ErrLost = errors.New("redlock: lock lost")

	// ErrReleased means that the handle was released before.
	ErrReleased = errors.New("redlock: lock released")

	// ErrClosed means that the Locker was closed.
	ErrClosed = errors.New("redlock: locker closed")
)

// QuorumError says what each node answered where an operation fell short of a quorum. It matches [ErrHeld] or
// [ErrNoQuorum], and the errors of its nodes.
type QuorumError struct {
	Op    string      // "acquire", "extend", "release", "inspect" or "adopt"
	Need  int         // nodes that make a quorum
	Got   int         // nodes that did what was asked
	Nodes []NodeError // what the others said, by node

	resources []string
	reason    error
	detail    string // for people; may be empty
}

// NodeError is what one node said.
type NodeError struct {
	Node int // index into the list given to New
	Err  error
}

// Error names the operation, the resources and what each node said.
func (e *QuorumError) Error() string {
	msg := fmt.Sprintf("%s: %d nodes agreed, %d needed", &opError{e.Op, e.resources, e.reason, e.detail}, e.Got, e.Need)
	if len(e.Nodes) > 0 {
		msg += ": " + e.said()
	}
	return msg
}

// said lists the nodes' answers.
func (e *QuorumError) said() string {
	said := make([]string, len(e.Nodes))
	for i, n := range e.Nodes {
		said[i] = fmt.Sprintf("node %d: %v", n.Node, n.Err)
	}
	return strings.Join(said, "; ")
}

// Unwrap returns ErrHeld or ErrNoQuorum, and the nodes' errors. A node's error that looks like the end of a context (a
// network timeout does) is left out: no context of the caller has ended.
func (e *QuorumError) Unwrap() []error {
	errs := make([]error, 0, len(e.Nodes)+1)
	if e.reason != nil {
		errs = append(errs, e.reason)
	}
	for _, n := range e.Nodes {
		if !errors.Is(n.Err, context.DeadlineExceeded) && !errors.Is(n.Err, context.Canceled) {
			errs = append(errs, n.Err)
		}
	}
	return errs
}

// refusal is a node's answer that a key is not ours. It is no ErrHeld: what one node says decides nothing.
type refusal struct {
	resource string
	gone     bool          // the key does not exist; the rest is unset
	owner    string        // the value under the key
	left     time.Duration // until the key expires; negative: never
}

func (r *refusal) Error() string {
	switch {
	case r.gone:
		return fmt.Sprintf("%s is gone", quote(r.resource))
	case r.left < 0:
		return fmt.Sprintf("%s is held by %s and never expires", quote(r.resource), quote(ownerLabel(r.owner)))
	default:
		return fmt.Sprintf("%s is held by %s for %v more", quote(r.resource), quote(ownerLabel(r.owner)), r.left)
	}
}

// lost turns what the nodes said into an ErrLost. It matches neither ErrHeld nor ErrNoQuorum: a loss is a loss.
func (e *QuorumError) lost() error { return &opError{e.Op, e.resources, ErrLost, e.said()} }

// opError says what an operation on some resources ended with.
type opError struct {
	op        string
	resources []string
	err       error
	detail    string // for people; may be empty
}

func (e *opError) Error() string {
	msg := fmt.Sprintf("redlock: %s %s: %s", e.op, quoted(e.resources), strings.TrimPrefix(fmt.Sprint(e.err), "redlock: "))
	if e.detail != "" {
		msg += ": " + e.detail
	}
	return msg
}

func (e *opError) Unwrap() error { return e.err }

// stateError is err, which may be ErrLost, ErrReleased, ErrClosed or the cause of a context, as the answer to op.
func stateError(op string, resources []string, err error) error {
	return &opError{op, resources, err, ""}
}

// quoted lists resources for a message, without flooding it.
func quoted(resources []string) string {
	const most = 3
	var b strings.Builder
	for i, r := range resources {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(resources)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(quote(r))
	}
	return b.String()
}

// quote makes a name fit for a message, however long it is and whatever it holds.
func quote(name string) string {
	const most = 64
	if len(name) <= most {
		return fmt.Sprintf("%q", name)
	}
	return fmt.Sprintf("%q... (%d bytes)", name[:most], len(name))
}
