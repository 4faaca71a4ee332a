package redlock_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// With fencing the scripts have a counter for each lock key. A state is written as in scriptCases:
// keys first, then those of their queues, if there are any, then their counters. counter is for how
// long one lives on: a week.
const counter = 7 * 24 * 60 * 60

var fenceCases = []struct {
	name   string
	script string
	args   []any // behind the token
	before string
	reply  any
	after  string
	again  any // when the call is repeated
}{
	{"free", "acquire", []any{60_000, 1, "=7"}, "- -", "7", "mine/60 7/week", "7"},
	{"more than the counter", "acquire", []any{60_000, 1, "=7"}, "- 9/10", "10", "mine/60 10/week",
		"10"},
	{"as much as the counter", "acquire", []any{60_000, 1, "=7"}, "- 7/10", "8", "mine/60 8/week",
		"8"},
	{"a clock that is behind", "acquire", []any{60_000, 1, 7}, "- 9/ever", "10", "mine/60 10/week",
		"10"},
	{"ours", "acquire", []any{60_000, 1, "=7"}, "mine/10 9/10", "9", "mine/60 9/week", "9"},
	{"ours, with less", "acquire", []any{60_000, 1, "=7"}, "mine/10 5/10", "7", "mine/60 7/week",
		"7"},
	{"ours, and no counter", "acquire", []any{60_000, 1, "=7"}, "mine/10 -", lost, "mine/60 -",
		lost},
	{"foreign", "acquire", []any{60_000, 1, "=7"}, "other/30 5/30", no(1, "other", 30),
		"other/30 5/30", no(1, "other", 30)},
	{"several", "acquire", []any{60_000, 2, "=7"}, "- - 3/10 11/10", "12",
		"mine/60 mine/60 12/week 12/week", "12"},
	{"several, one ours", "acquire", []any{60_000, 2, "=7"}, "- mine/10 3/10 11/10", "11",
		"mine/60 mine/60 11/week 11/week", "11"},
	{"several, one foreign", "acquire", []any{60_000, 2, "=7"}, "- other/30 3/10 11/10",
		no(2, "other", 30), "- other/30 3/10 11/10", no(2, "other", 30)},
	{"a counter that is none", "acquire", []any{60_000, 2, "=7"}, "- - 3/10 x/10", notNumber,
		"- - 3/10 x/10", notNumber},
	{"a counter of another kind", "acquire", []any{60_000, 1, "=7"}, "- list", wrongType, "- list",
		wrongType},
	{"a counter at its end", "acquire", []any{60_000, 1, "=7"}, "- 4503599627370495/10",
		scriptError("ERR a fencing counter would"), "- 4503599627370495/10",
		scriptError("ERR a fencing")},
	{"a fence at its end", "acquire", []any{60_000, 1, "=4503599627370496"}, "- -",
		scriptError("ERR a fencing counter would"), "- -", scriptError("ERR a fencing")},
	{"no fence", "acquire", []any{60_000, 1, "0"}, "- -", scriptError("ERR bad arguments"), "- -",
		scriptError("ERR bad arguments")},
	{"a fence that is none", "acquire", []any{60_000, 1, "7.5"}, "- -",
		scriptError("ERR bad arguments"), "- -", scriptError("ERR bad arguments")},
	{"too few counters", "acquire", []any{60_000, 2, "=7"}, "- - 3/10",
		scriptError("ERR bad arguments"), "- - 3/10", scriptError("ERR bad arguments")},

	{"free, and nobody waits", "acquire", []any{60_000, 1, "=7"}, "- - 9/10", "10",
		"mine/60 - 10/week", "10"},
	{"several, and nobody waits", "acquire", []any{60_000, 2, "=7"}, "- mine/10 - - 3/10 11/10",
		"11", "mine/60 mine/60 - - 11/week 11/week", "11"},
	{"foreign, and nobody waits", "acquire", []any{60_000, 1, "=7"}, "other/30 - 5/30",
		append(no(1, "other", 30), aboutNow{}), "other/30 - 5/30",
		append(no(1, "other", 30), aboutNow{})},
	{"a counter that is none, and nobody waits", "acquire", []any{60_000, 1, "=7"}, "- - x/10",
		notNumber, "- - x/10", notNumber},
	{"a key too many", "acquire", []any{60_000, 1, "=7"}, "- - - 7/10",
		scriptError("ERR bad arguments"), "- - - 7/10", scriptError("ERR bad arguments")},

	{"free", "wait", waiting(1, "=7"), "- - 5/10", []any{aboutNow{}, "7"}, "mine/60 - 7/week",
		[]any{aboutNow{}, "7"}},
	{"more than the counter", "wait", waiting(1, "=7"), "- - 9/10", []any{aboutNow{}, "10"},
		"mine/60 - 10/week", []any{aboutNow{}, "10"}},
	{"ours", "wait", waiting(1, "=7"), "mine/10 - 9/10", []any{aboutNow{}, "9"}, "mine/60 - 9/week",
		[]any{aboutNow{}, "9"}},
	{"several, one ours", "wait", waiting(2, "=7"), "- mine/10 - - 3/10 11/10",
		[]any{aboutNow{}, "11"}, "mine/60 mine/60 - - 11/week 11/week", []any{aboutNow{}, "11"}},
	{"no fence", "wait", waiting(1, "0"), "- - 5/10", scriptError("ERR bad arguments"), "- - 5/10",
		scriptError("ERR bad arguments")},
	{"no counter", "wait", waiting(1, "=7"), "- -", scriptError("ERR bad arguments"), "- -",
		scriptError("ERR bad arguments")},

	{"extended", "extend", []any{0, 60_000, "keep", "7"}, "mine/10 7/10", "7", "mine/60 7/week",
		"7"},
	{"extended and raised", "extend", []any{0, 60_000, "keep", "7"}, "mine/10 5/10", "7",
		"mine/60 7/week", "7"},
	{"extended beyond", "extend", []any{0, 60_000, "keep", "7"}, "mine/10 9/10", "9",
		"mine/60 9/week", "9"},
	{"extended, and no counter", "extend", []any{0, 60_000, "keep", "7"}, "mine/10 -", "7",
		"mine/60 7/week", "7"},
	{"shortened", "extend", []any{1, 10_000, "cut", "7"}, "mine/60 5/10", "7", "1~mine/10 7/week",
		"7"},
	{"raised, and given no time", "extend", []any{0, 1, "keep", "7"}, "mine/30 5/10", "7",
		"mine/30 7/week", "7"},
	{"several extended", "extend", []any{0, 60_000, "keep", "7"}, "mine/10 mine/10 9/10 -", "9",
		"mine/60 mine/60 9/week 9/week", "9"},
	{"gone", "extend", []any{0, 60_000, "keep", "7"}, "- 5/10", no(1), "- 5/10", no(1)},
	{"foreign", "extend", []any{0, 60_000, "keep", "7"}, "other/30 5/10", no(1, "other", 30),
		"other/30 5/10", no(1, "other", 30)},
	{"extended, and the counter is none", "extend", []any{0, 60_000, "keep", "7"}, "mine/10 x/10",
		notNumber, "mine/10 x/10", notNumber},
	{"extended without a fence", "extend", []any{0, 60_000, "keep", "0"}, "mine/10 5/10",
		scriptError("ERR bad arguments"), "mine/10 5/10", scriptError("ERR bad arguments")},
	{"an odd number of keys", "extend", []any{0, 60_000, "keep", "7"}, "mine/10 5/10 5/10",
		scriptError("ERR bad arguments"), "mine/10 5/10 5/10", scriptError("ERR bad arguments")},

	{"looked at", "inspect", []any{1}, "other/30 5/30", []any{"other", inSeconds(30), "5"},
		"other/30 5/30", []any{"other", inSeconds(30), "5"}},
	{"several looked at", "inspect", []any{2}, "- other/30 5/30 -",
		[]any{nil, absent, "other", inSeconds(30), "5", nil}, "- other/30 5/30 -",
		[]any{nil, absent, "other", inSeconds(30), "5", nil}},
	{"looked at with its queue", "inspect", []any{1, "queues"}, "other/30 - 5/30",
		[]any{"other", inSeconds(30), "5", int64(0)}, "other/30 - 5/30",
		[]any{"other", inSeconds(30), "5", int64(0)}},
	{"a counter of another kind looked at", "inspect", []any{1}, "other/30 list", wrongType,
		"other/30 list", wrongType},
}

const (
	lost      = scriptError("ERR the fencing counter of a lock that is held is gone")
	notNumber = scriptError("ERR a fencing counter is not a number")
)

// aboutNow stands for what a server's clock shows.
type aboutNow struct{}

// waiting are the arguments of wait for somebody who wants so many keys.
func waiting(locks int, least string) []any {
	return []any{60_000, locks, "1@inbox", 5, "+1000", "take", least}
}

// Who waits keeps the place where the counter fails, and what an earlier run was granted.
func TestFenceScriptThatFailsForAWaiter(t *testing.T) {
	noLeak(t)
	for _, client := range bothServers(t) {
		for before, left := range map[string]string{"- - x/10": "", "mine/10 - x/10": "mine"} {
			keys := setState(t, client, before)
			reply, err := runScript(t, client, "wait", keys,
				withToken("wait", "mine", waiting(1, "=7")...)...)
			requireReply(t, notNumber, reply, err, true)
			require.Equal(t, left, client.Get(t.Context(), keys[0]).Val())
			require.Equal(t, []string{"+1@inbox", "1@inbox"},
				client.ZRange(t.Context(), keys[1], 0, -1).Val())
			require.Equal(t, "x", client.Get(t.Context(), keys[2]).Val())
		}
	}
}

func TestFenceScripts(t *testing.T) {
	noLeak(t)
	for server, client := range bothServers(t) {
		for _, tt := range fenceCases {
			t.Run(fmt.Sprint(server, "/", tt.script, "/", tt.name), func(t *testing.T) {
				keys := setState(t, client, tt.before)
				after := strings.ReplaceAll(tt.after, "week", fmt.Sprint(counter))
				reply, err := runScript(t, client, tt.script, keys,
					withToken(tt.script, "mine", tt.args...)...)
				requireReply(t, tt.reply, reply, err, server == "redis")
				requireState(t, client, after)
				reply, err = runScript(t, client, tt.script, keys,
					withToken(tt.script, "mine", tt.args...)...)
				requireReply(t, tt.again, reply, err, server == "redis")
			})
		}
	}
}

// A proposal is cut to the server's clock and a day; a fence that the lock has already is not.
func TestFenceScriptCutsProposals(t *testing.T) {
	noLeak(t)
	for _, client := range bothServers(t) {
		for _, ahead := range []time.Duration{
			-time.Hour, 0, 23 * time.Hour, 25 * time.Hour, 20_000 * time.Hour,
		} {
			keys := setState(t, client, "- -")
			proposal := time.Now().Add(ahead).UnixMicro()
			reply, err := runScript(t, client, "acquire", keys, "mine", 60_000, 1, proposal)
			require.NoError(t, err)
			want := time.Now().Add(min(ahead, 24*time.Hour)).UnixMicro()
			var got int64
			_, err = fmt.Sscan(reply.(string), &got)
			require.NoError(t, err)
			require.InDelta(t, want, got, 5e6, "%v", ahead)

			keys = setState(t, client, "- -")
			reply, err = runScript(t, client, "acquire", keys, "mine", 60_000, 1,
				fmt.Sprint("=", proposal))
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(proposal), reply)
		}
	}
}
