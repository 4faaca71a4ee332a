package redlock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rediskit/redlock/internal/protocol"
)

// What an operation can end with. Tell them apart with [errors.Is].
var (
	// ErrHeld means that somebody else has the resource, or may have it. Try again later.
	ErrHeld = errors.New("redlock: held by another owner")

	// ErrNoQuorum means that too few nodes answered: an outage, not contention.
	ErrNoQuorum = errors.New("redlock: no quorum of nodes answered")

	// ErrMisconfigured means that so many nodes answered what no waiting mends (credentials,
	// permissions, a missing command, a wrong kind of server) that no quorum is left. It matches
	// ErrNoQuorum too.
	ErrMisconfigured error = outage("redlock: the nodes or their clients are not set up for locks")

	// ErrLost means that the lock expired, was taken over, or can no longer be proved to be held.
	ErrLost = errors.New("redlock: lock lost")

	// ErrReleased means that the handle was released before.
	ErrReleased = errors.New("redlock: lock released")

	// ErrClosed means that the Locker was closed.
	ErrClosed = errors.New("redlock: locker closed")
)

// outage is a sentinel that matches [ErrNoQuorum] too.
type outage string

func (o outage) Error() string { return string(o) }

func (outage) Unwrap() error { return ErrNoQuorum }

// QuorumError says what each node said where an operation fell short of a quorum. It matches
// [ErrHeld] or [ErrNoQuorum], and the errors of its nodes.
type QuorumError struct {
	Op    string      // "acquire", "extend", "release", "inspect" or "adopt"
	Need  int         // nodes that make a quorum
	Got   int         // nodes that did what was asked
	Nodes []NodeError // what the others said, by node

	voters    int // nodes that could agree
	resources []string
	reason    error  // ErrHeld, ErrNoQuorum or ErrMisconfigured; nil: made by hand
	detail    string // for people; may be empty
}

// NodeError is what one node said.
type NodeError struct {
	Node int    // index into the list given to New
	Addr string // as the client has it, "" where it cannot be told
	Err  error  // a *HeldError, a *QuarantineError, what the server or the network said, or silence
}

// HeldError is one node's word that a key is somebody else's. It matches no sentinel by itself:
// what one node says decides nothing.
type HeldError struct {
	Resource string
	Owner    string        // the label; "" where the lock is not this library's
	TTL      time.Duration // what is left of it; negative: it never expires

	waited bool // it is nobody's at the moment, but others wait for it
}

// Error names the resource, its owner and how long the lock still lives; or says that others wait
// for it, who come first.
func (e *HeldError) Error() string {
	if e.waited {
		return fmt.Sprintf("%s is free, but others wait for it", protocol.Quote(e.Resource))
	}
	owner := "an unknown owner"
	if e.Owner != "" {
		owner = protocol.Quote(e.Owner)
	}
	if e.TTL < 0 {
		return fmt.Sprintf("%s is held by %s and never expires", protocol.Quote(e.Resource), owner)
	}
	return fmt.Sprintf("%s is held by %s for %v more", protocol.Quote(e.Resource), owner, e.TTL)
}

// quorumError describes a round that was not won.
func (l *Locker) quorumError(r *protocol.Round, resources []string) *QuorumError {
	s := r.Shortfall()
	e := &QuorumError{
		Op: s.Op, Need: s.Need, Got: s.Got, Nodes: l.answers(s), voters: s.Voters,
		resources: resources, reason: ErrNoQuorum,
	}
	if s.Held {
		e.reason = ErrHeld
		return e
	}
	wrong := 0
	for _, n := range e.Nodes {
		hint, ok := misconfigured(n.Err)
		if ok {
			wrong++
		}
		if hint != "" && e.detail == "" {
			e.detail = hint
		}
	}
	switch {
	case wrong > s.Voters-s.Need:
		e.reason = ErrMisconfigured
	case e.detail == "" && slices.ContainsFunc(e.Nodes, tooSlow):
		e.detail = "a node that is far away needs a longer WithNodeTimeout"
	case e.detail == "" && slices.ContainsFunc(e.Nodes,
		func(n NodeError) bool { return hungUp(n.Err) }):
		e.detail = "a server that closes connections may have as many clients as its maxclients " +
			"allows"
	}
	return e
}

// answers turns what the nodes said into errors for people.
func (l *Locker) answers(s *protocol.Shortfall) []NodeError {
	nodes := make([]NodeError, len(s.Answers))
	for i, a := range s.Answers {
		nodes[i] = NodeError{a.Node, a.Addr, forPeople(a.Err)}
	}
	return nodes
}

// forPeople returns what a node said as users may see it: without the owner's token.
func forPeople(err error) error {
	var refused *protocol.Refusal
	if errors.As(err, &refused) && !refused.Gone {
		label, _ := protocol.Label(refused.Owner)
		return &HeldError{refused.Resource, label, refused.Left, refused.Waited}
	}
	if q, ok := quarantined(err); ok {
		return q
	}
	return err
}

// tooSlow reports whether a node just did not answer, for all that is known.
func tooSlow(n NodeError) bool {
	var silent *protocol.NoAnswer
	return errors.As(n.Err, &silent) && silent.Last == nil
}

// Error names the operation, the resources and what each node said.
func (e *QuorumError) Error() string {
	msg := fmt.Sprintf("%s: %d of %d nodes agreed, %d needed",
		&opError{e.Op, e.resources, e.why(), ""}, e.Got, e.voters, e.Need)
	if len(e.Nodes) > 0 {
		msg += ": " + said(e.Nodes)
	}
	if e.detail != "" {
		msg += " (" + e.detail + ")"
	}
	return msg
}

// why returns the reason. An error that was made by hand, for a test of what is done about it, has
// none but what its nodes say.
func (e *QuorumError) why() error {
	var held *HeldError
	switch {
	case e.reason != nil:
		return e.reason
	case slices.ContainsFunc(e.Nodes, func(n NodeError) bool { return errors.As(n.Err, &held) }):
		return ErrHeld
	default:
		return ErrNoQuorum
	}
}

// said lists the nodes' answers.
func said(nodes []NodeError) string {
	said := make([]string, len(nodes))
	for i, n := range nodes {
		addr := ""
		if n.Addr != "" {
			addr = " (" + n.Addr + ")"
		}
		said[i] = fmt.Sprintf("node %d%s: %v", n.Node, addr, n.Err)
	}
	return strings.Join(said, "; ")
}

// Unwrap returns ErrHeld, ErrNoQuorum or ErrMisconfigured, and the nodes' errors.
func (e *QuorumError) Unwrap() []error { return append(matchable(e.Nodes), e.why()) }

// matchable returns the nodes' errors. One that looks like the end of a context (a network timeout
// does) is left out: no context of the caller has ended.
func matchable(nodes []NodeError) (errs []error) {
	for _, n := range nodes {
		if !errors.Is(n.Err, context.DeadlineExceeded) && !errors.Is(n.Err, context.Canceled) {
			errs = append(errs, n.Err)
		}
	}
	return errs
}

// lost is what an operation answers after a round in which the nodes denied the lock. It matches
// neither ErrHeld nor ErrNoQuorum: a loss is a loss.
func (l *Locker) lost(r *protocol.Round) error {
	return &opError{r.Op(), r.Resources(), ErrLost, said(l.answers(r.Shortfall()))}
}

// interrupted is the error of a call that was cut short: causes ended it, and reason is what could
// be told by then.
type interrupted struct {
	causes []error // the context's cause and its error, or ErrClosed
	reason error
	proved bool // the reason does not come from the call that was cut short
}

// interrupt is reason as the answer to a call that cause has ended.
func interrupt(ctx context.Context, cause, reason error) error {
	e := &interrupted{causes: []error{cause}, reason: reason, proved: true}
	if err := ctx.Err(); err != nil && cause != ErrClosed {
		e.causes = append(e.causes, err)
	}
	return e
}

// cutAttempt is interrupt for an attempt to acquire: what was missing then is not an outage.
func cutAttempt(ctx context.Context, cause, reason error) error {
	e := interrupt(ctx, cause, reason).(*interrupted)
	e.proved = false
	return e
}

func (e *interrupted) Error() string { return fmt.Sprintf("%v (%v)", e.reason, e.causes[0]) }

func (e *interrupted) Unwrap() []error {
	if e.causes[0] == ErrClosed || !e.proved {
		return e.causes
	}
	return append(slices.Clone(e.causes), e.reason)
}

// cutShort reports whether err is of an attempt that ctx or Close ended.
func cutShort(err error) bool {
	var cut *interrupted
	return errors.As(err, &cut) || !errors.Is(err, ErrHeld) && !errors.Is(err, ErrNoQuorum)
}

// opError says what an operation on some resources ended with.
type opError struct {
	op        string
	resources []string
	err       error
	detail    string // for people; may be empty
}

func (e *opError) Error() string {
	about := e.op
	if len(e.resources) > 0 {
		about += " " + quoted(e.resources)
	}
	msg := fmt.Sprintf("redlock: %s: %s", about, strings.TrimPrefix(fmt.Sprint(e.err), "redlock: "))
	if e.detail != "" {
		msg += ": " + e.detail
	}
	return msg
}

func (e *opError) Unwrap() error { return e.err }

// stateError is err, which may be ErrLost, ErrReleased or ErrClosed, as the answer to op.
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
		b.WriteString(protocol.Quote(r))
	}
	return b.String()
}
