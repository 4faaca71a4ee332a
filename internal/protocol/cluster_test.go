//go:build go1.25

package protocol

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/quorum"
)

func TestGraverAnswerSpeaksForANode(t *testing.T) {
	no, failure := heldBy(stranger, time.Second), errors.New("failure")
	for _, c := range [][3]error{
		{nil, nil, nil}, {nil, no, no}, {no, nil, no}, {failure, nil, failure},
		{nil, failure, failure},
		{failure, no, no}, {no, failure, no}, {failure, io.EOF, failure}, {no, heldBy("x", 0), no},
	} {
		require.Equal(t, c[2], graver(c[0], c[1]))
	}
}

// Resources in two slots are two sites of a cluster, and one vote.
func TestVoteOfAClusterWithTwoSlots(t *testing.T) {
	const (
		yes, no, failed, gone = "yes", "no", "failed", "gone"
	)
	say := map[string]func(q *request){
		yes: (*request).yes, gone: (*request).gone,
		no:     func(q *request) { q.refuse(stranger, time.Second) },
		failed: func(q *request) { q.fail(io.EOF) },
	}
	for _, c := range []struct {
		first, second string
		outcome       quorum.Outcome
	}{
		{yes, yes, quorum.Won}, {yes, no, quorum.Refused}, {no, yes, quorum.Refused},
		{gone, yes, quorum.Refused},
		{failed, yes, quorum.Unreachable}, {yes, failed, quorum.Unreachable},
		{failed, no, quorum.Refused}, {no, failed, quorum.Refused},
		{failed, failed, quorum.Unreachable},
	} {
		for _, backwards := range []bool{false, true} {
			play(t, 1, 1, func(s *stage) {
				r := s.held("a", "b").Extend(stageTTL, func(*Round) {})
				r.Send()
				a, b := s.actors[0].next("extend"), s.actors[0].next("extend")
				if a.keys[0] == "lock:b" {
					a, b = b, a
				}
				if backwards {
					say[c.second](b)
					require.Equal(t, quorum.Open, r.Outcome(), "%v", c)
					say[c.first](a)
				} else {
					say[c.first](a)
					require.Equal(t, quorum.Open, r.Outcome(), "%v", c)
					say[c.second](b)
				}
				require.Equal(t, c.outcome, r.Outcome(), "%v", c)
				if s := r.Shortfall(); c.outcome != quorum.Won {
					require.Len(t, s.Answers, 1)
				}
				for s.actors[0].busy() { // to heal
					s.actors[0].next("acquire").yes()
				}
			})
		}
	}
}

// Everybody asks for the keys that they share with others in the same order.
func TestSlotsAreTakenOneAfterTheOther(t *testing.T) {
	play(t, 3, 3, func(s *stage) {
		began := time.Now()
		r := s.acquire(s.claim("a", "b", "c"))
		for i, key := range []string{"lock:a", "lock:b", "lock:c"} {
			for n, a := range s.actors {
				if i == 2 && n == 0 {
					require.False(t, a.busy(), "it has refused, so the third slot is of no use")
					continue
				}
				q := a.next("acquire")
				require.Equal(t, []string{key}, q.keys)
				require.False(t, a.busy())
				if i == 1 && n == 0 {
					q.refuse(stranger, time.Second)
				} else {
					q.yes()
				}
			}
		}
		require.Equal(t, quorum.Won, r.Outcome())
		require.Equal(t, began, r.Lease().Start)
	})
}

func TestTimeoutRunsAnewForEachSlot(t *testing.T) {
	play(t, 1, 1, func(s *stage) {
		r := s.acquire(s.claim("a", "b", "c"))
		done := make(chan error, 1)
		go func() { done <- r.Wait(context.Background()) }()
		for range 2 {
			pass(stagePatience - time.Millisecond)
			s.actors[0].next("acquire").yes()
			require.Equal(t, quorum.Open, r.Outcome())
		}
		pass(stagePatience - time.Millisecond)
		require.Empty(t, done)
		pass(2 * time.Millisecond)
		require.NoError(t, <-done)
		require.Equal(t, quorum.Unreachable, r.Outcome())
	})
}

func TestNoFurtherSlotIsAskedForAClaimThatIsOver(t *testing.T) {
	play(t, 1, 1, func(s *stage) {
		c := s.claim("a", "b")
		s.acquire(c)
		acquire := s.actors[0].next("acquire")
		c.Abandon()
		acquire.yes()
		q := s.actors[0].next("release")
		require.Equal(t, []string{"lock:a"}, q.keys)
		q.yes()
		s.quiet()
	})
}

func TestCleanUpOfTheSlotsThatWereGranted(t *testing.T) {
	play(t, 1, 1, func(s *stage) {
		c := s.claim("a", "b", "c")
		s.acquire(c)
		s.actors[0].next("acquire").yes()
		s.actors[0].next("acquire").refuse(stranger, time.Second)
		require.NotNil(t, c.Abandon())
		q := s.actors[0].next("release")
		require.Equal(t, []string{"lock:a"}, q.keys)
		q.yes()
		s.quiet()
	})
}

func TestKeysApart(t *testing.T) {
	play(t, 1, 1, func(s *stage) {
		k := s.Keys("", []string{"{x}a", "{x}b"})
		require.Nil(t, k.groups)
		c := &Claim{}
		c.Init(s.Nodes, &k, token, stageTTL)
		r := s.acquire(c)
		q := s.actors[0].next("acquire")
		require.Equal(t, []string{"{x}a", "{x}b"}, q.keys)
		require.False(t, r.Moving())
		q.fail(serverError("TRYAGAIN Multiple keys request during rehashing of slot"))
		require.True(t, r.Moving())
		c.Abandon()
		for s.actors[0].busy() {
			s.actors[0].next("release").yes()
		}

		c = &Claim{}
		apart := k.Apart()
		c.Init(s.Nodes, &apart, token, stageTTL)
		r = s.acquire(c)
		for _, name := range k.Resources {
			q := s.actors[0].next("acquire")
			require.Equal(t, []string{name}, q.keys)
			q.yes()
		}
		require.Equal(t, quorum.Won, r.Outcome())
		require.Nil(t, k.groups, "the keys themselves are as they were")

		// One key alone is not what the server has to wait for.
		r = c.Extend(stageTTL, func(*Round) {})
		r.Send()
		s.actors[0].next("extend").fail(serverError("TRYAGAIN"))
		s.actors[0].next("extend").fail(serverError("TRYAGAIN"))
		require.False(t, r.Moving())
	})
}

// sharingASlot returns a claim of two keys that share a slot of a Redis Cluster.
func sharingASlot(s *stage) *Claim {
	c := &Claim{}
	c.Init(s.Nodes, keysOf(s.Nodes, "", "{x}a", "{x}b"), token, stageTTL)
	return c
}

func TestAdoptedLockIsKeptForAsLongAsItsShortestKey(t *testing.T) {
	play(t, 1, 1, func(s *stage) {
		r := sharingASlot(s).Find(stageTTL)
		r.Send()
		s.actors[0].next("inspect").fail(serverError("TRYAGAIN"))
		s.actors[0].next("inspect").say([]any{token, int64(1000)}, nil)
		s.actors[0].next("inspect").say([]any{token, int64(30000)}, nil)
		require.Equal(t, time.Second, r.Kept())
	})
}

// A release that failed before is cut up too while the slot is moved.
func TestReleaseThatIsRepeatedAsksKeyByKeyInASlotThatMoves(t *testing.T) {
	play(t, 1, 1, func(s *stage) {
		c := sharingASlot(s)
		s.acquire(c)
		s.actors[0].next("acquire").yes()
		c.Release(nil).Send()
		s.actors[0].next("release").fail(serverError("LOADING"))
		pass(firstRepeat)
		s.actors[0].next("release").fail(serverError("TRYAGAIN"))
		for _, key := range []string{"{x}a", "{x}b"} {
			q := s.actors[0].next("release")
			require.Equal(t, []string{key}, q.keys)
			q.yes()
		}
		s.quiet()
	})
}
