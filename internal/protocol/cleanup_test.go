//go:build go1.25

package protocol

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/quorum"
)

const stranger = "SSSSSSSSSSSSSSSSSSSSSS:stranger"

// released answers so many releases of a node, and checks that no more come.
func (s *stage) released(node, releases int) {
	s.Helper()
	for range releases {
		q := s.actors[node].next("release")
		require.Equal(s, []any{token, 0}, q.args)
		q.yes()
	}
	require.False(s, s.actors[node].busy(), "%d releases are enough", releases)
}

// Two releases: what was on its way when the first was answered has run before the second.
func TestHowOftenAnAcquireIsTakenBack(t *testing.T) {
	for name, c := range map[string]struct {
		late     bool // the answer comes when nobody waits for it any more
		answer   func(q *request)
		releases int
	}{
		"granted": {false, (*request).yes, 1},
		"refused": {false,
			func(q *request) { q.refuse(stranger, time.Second) }, 0},
		"granted late": {true, (*request).yes, 2},
		"refused late": {true,
			func(q *request) { q.refuse(stranger, time.Second) }, 2},
		"lost": {false, func(q *request) { q.fail(io.EOF) }, 2},
		"failed": {false,
			func(q *request) { q.fail(serverError("MISCONF disk")) }, 2},
		"nonsense": {false, func(q *request) { q.say("OK", nil) },
			2},
		"of no permission": {false,
			func(q *request) { q.fail(serverError("NOPERM no")) }, 0},
		"of no permission, late": {true,
			func(q *request) { q.fail(serverError("NOPERM no")) }, 0},
		"without a password": {false,
			func(q *request) { q.fail(serverError("NOAUTH who are you")) }, 0},
		"with a wrong one": {false,
			func(q *request) { q.fail(serverError("WRONGPASS no")) }, 0},
		"of a command that the server has not": {false,
			func(q *request) { q.fail(serverError("ERR unknown command")) }, 2},
		"refused by a key that is not a string": {false,
			func(q *request) { q.fail(serverError("WRONGTYPE Operation")) }, 2},
		"refused by a key that never expires": {false,
			func(q *request) { q.say([]any{int64(1), stranger, int64(-1)}, nil) }, 0},
		"refused late by one that never expires": {true,
			func(q *request) { q.say([]any{int64(1), stranger, int64(-1)}, nil) }, 2},
		"refused with a reply of the wrong shape": {false,
			func(q *request) { q.say([]any{int64(2)}, nil) }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, 3, 0, func(s *stage) {
				c1 := s.claim("a")
				r := s.acquire(c1)
				q := s.actors[0].next("acquire")
				s.actors[1].next("acquire").refuse(stranger, time.Second)
				s.actors[2].next("acquire").refuse(stranger, time.Second)
				require.Equal(t, quorum.Refused, r.Outcome())
				if c.late {
					require.Nil(t, c1.Abandon(), "nothing is known to have been granted")
					s.quiet()
					pass(stagePatience + time.Millisecond)
				}
				c.answer(q)
				if !c.late {
					s.quiet()
					c1.Abandon()
				}
				s.released(0, c.releases)
				s.quiet()
			})
		})
	}
}

// Closing cuts go-redis's own repetitions short; the node sends such a call anew, and the first
// copy may still run.
func TestRepeatedAcquireIsTakenBackTwice(t *testing.T) {
	for name, answer := range map[string]func(q *request){
		"granted": (*request).yes, "refused": func(q *request) { q.refuse(stranger, time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, 1, 0, func(s *stage) {
				c := s.claim("a")
				s.acquire(c)
				s.actors[0].next("acquire") // whose reply is lost
				c.Abandon()
				ended, cancel := context.WithCancel(context.Background())
				cancel()
				closed := make(chan error, 1)
				go func() { closed <- errors.Join(s.Close(ended, time.Minute)...) }()
				answer(s.actors[0].next("acquire"))
				s.released(0, 2)
				require.NoError(t, <-closed)
			})
		})
	}
}

func TestEachSlotOfAClusterIsTakenBackAsOftenAsItNeeds(t *testing.T) {
	play(t, 1, 1, func(s *stage) {
		c := s.claim("a", "b", "c")
		s.acquire(c)
		pass(stagePatience + time.Millisecond)
		s.actors[0].next("acquire").yes() // late
		s.actors[0].next("acquire").yes()
		s.actors[0].next("acquire").fail(io.EOF)

		c.Abandon()
		count := make(map[string]int)
		for s.actors[0].busy() {
			q := s.actors[0].next("release")
			count[q.keys[0]]++
			q.yes()
		}
		require.Equal(t, map[string]int{"lock:a": 2, "lock:b": 1, "lock:c": 2}, count)
	})
}

func TestReleaseOfAClusterVisitsEachSlotAsOftenAsItNeeds(t *testing.T) {
	play(t, 1, 1, func(s *stage) {
		c := s.claim("a", "b", "c")
		r := s.acquire(c)
		s.actors[0].next("acquire").yes()
		pass(stagePatience + time.Millisecond)
		s.actors[0].next("acquire").yes() // late
		s.actors[0].next("acquire").yes()
		require.Equal(t, quorum.Won, r.Outcome())

		release := c.Release(nil)
		release.Send()
		var keys []string
		for s.actors[0].busy() {
			q := s.actors[0].next("release")
			keys = append(keys, q.keys...)
			q.yes()
		}
		slices.Sort(keys)
		require.Equal(t, []string{"lock:a", "lock:b", "lock:b", "lock:c"}, keys)
		require.Equal(t, quorum.Won, release.Outcome())
	})
}

func TestNextAcquireDoesNotOvertakeAReleaseOnItsWay(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		r := s.held("a").Release(nil)
		r.Send()
		s.actors[0].next("release").yes()
		s.actors[1].next("release").yes()
		require.Equal(t, quorum.Won, r.Outcome())
		release := s.actors[2].next("release")

		other := s.acquire(s.claim("b"))
		require.True(t, s.actors[2].busy(), "nothing holds another resource up")
		s.actors[2].next("acquire").yes()

		next := s.acquire(s.claim("a"))
		require.False(t, s.actors[2].busy(),
			"it would find the key of a lock that is known to be released")
		release.yes()
		s.actors[2].next("acquire").yes()
		for range 2 {
			s.actors[0].next("acquire").yes()
			s.actors[1].next("acquire").yes()
		}
		require.Equal(t, quorum.Won, other.Outcome())
		require.Equal(t, quorum.Won, next.Outcome())
	})
}

// The same for what an attempt that failed was granted.
func TestNextAcquireDoesNotOvertakeACleanUpThatIsNotWaitedFor(t *testing.T) {
	play(t, 2, 0, func(s *stage) {
		c := s.claim("a")
		s.acquire(c)
		s.actors[0].next("acquire").yes()
		s.actors[1].next("acquire").refuse(stranger, time.Second)
		cleaned := c.Abandon()
		require.NotNil(t, cleaned)
		release := s.actors[0].next("release")
		ended, cancel := context.WithCancelCause(context.Background())
		cancel(errors.New("enough"))
		require.EqualError(t, cleaned.Wait(ended), "enough")

		s.acquire(s.claim("a"))
		require.False(t, s.actors[0].busy())
		release.yes()
		s.actors[0].next("acquire").yes()
	})
}

func TestReleaseIsRepeatedWhereThereMayBeSomethingToDelete(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		c := s.claim("a")
		r := s.acquire(c)
		s.actors[0].next("acquire").yes()
		s.actors[1].next("acquire").yes()
		s.actors[2].next("acquire").refuse(stranger, time.Second)
		c.Prove(r.Lease())
		c.Release(nil).Send()
		for _, a := range s.actors {
			a.next("release").fail(io.EOF)
		}
		pass(time.Second)
		s.released(0, 1)
		s.released(1, 1)
		require.False(t, s.actors[2].busy(), "there is nothing")
	})
}

func TestReleaseIsRepeatedUntilTheKeysAreOver(t *testing.T) {
	for name, c := range map[string]struct {
		extension time.Duration // that was asked for and not answered
		most      time.Duration
	}{
		"its TTL, and what a late request may take": {time.Second,
			stageTTL + residueGrace},
		"the longest TTL that was asked for, and so much more": {5 * stageTTL,
			5*stageTTL + residueGrace},
	} {
		play(t, 1, 0, func(s *stage) {
			claim := s.held("a")
			claim.Extend(c.extension, func(*Round) {}).Send()
			s.actors[0].next("extend").fail(io.EOF)
			began := time.Now()
			claim.Release(nil).Send()
			var last time.Duration
			for time.Since(began) < c.most+stageTTL {
				for s.actors[0].busy() {
					last = time.Since(began)
					s.actors[0].next("release").fail(io.EOF)
				}
				pass(100 * time.Millisecond)
			}
			require.InDelta(t, c.most.Seconds(), last.Seconds(), 1.2, name)
		})
	}
}

// A Locker that is closed has no time to lose.
func TestCloseDoesNotWaitForTheNextRepetition(t *testing.T) {
	play(t, 1, 0, func(s *stage) {
		s.held("a").Release(nil).Send()
		for range 6 { // the pauses grow to a second
			s.actors[0].next("release").fail(io.EOF)
			pass(time.Second)
		}
		s.actors[0].next("release").fail(io.EOF)
		began, closed := time.Now(), make(chan error, 1)
		go func() { closed <- errors.Join(s.Close(context.Background(), time.Minute)...) }()
		s.released(0, 1)
		require.NoError(t, <-closed)
		require.Equal(t, began, time.Now())
	})
}

func TestAcquireThatWasNotSentLeavesNothing(t *testing.T) {
	play(t, 1, 0, func(s *stage) {
		var claims []*Claim
		for range loneWorkers + 1 { // all workers are busy, and the last call waits
			c := s.claim("a")
			s.acquire(c)
			synctest.Wait()
			claims = append(claims, c)
		}
		for _, c := range claims {
			require.Nil(t, c.Abandon())
		}
		for range loneWorkers {
			s.actors[0].next("acquire").refuse(stranger, time.Second)
		}
		s.quiet()
	})
}

func TestReleaseGoesBehindTheAcquireThatIsNotAnswered(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		c := s.claim("a")
		r := s.acquire(c)
		s.actors[0].next("acquire").yes()
		s.actors[1].next("acquire").yes()
		c.Prove(r.Lease())
		c.Release(nil).Send()
		acquire := s.actors[2].next("acquire")
		require.False(t, s.actors[2].busy())
		acquire.yes()
		s.released(2, 1)
	})
}

func TestWhatIsGrantedAfterTheEndIsTakenBack(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		c := s.claim("a")
		r := s.acquire(c)
		s.actors[0].next("acquire").yes()
		s.actors[1].next("acquire").yes()
		c.Prove(r.Lease())
		pass(stageTTL) // nobody says End
		s.actors[2].next("acquire").yes()
		s.released(2, 2)
	})
}
