package redlock_test

import (
	"crypto/sha1"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/protocol"
	"github.com/rediskit/redlock/internal/redistest"
)

// The scripts with the replies of a real Redis, called with the token "mine" for the keys a, b, c,
// as many as there are in before.
//
// A state lists the keys in that order: "mine/30" is a key with that value for 30 more seconds,
// "mine/ever" one that does not expire, "list" is no string, and "-" does not exist.
var scriptCases = []struct {
	script string
	args   []any // behind the token
	cases  []scriptCase
}{
	{"acquire", []any{60_000}, []scriptCase{
		{"free", "-", yes, "mine/60", yes},
		{"ours", "mine/10", yes, "mine/60", yes},
		{"ours for longer", "mine/100", yes, "mine/100", yes},
		{"ours for ever", "mine/ever", yes, "mine/60", yes},
		{"foreign", "other/30", no(1, "other", 30), "other/30", no(1, "other", 30)},
		{"foreign for ever", "other/ever", no(1, "other", ever), "other/ever",
			no(1, "other", ever)},
		{"ours, but behind a number", "1~mine/30", no(1, "1~mine", 30), "1~mine/30",
			no(1, "1~mine", 30)},
		{"a value that begins like ours", "mine0/30", no(1, "mine0", 30), "mine0/30",
			no(1, "mine0", 30)},
		{"a value like the beginning of ours", "min/30", no(1, "min", 30), "min/30",
			no(1, "min", 30)},
		{"an empty value", "/30", no(1, "", 30), "/30", no(1, "", 30)},
		{"no string", "list", wrongType, "list", wrongType},
		{"all free", "- - -", yes, "mine/60 mine/60 mine/60", yes},
		{"all ours", "mine/10 mine/100 mine/ever", yes, "mine/60 mine/100 mine/60", yes},
		{"some ours", "- mine/10 -", yes, "mine/60 mine/60 mine/60", yes},
		{"the first foreign", "other/30 - -", no(1, "other", 30), "other/30 - -",
			no(1, "other", 30)},
		{"the last foreign", "- - other/30", no(3, "other", 30), "- - other/30",
			no(3, "other", 30)},
		{"the last no string", "- - list", wrongType, "- - list", wrongType},
		{"ours, free, foreign", "mine/10 - other/30", no(3, "other", 30), "- - other/30",
			no(3, "other", 30)},
		{"ours, free, no string", "mine/10 - list", wrongType, "- - list", wrongType},
		{"free, ours behind a number", "- 1~mine/30", no(2, "1~mine", 30), "- 1~mine/30",
			no(2, "1~mine", 30)},
	}},
	{"extend", []any{0, 60_000, "keep"}, []scriptCase{
		{"gone", "-", no(1), "-", no(1)},
		{"ours", "mine/10", yes, "mine/60", yes},
		{"ours for longer", "mine/100", yes, "mine/100", yes},
		{"ours for ever", "mine/ever", yes, "mine/60", yes},
		{"foreign", "other/30", no(1, "other", 30), "other/30", no(1, "other", 30)},
		{"foreign for ever", "other/ever", no(1, "other", ever), "other/ever",
			no(1, "other", ever)},
		{"a number beyond our own", "1~mine/30", no(1, "1~mine", 30), "1~mine/30",
			no(1, "1~mine", 30)},
		{"a value that begins like ours", "mine0/30", no(1, "mine0", 30), "mine0/30",
			no(1, "mine0", 30)},
		{"no string", "list", wrongType, "list", wrongType},
		{"all ours", "mine/10 mine/100 mine/ever", yes, "mine/60 mine/100 mine/60", yes},
		{"one gone", "mine/10 - mine/10", no(2), "mine/10 - mine/10", no(2)},
		{"one foreign", "mine/10 mine/10 other/30", no(3, "other", 30), "mine/10 mine/10 other/30",
			no(3, "other", 30)},
		{"one no string", "mine/10 mine/10 list", wrongType, "mine/10 mine/10 list", wrongType},
	}},
	{"extend", []any{3, 60_000, "keep"}, []scriptCase{
		{"gone", "-", no(1), "-", no(1)},
		{"no number yet", "mine/10", yes, "3~mine/60", yes},
		{"no number yet, for longer", "mine/100", yes, "3~mine/100", yes},
		{"no number yet, for ever", "mine/ever", yes, "3~mine/60", yes},
		{"a smaller number", "2~mine/10", yes, "3~mine/60", yes},
		{"a smaller number, for longer", "2~mine/100", yes, "3~mine/100", yes},
		{"our number", "3~mine/10", yes, "3~mine/60", yes},
		{"our number, for longer", "3~mine/100", yes, "3~mine/100", yes},
		{"a greater number", "4~mine/10", no(1, "4~mine", 10), "4~mine/10", no(1, "4~mine", 10)},
		{"a greater number of more digits", "10~mine/10", no(1, "10~mine", 10), "10~mine/10",
			no(1, "10~mine", 10)},
		{"another's number", "3~other/10", no(1, "3~other", 10), "3~other/10",
			no(1, "3~other", 10)},
		{"all kinds of ours", "mine/10 2~mine/100 3~mine/ever", yes,
			"3~mine/60 3~mine/100 3~mine/60", yes},
		{"one gone", "mine/10 - 2~mine/10", no(2), "mine/10 - 2~mine/10", no(2)},
		{"one beyond", "mine/10 2~mine/10 4~mine/10", no(3, "4~mine", 10),
			"mine/10 2~mine/10 4~mine/10", no(3, "4~mine", 10)},
	}},
	{"extend", []any{3, 60_000, "cut"}, []scriptCase{
		{"gone", "-", no(1), "-", no(1)},
		{"no number yet", "mine/100", yes, "3~mine/60", yes},
		{"no number yet, for less", "mine/10", yes, "3~mine/60", yes},
		{"no number yet, for ever", "mine/ever", yes, "3~mine/60", yes},
		{"a smaller number", "2~mine/100", yes, "3~mine/60", yes},
		{"our number", "3~mine/100", yes, "3~mine/100", yes},
		{"our number, for less", "3~mine/10", yes, "3~mine/10", yes},
		{"our number, for ever", "3~mine/ever", yes, "3~mine/ever", yes},
		{"a greater number", "4~mine/100", no(1, "4~mine", 100), "4~mine/100",
			no(1, "4~mine", 100)},
		{"foreign", "other/100", no(1, "other", 100), "other/100", no(1, "other", 100)},
		{"no string", "list", wrongType, "list", wrongType},
		{"all kinds of ours", "mine/100 2~mine/10 3~mine/100", yes,
			"3~mine/60 3~mine/60 3~mine/100", yes},
		{"one gone", "mine/100 - mine/100", no(2), "mine/100 - mine/100", no(2)},
		{"one foreign", "mine/100 mine/100 other/100", no(3, "other", 100),
			"mine/100 mine/100 other/100", no(3, "other", 100)},
	}},
	{"release", []any{0}, []scriptCase{
		{"gone", "-", yes, "-", yes},
		{"ours", "mine/10", yes, "-", yes},
		{"ours for ever", "mine/ever", yes, "-", yes},
		{"foreign", "other/30", no(1, "other", 30), "other/30", no(1, "other", 30)},
		{"foreign for ever", "other/ever", no(1, "other", ever), "other/ever",
			no(1, "other", ever)},
		{"a number beyond our own", "1~mine/30", no(1, "1~mine", 30), "1~mine/30",
			no(1, "1~mine", 30)},
		{"a value that begins like ours", "mine0/30", no(1, "mine0", 30), "mine0/30",
			no(1, "mine0", 30)},
		{"no string", "list", no(1, "", ever), "list", no(1, "", ever)},
		{"all ours", "mine/10 mine/10 mine/ever", yes, "- - -", yes},
		{"all gone", "- - -", yes, "- - -", yes},
		{"one gone", "mine/10 - mine/10", no(2), "- - -", yes},
		{"one foreign", "mine/10 other/30 mine/10", no(2, "other", 30), "- other/30 -",
			no(2, "other", 30)},
		{"gone, foreign, ours", "- other/30 mine/10", no(2, "other", 30), "- other/30 -",
			no(2, "other", 30)},
		{"one no string", "list mine/10 mine/10", no(1, "", ever), "list - -", no(1, "", ever)},
	}},
	{"release", []any{3}, []scriptCase{
		{"gone", "-", yes, "-", yes},
		{"no number yet", "mine/10", yes, "-", yes},
		{"a smaller number", "1~mine/10", yes, "-", yes},
		{"our number", "3~mine/10", yes, "-", yes},
		{"a greater number", "4~mine/10", no(1, "4~mine", 10), "4~mine/10", no(1, "4~mine", 10)},
		{"another's number", "3~other/10", no(1, "3~other", 10), "3~other/10",
			no(1, "3~other", 10)},
		{"all kinds of ours", "mine/10 2~mine/10 3~mine/ever", yes, "- - -", yes},
		{"ours, gone, beyond", "3~mine/10 - 4~mine/10", no(3, "4~mine", 10), "- - 4~mine/10",
			no(3, "4~mine", 10)},
	}},
	{"inspect", nil, []scriptCase{
		{"free", "-", []any{nil, absent}, "-", []any{nil, absent}},
		{"held", "other/30", []any{"other", inSeconds(30)}, "other/30",
			[]any{"other", inSeconds(30)}},
		{"held for ever", "other/ever", []any{"other", ever}, "other/ever", []any{"other", ever}},
		{"held, with a number", "3~mine/30", []any{"3~mine", inSeconds(30)}, "3~mine/30",
			[]any{"3~mine", inSeconds(30)}},
		{"no string", "list", wrongType, "list", wrongType},
		{"the last no string", "mine/30 - list", wrongType, "mine/30 - list", wrongType},
		{
			"several", "mine/30 - other/ever",
			[]any{"mine", inSeconds(30), nil, absent, "other", ever},
			"mine/30 - other/ever", []any{"mine", inSeconds(30), nil, absent, "other", ever},
		},
	}},
}

type scriptCase struct {
	name   string
	before string
	reply  any
	after  string
	again  any // the reply when the call is repeated, which changes nothing any more
}

func TestScripts(t *testing.T) {
	noLeak(t)
	for server, client := range bothServers(t) {
		for _, verb := range scriptCases {
			for _, tt := range verb.cases {
				name := fmt.Sprint(server, "/", verb.script, verb.args, "/", tt.name)
				t.Run(name, func(t *testing.T) {
					keys := setState(t, client, tt.before)
					for _, want := range []any{tt.reply, tt.again} {
						args := withToken(verb.script, "mine", verb.args...)
						if verb.script == "acquire" {
							args = append(args, len(keys))
						}
						reply, err := runScript(t, client, verb.script, keys, args...)
						requireReply(t, want, reply, err, server == "redis")
						requireState(t, client, tt.after)
					}
				})
			}
		}
	}
}

// The library sends digests that it does not compute: they must be those of the texts.
func TestDigestsAreThoseOfTheScripts(t *testing.T) {
	var want strings.Builder
	for _, name := range protocol.ScriptNames {
		fmt.Fprintf(&want, "%x  %s\n", sha1.Sum([]byte(protocol.Source(os.DirFS("."), name))), name)
	}
	for _, name := range protocol.GuardedNames {
		fmt.Fprintf(&want, "%x  %s guarded\n",
			sha1.Sum([]byte(protocol.Source(os.DirFS("."), name)+protocol.GuardMark)), name)
	}
	if os.Getenv("REDLOCK_WRITE_DIGESTS") != "" {
		require.NoError(t, os.WriteFile("scripts/SHA1SUMS", []byte(want.String()), 0o644))
	}
	sums, err := os.ReadFile("scripts/SHA1SUMS")
	require.NoError(t, err)
	require.Equal(t, want.String(), string(sums), "run: make digests")
}

func TestScriptsTakeTheLongestTTL(t *testing.T) {
	noLeak(t)
	const tenYears = 10 * 365 * 24 * 60 * 60
	client := redistest.Start(t).Client(t)
	for _, step := range []struct {
		script string
		args   []any
		value  string
	}{
		{"acquire", []any{"mine", int64(tenYears * 1000), 1}, "mine"},
		{"extend", []any{"mine", 0, int64(tenYears * 1000), "keep"}, "mine"},
		{"extend", []any{"mine", 999_999_999, int64(tenYears * 1000), "cut"}, "999999999~mine"},
		{"extend", []any{"mine", int64(1e15), int64(tenYears * 1000), "keep"},
			"1000000000000000~mine"},
	} {
		reply, err := runScript(t, client, step.script, []string{"a"}, step.args...)
		requireReply(t, yes, reply, err, true)
		requireState(t, client, step.value+"/"+strconv.Itoa(tenYears))
	}
}

// Names and tokens are bytes, compared as they are.
func TestScriptsTakeAnyBytes(t *testing.T) {
	noLeak(t)
	client := redistest.Start(t).Client(t)
	for _, name := range []string{
		"a b", "nul\x00nul", "{a}{b}", "}{", "\xff\xfe", "ключ", "%s", "\r\n", "~", "1~1~",
	} {
		for _, token := range []string{"token of " + name, name} {
			for _, step := range []struct {
				script string
				args   []any
				want   any
			}{
				{"acquire", []any{token, 60_000, 1}, yes},
				{"acquire", []any{token + "\x00", 60_000, 1}, no(1, token, 60)},
				{"extend", []any{token, 0, 90_000, "keep"}, yes},
				{"inspect", nil, []any{token, inSeconds(90)}},
				{"extend", []any{token, 12, 30_000, "cut"}, yes},
				{"inspect", nil, []any{"12~" + token, inSeconds(30)}},
				{"release", []any{token + "\x00", 12}, no(1, "12~"+token, 30)},
				{"release", []any{token, 12}, yes},
			} {
				reply, err := runScript(t, client, step.script, []string{name}, step.args...)
				requireReply(t, step.want, reply, err, true)
			}
			requireState(t, client, "-")
		}
	}
}

// A token may be any text, one that looks like a number and a token too. It is never taken apart.
func TestTokenThatBeginsWithANumberIsAToken(t *testing.T) {
	noLeak(t)
	for _, client := range bothServers(t) {
		for _, step := range []struct {
			script string
			args   []any
			want   any
			after  string
		}{
			{"acquire", []any{"3~x", 60_000, 1}, yes, "3~x/60"},
			{"extend", []any{"3~x", 0, 90_000, "keep"}, yes, "3~x/90"},
			{"extend", []any{"3~x", 1, 30_000, "cut"}, yes, "1~3~x/30"},
			{"extend", []any{"3~x", 3, 60_000, "keep"}, yes, "3~3~x/60"},
			{"extend", []any{"3~x", 3, 30_000, "cut"}, yes, "3~3~x/60"},
			{"extend", []any{"x", 9, 90_000, "keep"}, no(1, "3~3~x", 60), "3~3~x/60"},
			{"release", []any{"x", 9}, no(1, "3~3~x", 60), "3~3~x/60"},
			{"release", []any{"3~x", 0}, no(1, "3~3~x", 60), "3~3~x/60"},
			{"release", []any{"3~x", 3}, yes, "-"},
		} {
			reply, err := runScript(t, client, step.script, []string{"a"}, step.args...)
			requireReply(t, step.want, reply, err, true)
			requireState(t, client, step.after)
		}
	}
}

// Only the library's own writing of a number counts.
func TestValueThatOnlyLooksLikeOursIsForeign(t *testing.T) {
	noLeak(t)
	for _, client := range bothServers(t) {
		for _, value := range []string{
			"03~mine", "+3~mine", "-1~mine", "3.0~mine", "3e0~mine", "0x3~mine", "3~~mine", "~mine",
			"3mine", "3~", "3",
			"3~mine~", "3~3~mine", "nan~mine", "inf~mine", "99999999999999999999~mine",
			strings.Repeat("9", 400) + "~mine", "٣~mine",
		} {
			for _, script := range [][]any{
				{"extend", "mine", 5, 60_000, "keep"}, {"extend", "mine", 5, 10_000, "cut"},
				{"release", "mine", 5},
			} {
				keys := setState(t, client, value+"/30")
				reply, err := runScript(t, client, script[0].(string), keys, script[1:]...)
				requireReply(t, no(1, value, 30), reply, err, true)
				requireState(t, client, value+"/30")
			}
		}
	}
}

// An error is a reply like any other: the commands behind it in a pipeline get their own.
func TestFailedCallDoesNotShiftTheRepliesBehindIt(t *testing.T) {
	noLeak(t)
	server := redistest.Start(t)
	client := server.Client(t)
	ctx := t.Context()
	keys := setState(t, client, "mine/10 other/30 -")
	// which is nobody; keys do not expire any more either
	server.Do(t, "replicaof", "127.0.0.1", "1")

	for _, script := range []string{"acquire", "extend", "release"} {
		t.Run(script, func(t *testing.T) {
			pipe := client.Pipeline()
			failed := pipe.Eval(ctx, scriptSource(t, script), keys[:1], ordinary(script, 1)...)
			foreign := pipe.Eval(ctx, scriptSource(t, "extend"), keys[1:2],
				ordinary("extend", 1)...)
			inspected := pipe.Eval(ctx, scriptSource(t, "inspect"), keys)
			_, err := pipe.Exec(ctx)
			require.Error(t, err)
			requireReply(t, scriptError("READONLY "), nil, failed.Err(), true)
			requireReply(t, no(1, "other", 30), foreign.Val(), foreign.Err(), true)
			requireReply(t, []any{"mine", inSeconds(10), "other", inSeconds(30), nil, absent},
				inspected.Val(), inspected.Err(), true)
		})
	}
}
