//go:build go1.25

package protocol

import (
	"context"
	"errors"
	"io"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/quorum"
)

func TestWaiterTriesAgainWhenEnoughLocksWillHaveExpired(t *testing.T) {
	const ms, never = time.Millisecond, time.Duration(math.MaxInt64)
	failure := errors.New("failure")
	for name, c := range map[string]struct {
		answers []error // less than five: the others are silent
		freeIn  time.Duration
	}{
		"held by one": {[]error{heldBy("x", 300*ms), heldBy("x", 500*ms),
			heldBy("x", 400*ms), heldBy("x", 600*ms), heldBy("x", 700*ms)}, 501 * ms},
		"two granted": {[]error{nil, nil, heldBy("x", 900*ms),
			heldBy("x", 300*ms), heldBy("x", 500*ms)}, 301 * ms},
		"a key that never expires": {[]error{heldBy("x", 300*ms), heldBy("x", -1),
			heldBy("x", 400*ms), heldBy("x", 200*ms), heldBy("x", -1)}, 401 * ms},
		"too many that never expire": {[]error{heldBy("x", -1), heldBy("x", -1),
			heldBy("x", -1), heldBy("x", 1*ms), heldBy("x", 1*ms)}, never},
		"silent nodes may be as good": {[]error{heldBy("x", 300*ms), heldBy("x", 500*ms),
			heldBy("x", 700*ms)}, 301 * ms},
		"failed nodes are of no use": {[]error{failure, failure, heldBy("x", 300*ms),
			heldBy("x", 500*ms), heldBy("x", 400*ms)}, 501 * ms},
		"too many failed": {[]error{failure, failure, failure,
			heldBy("x", 300*ms), heldBy("x", 500*ms)}, never},
		"nobody has said for how long": {[]error{failure}, never},
		"expired when the node answered": {[]error{heldBy("x", 0), heldBy("x", 0),
			heldBy("x", 0)}, ms},
		"more are silent than have answered": {[]error{heldBy("x", 800*ms)}, 801 * ms},
	} {
		r := answer(claimOn(silent(5), token).Acquire(time.Minute), c.answers...)
		require.Equal(t, c.freeIn, r.FreeIn(), name)
	}
}

// Nobody is in the way then. Nodes that are too slow to answer at all are another matter.
func TestWaiterWhoseQuorumCameTooLateTriesAgainAtOnce(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		c := s.claim("a")
		r := s.acquire(c)
		s.actors[0].next("acquire").yes()
		s.actors[1].next("acquire").refuse(stranger, time.Hour)
		require.NoError(t, r.Wait(context.Background()))
		require.Equal(t, quorum.Refused, r.Outcome(),
			"the third would have the decision, and did not come")
		require.True(t, r.MayYetWin())
		c.End(false)
		s.actors[2].next("acquire").yes()
		require.Equal(t, quorum.Refused, r.Outcome())
		require.False(t, r.MayYetWin())
		require.Equal(t, time.Millisecond, r.FreeIn())
		s.actors[2].next("release").yes()

		r = s.acquire(s.claim("b"))
		require.NoError(t, r.Wait(context.Background()))
		require.Equal(t, quorum.Unreachable, r.Outcome())
		for _, a := range s.actors {
			a.next("acquire").yes()
		}
		require.Equal(t, time.Duration(math.MaxInt64), r.FreeIn())
	})
}

// Whoever has seen that quorum has given up.
func TestSplitIsWonByAGrantThatComesBeforeItIsGivenUp(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		r := s.acquire(s.claim("a"))
		s.actors[0].next("acquire").yes()
		s.actors[1].next("acquire").refuse(NewToken("other"), time.Hour)
		require.NoError(t, r.Wait(context.Background()))
		require.Equal(t, quorum.Refused, r.Outcome())
		require.True(t, r.MayYetWin())
		s.actors[2].next("acquire").yes()
		require.Equal(t, quorum.Won, r.Outcome())
		require.False(t, r.MayYetWin())
		require.True(t, r.Shortfall().Held,
			"it is no outage for whoever had looked before that grant")
	})
}

func TestSlowNodeDecidesWhereSomebodyIsInTheWayWhoDoesNotYield(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		r := s.acquire(s.claim("a"))
		s.actors[0].next("acquire").yes()
		s.actors[1].next("acquire").refuse("redsync", time.Hour)
		go func() {
			pass(stagePatience / 2)
			s.actors[2].next("acquire").yes()
		}()
		require.NoError(t, r.Wait(context.Background()))
		require.Equal(t, quorum.Won, r.Outcome())
	})
}

func TestShortfallNamesNoNodeThatWasMerelyOutrun(t *testing.T) {
	play(t, 5, 0, func(s *stage) {
		r := s.acquire(s.claim("a"))
		s.actors[0].next("acquire").yes()
		for i := 1; i <= 3; i++ {
			s.actors[i].next("acquire").refuse(stranger, time.Second)
		}
		require.NoError(t, r.Wait(context.Background()))
		refused := &Refusal{Resource: "a", Owner: stranger, Left: time.Second}
		require.Equal(t, &Shortfall{
			Op: "acquire", Held: true, Need: 3, Got: 1, Voters: 5,
			Answers: []Answer{{1, "node", refused}, {2, "node", refused}, {3, "node", refused}},
		}, r.Shortfall())
	})
}

func TestShortfallAfterTheNodeTimeout(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		r := s.acquire(s.claim("a"))
		s.actors[1].next("acquire").fail(io.EOF)
		require.NoError(t, r.Wait(context.Background()))
		require.Equal(t, &Shortfall{
			Op: "acquire", Need: 2, Voters: 3,
			Answers: []Answer{{0, "node", &NoAnswer{Within: time.Second}}, {1, "node", io.EOF},
				{2, "node", &NoAnswer{Within: time.Second}}},
		}, r.Shortfall())

		// What the node's client has said is the best guess.
		r = s.acquire(s.claim("b"))
		require.NoError(t, r.Wait(context.Background()))
		last := r.Shortfall().Answers[1].Err
		require.Equal(t, &NoAnswer{time.Second, io.EOF}, last)
		require.ErrorIs(t, last, io.EOF)
		require.EqualError(t, last, "no answer within 1s (last error: EOF)")
	})
}

// The first call on a cold connection takes several round trips. How long one takes, dialling
// shows.
func TestDistantNodeThatHasNeverAnsweredHasMoreTime(t *testing.T) {
	for name, c := range map[string]struct {
		timeout, ttl, far, want time.Duration
	}{
		"eight times as long as dialling it takes": {0, stageTTL, 400 * time.Millisecond,
			3200 * time.Millisecond},
		"not where that is less": {0, stageTTL, 100 * time.Millisecond, stagePatience},
		"not more than half of the TTL": {0, 4 * time.Second, 400 * time.Millisecond,
			2 * time.Second},
		"not if the user has set a timeout": {stagePatience, stageTTL, 400 * time.Millisecond,
			stagePatience},
	} {
		play(t, 1, 0, func(s *stage) {
			s.Nodes.Timeout, s.actors[0].far = c.timeout, c.far
			began := time.Now()
			r := s.claim("a").Acquire(c.ttl)
			r.Send()
			require.NoError(t, r.Wait(context.Background()))
			require.Equal(t, quorum.Unreachable, r.Outcome())
			require.InDelta(t, c.want.Seconds(), time.Since(began).Seconds(), 0.05, name)

			s.actors[0].next("acquire").yes()
			began = time.Now()
			r = s.claim("b").Acquire(stageTTL)
			r.Send()
			require.NoError(t, r.Wait(context.Background()))
			require.InDelta(t, stagePatience.Seconds(), time.Since(began).Seconds(), 0.05,
				"now it has answered")
		})
	}
}

func TestShortfallWhenTheCallerHasHadEnough(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		ctx, cancel := context.WithCancelCause(context.Background())
		r := s.acquire(s.claim("a"))
		s.actors[0].next("acquire").yes()
		cancel(errors.New("enough"))
		require.EqualError(t, r.Wait(ctx), "enough")
		require.Equal(t, []Answer{{1, "node", errNotYet}, {2, "node", errNotYet}},
			r.Shortfall().Answers)
		require.NoError(t, r.Wait(ctx), "it is settled: nothing cuts it short")
	})
}

func TestOutageIsToldWhenItBeginsAndWhenItEnds(t *testing.T) {
	play(t, 2, 0, func(s *stage) {
		c, a := s.held("a"), s.actors[0]
		say := func(answer func(q *request)) []Trouble {
			c.Extend(stageTTL, func(*Round) {}).Send()
			answer(a.next("extend"))
			s.actors[1].next("extend").yes()
			return s.heard()
		}
		failure := func(err error) func(q *request) { return func(q *request) { q.fail(err) } }
		require.Empty(t, say((*request).yes))
		for _, code := range []string{"WRONGTYPE Operation", "NOPERM no"} {
			require.Empty(t, say(failure(serverError(code))), "it is of the call, not of the node")
		}
		began := time.Now()
		require.Equal(t,
			[]Trouble{{Kind: NodeFails, Node: 0, Addr: "node", Op: "extend", Err: io.EOF,
				Reachable: 1, Needed: 2}}, say(failure(io.EOF)))
		require.Empty(t, say(failure(serverError("LOADING"))))
		require.Empty(t, say(failure(serverError("WRONGTYPE Operation"))),
			"which does not end it either")
		pass(3 * time.Second)
		require.Empty(t, say(failure(io.EOF)))
		require.Equal(t,
			[]Trouble{{Kind: NodeAnswers, Node: 0, Addr: "node", Calls: 3, For: time.Since(began),
				Reachable: 2, Needed: 2}}, say((*request).yes))
		require.Empty(t, say((*request).yes))
		require.Len(t, say(failure(io.EOF)), 1, "another one")
		require.Len(t, say(func(q *request) { q.refuse(stranger, time.Second) }), 1,
			"a no is an answer")
	})
}

func TestKeysThatCouldNotBeDeletedAreTold(t *testing.T) {
	play(t, 1, 0, func(s *stage) {
		for _, c := range []*Claim{s.held("a"), s.held("b")} {
			c.Release(nil).Send()
			s.actors[0].next("release").fail(io.EOF)
		}
		require.Len(t, s.heard(), 1, "the failure")
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		require.NoError(t, errors.Join(s.Close(ended, time.Minute)...))
		require.Equal(t,
			[]Trouble{{Kind: KeysStay, Node: 0, Addr: "node", Stays: 2, Reachable: 0, Needed: 1}},
			s.heard())
	})
}

// Close returns when its last news is told, however late it is by then, or a moment later where
// whoever is told hangs.
func TestCloseWaitsForItsLastNews(t *testing.T) {
	for took, want := range map[time.Duration]struct {
		news int
		wait time.Duration
	}{
		100 * time.Millisecond: {2, 200 * time.Millisecond},
		time.Hour:              {0, tellTime},
	} {
		play(t, 1, 0, func(s *stage) {
			s.Tell = func(trouble Trouble) {
				<-time.After(took)
				s.hear(trouble)
			}
			s.held("a").Release(nil).Send()
			s.actors[0].next("release").fail(io.EOF)
			ended, cancel := context.WithCancel(context.Background())
			cancel()
			began := time.Now()
			require.NoError(s, errors.Join(s.Close(ended, time.Minute)...))
			require.Equal(s, want.wait, time.Since(began))
			require.Len(s, s.heard(), want.news)
			pass(2 * took) // until whoever hangs is through
		})
	}
}

func TestInspectionTellsTheOwnerAndTheLatestExpiry(t *testing.T) {
	const shortened = "1~" + stranger
	other := "OOOOOOOOOOOOOOOOOOOOOO:other"
	for name, c := range map[string]struct {
		replies []any // of the first nodes, out of three
		outcome quorum.Outcome
		value   string
		left    time.Duration
	}{
		"locked": {[]any{key(stranger, 500), key(stranger, 700)}, quorum.Won,
			stranger, 700 * time.Millisecond},
		"free": {[]any{free, free}, quorum.Refused, "", 0},
		"half shortened": {[]any{key(shortened, 100), key(stranger, 700)}, quorum.Won,
			stranger, 700 * time.Millisecond},
		"on a minority": {[]any{key(stranger, 500), free, free}, quorum.Refused, "", 0},
		"split": {[]any{key(stranger, 500), key(other, 900), free},
			quorum.Refused, "", 0},
		"for ever": {[]any{key(stranger, -1), key(stranger, 700)}, quorum.Won,
			stranger, -1},
		"free, as far as is told": {[]any{free, key(stranger, 500), nil}, quorum.Won, stranger,
			500 * time.Millisecond},
		"one may have it": {[]any{key(other, 900), nil, key(stranger, 500)}, quorum.Won, "",
			900 * time.Millisecond},
		"an outage": {[]any{nil, nil}, quorum.Unreachable, "", 0},
		"nonsense": {[]any{[]any{"x"}, []any{stranger, "500"}}, quorum.Unreachable, "",
			0},
		"no value, but a time": {[]any{[]any{nil, int64(5)}, []any{nil, int64(-1)}},
			quorum.Unreachable, "", 0},
	} {
		play(t, 3, 0, func(s *stage) {
			r := s.Inspect(s.Keys("lock", []string{"a"}), stageTTL)
			r.Send()
			for i, reply := range c.replies {
				require.Equal(t, quorum.Open, r.Outcome(), "%s: %d answers are not enough", name, i)
				q := s.actors[i].next("inspect")
				require.Empty(t, q.args)
				if reply == nil {
					q.fail(io.EOF)
				} else {
					q.say(reply, nil)
				}
			}
			require.Equal(t, c.outcome, r.Outcome(), name)
			if value, _, left := r.Holder(); c.outcome == quorum.Won {
				require.Equal(t, c.left, left, name)
				if c.value != "" {
					require.Equal(t, withoutNumber(c.value), value, name)
				}
			}
		})
	}
}

// free is what a node says of a key that does not exist.
var free = []any{nil, int64(-2)}

func key(value string, ms int64) []any { return []any{value, ms} }

func TestAdoptedLockIsKeptForAsLongAsAQuorumKeepsIt(t *testing.T) {
	pair := func(a, b int64) []any { return []any{token, a, token, b} }
	for name, c := range map[string]struct {
		replies []any
		outcome quorum.Outcome
		kept    time.Duration
	}{
		"two of three": {[]any{pair(5000, 9000), pair(7000, 6000)}, quorum.Won,
			5 * time.Second},
		"the third is no help": {[]any{pair(5000, 9000),
			[]any{nil, int64(-2), token, int64(9000)}, pair(7000, 6000)}, quorum.Won,
			5 * time.Second},
		"somebody else's": {[]any{[]any{token, int64(5), stranger, int64(9)},
			[]any{stranger, int64(5), token, int64(9)}}, quorum.Refused, 0},
		"shortened": {[]any{[]any{"1~" + token, int64(5), token, int64(9)},
			[]any{"1~" + token, int64(5), token, int64(9)}}, quorum.Refused, 0},
		"one that never expires": {[]any{pair(-1, 9), pair(9, -1)}, quorum.Refused, 0},
		"too short a reply": {[]any{[]any{token, int64(5)}, []any{token}}, quorum.Unreachable,
			0},
	} {
		play(t, 3, 0, func(s *stage) {
			claim := s.claim("a", "b")
			r := claim.Find(stageTTL)
			r.Send()
			for i, reply := range c.replies {
				s.actors[i].next("inspect").say(reply, nil)
			}
			require.Equal(t, c.outcome, r.Outcome(), name)
			require.Equal(t, c.kept, r.Kept(), name)
			require.Equal(t, "adopt", r.Op())
		})
	}
}

// Whoever took the lock was another process: a release is not for nothing.
func TestAdoptedLockIsReleasedUntilItIsGone(t *testing.T) {
	play(t, 1, 0, func(s *stage) {
		c := s.claim("a")
		r := c.Find(stageTTL)
		r.Send()
		s.actors[0].next("inspect").say(key(token, 60_000), nil)
		c.Prove(r.Lease())
		c.Release(nil).Send()
		s.actors[0].next("release").fail(io.EOF)
		pass(firstRepeat)
		s.released(0, 1)
	})
}

func TestNumbersInFrontOfTokens(t *testing.T) {
	for value, want := range map[string]string{
		token: token, "1~" + token: token, "12~" + token: token, "~" + token: "~" + token,
		"x~" + token:  "x~" + token,
		"-1~" + token: "-1~" + token, "": "", "~": "~", "3~": "", "1~2~" + token: token,
	} {
		require.Equal(t, want, withoutNumber(value), value)
	}
	require.Equal(t, token, withNumber(token, 0))
	require.Equal(t, "10~"+token, withNumber(token, 10))
	label, ours := Label("7~" + NewToken("me"))
	require.True(t, ours)
	require.Equal(t, "me", label)
	for range 100 {
		token := NewToken("7~x")
		require.Equal(t, token, withoutNumber(token))
	}
}

// A lock that was shortened, adopted by its value and shortened again.
func TestNumberInFrontOfANumber(t *testing.T) {
	const twice, once = "1~2~" + stranger, "2~" + stranger
	label, ours := Label(twice)
	require.True(t, ours)
	require.Equal(t, "stranger", label)

	play(t, 5, 0, func(s *stage) {
		r := s.Inspect(s.Keys("lock", []string{"a"}), stageTTL)
		r.Send()
		for i, value := range []string{twice, twice, once} { // some nodes have not heard of it yet
			s.actors[i].next("inspect").say(key(value, 500), nil)
		}
		require.Equal(t, quorum.Won, r.Outcome(), "one owner has three nodes")
		for _, a := range s.actors[3:] {
			a.next("inspect").say(free, nil)
		}

		c := &Claim{}
		c.Init(s.Nodes, keysOf(s.Nodes, "lock", "a"), once, stageTTL)
		for value, own := range map[string]bool{
			once: true, twice: true, stranger: false, "3~" + stranger: false, "x~" + once: false,
		} {
			require.Equal(t, own, c.own(value), value)
		}
	})
}

func TestStrangerIsWhoMostNodesName(t *testing.T) {
	play(t, 5, 0, func(s *stage) {
		c := s.claim("a")
		r := c.Acquire(stageTTL)
		r.Send()
		for i, owner := range []string{
			"left behind", "stranger", "stranger", NewToken("ours"), NewToken("ours"),
		} {
			s.actors[i].next("acquire").refuse(owner, time.Minute)
		}
		require.Equal(s, "stranger", r.Stranger())
		c.Abandon()
	})
	play(t, 1, 0, func(s *stage) {
		c := s.claim("a")
		r := c.Acquire(stageTTL)
		r.Send()
		s.actors[0].next("acquire").refuse(NewToken("ours"), time.Minute)
		require.Empty(s, r.Stranger())
		c.Abandon()
	})
}
