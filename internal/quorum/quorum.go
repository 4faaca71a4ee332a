// Package quorum counts what N independent nodes say. It knows nothing of Redis, of networks or of
// time.
package quorum

// Size returns how many of n nodes are a majority: floor(n/2)+1. Any two majorities share a node.
func Size(n int) int { return n/2 + 1 }

// Vote is what one node said.
type Vote uint8

const (
	Yes    Vote = iota // the node did what was asked
	No                 // the node answered that it cannot: the key is somebody else's, or gone
	Failed             // the node did not answer, or answered with an error: nothing is known
)

// Outcome is what the votes so far amount to.
type Outcome uint8

const (
	Open        Outcome = iota // votes that are still missing can change the result
	Won                        // a majority said yes
	Refused                    // the nodes answered, and the answer is no
	Unreachable                // too few nodes answered to tell
)

// Tally is a vote in progress. The zero Tally has no voters; see New.
type Tally struct {
	n, quorum, yes, no, failed int
}

// New returns the tally of a vote among n nodes, none of which has voted.
func New(n int) Tally { return Tally{n: n, quorum: Size(n)} }

// Cast counts one node's vote. The caller sees to it that each node votes once.
func (t *Tally) Cast(v Vote) {
	switch v {
	case Yes:
		t.yes++
	case No:
		t.no++
	default:
		t.failed++
	}
}

// Close ends the vote: nodes that have not voted count as failed.
func (t *Tally) Close() { t.failed += t.Pending() }

// Need returns the size of a majority.
func (t *Tally) Need() int { return t.quorum }

// Yes returns how many nodes said yes.
func (t *Tally) Yes() int { return t.yes }

// Answered returns how many nodes said yes or no.
func (t *Tally) Answered() int { return t.yes + t.no }

// Pending returns how many nodes have not voted.
func (t *Tally) Pending() int { return t.n - t.yes - t.no - t.failed }

// Take is the rule for taking something new. Refused means that a majority answered and yet no
// majority can say yes: the resource is contended. Where it cannot be told yet whether that or an
// outage is the reason, the vote stays open.
func (t *Tally) Take() Outcome {
	answered := t.yes + t.no
	switch {
	case t.yes >= t.quorum:
		return Won
	case t.yes+t.Pending() >= t.quorum:
		return Open
	case answered >= t.quorum:
		return Refused
	case answered+t.Pending() >= t.quorum:
		return Open
	default:
		return Unreachable
	}
}

// Keep is the rule for something that is already ours. Refused means that so many nodes deny it
// that no majority can be left, whatever the silent ones would say: it is lost. Fewer denials with
// too few confirmations prove nothing.
func (t *Tally) Keep() Outcome {
	fatal := t.n - t.quorum + 1
	switch {
	case t.yes >= t.quorum:
		return Won
	case t.no >= fatal:
		return Refused
	case t.yes+t.Pending() >= t.quorum, t.no+t.Pending() >= fatal:
		return Open
	default:
		return Unreachable
	}
}

// Leave is the rule for giving up what was ours. Refused is as in Keep: it had been lost. Otherwise
// every answer, yes or no, shows that nothing of ours is left on the node.
func (t *Tally) Leave() Outcome {
	outcome := t.Keep()
	if outcome == Unreachable {
		switch answered := t.yes + t.no; {
		case answered >= t.quorum:
			return Won
		case answered+t.Pending() >= t.quorum:
			return Open
		}
	}
	return outcome
}

// All is the rule for what every node should do: open until each has voted, then won if all said
// yes.
func (t *Tally) All() Outcome {
	switch {
	case t.Pending() > 0:
		return Open
	case t.yes == t.n:
		return Won
	default:
		return Unreachable
	}
}

// Leader returns the owner that is named most often, and how often.
func Leader(owners []string) (owner string, nodes int) {
	count := make(map[string]int, 1)
	for _, o := range owners {
		count[o]++
		if count[o] > nodes {
			owner, nodes = o, count[o]
		}
	}
	return owner, nodes
}

// MayHold reports whether an owner that is named by so many of the answering nodes has a majority
// of the n, or would have one if every silent node named it too.
func MayHold(n, answered, nodes int) bool { return nodes+n-answered >= Size(n) }
