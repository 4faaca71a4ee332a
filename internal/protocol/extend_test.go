//go:build go1.25

package protocol

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/lease"
	"github.com/rediskit/redlock/internal/quorum"
)

const ttlMillis = int64(stageTTL / time.Millisecond)

// renewal sends a renewal and lets its deadline pass when it has so many yeses.
func (s *stage) renewal(c *Claim, w *watched, yes int) *Round {
	s.Helper()
	r := c.Renew(stageTTL, w.then)
	r.Send()
	for i := range yes {
		s.actors[i].next("extend").yes()
	}
	pass(time.Until(r.Deadline()))
	r.Expire()
	return r
}

func TestLateVotesOfARenewalCountFromItsStart(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		c, w, began := s.held("a"), &watched{}, time.Now()
		r := s.renewal(c, w, 1)
		require.Equal(t, []string{"unreachable"}, w.seen())
		pass(5 * time.Second)
		s.actors[1].next("extend").yes()
		require.Equal(t, []string{"unreachable", "won"}, w.seen())
		require.Equal(t, lease.Lease{Start: began, TTL: stageTTL, Drift: 0.01}, r.Lease())
		s.actors[2].next("extend").yes()
		require.Equal(t, []string{"unreachable", "won"}, w.seen(), "once")
	})
}

func TestLateVotesOfARenewalMayLoseIt(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		w := &watched{}
		r := s.renewal(s.held("a"), w, 0)
		s.actors[0].next("extend").refuse(stranger, time.Second)
		require.Equal(t, []string{"unreachable"}, w.seen(), "the other two may have it")
		s.actors[1].next("extend").gone()
		require.Equal(t, []string{"unreachable", "refused"}, w.seen())
		s.actors[2].next("extend").yes()
		require.Equal(t, quorum.Refused, r.Outcome())
	})
}

func TestLateVotesOfAnExtensionChangeNothing(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		w := &watched{}
		r := s.held("a").Extend(stageTTL, w.then)
		r.Send()
		require.NoError(t, r.Wait(context.Background()))
		for _, a := range s.actors {
			a.next("extend").yes()
		}
		require.Equal(t, []string{"unreachable"}, w.seen(), "its caller was told so")
	})
}

// A caller may look at the lease as soon as it is woken.
func TestWhoWaitsIsWokenAfterTheCallback(t *testing.T) {
	play(t, 1, 0, func(s *stage) {
		called := false
		r := s.held("a").Extend(stageTTL, func(*Round) {
			pass(time.Second)
			called = true
		})
		r.Send()
		go s.actors[0].next("extend").yes()
		require.NoError(t, r.Wait(context.Background()))
		require.True(t, called)
	})
}

// What cuts a wait short is not the reason of what is settled already.
func TestWaitThatEndsWhileTheCallbackRunsWasNotCutShort(t *testing.T) {
	play(t, 1, 0, func(s *stage) {
		ctx, cancel := context.WithCancel(context.Background())
		r := s.held("a").Extend(stageTTL, func(*Round) { cancel(); pass(time.Millisecond) })
		r.Send()
		go s.actors[0].next("extend").yes()
		require.NoError(t, r.Wait(ctx))
		require.Equal(t, quorum.Won, r.Outcome())
	})
}

func TestRenewalDoesNotPileUpBehindAnAcquire(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		c := s.claim("a")
		r := s.acquire(c)
		s.actors[0].next("acquire").yes()
		s.actors[1].next("acquire").yes()
		c.Prove(r.Lease())
		acquire := s.actors[2].next("acquire")

		renewal, w := c.Renew(stageTTL, (&watched{}).then), &watched{}
		renewal.Send()
		s.actors[0].next("extend").yes()
		s.actors[1].next("extend").gone()
		require.Equal(t, quorum.Unreachable, renewal.Outcome())
		require.ErrorIs(t, renewal.Shortfall().Answers[1].Err, errBusy)

		extension := c.Extend(stageTTL, w.then)
		extension.Send()
		s.quietBut(0, 1)
		acquire.yes()
		s.actors[2].next("extend").yes() // behind it
		s.actors[0].next("extend").yes()
		require.Equal(t, []string{"won"}, w.seen())
		s.actors[1].next("extend").yes()
	})
}

// quietBut checks that only these nodes were asked something.
func (s *stage) quietBut(nodes ...int) {
	s.Helper()
	for i, a := range s.actors {
		want := false
		for _, n := range nodes {
			want = want || n == i
		}
		require.Equal(s, want, a.busy(), "node %d", i)
	}
}

func TestNumbersOfShortenings(t *testing.T) {
	play(t, 1, 0, func(s *stage) {
		c, a := s.held("a"), s.actors[0]
		sent := func(r *Round, script string, args ...any) *Round {
			t.Helper()
			r.Send()
			q := a.next(script)
			require.Equal(t, args, q.args)
			q.yes()
			return r
		}
		extend := func(ttl time.Duration) *Round { return c.Extend(ttl, func(*Round) {}) }
		shorten := func(ttl time.Duration) *Round { return c.Shorten(ttl, func(*Round) {}) }

		before := sent(extend(time.Minute), "extend", token, 0, ttlMillis, "keep")
		require.Equal(t, token, c.Token())
		first := sent(shorten(10*time.Second), "extend", token, 1, int64(10_000), "cut")
		require.Equal(t, "1~"+token, c.Token())
		between := sent(extend(2*time.Minute), "extend", token, 1, 2*ttlMillis, "keep")
		require.False(t, between.Overtaken())
		second := shorten(time.Second)
		require.True(t, between.Overtaken(),
			"from the moment at which the number is taken, before anything is sent")
		sent(second, "extend", token, 2, int64(1000), "cut")
		for _, r := range []*Round{before, first, between} {
			require.True(t, r.Overtaken())
		}
		require.False(t, second.Overtaken())

		// An extension that was prepared before a shortening carries its own number, whenever it is
		// sent.
		old := extend(time.Minute)
		shorten(time.Second)
		sent(old, "extend", token, 2, ttlMillis, "keep")

		sent(c.Release(nil), "release", token, 3)
	})
}

func TestRetiringTakesTheNextNumberToo(t *testing.T) {
	play(t, 1, 0, func(s *stage) {
		c := s.held("a")
		r := c.Retire(5 * time.Second)
		r.Send()
		q := s.actors[0].next("extend")
		end := time.Now().Add(5 * time.Second)
		require.Equal(t, []any{token, 1, leftUntil{end}, "cut"}, q.args)
		q.fail(io.EOF)
		pass(firstRepeat)
		q = s.actors[0].next("extend")
		require.Equal(t, []any{token, 1, leftUntil{end}, "cut"}, q.args,
			"the repetition asks for what is left")
		q.fail(io.EOF)
		pass(5 * time.Second)
		s.actors[0].next("extend").fail(io.EOF)
		pass(time.Minute)
		s.quiet()
	})
}

// The claim is over some time before it retires. A node that grants the lock in between keeps it as
// long as the others do.
func TestWhatIsGrantedJustBeforeAClaimRetiresStays(t *testing.T) {
	for verb, ask := range map[string]func(c *Claim) *Round{
		"acquire": func(c *Claim) *Round { return c.Acquire(stageTTL) },
		"wait":    func(c *Claim) *Round { return c.Stand(stageTTL, placeOf(c, "1@inbox")) },
	} {
		t.Run(verb, func(t *testing.T) {
			play(t, 3, 0, func(s *stage) {
				c := s.claim("a")
				r := ask(c)
				r.Send()
				s.actors[0].next(verb).yes()
				s.actors[1].next(verb).yes()
				c.Prove(r.Lease())
				if c.place != nil {
					c.place.Holds()
				}
				c.End(true)
				require.Equal(t, "take", taking{c}.String())
				s.actors[2].next(verb).yes()
				s.quiet()
				c.Retire(5 * time.Second).Send()
				for _, a := range s.actors {
					a.next("extend").yes()
				}
				s.quiet()
			})
		})
	}
}

// firstRepeat is more than a node waits before it repeats a call for the first time.
const firstRepeat = 60 * time.Millisecond

// A node that has run a later shortening of ours says that the lock is ours under a larger number.
func TestAnswerOfANodeThatALaterShorteningHasReached(t *testing.T) {
	play(t, 1, 0, func(s *stage) {
		c, a := s.held("a"), s.actors[0]
		r := c.Extend(stageTTL, func(*Round) {})
		r.Send()
		c.Shorten(time.Second, func(*Round) {})
		a.next("extend").refuse("1~"+token, time.Second)
		require.Equal(t, quorum.Won, r.Outcome())
		require.True(t, r.Overtaken(), "and the lease must not move")

		// A number that is not ours is from somebody who has the token.
		r = c.Extend(stageTTL, func(*Round) {})
		r.Send()
		a.next("extend").refuse("2~"+token, time.Second)
		require.Equal(t, quorum.Unreachable, r.Outcome())
		require.Equal(t, errOvertaken, r.Shortfall().Answers[0].Err)
	})
}

func TestNodeThatLostOurKeysGetsThemAgain(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		c := s.held("a")
		shortening := c.Shorten(10*time.Second, func(*Round) {})
		shortening.Send()
		for _, a := range s.actors {
			a.next("extend").yes()
		}
		lost := func() (heal *request) {
			c.Extend(20*time.Second, func(*Round) {}).Send()
			// first: whether anything is to be healed is not known yet
			s.actors[0].next("extend").gone()
			s.quietBut(1, 2)
			s.actors[1].next("extend").yes()
			require.False(t, s.actors[0].busy())
			s.actors[2].next("extend").yes()
			return s.actors[0].next("acquire")
		}
		heal := lost()
		require.Equal(t, []any{"1~" + token, int64(20_000)}, heal.args)
		require.Equal(t,
			[]Trouble{{Kind: Healed, Node: 0, Addr: "node", Resources: []string{"a"}, Reachable: 3,
				Needed: 2}}, s.heard())

		c.Extend(20*time.Second, func(*Round) {}).Send()
		s.actors[1].next("extend").yes()
		s.actors[2].next("extend").yes()
		s.quiet()
		heal.yes()
		s.actors[0].next("extend").yes() // behind it
		require.Empty(t, s.heard())

		lost().fail(serverError("OOM no"))
		require.Len(t, s.heard(), 2, "the lock is lost there once more, and the node fails")
		lost().yes()
		require.Len(t, s.heard(), 1, "the node answers; nobody knows whether it had the lock")
		s.quiet()
	})
}

// Two extensions at the same time may both find that a node has lost our keys.
func TestNodeIsHealedOnce(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		c := s.held("a")
		for range 2 {
			c.Extend(stageTTL, func(*Round) {}).Send()
			s.actors[0].next("extend").gone()
		}
		for _, a := range s.actors[1:] {
			first, second := a.next("extend"), a.next("extend")
			first.yes()
			second.yes()
		}
		s.actors[0].next("acquire").yes()
		s.quiet()
		require.Len(t, s.heard(), 1)
	})
}

func TestNothingIsHealed(t *testing.T) {
	for name, spoil := range map[string]func(c *Claim){
		"that is over": func(c *Claim) { c.End(false) },
		"after its lease": func(c *Claim) {
			c.Prove(lease.Lease{Start: time.Now().Add(-stageTTL), TTL: stageTTL})
		},
		"that was abandoned": func(c *Claim) { c.over = true },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, 3, 0, func(s *stage) {
				c := s.held("a")
				c.Extend(stageTTL, func(*Round) {}).Send()
				s.actors[0].next("extend").yes()
				spoil(c)
				s.actors[1].next("extend").gone()
				s.actors[2].next("extend").yes()
				s.quiet()
			})
		})
	}
	t.Run("by an extension without a quorum or a node that refuses", func(t *testing.T) {
		play(t, 3, 0, func(s *stage) {
			c := s.held("a")
			c.Extend(stageTTL, func(*Round) {}).Send()
			s.actors[0].next("extend").gone()
			s.actors[1].next("extend").fail(io.EOF)
			s.actors[2].next("extend").yes()
			s.quiet()
			c.Extend(stageTTL, func(*Round) {}).Send()
			s.actors[0].next("extend").refuse(stranger, time.Second)
			s.actors[1].next("extend").yes()
			s.actors[2].next("extend").yes()
			s.quiet()
		})
	})
}

func TestHealedNodeIsCleanedUpAfterTheEnd(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		c := s.held("a")
		c.Extend(stageTTL, func(*Round) {}).Send()
		s.actors[0].next("extend").gone()
		s.actors[1].next("extend").yes()
		s.actors[2].next("extend").yes()
		heal := s.actors[0].next("acquire")
		c.Release(nil).Send()
		s.released(1, 1)
		s.released(2, 1)
		require.False(t, s.actors[0].busy(), "behind the acquire")
		heal.yes()
		s.released(0, 1)
	})
}

func TestClosedLockerCutsExtensionsShortAndNoReleases(t *testing.T) {
	play(t, 1, 0, func(s *stage) {
		c, closed := s.held("a"), errors.New("closed")
		r := c.Extend(stageTTL, func(*Round) {})
		r.Send()
		s.close(closed)
		require.Equal(t, closed, r.Wait(context.Background()))
		s.actors[0].next("extend").yes()

		release := c.Release(nil)
		release.Send()
		q := s.actors[0].next("release")
		time.AfterFunc(stagePatience/2, q.yes)
		require.NoError(t, release.Wait(context.Background()))
		require.Equal(t, quorum.Won, release.Outcome())
	})
}
