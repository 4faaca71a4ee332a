package protocol

import (
	"errors"
	"fmt"
	"time"

	"github.com/rediskit/redlock/internal/quorum"
)

// Shortfall describes a round that was not won.
type Shortfall struct {
	Op      string
	Held    bool // a quorum answered: it is contention, or a loss, and not an outage
	Need    int  // nodes that make a quorum
	Got     int  // nodes that said yes
	Voters  int
	Answers []Answer // of the nodes that did not say yes
}

// Answer is what a node said.
type Answer struct {
	Node int
	Addr string // as the client has it, or ""
	Err  error  // a *Refusal, a *NoAnswer, or what the server, the network or the client said
}

// NoAnswer is the error of a node that did not answer in time.
type NoAnswer struct {
	Within time.Duration
	Last   error // the last error that its client gave; nil if none is known
}

func (e *NoAnswer) Error() string {
	if e.Last != nil {
		return fmt.Sprintf("no answer within %v (last error: %v)", e.Within, e.Last)
	}
	return fmt.Sprintf("no answer within %v", e.Within)
}

func (e *NoAnswer) Unwrap() error { return e.Last }

var errNotYet = errors.New("had not answered yet")

// Shortfall says why the round was not won. A node that was merely outrun is not listed.
func (r *Round) Shortfall() *Shortfall {
	c := r.claim
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &Shortfall{
		// A grant that came after the caller had looked was too late for it, and is no outage.
		Op: r.verb.name, Held: r.outcome == quorum.Refused ||
			r.outcome == quorum.Won && r.verb.takes,
		Need: r.tally.Need(), Got: r.tally.Yes(), Voters: len(c.nodes.nodes),
	}
	for i := range c.nodes.nodes {
		said, decided := r.saidLocked(i)
		switch {
		case !decided && r.expired > 0:
			within := r.expired.Round(time.Millisecond)
			said = &NoAnswer{within, c.nodes.nodes[i].LastError()}
		case !decided && r.outcome == quorum.Unreachable:
			said = errNotYet // the caller's context has ended
		case !decided:
			continue
		}
		if said != nil {
			s.Answers = append(s.Answers, Answer{i, c.nodes.Addr(i), said})
		}
	}
	return s
}

// Moving reports whether a Redis Cluster refused several keys of one slot because it is moving the
// slot: see Keys.Apart.
func (r *Round) Moving() bool {
	r.claim.mu.Lock()
	defer r.claim.mu.Unlock()
	for i := range r.asks {
		if a := &r.asks[i]; a.voted && a.call.Moving(a.err) {
			return true
		}
	}
	return false
}
