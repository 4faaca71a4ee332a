//go:build go1.25

package protocol

import (
	"testing"
	"time"
)

// Others have taken the place of a worker that was stuck: when its answer comes at last, it takes
// nothing more on.
func TestAnswerOfANodeThatHungBringsNoMoreWorkers(t *testing.T) {
	play(t, 1, 0, func(s *stage) {
		a := s.actors[0]
		ask := func() *request {
			s.acquire(s.claim("a"))
			return a.next("acquire")
		}
		first := ask()
		for range loneWorkers - 1 {
			ask()
		}
		pass(stagePatience + time.Millisecond)
		another := ask()
		for range loneWorkers - 1 {
			ask()
		}
		s.acquire(s.claim("a"))
		s.quiet() // as many are on their way as may be
		first.yes()
		s.quiet()
		another.yes()
		a.next("acquire").yes()
	})
}
