package queue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/protocol"
	"github.com/rediskit/redlock/internal/quorum"
)

var errHeld = errors.New("held")

// A claim asks the line whether it hears a node while it has its own mutex: a line that asked a
// claim for something with its mutex held would stop both for good.
func TestLineAsksNoClaimWithItsMutexHeld(t *testing.T) {
	l, servers := lineOver(t, 1)
	foreign(t, servers, "r")
	w := l.Join(l.keys("r"), time.Second)
	defer w.Leave()
	_, r := l.attempt(t, w)
	w.Refused(r, errHeld)

	for name, ask := range map[string]func(){
		"Look": func() { l.Look(r) }, "Refused": func() { w.Refused(r, errHeld) },
	} {
		t.Run(name, func(t *testing.T) {
			done := make(chan struct{})
			asked := make(chan struct{})
			c, again := l.attempt(t, w)
			r = again
			w.place.Sure = func(node int) bool { // now the claim's mutex is held
				go func() {
					close(asked)
					ask()
					close(done)
				}()
				<-asked
				time.Sleep(20 * time.Millisecond) // until it waits for the claim
				return l.sure(node)
			}
			cleaned := make(chan struct{})
			go func() {
				defer close(cleaned)
				c.Stand(limit, w.place).Send()
			}()
			within(t, cleaned, "the claim")
			within(t, done, name)
			w.place.Sure = l.sure
		})
	}
	require.Equal(t, 3, w.attempts+1)
}

// stand gives a waiter its place in the nodes' queues, as a refusal does.
func (w *Waiter) stand() {
	w.line.mu.Lock()
	defer w.line.mu.Unlock()
	w.line.clock.guess()
	w.standLocked()
}

func (l *Line) hear(node int, word string, w *Waiter, shown int64) {
	l.receive(node, fmt.Sprintf("%s %d %d", word, w.number, shown))
}

func TestOneOfEachGroupAsksTheNodes(t *testing.T) {
	l, _ := lineOver(t, 1)
	var all []*Waiter
	for range 3 {
		all = append(all, l.Join(l.keys("r"), time.Second))
	}
	other := l.Join(l.keys("s"), time.Second)
	require.True(t, all[0].active && other.active)
	require.False(t, all[1].active || all[2].active)
	all[1].Leave() // it was not its turn
	require.False(t, all[2].active)
	all[0].Leave()
	require.True(t, all[2].active)
	all[2].Leave()
	other.Leave()
	require.Empty(t, l.members)
}

func TestEndOfALockLetsTheNextWaiterAsk(t *testing.T) {
	for name, end := range map[string]func(w *Waiter) *protocol.Place{
		"released":     (*Waiter).Release,
		"lost":         func(w *Waiter) *protocol.Place { w.Lost(); return nil },
		"and released": func(w *Waiter) *protocol.Place { w.Lost(); return w.Release() },
	} {
		t.Run(name, func(t *testing.T) {
			l, _ := lineOver(t, 1)
			first, next, last := l.Join(l.keys("r"), time.Second), l.Join(l.keys("r"), time.Second),
				l.Join(l.keys("r"), time.Second)
			first.stand()
			c, r := l.attempt(t, first)
			require.Equal(t, quorum.Won, r.Outcome())
			require.True(t, first.Won(c, time.Now().Add(limit)))
			require.False(t, next.active)
			place := end(first)
			c.Release(place).Send()
			require.True(t, next.active)
			require.False(t, last.active)
			handed, err := next.Turn(context.Background())
			require.NoError(t, err)
			require.Equal(t, name == "released", handed)
			require.Equal(t, handed, place != nil)
			require.Same(t, next.place, next.Place())
			next.Leave()
			require.True(t, last.active)
			last.Leave()
			if name == "lost" {
				require.Len(t, l.members, 1, "a node may yet call it")
				l.mu.Lock() // a subscription may come to stand just now
				delete(l.members, first.number)
				l.mu.Unlock()
			}
			require.Empty(t, l.members)
		})
	}
}

// Whoever has the lock may never say that it is over, or keep it for long: then the next one asks
// the nodes all the same.
func TestWaiterDoesNotRelyOnTheHolderForLong(t *testing.T) {
	for name, tt := range map[string]struct{ lease, covered time.Duration }{
		"a long lease":  {time.Hour, coverTime},
		"a short lease": {50 * time.Millisecond, 50 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			l, _ := lineOver(t, 1)
			first, next := l.Join(l.keys("r"), time.Second), l.Join(l.keys("r"), time.Second)
			c, _ := l.attempt(t, first)
			began := time.Now()
			require.True(t, first.Won(c, began.Add(tt.lease)))
			require.False(t, first.group.covered.Before(began.Add(tt.covered)))
			require.False(t, first.group.covered.After(time.Now().Add(tt.covered)))
			_, err := next.Turn(context.Background())
			require.NoError(t, err)
			require.GreaterOrEqual(t, time.Since(began), tt.covered)
			require.Nil(t, first.Release(), "the next one stands there by itself")
			c.Release(nil).Send()
			next.Leave()
		})
	}
}

func TestNobodyIsToldOfAnEndThatNobodyWaitsFor(t *testing.T) {
	l, _ := lineOver(t, 1)
	w := l.Join(l.keys("r"), time.Second)
	c, _ := l.attempt(t, w)
	require.False(t, w.Won(c, time.Now().Add(limit)))
	require.True(t, w.group.used.IsZero(), "nobody has waited")
	next := l.Join(l.keys("r"), time.Second)
	require.True(t, next.active)
	require.Nil(t, next.place, "nothing tells that it will have to wait")
	next.Leave()
	c.Release(nil).Send()
}

// A lock that was taken without the waiter's place knows nothing of the place, so nothing else
// leaves the queues.
func TestPlaceIsLeftByWhoeverGetsTheLockWithoutIt(t *testing.T) {
	l, servers := lineOver(t, 3)
	foreign(t, servers, "r")
	w := l.Join(l.keys("r"), time.Second)
	w.stand()
	refused, r := l.attempt(t, w)
	require.Equal(t, quorum.Refused, r.Outcome())
	refused.Abandon()
	for _, s := range servers {
		require.Eventually(t, func() bool { return len(s.Keys()) == 2 }, limit, time.Millisecond,
			"%v", s.Keys())
	}
	c, k := &protocol.Claim{}, l.keys("other")
	c.Init(l.nodes, &k, protocol.NewToken(""), limit)
	require.False(t, w.Won(c, time.Now().Add(limit)))
	for _, s := range servers {
		require.Eventually(t, func() bool { return len(s.Keys()) == 1 }, limit, time.Millisecond,
			"%v", s.Keys())
	}
	require.Empty(t, l.members)
}

func TestGroupsOfDifferentResourcesAreDifferent(t *testing.T) {
	seen := make(map[groupName][]string)
	for _, resources := range [][]string{
		{"a"}, {"a", "b"}, {"ab"}, {"a", "b", "c"}, {"a\x00b"}, {"2\x00a\x00b"}, {"a\x00b", "c"},
		{"a", "b\x00c"},
		{"1:a1:b"}, {"1:a", "b"}, {"a", "1:b"},
	} {
		name := nameOf(resources)
		require.NotContains(t, seen, name, "%q", resources)
		seen[name] = resources
	}
}

func TestWhenTheNextAttemptIsDue(t *testing.T) {
	l, _ := lineOver(t, 5)
	l.hearOnlyTheTest()
	w := l.Join(l.keys("r"), time.Second)
	defer w.Leave()
	w.stand()
	poll := time.Now().Add(time.Hour)
	refuse := func(shown int64) {
		for node := range 5 {
			w.heard(node, &protocol.Refusal{Time: shown})
		}
	}
	w.Place()
	refuse(100)
	require.Equal(t, poll, w.dueLocked(poll))

	l.hear(0, wordCome, w, 100)
	l.hear(1, wordCome, w, 99)
	require.Equal(t, poll, w.dueLocked(poll), "calls from before the refusal")
	l.hear(0, wordCome, w, 101)
	l.hear(0, wordCome, w, 102)
	require.Equal(t, w.called.Add(w.late), w.dueLocked(poll), "a little after the first call")
	l.hear(1, wordCome, w, 101)
	w.heard(2, nil) // what it had granted was taken back
	require.Equal(t, w.called, w.dueLocked(poll), "a quorum would grant it")

	w.Place()
	refuse(200)
	require.Equal(t, poll, w.dueLocked(poll), "an attempt begins anew")
	before := time.Now()
	l.hear(3, wordStandBy, w, 201)
	due, after := w.dueLocked(poll), time.Now()
	require.False(t, due.Before(before.Add(grace+graceSlack)), "whoever was called may come yet")
	require.False(t, due.After(after.Add(grace+graceSlack)), "whoever was called may not come")
	l.changed(3, nil)
	require.Equal(t, w.called.Add(w.late), w.dueLocked(poll), "messages may have been lost")
	require.Equal(t, w.called.Add(-time.Second), w.dueLocked(w.called.Add(-time.Second)),
		"the poll comes before")
}

// A call that is later than a refusal counts, whichever of the two arrives first: they come over
// two connections.
func TestCallThatOvertakesTheRefusalBeforeIt(t *testing.T) {
	l, _ := lineOver(t, 3)
	l.hearOnlyTheTest()
	w := l.Join(l.keys("r"), time.Second)
	defer w.Leave()
	w.stand()
	w.Place()
	for node := range 3 {
		l.hear(node, wordCome, w, 101)
		w.heard(node, &protocol.Refusal{Time: 100})
	}
	require.Equal(t, w.called, w.dueLocked(time.Now().Add(time.Hour)))
	w.Place()
	for node := range 3 {
		w.heard(node, &protocol.Refusal{Time: 90}) // the node's clock was set back
		require.False(t, w.nodes[node].open)
	}
}

// The nodes call only those whom they wait for longer than for those who were called.
// A node says no, calls, and is heard in either order while the others are still being asked: then
// the lock is to be taken there too.
func TestNodeThatCallsDuringTheAttemptThatWinsIsAskedAgain(t *testing.T) {
	for name, early := range map[string]bool{"no, then the call": false, "the call first": true} {
		t.Run(name, func(t *testing.T) {
			l, servers := lineOver(t, 3)
			foreign(t, servers, "r")
			w := l.Join(l.keys("r"), time.Second)
			_, r := l.attempt(t, w)
			w.Refused(r, errHeld)
			require.Eventually(t, func() bool { return len(r.Times()) == 3 }, limit,
				time.Millisecond)
			servers[0].Del("lock:r")
			servers[1].Del("lock:r")
			closed := func() int64 {
				l.mu.Lock()
				defer l.mu.Unlock()
				return w.nodes[2].closed
			}
			before := closed()
			c, r := l.attempt(t, w)
			require.Equal(t, quorum.Won, r.Outcome())
			require.Eventually(t, func() bool { return closed() > before }, limit, time.Millisecond)

			servers[2].Del("lock:r")
			no := &protocol.Refusal{Time: closed() + 1}
			if !early {
				w.heard(2, no)
			}
			l.hear(2, wordCome, w, no.Time+1)
			w.Won(c, time.Now().Add(limit))
			if early {
				w.heard(2, no)
			}
			require.Eventually(t, func() bool {
				owner, err := servers[2].Get("lock:r")
				return err == nil && owner == c.Token()
			}, limit, time.Millisecond)
			c.Release(nil).Send()
		})
	}
}

func TestWhoeverMayNotBeHeardIsWaitedForLongEnoughToBeCalled(t *testing.T) {
	l, _ := lineOver(t, 1)
	for _, polls := range []time.Duration{time.Microsecond, 100 * time.Millisecond, time.Hour} {
		w := l.Join(l.keys("r"), polls)
		w.stand()
		require.Greater(t, w.place.Unsure-w.polls*3/2, grace)
		require.LessOrEqual(t, w.place.Unsure, patience)
		w.Leave()
	}
}

func TestHintLetsThoseInFrontTryBefore(t *testing.T) {
	l, _ := lineOver(t, 1)
	w := l.Join(l.keys("r"), time.Second)
	defer w.Leave()
	require.Equal(t, time.Second, w.Hint(time.Second))
	w.before = 2
	require.Equal(t, time.Second+grace+2*leastLate, w.Hint(time.Second))
	require.Equal(t, time.Duration(math.MaxInt64), w.Hint(math.MaxInt64))
}

// Who waits behind others here learns of an outage from them, and may have less patience with it.
func TestAllWhoWaitAskTheNodesInAnOutage(t *testing.T) {
	l, _ := lineOver(t, 1)
	first, second, third := l.Join(l.keys("r"), time.Second), l.Join(l.keys("r"), time.Second),
		l.Join(l.keys("r"), time.Second)
	first.Unanswered(errors.New("an outage"))
	require.True(t, second.active && third.active)

	// When the nodes answer again, all but the first go back in line.
	require.False(t, first.BackInLine())
	require.True(t, second.BackInLine())
	require.True(t, second.Behind())
	require.Empty(t, second.Name())
	first.Leave()
	require.False(t, second.Behind(), "its turn has come")
	require.True(t, third.BackInLine())
	for _, w := range []*Waiter{third, second} {
		w.Leave()
	}
}

// There may be very many locks for which nobody waits.
func TestGroupInWhichNobodyHadToWaitIsForgottenAtOnce(t *testing.T) {
	l, _ := lineOver(t, 1)
	w := l.Join(l.keys("a"), limit)
	require.Len(t, l.groups, 1)
	c, _ := l.attempt(t, w)
	require.False(t, w.Won(c, time.Now().Add(limit)))
	require.Empty(t, l.groups)
	c.Release(nil).Send()
}

func TestLineForgetsWhatNobodyUses(t *testing.T) {
	l, _ := lineOver(t, 1)
	w := l.Join(l.keys("r"), time.Second)
	w.stand()
	require.NotNil(t, l.inboxes)
	l.sweep()
	require.Len(t, l.groups, 1)
	require.NotNil(t, l.inboxes)
	w.Leave()
	w.group.used = time.Now().Add(-2 * freshness)
	l.sweep()
	require.Empty(t, l.groups)
	require.Nil(t, l.inboxes)
	require.Nil(t, l.sweeper)
}

func TestTicketIsCorrectedWhereTheNodesClocksShowAnotherTime(t *testing.T) {
	l, _ := lineOver(t, 3)
	w := l.Join(l.keys("r"), time.Second)
	l.see(0, 10*time.Hour)
	l.see(2, 0)
	w.stand()
	drawn := w.place.Ticket.Load()
	l.see(1, 10*time.Hour+time.Millisecond)
	require.Equal(t, drawn, w.Place().Ticket.Load(), "no more than a moment")
	l.see(1, 5*time.Hour)
	require.InDelta(t, drawn-(5*time.Hour).Microseconds(), w.Place().Ticket.Load(), 1e6)
	w.Leave()
}

// see tells the line what a node's clock shows: so much more than the local one.
func (l *Line) see(node int, ahead time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.clock.look(node, l.clock.base.UnixMicro()+l.clock.local(now)+ahead.Microseconds(), now, now)
}

// Whoever is first may have been called before the others came.
func TestSecondInLineStandsByForWhoeverWasCalledBefore(t *testing.T) {
	for before, standsBy := range map[int]bool{0: true, 1: true, 2: false} {
		l, _ := lineOver(t, 1)
		l.hearOnlyTheTest()
		w := l.Join(l.keys("r"), time.Second)
		w.stand()
		w.heard(0, &protocol.Refusal{Waited: true, Before: before, All: 3})
		require.Equal(t, standsBy, !w.standBy.IsZero(), before)
		require.Equal(t, standsBy, len(w.news) == 1, "a wait that has begun looks again")
		w.Leave()
	}
}
