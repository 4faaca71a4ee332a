package redlock_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestQueueIsInTheOrderOfTickets(t *testing.T) {
	onBothServers(t, func(q *queues) {
		q.hold("a")
		for range 2 { // the repetition changes nothing
			q.equal(refusedBy(1, "holder", 0, 1), q.wait("a", "3@near", 1<<52+30, "take"))
		}
		q.equal(refusedBy(1, "holder", 0, 2), q.wait("a", "1@near", 1<<52+10, "take"))
		q.equal(refusedBy(1, "holder", 1, 3), q.wait("a", "2@near", 1<<52+20, "take"))
		require.Equal(q, "1@near 2@near 3@near", q.line("a"))
		require.InDelta(q, 9, q.patience("a", "1@near").Seconds(), 5)
		require.InDelta(q, 10, q.client.PTTL(q.Context(), "{a}:queue").Val().Seconds(), 5)
		q.equal([]any{"holder", inSeconds(60), int64(3)}, q.run("inspect", "a", 1, "queues"))
		require.Empty(q, q.words())
	})
}

func TestReleaseCallsTheFirstInLine(t *testing.T) {
	onBothServers(t, func(q *queues) {
		q.hold("a")
		for i := range 3 {
			q.wait("a", fmt.Sprint(i+1, "@near"), int64(i), "take")
		}
		for range 2 { // it is called once
			q.equal(yes, q.release("a", "holder", "", ""))
		}
		q.equal(yes, q.run("release", "a", "holder", 0, 1, "", "", 0, 0)) // in whatever words
		require.Equal(q, "come 1, stand-by 2", q.words())
		require.LessOrEqual(q, q.patience("a", "1@near"), 250*time.Millisecond)
		// as after an attempt that was given up
		q.equal(refusedBy(1, "", 0, 0), q.wait("a", "1@near", 0, "stand"))
		require.Equal(q, "come 1, stand-by 2", q.words())
		q.forget("a", "1@near")
		q.equal("taken", q.wait("a", "2@near", 1, "take"))
		require.Equal(q, "3@near", q.line("a"))
		require.Equal(q, "2@near", q.owner("a"))
		q.equal("taken", q.wait("a", "2@near", 1, "take")) // repeated
		require.Equal(q, "3@near", q.line("a"))
		require.Empty(q, q.words())
	})
}

func TestWhoeverIsGoneIsNotWaitedFor(t *testing.T) {
	onBothServers(t, func(q *queues) {
		q.hold("a")
		q.wait("a", "1@nobody", 1, "take")
		q.wait("a", "2@nobody", 2, "take")
		q.wait("a", "3@near", 3, "take")
		q.equal(yes, q.release("a", "holder", "", ""))
		require.Equal(q, "3@near", q.line("a"))
		require.Equal(q, "come 3", q.words())
	})
}

// Where it cannot be told that nobody hearing means nobody waiting, they are waited for, and called
// each time.
func TestWhoeverMayNotHearIsNotTakenForGone(t *testing.T) {
	onBothServers(t, func(q *queues) {
		q.hold("a")
		q.run("wait", "a", "token", 60_000, 1, "1@nobody", 1, "-9000", "take")
		q.wait("a", "2@near", 2, "take")
		q.equal(yes, q.release("a", "holder", "", ""))
		require.Equal(q, "1@nobody 2@near", q.line("a"))
		require.Greater(q, q.patience("a", "1@nobody"), time.Second)
		q.equal(refusedBy(1, "", 1, 2), q.wait("a", "2@near", 2, "take"))
		require.Empty(q, q.words())
	})
}

func TestNobodyOvertakesWhoeverWaits(t *testing.T) {
	onBothServers(t, func(q *queues) {
		q.hold("a")
		q.wait("a", "1@near", 1, "take")
		require.NoError(q, q.client.Del(q.Context(), "a").Err()) // it has expired
		q.equal([]any{int64(1), "", absent, "now"}, q.run("acquire", "a", "mine", 60_000))
		require.Equal(q, "come 1", q.words())
		q.equal(refusedBy(1, "", 1, 2), q.wait("a", "2@near", 2, "take"))
		require.Empty(q, q.words(), "it was called before")
		q.equal([]any{int64(2), "", absent, "now"}, q.run("acquire", "b a", "mine", 60_000))
		require.Empty(q, q.owner("b"))
		q.forget("a", "1@near")
		q.forget("a", "2@near")
		q.equal(yes, q.run("acquire", "a", "mine", 60_000))
		require.Empty(q, q.line("a"))
	})
}

// An earlier run of an acquire may have taken a key, for which others have come since.
func TestAcquireThatGivesAKeyBackCallsWhoeverWaitsForIt(t *testing.T) {
	onBothServers(t, func(q *queues) {
		q.equal(yes, q.run("acquire", "a", "mine", 60_000))
		q.wait("a", "1@near", 1, "take")
		q.hold("b")
		q.equal([]any{int64(2), "holder", inSeconds(60), "now"},
			q.run("acquire", "a b", "mine", 60_000))
		require.Empty(q, q.owner("a"))
		require.Equal(q, "come 1", q.words())
	})
}

func TestSeveralLocksAreTakenTogether(t *testing.T) {
	onBothServers(t, func(q *queues) {
		q.hold("b")
		q.equal(refusedBy(2, "holder", 0, 1), q.wait("a b", "1@near", 1, "take"))
		require.Empty(q, q.owner("a"))
		q.equal(refusedBy(1, "", 1, 2), q.wait("a", "2@near", 2, "take"))
		require.Equal(q, "come 1, stand-by 2", q.words())
		q.equal(yes, q.release("b", "holder", "", ""))
		require.Equal(q, "come 1", q.words())
		q.equal("taken", q.wait("a b", "1@near", 1, "take"))
		require.Equal(q, "1@near 1@near", q.owner("a")+" "+q.owner("b"))
		require.Equal(q, "2@near", q.line("a")+q.line("b"))
		q.equal(yes, q.release("a b", "1@near", "1@near", ""))
		require.Equal(q, "come 2", q.words())
	})
}

// Somebody waits for one of many keys, whichever it is.
func TestWhoeverWaitsForOneOfManyKeysIsSeen(t *testing.T) {
	onBothServers(t, func(q *queues) {
		const locks = "a b c d e f g h i j k l m n o p q r s"
		for i, lock := range strings.Fields(locks) {
			q.hold(lock)
			q.wait(lock, "1@near", 1, "take")
			require.NoError(q, q.client.Del(q.Context(), lock).Err())
			q.equal([]any{int64(i + 1), "", absent, "now"}, q.run("acquire", locks, "mine", 60_000))
			require.Equal(q, "come 1", q.words())
			q.equal(yes, q.release(lock, "1@near", "1@near", ""))
			q.equal(yes, q.run("acquire", locks, "mine", 60_000))
			q.wait(lock, "2@near", 2, "take")
			q.equal(yes, q.release(locks, "mine", "", ""))
			require.Equal(q, "come 2", q.words())
			q.equal(yes, q.release(lock, "2@near", "2@near", ""))
			require.Zero(q, q.client.DBSize(q.Context()).Val())
		}
	})
}

// What is sent late, or repeated, when the attempt or the wait is over.
func TestWaitThatComesTooLate(t *testing.T) {
	onBothServers(t, func(q *queues) {
		q.equal("taken", q.wait("a", "1@near", 1, "take"))
		q.wait("a", "9@near", 9, "take")
		for range 2 {
			q.equal(refusedBy(1, "", 0, 0), q.wait("a", "1@near", 1, "stand"))
			require.Equal(q, "1@near 9@near", q.line("a"))
			require.Empty(q, q.owner("a"), "given back")
		}
		require.Equal(q, "come 1, stand-by 9, come 1, stand-by 9", q.words(),
			"it is waited for anew each time")
		for _, all := range []int64{0, 2} { // who is first is not told of others
			q.equal(refusedBy(1, "", 0, all), q.wait("a", "1@near", 1, "over"))
			require.Empty(q, q.words(), "the next one of its Locker stands before who came last")
			q.equal(yes, q.release("a", "1@near", "1@near", "5@near"))
			require.Equal(q, "5@near 9@near", q.line("a"))
			require.Equal(q, "come 5, stand-by 9", q.words())
		}
		q.hold("a")
		q.equal(refusedBy(1, "holder", 0, 2), q.wait("a", "1@near", 1, "over"))
		require.Equal(q, "holder 5@near 9@near", q.owner("a")+" "+q.line("a"))
	})
}

func TestReleasePutsTheNextOneIntoTheQueues(t *testing.T) {
	onBothServers(t, func(q *queues) {
		q.hold("a b")
		q.wait("a", "9@near", 9, "take")
		q.wait("b", "8@near", 1, "take") // of the owner, from before it had the lock
		for range 2 {
			q.equal(yes, q.release("a b", "holder", "8@near", "5@near"))
			require.Equal(q, "5@near 9@near", q.line("a"))
			require.Equal(q, "5@near", q.line("b"))
		}
		require.Equal(q, "come 5, stand-by 9, come 5, come 5, stand-by 9, come 5", q.words(),
			"the repetition puts it there anew")
	})
}

// An undo: whoever has been granted too little goes on waiting. It knows that it may come, and the
// others do not.
func TestReleaseByOneWhoStays(t *testing.T) {
	onBothServers(t, func(q *queues) {
		for _, lock := range []string{"a", "b"} {
			require.NoError(q, q.client.Set(q.Context(), lock, "mine", time.Minute).Err())
		}
		q.wait("a", "9@near", 9, "take")
		q.wait("b", "1@near", 1, "take")
		q.equal(yes, q.release("a b", "mine", "5@near", "5@near"))
		require.Equal(q, "5@near 9@near", q.line("a"))
		require.Equal(q, "1@near 5@near", q.line("b"))
		require.Equal(q, "come 1, stand-by 5", q.words())
	})
}

func TestWatchersAreToldWhereNobodyWaits(t *testing.T) {
	onBothServers(t, func(q *queues) {
		q.equal([]any{nil, absent}, q.run("watch", "a", "1@near", "+9000"))
		require.Empty(q, q.line("a"), "it is free")
		q.hold("a")
		for range 2 {
			q.equal([]any{"holder", inSeconds(60)}, q.run("watch", "a", "1@near", "+9000"))
		}
		q.run("watch", "a", "2@nobody", "-9000")
		q.wait("a", "3@near", 3, "take")
		require.Equal(q, "3@near 1@near 2@nobody", q.line("a"))
		q.equal([]any{"holder", inSeconds(60), int64(1)}, q.run("inspect", "a", 1, "queues"))
		q.equal(yes, q.release("a", "holder", "", ""))
		require.Equal(q, "come 3", q.words())
		q.equal("taken", q.wait("a", "3@near", 3, "take"))
		q.equal(yes, q.release("a", "3@near", "3@near", ""))
		require.Equal(q, "free 1", q.words())
		require.Empty(q, q.line("a"))
		reply, err := runScript(q.T, q.client, "watch", []string{"a"})
		requireReply(q.T, []any{nil, absent}, reply, err, true)
	})
}

// A queue that is none stops those who would wait, and changes no lock.
func TestKeyOfAQueueThatHasAnotherType(t *testing.T) {
	onBothServers(t, func(q *queues) {
		q.hold("a")
		require.NoError(q, q.client.Set(q.Context(), "{b}:queue", "text", 0).Err())
		require.Error(q, q.wait("a b", "1@near", 1, "take").(error))
		require.Error(q, q.run("acquire", "b", "mine", 60_000).(error))
		require.Equal(q, "holder", q.owner("a"))
		require.Empty(q, q.owner("b"))
	})
}

// A lock that nobody waits for has a short way through the script, which must not be wider than the
// long one.
func TestReleaseOfALockThatNobodyWaitsFor(t *testing.T) {
	onBothServers(t, func(q *queues) {
		bad := errors.New("ERR bad arguments")
		for _, tt := range []struct {
			value         string
			token, number any
			locks         int
			reply         any
		}{
			{"mine", "mine", 0, 1, yes}, {"mine", "mine", 3, 1, yes}, {"2~mine", "mine", 2, 1, yes},
			{"other", "mine", 0, 1, no(1, "other", 60)},
			{"2~mine", "mine", 0, 1, no(1, "2~mine", 60)}, {"1~mine", "1~mine", 0, 1, yes},
			{"mine", "mine", "x", 1, bad}, {"mine", "mine", 0, 2, bad}, {"", "", 0, 1, bad},
			{"mine", "mine", nil, 0, yes}, {"other", "mine", nil, 0, no(1, "other", 60)},
			{"2~mine", "mine", nil, 0, no(1, "2~mine", 60)},
			{"", "", nil, 0, bad},
		} {
			require.NoError(q, q.client.Set(q.Context(), "a", tt.value, time.Minute).Err())
			args := []any{tt.token, tt.number, tt.locks}
			if tt.number == nil {
				args = args[:1]
			}
			reply := q.run("release", "a", args...)
			if tt.reply == bad {
				require.ErrorContains(q, reply.(error), bad.Error(), tt)
			} else {
				q.equal(tt.reply, reply)
			}
			require.Equal(q, tt.reply != yes, q.client.Exists(q.Context(), "a").Val() == 1, tt)
		}
	})
}

func TestQueueScriptsRefuseBadArguments(t *testing.T) {
	onBothServers(t, func(q *queues) {
		for _, bad := range [][]any{
			{"wait", "", 60_000, 1, "1@near", 1, "+9000", "take"},
			{"wait", "mine", 0, 1, "1@near", 1, "+9000", "take"},
			{"wait", "mine", 60_000, 2, "1@near", 1, "+9000", "take"},
			{"wait", "mine", 60_000, 1, "near", 1, "+9000", "take"},
			{"wait", "mine", 60_000, 1, "1@near", "x", "+9000", "take"},
			{"wait", "mine", 60_000, 1, "1@near", 1, "9000", "take"},
			{"wait", "mine", 60_000, 1, "1@near", 1, "+9000", "go"},
			{"wait", "mine", 60_000, 1, "1@near", 1, "+9000"},
			{"watch", "near", "+9000"}, {"watch", "1@near", "9000"}, {"watch", "1@near"}, {"watch"},
			{"release", "mine", 0, 1, "near", "", 0, 0},
			{"release", "mine", 0, 1, "", "near", 1, "+9000"},
			{"release", "mine", 0, 1, "", "1@near", "x", "+9000"},
			{"release", "mine", 0, 1, "", "1@near", 1, "9000"},
			{"release", "mine", 0, 2, "", "", 0, 0}, {"release", "mine", 0, 2},
			{"release", "", 0, 1}, {"release", "mine", "x", 1}, {"acquire", "", 60_000},
			{"acquire", "mine", int64(1e15 + 1), 1}, {"acquire", "mine", 60_000, 1},
			{"inspect", 1, 1}, {"inspect", "who", "queues"}, {"inspect", 2, "queues"},
			{"inspect", 1, "queue"}, {"release", ""},
		} {
			err, failed := q.run(bad[0].(string), "a", bad[1:]...).(error)
			require.True(q, failed, bad)
			require.ErrorContains(q, err, "bad arguments", bad)
			require.Zero(q, q.client.DBSize(q.Context()).Val())
		}
	})
}
