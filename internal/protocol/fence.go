package protocol

import (
	"context"
	"strconv"
	"time"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/quorum"
)

// A fence is a number that orders the holders of a lock. Each node has a counter beside each lock
// key, which grows whenever the key changes its owner. A grant and an extension tell what the
// counters are, in the same instant in which they see that the lock is ours. The fence is decided
// when a quorum of nodes has told of exactly the same number: the nodes of two holders have one in
// common, on which the counter grew in between. That it is at least as large would not be enough: a
// counter that has gone on since may have gone on for somebody else. docs/fencing.md has the proof.

// fenceLimit is what no fence reaches: the scripts count with floating-point numbers.
const fenceLimit = 1 << 52

// raiseVerb is an extension that gives no time, but tells the nodes of a fence.
var raiseVerb = &verb{
	name: "acquire", script: func(s *Scripts) *node.Script { return s.extend },
	prepare: sendWithinTimeout, args: raiseArgs, read: readVerdict, rule: keepRule, fenced: true,
}

// raise is what it carries.
type raise struct {
	to  uint64    // the fence
	end time.Time // when the keys are to expire that it finds
}

func raiseArgs(a *ask) []any {
	args := extendArgs(a, "keep")
	args[2], args[4] = leftUntil{a.round.raise.end}, fenceText(a.round.raise.to)
	return args
}

// fences are what a site has told of its counters: the smallest and the largest. The zero value
// says that it has told nothing.
type fences struct {
	low, high uint64
	told      bool
}

// report takes a counter; 0 is one that does not exist.
func (f *fences) report(counter uint64) {
	if !f.told {
		f.low, f.told = counter, true
	}
	f.low, f.high = min(f.low, counter), max(f.high, counter)
}

// fenced reports whether the call needs the counters.
func (a *ask) fenced() bool { return a.round.verb.fenced && a.round.claim.nodes.Fencing }

func fenceText(fence uint64) string { return strconv.FormatUint(fence, 10) }

func readFence(text string) (fence uint64, ok bool) {
	fence, err := strconv.ParseUint(text, 10, 64)
	return fence, err == nil && fence > 0 && fence < fenceLimit
}

// Propose says what time it is for whoever acquires the lock. The fence is at least that, in
// microseconds, unless a node finds it more than a day ahead of its own clock: so nodes whose
// counters differ, or are lost, agree at once.
func (c *Claim) Propose(now time.Time) {
	c.args[3] = strconv.FormatInt(max(1, now.UnixMicro()), 10)
}

// Fence returns what a quorum has agreed on, or 0.
func (c *Claim) Fence() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fence
}

// AgreeFence makes a quorum agree on the fence of a lock that a round has won, and whose keys live
// until end at least. It asks nobody if they agree already, which they do where clocks agree.
// Otherwise it raises the counters to the largest that was told, again and again for at most the
// node timeout. It returns the round that tells what came of it, and what cut that short.
func (c *Claim) AgreeFence(ctx context.Context, won *Round, end time.Time) (r *Round, cause error) {
	deadline := time.Now().Add(won.timeout)
	for r = won; ; {
		fence, agreed := r.told()
		switch {
		case agreed:
			c.settleFence(fence, end)
			return r, nil
		case fence == 0: // adopted, and taken without fencing
			return r, nil
		}
		r = c.raiseRound(fence, end, deadline)
		r.Send()
		if cause = r.Wait(ctx); r.Outcome() != quorum.Won {
			return r, cause
		}
	}
}

// told returns the fence that a quorum has told, or else the largest that anybody has.
func (r *Round) told() (fence uint64, agreed bool) {
	r.claim.mu.Lock()
	defer r.claim.mu.Unlock()
	return r.toldLocked()
}

func (r *Round) toldLocked() (fence uint64, agreed bool) {
	nodes := make(map[uint64]int, 1) // how many have told it
	largest := uint64(0)
	for voter := range r.claim.nodes.nodes {
		said, decided := r.saidLocked(voter)
		if !decided || said != nil {
			continue
		}
		var all fences // of its sites
		for i := range r.asks {
			if r.node(i) == voter {
				all.report(r.asks[i].low)
				all.report(r.asks[i].high)
			}
		}
		if all.low == all.high {
			nodes[all.low]++
			if nodes[all.low] >= r.tally.Need() && all.low > 0 {
				return all.low, true
			}
		}
		largest = max(largest, all.high)
	}
	return largest, false
}

// raiseRound prepares a round that raises the counters to a fence, with an answer by the deadline.
func (c *Claim) raiseRound(fence uint64, end, deadline time.Time) *Round {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.roundLocked(raiseVerb, c.longest)
	r.raise = &raise{fence, end}
	r.timeout = max(1, min(r.timeout, time.Until(deadline)))
	return r
}

// settleFence notes what was agreed on, and tells the nodes that have granted the lock with less: a
// node that has the lock should know its fence, in case that others forget it.
func (c *Claim) settleFence(fence uint64, end time.Time) {
	c.mu.Lock()
	defer c.unlock()
	c.fence = fence
	for i := range c.sites {
		c.raiseLocked(i, end)
	}
}

// raiseLocked tells a site of the fence, if it has granted the lock with less, and will keep it
// until end. Nobody waits for that.
func (c *Claim) raiseLocked(i int, end time.Time) {
	s := &c.sites[i]
	if s.has == nothing || s.fence == 0 || s.fence >= c.fence || !c.wantedLocked() {
		return
	}
	r := c.partLocked(raiseVerb, c.longest, i)
	r.raise = &raise{c.fence, end}
	r.sendLocked()
}

// findRule is the rule for an adoption: with fencing it waits for as many nodes as it takes until a
// quorum has told the same fence, or for all of them.
func findRule(r *Round, t *quorum.Tally) quorum.Outcome {
	outcome := t.Keep()
	if outcome != quorum.Won || !r.claim.nodes.Fencing || t.Pending() == 0 {
		return outcome
	}
	if _, agreed := r.toldLocked(); !agreed {
		return quorum.Open
	}
	return outcome
}

// fenceOfLocked returns the fence that most nodes name for the owner that stands in a value.
func (r *Round) fenceOfLocked(value string) (fence uint64) {
	nodes := make(map[uint64]int, 1)
	for i := range r.asks {
		key := r.asks[i].key()
		if !r.asks[i].voted || !key.held || withoutNumber(key.owner) != value {
			continue
		}
		f := key.fence
		if nodes[f]++; nodes[f] > nodes[fence] || nodes[f] == nodes[fence] && f > fence {
			fence = f
		}
	}
	return fence
}
