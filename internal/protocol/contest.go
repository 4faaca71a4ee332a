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
// node says counts. A competitor that gives way then may have a quorum without knowing it, until
// its release arrives. So in a contest a competitor's quorum counts only if it is still there when
// asked twice more.
//
// Two limits keep this from waiting for a holder. Where there has been no contest, because all who
// refuse name the same owner and nobody has granted anything, an owner's quorum counts at once. And
// a value that is not a token of ours, or a key that never expires, belongs to somebody who does
// not know these rules and will not yield.

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
	s, ours := r.sharesLocked()
	if !ours || s.granted+s.silent == 0 {
		return false, false
	}
	r.contest = r.contest || s.granted > 0 || len(s.has) > 1
	if s.most < r.tally.Need() {
		if doubtful = s.most+s.silent >= r.tally.Need(); doubtful {
			r.beaten = r.before // neither once more nor over
		}
		return s.most > 0, doubtful
	}
	r.beaten = r.before + 1
	return r.contest && r.beaten <= confirmations, false
}

// shares is how the nodes are split.
type shares struct {
	granted int            // have granted the lock to us
	silent  int            // have not answered, or failed: they may have granted it all the same
	has     map[string]int // each competitor's, by its token
	most    int            // those of the one that has most
}

// sharesLocked counts the nodes. It reports whether the right to go on is ours: all who are in the
// way are competitors, and none has a smaller token.
func (r *Round) sharesLocked() (s shares, ours bool) {
	s.has = make(map[string]int)
	for i := range r.claim.nodes.nodes {
		var refused *Refusal
		switch said, decided := r.saidLocked(i); {
		case decided && said == nil:
			s.granted++
		case errors.As(said, &refused):
			token := withoutNumber(refused.Owner)
			if !refused.yields() || token < r.claim.token {
				return s, false
			}
			s.has[token]++
			s.most = max(s.most, s.has[token])
		default:
			s.silent++
		}
	}
	return s, true
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
	return r.outcome == quorum.Refused && missing > 0 &&
		r.tally.Yes()+r.tally.Pending() >= r.tally.Need()
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
