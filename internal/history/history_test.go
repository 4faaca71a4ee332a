package history_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/history"
)

const ms = time.Millisecond

// tenure is a lock of one resource, seen alive from first to last.
func tenure(token string, first, last time.Duration) []history.Event {
	return []history.Event{
		{Kind: history.Acquired, Began: first - ms, At: first, Client: "c" + token,
			Resources: []string{"a"}, Token: token, Until: last + ms},
		{Kind: history.Held, At: last, Client: "c" + token, Resources: []string{"a"}, Token: token,
			Until: last + ms},
		{Kind: history.Ended, At: last + ms, Client: "c" + token, Resources: []string{"a"},
			Token: token, Note: "lost"},
	}
}

func swap(old, new int64, began, at time.Duration) history.Event {
	return history.Event{Kind: history.Swapped, Began: began, At: at, Resources: []string{"a"},
		Old: old, New: new}
}

func TestCheck(t *testing.T) {
	fence := func(events []history.Event, fence uint64) []history.Event {
		events[0].Fence = fence
		return events
	}
	for _, tt := range []struct {
		name   string
		events [][]history.Event
		broken []string
	}{
		{"one after the other", [][]history.Event{tenure("1", 10*ms, 20*ms),
			tenure("2", 20*ms, 30*ms)}, nil},
		{"both at once", [][]history.Event{tenure("1", 10*ms, 20*ms), tenure("2", 19*ms, 30*ms)},
			[]string{"mutual exclusion", "linearizability"}},
		{"one within the other", [][]history.Event{tenure("1", 10*ms, 50*ms),
			tenure("2", 20*ms, 30*ms), tenure("3", 40*ms, 60*ms)},
			[]string{"mutual exclusion", "linearizability"}},
		{"alive when its time is over", [][]history.Event{tenure("1", 10*ms, 20*ms), {
			{Kind: history.Held, At: 15 * ms, Client: "c1", Resources: []string{"a"}, Token: "1",
				Until: 15 * ms},
		}}, []string{"early loss"}},
		{"alive again", [][]history.Event{tenure("1", 10*ms, 20*ms), {
			{Kind: history.Held, At: 25 * ms, Client: "c1", Resources: []string{"a"}, Token: "1",
				Until: 30 * ms},
		}}, []string{"finality"}},
		{"rising fences", [][]history.Event{fence(tenure("1", 10*ms, 20*ms), 7),
			fence(tenure("2", 20*ms, 30*ms), 8)}, nil},
		{"the same fence", [][]history.Event{fence(tenure("1", 10*ms, 20*ms), 7),
			fence(tenure("2", 20*ms, 30*ms), 7)}, []string{"fencing"}},
		{"crashed, then taken over", [][]history.Event{tenure("1", 10*ms, 20*ms)[:2],
			tenure("2", 25*ms, 30*ms)}, nil},
		{"a register, in order",
			[][]history.Event{{swap(0, 1, 10*ms, 20*ms), swap(1, 2, 15*ms, 25*ms)}}, nil},
		{"a register with a lost update",
			[][]history.Event{{swap(0, 1, 10*ms, 20*ms), swap(0, 2, 15*ms, 25*ms)}},
			[]string{"register"}},
		{"a register with a stale read", [][]history.Event{{
			swap(0, 1, 10*ms, 20*ms),
			{Kind: history.Read, Began: 21 * ms, At: 22 * ms, Resources: []string{"a"}, Old: 0},
		}}, []string{"register"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log history.Log
			for _, events := range tt.events {
				for _, e := range events {
					log.Add(e)
				}
			}
			broken := make(map[string]bool)
			for _, v := range history.Check(log.Events()) {
				broken[v.Promise] = true
			}
			require.Len(t, broken, len(tt.broken), broken)
			for _, promise := range tt.broken {
				require.True(t, broken[promise], promise)
			}
		})
	}
}
