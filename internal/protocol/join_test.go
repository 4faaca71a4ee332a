//go:build go1.25

package protocol

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// placeOf returns a place for a claim's resources.
func placeOf(c *Claim, name string) *Place {
	p := NewPlace(c.nodes, *c.keys, name)
	p.Sure, p.Heard = func(int) bool { return true }, func(int, *Refusal) {}
	p.Patience, p.Unsure = 10*time.Second, time.Second
	return p
}

// atPlace returns a claim that two nodes of three have granted; the third has refused it, and has
// its owner in the queue.
func atPlace(s *stage) (*Claim, *Round) {
	c := s.claim("a")
	p := placeOf(c, "1@inbox")
	r := c.Stand(stageTTL, p)
	r.Send()
	s.actors[0].next("wait").yes()
	s.actors[1].next("wait").yes()
	s.actors[2].next("wait").refuse("somebody", time.Minute)
	c.Prove(r.Lease())
	p.Holds()
	return c, r
}

// abandoned returns a claim that is over while its owner goes on waiting, and what the node has not
// answered of it yet.
func abandoned(s *stage) (*Claim, *request) {
	c := s.claim("a")
	c.Stand(stageTTL, placeOf(c, "1@inbox")).Send()
	wait := s.actors[0].next("wait")
	c.Abandon()
	return c, wait
}

func TestNodeThatCallsWhoeverHasTheLockIsAskedForIt(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		c, _ := atPlace(s)
		c.Join(2)
		s.actors[2].next("acquire").yes()
		c.Join(2) // it is ours there
		s.quiet()
	})
}

func TestNodeThatCallsWhenTheLeaseIsOverIsLeft(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		c, r := atPlace(s)
		pass(time.Until(r.Lease().End()))
		c.Join(2)
		left := s.actors[2].next("release")
		require.Equal(s, []any{1, "1@inbox"}, left.queue[:2])
		require.Empty(s, left.queue[2].(*stayer).String())
		left.yes()
		s.quiet()
	})
}

// Whoever leaves while a release is being written that would put them into a queue is not in it, or
// leaves behind it.
func TestWhoeverLeavesIsNotPutIntoAQueueAgain(t *testing.T) {
	play(t, 1, 0, func(s *stage) {
		c := s.held("a")
		next := placeOf(c, "2@inbox")
		c.Release(next).Send()
		release := s.actors[0].next("release")
		require.Equal(s, "2@inbox", release.queue[2].(*stayer).String())
		next.Leave(s.Nodes, *c.keys, nil)
		s.quiet() // it may not overtake the release
		require.Empty(s, release.queue[2].(*stayer).String(), "if it is written again")
		release.yes()
		leave := s.actors[0].next("release")
		require.Equal(s, "2@inbox", leave.queue[1])
		leave.yes()
		s.quiet()
	})
}

// A lock is released while an attempt on the same resource is given up that the node has granted.
// Of the two releases the node has got the first when somebody leaves.
func TestWhoeverLeavesDoesNotOvertakeAnEarlierOfTwoReleases(t *testing.T) {
	play(t, 1, 0, func(s *stage) {
		attempt := s.claim("a")
		attempt.Stand(stageTTL, placeOf(attempt, "1@inbox")).Send()
		s.actors[0].next("wait").yes()
		c := s.held("a")
		next := placeOf(c, "2@inbox")
		c.Release(next).Send()
		first := s.actors[0].next("release")
		require.Equal(s, "2@inbox", first.queue[2].(*stayer).String())
		attempt.Abandon()
		next.Leave(s.Nodes, *c.keys, nil)
		s.quiet()
		first.yes()
		second, leave := s.actors[0].next("release"), s.actors[0].next("release")
		require.Equal(s, []any{"1@inbox", "2@inbox"}, []any{second.queue[1], leave.queue[1]})
		second.yes()
		leave.yes()
		s.quiet()
	})
}

// What is granted when the attempt is over is given back while its owner goes on waiting. They may
// leave at any time meanwhile.
func TestPlaceIsKnownBeforeACallMayTakeIt(t *testing.T) {
	play(t, 1, 0, func(s *stage) {
		c, wait := abandoned(s)
		p := c.place
		sent := false
		p.Sure = func(node int) bool { // asked when the call is written that puts them back
			sent = true
			assert.True(s, p.listed[node].Load())
			return true
		}
		wait.yes()
		s.actors[0].next("release").yes()
		require.True(s, sent)
		p.Leave(s.Nodes, *c.keys, nil)
		leave := s.actors[0].next("release")
		require.Equal(s, "1@inbox", leave.queue[1])
		leave.yes()
		s.quiet()
	})
}

// Whatever is written late puts the one there whom the place was left to: else the node would call
// somebody who came after both.
func TestWhoeverIsNextTakesThePlaceByAllThatIsWrittenLate(t *testing.T) {
	play(t, 1, 0, func(s *stage) {
		c, wait := abandoned(s)
		next, last := placeOf(c, "2@inbox"), placeOf(c, "3@inbox")
		next.Ticket.Store(2)
		last.Ticket.Store(3)
		last.Sure = func(int) bool { return false }
		c.place.Leave(s.Nodes, *c.keys, next)
		s.quiet() // nobody has stood there yet, as far as is known
		wait.yes()
		late := s.actors[0].next("release")
		require.Equal(s, "[1@inbox 2@inbox 2 +10000]", fmt.Sprint(late.queue[1:]))
		next.Leave(s.Nodes, *c.keys, last)
		require.Equal(s, "[1@inbox 3@inbox 3 -1000]", fmt.Sprint(late.queue[1:]),
			"if it is written again")
		late.yes()
		leave := s.actors[0].next("release")
		require.Equal(s, "[2@inbox 3@inbox 3 -1000]", fmt.Sprint(leave.queue[1:]))
		last.Holds()
		require.Equal(s, "[2@inbox  3 -1000]", fmt.Sprint(leave.queue[1:]))
		leave.yes()
		s.quiet()
	})
}

// A refusal that comes when its waiter has left says that they stand in the queue all the same.
func TestWhoeverHasLeftLeavesAgainWhereTheAnswerComesLate(t *testing.T) {
	play(t, 1, 0, func(s *stage) {
		c, wait := abandoned(s)
		c.place.Leave(s.Nodes, *c.keys, nil)
		s.quiet()
		wait.refuse("somebody", time.Minute)
		leave := s.actors[0].next("release")
		require.Equal(s, "1@inbox", leave.queue[1])
		leave.yes()
		s.quiet()
	})
}

// A node that gets the lock after the others keeps it for no longer than they do, whether or not
// they have confirmed by then that it is shorter.
func TestWhoeverJoinsAfterAShorteningAsksForNoMore(t *testing.T) {
	for _, confirmed := range []bool{false, true} {
		play(t, 3, 0, func(s *stage) {
			c := s.claim("a")
			r := s.acquire(c)
			s.actors[0].next("acquire").yes()
			s.actors[1].next("acquire").yes()
			s.actors[2].next("acquire").refuse(stranger, time.Second)
			c.Prove(r.Lease())
			e := c.Shorten(4*time.Second, nil)
			e.Send()
			s.actors[2].next("extend").refuse(stranger, time.Second)
			if confirmed {
				s.actors[0].next("extend").yes()
				s.actors[1].next("extend").yes()
				c.Prove(e.Lease())
			}
			pass(500 * time.Millisecond)
			c.Join(2)
			join := s.actors[2].next("acquire")
			require.Equal(s, "1~"+token, join.args[0])
			require.LessOrEqual(s, join.args[1], int64(3500))
			require.Greater(s, join.args[1], int64(3400))
			join.yes()
		})
	}
}
