//go:build go1.25

package protocol

import (
	"context"
	"io"
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/quorum"
	"github.com/rediskit/redlock/internal/slot"
)

// tell answers yes with a fence.
func (q *request) tell(fence int) { q.say(strconv.Itoa(fence), nil) }

// fenced returns a claim with fencing that a quorum has granted, and the round.
func (s *stage) fenced(counters ...int) (*Claim, *Round) {
	s.Helper()
	s.Nodes.Fencing = true
	c := s.claim("a")
	c.Propose(time.UnixMicro(5))
	r := s.acquire(c)
	for i, counter := range counters {
		q := s.actors[i].next("acquire")
		require.Equal(s, []string{"lock:a", "{lock:a}:fence"}, q.keys)
		require.Equal(s, []any{token, stageTTL.Milliseconds(), 1, "5"}, q.args)
		q.tell(counter)
	}
	require.Equal(s, quorum.Won, r.Outcome())
	return c, r
}

// agreement is an AgreeFence that is under way.
type agreement struct {
	round *Round
	cause error
	done  chan struct{}
}

func (s *stage) agree(ctx context.Context, c *Claim, won *Round) *agreement {
	a := &agreement{done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.round, a.cause = c.AgreeFence(ctx, won, won.Lease().End())
	}()
	return a
}

func TestQuorumThatTellsTheSameFenceIsAskedNothingMore(t *testing.T) {
	play(t, 5, 0, func(s *stage) {
		c, r := s.fenced(7, 7, 7)
		a := s.agree(context.Background(), c, r)
		<-a.done
		require.Equal(t, r, a.round)
		require.EqualValues(t, 7, c.Fence())
		for _, actor := range s.actors[:3] {
			require.False(t, actor.busy())
		}
	})
}

// A counter that has gone beyond may have gone on for somebody else: then the fence has to be that
// one, on a quorum.
func TestFenceIsNotDecidedBeforeAQuorumTellsExactlyIt(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		c, r := s.fenced(7, 9)
		a := s.agree(context.Background(), c, r)
		for _, round := range []struct{ carried, first, second string }{
			{"9", "9", "12"}, {"12", "13", "12"}, {"13", "13", "13"},
		} {
			require.Zero(t, c.Fence())
			for i, told := range []string{round.first, round.second} {
				q := s.actors[i].next("extend")
				require.Equal(t, []string{"lock:a", "{lock:a}:fence"}, q.keys)
				require.Equal(t, []any{token, 0, "keep", round.carried},
					[]any{q.args[0], q.args[1], q.args[3], q.args[4]})
				q.say(told, nil)
			}
		}
		<-a.done
		require.Equal(t, quorum.Won, a.round.Outcome())
		require.EqualValues(t, 13, c.Fence())
	})
}

func TestRaisingAFenceGivesTheKeysNoTime(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		c, r := s.fenced(7, 9)
		pass(10 * time.Second)
		a := s.agree(context.Background(), c, r)
		for _, actor := range s.actors[:2] {
			q := actor.next("extend")
			left, err := strconv.ParseInt(q.args[2].(leftUntil).String(), 10, 64)
			require.NoError(t, err)
			require.LessOrEqual(t, left, time.Until(r.Lease().End()).Milliseconds()+1)
			q.tell(9)
		}
		<-a.done
	})
}

func TestFenceThatCannotBeAgreedOnIsNoLock(t *testing.T) {
	for name, c := range map[string]struct {
		say     func(q *request)
		outcome quorum.Outcome
	}{
		"gone":    {(*request).gone, quorum.Refused},
		"foreign": {func(q *request) { q.refuse(stranger, time.Second) }, quorum.Refused},
		"failed":  {func(q *request) { q.fail(io.EOF) }, quorum.Unreachable},
		"silent":  {func(*request) {}, quorum.Unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, 3, 0, func(s *stage) {
				claim, r := s.fenced(7, 9)
				began := time.Now()
				a := s.agree(context.Background(), claim, r)
				c.say(s.actors[0].next("extend"))
				c.say(s.actors[1].next("extend"))
				<-a.done
				require.Equal(t, c.outcome, a.round.Outcome())
				require.Equal(t, "acquire", a.round.Op())
				require.Zero(t, claim.Fence())
				require.LessOrEqual(t, time.Since(began), stagePatience)
			})
		})
	}
}

// Counters that go on and on, which no real ones do, take the node timeout and no more.
func TestAgreeingOnAFenceTakesTheNodeTimeoutAtMost(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		c, r := s.fenced(7, 9)
		began := time.Now()
		a := s.agree(context.Background(), c, r)
		for i := 10; s.actors[0].busy(); i++ {
			pass(stagePatience / 10)
			for j, actor := range s.actors[:2] {
				if actor.busy() {
					actor.next("extend").tell(i + 10*j)
				}
			}
		}
		<-a.done
		require.Equal(t, quorum.Unreachable, a.round.Outcome())
		require.LessOrEqual(t, time.Since(began), stagePatience+stagePatience/10)
	})
}

func TestAgreeingOnAFenceIsCutShort(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		ctx, cancel := context.WithCancelCause(context.Background())
		c, r := s.fenced(7, 9)
		a := s.agree(ctx, c, r)
		s.actors[0].next("extend")
		cancel(io.ErrUnexpectedEOF)
		<-a.done
		require.Equal(t, io.ErrUnexpectedEOF, a.cause)
	})
}

func TestNodeThatGrantsLessIsToldTheFence(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		c, r := s.fenced(7, 7)
		<-s.agree(context.Background(), c, r).done
		c.Prove(r.Lease())
		s.actors[2].next("acquire").tell(4)
		q := s.actors[2].next("extend")
		require.Equal(t, "7", q.args[4])
		q.tell(7)
		s.quiet()
	})
	play(t, 5, 0, func(s *stage) {
		c, r := s.fenced(7, 4, 7)
		s.actors[3].next("acquire").tell(7)
		<-s.agree(context.Background(), c, r).done
		require.Equal(t, "7", s.actors[1].next("extend").args[4])
		s.actors[4].next("acquire").tell(9)
		s.quiet()
	})
}

func TestExtensionsAndHealingCarryTheFence(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		c, r := s.fenced(7, 7)
		s.actors[2].next("acquire").tell(7)
		<-s.agree(context.Background(), c, r).done
		c.Prove(r.Lease())
		c.Extend(stageTTL, func(*Round) {}).Send()
		for _, actor := range s.actors[:2] {
			q := actor.next("extend")
			require.Equal(t, []any{"keep", "7"}, q.args[3:])
			q.tell(7)
		}
		s.actors[2].next("extend").gone()
		q := s.actors[2].next("acquire")
		require.Equal(t, []string{"lock:a", "{lock:a}:fence"}, q.keys)
		require.Equal(t, []any{1, "=7"}, q.args[2:])
		q.tell(8)
		s.quiet()

		c.Release(nil).Send()
		for _, actor := range s.actors {
			require.Equal(t, []string{"lock:a"}, actor.next("release").keys)
		}
	})
}

// stand asks for a lock at a place in the queues.
func (s *stage) stand(c *Claim) *Round {
	at := NewPlace(s.Nodes, *c.keys, "1@inbox")
	at.Sure, at.Heard = func(int) bool { return true }, func(int, *Refusal) {}
	r := c.Stand(stageTTL, at)
	r.Send()
	return r
}

func TestLockThatWasWaitedForHasAFenceToo(t *testing.T) {
	play(t, 3, 0, func(s *stage) {
		s.Nodes.Fencing = true
		c := s.claim("a")
		c.Propose(time.UnixMicro(5))
		r := s.stand(c)
		for _, actor := range s.actors[:2] {
			q := actor.next("wait")
			require.Equal(t, []string{"lock:a", "{lock:a}:queue", "{lock:a}:fence"}, q.keys)
			require.Equal(t, []any{token, stageTTL.Milliseconds(), 1}, q.args[:3])
			require.Equal(t, "5", q.args[7])
			q.say([]any{int64(1_700_000_000_000_000), "7"}, nil)
		}
		require.Equal(t, quorum.Won, r.Outcome())
		require.Len(t, r.Times(), 2)
		for _, told := range r.Times() {
			require.EqualValues(t, int64(1_700_000_000_000_000), told.Shown)
		}
		<-s.agree(context.Background(), c, r).done
		require.EqualValues(t, 7, c.Fence())

		// The third node still has somebody else, until it calls.
		c.Prove(r.Lease())
		s.actors[2].next("wait").say([]any{int64(1), stranger, int64(5),
			int64(1_700_000_000_000_000), int64(0)}, nil)
		c.Join(2)
		q := s.actors[2].next("acquire")
		require.Equal(t, []string{"lock:a", "{lock:a}:fence"}, q.keys)
		require.Equal(t, []any{1, "=7"}, q.args[2:])
		q.tell(7)
		s.quiet()
	})
}

func TestGrantsToWaitersThatTellNoFence(t *testing.T) {
	const now = int64(1_700_000_000_000_000)
	for _, reply := range []any{
		now, "7", int64(1), []any{now, "0"}, []any{now, now}, []any{now}, []any{now, "7", "7"},
	} {
		play(t, 1, 0, func(s *stage) {
			s.Nodes.Fencing = true
			c := s.claim("a")
			c.Propose(time.UnixMicro(5))
			r := s.stand(c)
			s.actors[0].next("wait").say(reply, nil)
			require.NotEqual(t, quorum.Won, r.Outcome(), "%v", reply)
		})
	}
	play(t, 1, 0, func(s *stage) {
		r := s.stand(s.claim("a"))
		s.actors[0].next("wait").say([]any{now, "7"}, nil)
		require.Equal(t, quorum.Unreachable, r.Outcome(), "nobody asked for one")
	})
}

func TestRepliesThatAreNoFences(t *testing.T) {
	for _, reply := range []any{
		int64(1), int64(7), "", "x", "0", "-1", "7.5", "4503599627370496", []any{"7"},
	} {
		play(t, 1, 0, func(s *stage) {
			s.Nodes.Fencing = true
			r := s.acquire(s.claim("a"))
			s.actors[0].next("acquire").say(reply, nil)
			require.Equal(t, quorum.Unreachable, r.Outcome(), "%v", reply)
		})
	}
	play(t, 1, 0, func(s *stage) {
		r := s.acquire(s.claim("a"))
		s.actors[0].next("acquire").tell(7)
		require.Equal(t, quorum.Unreachable, r.Outcome(), "nobody asked for one")
	})
}

// On a Redis Cluster a node has told a fence when all its slots have.
func TestSlotsOfANodeMustTellTheSameFence(t *testing.T) {
	play(t, 1, 1, func(s *stage) {
		s.Nodes.Fencing = true
		c := s.claim("a", "b")
		r := s.acquire(c)
		s.actors[0].next("acquire").tell(5)
		s.actors[0].next("acquire").tell(6)
		a := s.agree(context.Background(), c, r)
		for range 2 {
			q := s.actors[0].next("extend")
			require.Equal(t, "6", q.args[4])
			q.tell(6)
		}
		<-a.done
		require.EqualValues(t, 6, c.Fence())
	})
}

// While a Redis Cluster moves a slot, keys are asked about one by one: each with its counter.
func TestKeysThatAreAskedForOneByOneHaveTheirCounters(t *testing.T) {
	play(t, 1, 1, func(s *stage) {
		s.Nodes.Fencing = true
		c := s.claim("{x}a", "{x}b")
		r := s.acquire(c)
		s.actors[0].next("acquire").tell(5)
		<-s.agree(context.Background(), c, r).done
		c.Prove(r.Lease())
		w := &watched{}
		c.Extend(stageTTL, w.then).Send()
		s.actors[0].next("extend").fail(serverError("TRYAGAIN"))
		for _, key := range []string{"lock:{x}a", "lock:{x}b"} {
			q := s.actors[0].next("extend")
			require.Equal(t, []string{key, key + ":fence"}, q.keys)
			q.tell(5)
		}
		require.Equal(t, []string{"won"}, w.seen())

		// One lock key is one, whatever stands beside it.
		single := s.claim("{x}c")
		r = s.acquire(single)
		s.actors[0].next("acquire").tell(5)
		single.Prove(r.Lease())
		single.Extend(stageTTL, w.then).Send()
		s.actors[0].next("extend").fail(serverError("TRYAGAIN"))
		require.Equal(t, []string{"won", "unreachable"}, w.seen())
		s.quiet()
	})
}

func TestInspectionTellsTheFenceThatMostNodesHave(t *testing.T) {
	other := "OOOOOOOOOOOOOOOOOOOOOO:other"
	for name, c := range map[string]struct {
		replies []any
		fence   uint64
	}{
		"all": {[]any{[]any{stranger, int64(5), "7"}, []any{stranger, int64(5), "7"},
			[]any{stranger, int64(5), "7"}}, 7},
		"most": {[]any{[]any{stranger, int64(5), "9"}, []any{stranger, int64(5), "7"},
			[]any{other, int64(5), "9"}, []any{stranger, int64(5), "7"}}, 7},
		"as many": {[]any{[]any{stranger, int64(5), "7"}, []any{stranger, int64(5), "9"},
			[]any{other, int64(5), "9"}, []any{stranger, int64(5), nil}}, 9},
		"none": {[]any{[]any{stranger, int64(5), nil}, []any{stranger, int64(5), nil},
			[]any{stranger, int64(5), nil}}, 0},
		"not readable": {[]any{[]any{stranger, int64(5), "x"}, []any{stranger, int64(5), "7"},
			[]any{stranger, int64(5), "7"}, []any{stranger, int64(5), "7"}}, 7},
	} {
		play(t, 5, 0, func(s *stage) {
			s.Nodes.Fencing = true
			r := s.Inspect(s.Keys("lock", []string{"a"}), stageTTL)
			r.Send()
			for i, reply := range c.replies {
				q := s.actors[i].next("inspect")
				require.Equal(t, []any{1, "queues"}, q.args)
				q.say(reply, nil)
			}
			require.Equal(t, quorum.Won, r.Outcome(), name)
			_, fence, _ := r.Holder()
			require.Equal(t, c.fence, fence, name)
		})
	}
}

func FuzzAuxiliaryKeys(f *testing.F) {
	for _, key := range []string{"a", "{x}a", "a}b", "{}", "{a", "a{}b{c}", "}{", "{a}}"} {
		f.Add(key)
	}
	n := &Nodes{clustered: true}
	f.Fuzz(func(t *testing.T, key string) {
		k := n.Keys("", []string{key})
		for _, suffix := range []string{queueSuffix, fenceSuffix} {
			if _, misfit := n.Misfit(k); !misfit {
				require.Equal(t, slot.Of(key), slot.Of(auxiliary(key, suffix)))
			}
			require.NotEqual(t, key, auxiliary(key, suffix))
		}
		_, misfit := (&Nodes{}).Misfit(k)
		require.False(t, misfit, "a single server takes any")
	})
}

func TestProposalIsThereWhateverTheClockShows(t *testing.T) {
	for at, want := range map[time.Time]string{
		time.UnixMicro(1): "1", time.UnixMicro(-5): "1",
		time.UnixMicro(math.MaxInt64): strconv.FormatInt(math.MaxInt64, 10),
	} {
		c := &Claim{}
		c.Propose(at)
		require.Equal(t, want, c.args[3])
	}
}

// A counter that is missing tells against an agreement, wherever it comes.
func TestMissingCounterIsTheSmallest(t *testing.T) {
	for _, counters := range [][]uint64{{0, 7}, {7, 0}, {7, 0, 8}, {0, 0, 7}} {
		var f fences
		for _, counter := range counters {
			f.report(counter)
		}
		require.Zero(t, f.low, "%d", counters)
		require.Equal(t, slices.Max(counters), f.high)
	}
}
