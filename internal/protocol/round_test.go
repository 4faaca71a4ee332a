package protocol

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/quorum"
)

// silent returns nodes that are never asked in these tests: the answers are made up.
func silent(n int) *Nodes {
	return NewNodes(Config{Life: context.Background(), Drift: 0.01, Tell: func(Trouble) {}},
		make([]node.Client, n), make([]bool, n))
}

// claimOn returns a claim with the token on those nodes.
func claimOn(n *Nodes, token string) *Claim {
	c := &Claim{}
	c.Init(n, keysOf(n, "lock", "a"), token, time.Minute)
	return c
}

// answer gives the round the nodes' answers, in their order.
func answer(r *Round, errs ...error) *Round {
	r.claim.mu.Lock()
	defer r.claim.unlock()
	for i, err := range errs {
		r.voteLocked(&r.asks[i], err)
	}
	return r
}

func heldBy(owner string, left time.Duration) error {
	return &Refusal{Resource: "a", Owner: owner, Left: left}
}

// A grant that comes between the decision and the look at when to try again is as good as one
// before it.
func TestWaiterCountsANodeThatGrantedAfterTheDecision(t *testing.T) {
	r := answer(claimOn(silent(3), "token").Acquire(time.Minute),
		heldBy("x", 400*time.Millisecond), heldBy("x", time.Hour), nil)
	require.Equal(t, quorum.Refused, r.Outcome(), "decided by the first two")
	require.Equal(t, 401*time.Millisecond, r.FreeIn())
}

func prevails(r *Round) bool {
	goesOn, _ := r.Prevails()
	return goesOn
}

func TestSplitIsSettledInFavourOfTheSmallestToken(t *testing.T) {
	tokens := []string{NewToken("a"), NewToken("b"), NewToken("c")}
	for _, ours := range tokens {
		var others []error
		smallest := true
		for _, token := range tokens {
			if token != ours {
				others = append(others, heldBy(token, time.Second))
				smallest = smallest && ours < token
			}
		}
		r := answer(claimOn(silent(3), ours).Acquire(time.Minute), nil, others[0], others[1])
		require.Equal(t, smallest, prevails(r))
	}
}

// Who is left of several may have a quorum only until their releases arrive, and have seen a
// smaller token on the node that has not answered.
func TestContestIsRememberedWhenOneOwnerIsLeft(t *testing.T) {
	other, third := heldBy(NewToken("other"), time.Second), heldBy(NewToken("third"), time.Second)
	r := answer(claimOn(silent(3), "----------------------:us").Acquire(time.Minute), other, third)
	require.True(t, prevails(r))
	for range confirmations {
		r = answer(r.Again(time.Minute), other, other)
		require.True(t, prevails(r))
		// Where it may have it still, for all that the node says that does not answer, nothing
		// begins anew.
		r = answer(r.Again(time.Minute), other, errBusy, nil)
		require.True(t, prevails(r))
	}
	require.False(t, prevails(answer(r.Again(time.Minute), other, other)))
}

func TestNobodyGoesOnAgainst(t *testing.T) {
	const ours = "----------------------:us" // no random token is smaller
	other, third := NewToken("other"), NewToken("third")
	for name, answers := range map[string][]error{
		"an owner who has a quorum": {heldBy(other, time.Second), heldBy(other, time.Second)},
		"one who has shortened the lock": {heldBy("2~"+other, time.Second),
			heldBy(other, time.Second)},
		"a key that never expires": {heldBy(other, -1), heldBy(third, time.Second), nil},
		"a value that is not one of ours": {heldBy("redsync", time.Second),
			heldBy(third, time.Second), nil},
		"an outage": {heldBy(other, time.Second), context.Canceled,
			context.Canceled},
		"nobody: the lock is ours": {nil, nil, heldBy(other, time.Second)},
	} {
		r := answer(claimOn(silent(3), ours).Acquire(time.Minute), answers...)
		require.False(t, prevails(r), name)
	}
	r := answer(claimOn(silent(3), ours).Acquire(time.Minute), heldBy(other, time.Second),
		heldBy(third, time.Second))
	require.True(t, prevails(r),
		"and against two who have split the nodes, even with none of its own so far")
}

// A competitor that gives way may have a quorum for the moment until its release arrives.
func TestQuorumOfACompetitorCountsInAContestWhenItStays(t *testing.T) {
	const ours = "----------------------:us" // no random token is smaller
	other := heldBy(NewToken("other"), time.Second)
	r := answer(claimOn(silent(3), ours).Acquire(time.Minute), nil, other, other)
	for range confirmations {
		require.True(t, prevails(r))
		require.True(t, prevails(r), "asked again about the same answers")
		r = answer(r.Again(time.Second), nil, other, other)
	}
	require.False(t, prevails(r))
}

func keysOf(n *Nodes, prefix string, resources ...string) *Keys {
	k := n.Keys(prefix, resources)
	return &k
}

// A process whose goroutines wait for a processor gives answers as much longer, and once.
func TestDeadlineMovesOnceWhereWhoeverWaitsForItComesLate(t *testing.T) {
	const timeout = time.Second
	n := silent(3)
	n.Timeout = timeout
	expire := func(r *Round, late time.Duration) (moved time.Duration) {
		before := r.Deadline()
		r.expireAt(before, late)
		return r.Deadline().Sub(before)
	}
	for late, moves := range map[time.Duration]time.Duration{
		0:            0,
		timeout / 16: 0, // rounds share timers
		timeout / 10: timeout * 4 / 10,
		timeout / 2:  timeout * 3 / 2,
		time.Minute:  time.Minute + timeout, // the process was stopped
	} {
		r := claimOn(n, "token").Acquire(time.Hour)
		require.Equal(t, moves, expire(r, late), late)
		if moves == 0 {
			require.Equal(t, quorum.Unreachable, r.Outcome(), late)
			continue
		}
		require.Equal(t, quorum.Open, r.Outcome(), late)
		require.Zero(t, expire(r, late))
		require.Equal(t, quorum.Unreachable, r.Outcome(), late)
	}
	r := claimOn(n, "token").Acquire(time.Hour)
	expire(r, timeout/2)
	require.Equal(t, quorum.Won, answer(r, nil, nil).Outcome())
}
