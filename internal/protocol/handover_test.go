//go:build go1.25

package protocol

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// lockedWithout returns a claim at a place that node 2 has said nothing of.
func (s *stage) lockedWithout(name string) *Claim {
	s.Helper()
	c := s.claim("a")
	r := c.Stand(stageTTL, placeOf(c, name))
	r.Send()
	s.actors[0].next("wait").yes()
	s.actors[1].next("wait").yes()
	c.Prove(r.Lease())
	return c
}

// While a node is silent, a lock changes hands without it. It learns where it began and where that
// has got to.
func TestHandOversDoNotPileUpBehindASilentNode(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		silent := s.actors[2]
		for range 2 { // and has no worker left
			s.acquire(s.claim("b"))
			s.actors[0].next("acquire").yes()
			s.actors[1].next("acquire").yes()
			silent.next("acquire")
		}
		c := s.lockedWithout("0@inbox")
		for i := range 50 {
			next := s.claim("a")
			place := placeOf(next, fmt.Sprintf("%d@inbox", i+1))
			r := c.Release(place)
			r.Send()
			s.actors[0].next("release").yes()
			s.actors[1].next("release").yes()
			won := next.Stand(stageTTL, place)
			won.Send()
			s.actors[0].next("wait").yes()
			s.actors[1].next("wait").yes()
			next.Prove(won.Lease())
			place.Holds()
			c = next
		}
		pass(stagePatience + time.Millisecond) // others take the workers' places
		first, last := silent.next("release"), silent.next("release")
		require.Empty(s, first.queue[2].(*stayer).String(), "who came next is through")
		require.Equal(s, "49@inbox", last.queue[1])
		first.yes()
		last.yes()
		for silent.busy() {
			silent.next("wait").yes()
		}
	})
}

// Where there is nothing but a place in a queue, the node forgets it in time.
func TestPlaceIsNotSoughtForLongerThanANodeKeepsIt(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		c := s.lockedWithout("1@inbox")
		s.actors[2].next("wait").refuse("somebody", time.Minute)
		c.Release(nil).Send()
		s.actors[0].next("release").yes()
		s.actors[1].next("release").yes()
		began := time.Now()
		for time.Since(began) < minPatience {
			for s.actors[2].busy() {
				s.actors[2].next("release").fail(io.EOF)
			}
			pass(100 * time.Millisecond)
		}
		for s.actors[2].busy() {
			s.actors[2].next("release").fail(io.EOF)
		}
		pass(2 * time.Second)
		s.quiet()
	})
}
