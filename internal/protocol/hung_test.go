//go:build go1.25

package protocol

import (
	"testing"
	"time"
)

// Others have taken the place of a worker that was stuck: when its answer comes at last, it takes nothing more on.
func TestAnswerOfANodeThatHungBringsNoMoreWorkers(t *testing.T) {
	play(t, 1, 0, func(s *stage) {
		a := s.actors[0]
		ask := func() { s.acquire(s.claim("a")) }
		ask()
		first := a.next("acquire")
		ask()
		a.next("acquire")
		pass(stagePatience + time.Millisecond)
		ask()
		third := a.next("acquire")
		ask()
		a.next("acquire")
		ask()
		s.quiet() // two are on their way
		first.yes()
		s.quiet()
		third.yes()
		a.next("acquire").yes()
	})
}
