package protocol

import (
	"errors"
	"time"

	"github.com/rediskit/redlock/internal/quorum"
)

// Competitors that try a free resource at the same moment split the nodes among them, so that
// nobody has a quorum. They settle it by their tokens, which each of them sees in the refusals:
// whoever sees a smaller one takes back what it has, and whoever sees none asks again, until it has
// a quorum or sees one. The smallest token that any node has been given never sees a smaller one,
// so somebody is always left; and the one that is left gets the nodes as the others leave them. A
// token is random, so everybody has the same chance. Whoever was granted nothing at all gives way
// too: somebody else was.
//
// Nor does anybody give way at once who may have a quorum, if only those would answer who have not:
// the competitor with the smaller token may have seen that quorum, and given up.
//
// A node that hangs or is down must not keep them from seeing the split until it is too late to
// settle it. So once a majority has answered, and not decided it, the others get only as long
// again; but all of their time where somebody is in the way who does not yield, so that what a slow
// node says counts. A competitor that gives way then may have a quorum without knowing it, until its
// release arrives. So in a contest a competitor's quorum counts only if it is still there when asked
// twice more.
//
// Two limits keep this from waiting for a holder. Where there has been no contest, because all who
// refuse name the same owner and nobody has granted anything, an owner's quorum counts at once. And a
// value that is not a token of ours, or a key that never expires, belongs to somebody who does not
// know these rules and will not yield.

// confirmations is how often a competitor's quorum is looked at again.
const confirmations = 2

// splitLocked notes that a majority has answered, and that the others would have the decision. Who
// stands in the queues has no competitors: there the tickets decide, and a far node's grant counts.
func (r *Round) splitLocked() {
	if !r.verb.takes || r.verb.stands || !r.split.IsZero() || r.tally.Answered() < r.tally.Need() {
		return
	}
	for i := range r.asks {
		var refused *Refusal
		if errors.As(r.asks[i].err, &refused) && !refused.yields() {
			return
		}
	}
	r.split = time.Now()
	r.wakeLocked() // Wait has a new deadline
}

// Took returns how long after its start the round had its latest answer.
func (r *Round) Took() time.Duration {
	r.claim.mu.Lock()
	defer r.claim.mu.Unlock()
	return r.took
}

// Prevails reports whether a claim that did not win should ask again at once: nobody has a quorum,
// and no competitor's token is smaller than ours. It is doubtful where a competitor has a quorum if
// the nodes that did not answer are its.
func (r *Round) Prevails() (prevails, doubtful bool) {
	c := r.claim
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.outcome != quorum.Refused {
		return false, false
	}
	has := make(map[string]int) // how many nodes each competitor has
	granted, silent, most := 0, 0, 0
	for i := range c.nodes.nodes {
		var refused *Refusal
		switch said, decided := r.saidLocked(i); {
		case decided && said == nil:
			granted++
		case errors.As(said, &refused):
			token := withoutNumber(refused.Owner)
			if !refused.yields() || token < c.token {
				return false, false
			}
			has[token]++
			most = max(most, has[token])
		default:
			silent++ // or failed: it may have granted the lock all the same
		}
	}
	if granted+silent == 0 {
		return false, false
	}
	r.contest = r.contest || granted > 0 || len(has) > 1
	if most < r.tally.Need() {
		if doubtful = most+silent >= r.tally.Need(); doubtful {
			r.beaten = r.before // neither once more nor over
		}
		return most > 0, doubtful
	}
	r.beaten = r.before + 1
	return r.contest && r.beaten <= confirmations, false
}

// MayYetWin reports whether the answers that are missing could still give a round a quorum that was
// settled without them.
func (r *Round) MayYetWin() bool {
	r.claim.mu.Lock()
	defer r.claim.mu.Unlock()
	missing := 0
	for i := range r.asks {
		if !r.asks[i].voted {
			missing++
		}
	}
	return r.outcome == quorum.Refused && missing > 0 && r.tally.Yes()+r.tally.Pending() >= r.tally.Need()
}

// yields reports whether the owner may be a competitor, who knows when to give way.
func (r *Refusal) yields() bool {
	_, ours := Label(withoutNumber(r.Owner))
	return ours && r.Left >= 0 && !r.Waited
}

// saidLocked returns what a node has said by now: nil for yes.
func (r *Round) saidLocked(voter int) (said error, decided bool) {
	decided = true
	for i := range r.asks {
		if a := &r.asks[i]; r.node(i) == voter {
			decided = decided && a.voted
			said = graver(said, a.err)
		}
	}
	return said, decided || r.verb.inTurn() && said != nil
}
