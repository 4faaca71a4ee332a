package redlock_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

// The scripts with the replies of a real Redis, called with the token "mine" for the keys a, b, c, as many as there are
// in before.
//
// A state lists the keys in that order: "mine/30" is a key with that value for 30 more seconds, "mine/ever" one that does
// not expire, "list" is no string, and "-" does not exist.
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
		{"foreign for ever", "other/ever", no(1, "other", ever), "other/ever", no(1, "other", ever)},
		{"a value that begins like ours", "mine0/30", no(1, "mine0", 30), "mine0/30", no(1, "mine0", 30)},
		{"a value like the beginning of ours", "min/30", no(1, "min", 30), "min/30", no(1, "min", 30)},
		{"an empty value", "/30", no(1, "", 30), "/30", no(1, "", 30)},
		{"no string", "list", wrongType, "list", wrongType},
		{"all free", "- - -", yes, "mine/60 mine/60 mine/60", yes},
		{"all ours", "mine/10 mine/100 mine/ever", yes, "mine/60 mine/100 mine/60", yes},
		{"some ours", "- mine/10 -", yes, "mine/60 mine/60 mine/60", yes},
		{"the first foreign", "other/30 - -", no(1, "other", 30), "other/30 - -", no(1, "other", 30)},
		{"the last foreign", "- - other/30", no(3, "other", 30), "- - other/30", no(3, "other", 30)},
		{"the last no string", "- - list", wrongType, "- - list", wrongType},
		{"ours, free, foreign", "mine/10 - other/30", no(3, "other", 30), "- - other/30", no(3, "other", 30)},
		{"ours, free, no string", "mine/10 - list", wrongType, "- - list", wrongType},
	}},
	{"extend", []any{60_000, "keep", ""}, []scriptCase{
		{"gone", "-", no(1), "-", no(1)},
		{"ours", "mine/10", yes, "mine/60", yes},
		{"ours for longer", "mine/100", yes, "mine/100", yes},
		{"ours for ever", "mine/ever", yes, "mine/60", yes},
		{"foreign", "other/30", no(1, "other", 30), "other/30", no(1, "other", 30)},
		{"foreign for ever", "other/ever", no(1, "other", ever), "other/ever", no(1, "other", ever)},
		{"a value that begins like ours", "mine0/30", no(1, "mine0", 30), "mine0/30", no(1, "mine0", 30)},
		{"no string", "list", wrongType, "list", wrongType},
		{"all ours", "mine/10 mine/100 mine/ever", yes, "mine/60 mine/100 mine/60", yes},
		{"one gone", "mine/10 - mine/10", no(2), "mine/10 - mine/10", no(2)},
		{"one foreign", "mine/10 mine/10 other/30", no(3, "other", 30), "mine/10 mine/10 other/30", no(3, "other", 30)},
		{"one no string", "mine/10 mine/10 list", wrongType, "mine/10 mine/10 list", wrongType},
	}},
	{"extend", []any{60_000, "move", ""}, []scriptCase{
		{"gone", "-", no(1), "-", no(1)},
		{"ours", "mine/10", yes, "mine/60", yes},
		{"ours for longer", "mine/100", yes, "mine/100", yes},
		{"foreign", "other/30", no(1, "other", 30), "other/30", no(1, "other", 30)},
		{"all ours", "mine/10 mine/100 mine/ever", yes, "mine/100 mine/100 mine/100", yes},
		{"one gone", "mine/10 - mine/10", no(2), "mine/10 - mine/10", no(2)},
	}},
	{"extend", []any{60_000, "cut", markStands}, []scriptCase{
		{"gone", "-", no(1), "-", no(1)},
		{"ours", "mine/10", yes, "mine/60", yes},
		{"ours for longer", "mine/100", yes, "mine/60", yes},
		{"foreign", "other/100", no(1, "other", 100), "other/100", no(1, "other", 100)},
		{"no string", "list", wrongType, "list", wrongType},
		{"all ours", "mine/10 mine/100", yes, "mine/60 mine/60", yes},
		{"one gone", "mine/100 - mine/100", no(2), "mine/100 - mine/100", no(2)},
		{"one foreign", "mine/100 mine/100 other/100", no(3, "other", 100), "mine/100 mine/100 other/100", no(3, "other", 100)},
	}},
	{"extend", []any{60_000, "cut", 12345}, []scriptCase{
		{"gone", "-", no(1), "-", no(1)},
		{"ours for longer, but the mark is gone", "mine/100", yes, "mine/100", yes},
		{"all ours, but the mark is gone", "mine/10 mine/100", yes, "mine/10 mine/100", yes},
		{"foreign", "other/100", no(1, "other", 100), "other/100", no(1, "other", 100)},
	}},
	{"release", nil, []scriptCase{
		{"gone", "-", yes, "-", yes},
		{"ours", "mine/10", yes, "-", yes},
		{"ours for ever", "mine/ever", yes, "-", yes},
		{"foreign", "other/30", no(1, "other", 30), "other/30", no(1, "other", 30)},
		{"foreign for ever", "other/ever", no(1, "other", ever), "other/ever", no(1, "other", ever)},
		{"a value that begins like ours", "mine0/30", no(1, "mine0", 30), "mine0/30", no(1, "mine0", 30)},
		{"no string", "list", no(1, "", ever), "list", no(1, "", ever)},
		{"all ours", "mine/10 mine/10 mine/ever", yes, "- - -", yes},
		{"all gone", "- - -", yes, "- - -", yes},
		{"one gone", "mine/10 - mine/10", no(2), "- - -", yes},
		{"one foreign", "mine/10 other/30 mine/10", no(2, "other", 30), "- other/30 -", no(2, "other", 30)},
		{"gone, foreign, ours", "- other/30 mine/10", no(2, "other", 30), "- other/30 -", no(2, "other", 30)},
		{"one no string", "list mine/10 mine/10", no(1, "", ever), "list - -", no(1, "", ever)},
	}},
	{"inspect", nil, []scriptCase{
		{"free", "-", []any{nil, absent}, "-", []any{nil, absent}},
		{"held", "other/30", []any{"other", inSeconds(30)}, "other/30", []any{"other", inSeconds(30)}},
		{"held for ever", "other/ever", []any{"other", ever}, "other/ever", []any{"other", ever}},
		{"no string", "list", wrongType, "list", wrongType},
		{
			"several", "mine/30 - other/ever", []any{"mine", inSeconds(30), nil, absent, "other", ever},
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

// inSeconds is a time in a reply, which counts milliseconds.
type inSeconds int64

// scriptError is the code of a reply that is an error. miniredis loses it in scripts.
type scriptError string

const (
	yes       = int64(1)
	ever      = int64(-1)
	absent    = int64(-2)
	wrongType = scriptError("WRONGTYPE")
)

// no is the reply of a script that says no because of the i-th key.
func no(i int64, owner ...any) []any {
	reply := append([]any{i}, owner...)
	if len(reply) == 3 {
		if seconds, ok := reply[2].(int); ok {
			reply[2] = inSeconds(seconds)
		}
	}
	return reply
}

func TestScripts(t *testing.T) {
	noLeak(t)
	mini := miniredis.NewMiniRedis()
	mini.SetTime(time.Now()) // which stops its clock: unlike Redis 7 it lets time go by while a script runs
	require.NoError(t, mini.Start())
	t.Cleanup(mini.Close)
	miniClient := redis.NewClient(&redis.Options{Addr: mini.Addr()})
	t.Cleanup(func() { require.NoError(t, miniClient.Close()) })
	for server, client := range map[string]*redis.Client{
		"redis":     redistest.Start(t).Client(t),
		"miniredis": miniClient,
	} {
		for _, verb := range scriptCases {
			for _, tt := range verb.cases {
				t.Run(strings.Join([]string{server, verb.script, tt.name}, "/"), func(t *testing.T) {
					keys := setState(t, client, tt.before)
					for _, want := range []any{tt.reply, tt.again} {
						reply, err := runScript(t, client, verb.script, keys, "mine", verb.args...)
						requireReply(t, want, reply, err, server == "redis")
						requireState(t, client, tt.after)
					}
				})
			}
		}
	}
}

func TestScriptsTakeTheLongestTTL(t *testing.T) {
	noLeak(t)
	const tenYears = 10 * 365 * 24 * 60 * 60
	client := redistest.Start(t).Client(t)
	for _, step := range []struct {
		script string
		args   []any
	}{
		{"acquire", []any{int64(tenYears * 1000)}},
		{"extend", []any{int64(tenYears * 1000), "keep", ""}},
		{"extend", []any{int64(tenYears * 1000), "cut", markStands}},
	} {
		reply, err := runScript(t, client, step.script, []string{"a"}, "mine", step.args...)
		requireReply(t, yes, reply, err, true)
		requireState(t, client, "mine/"+strconv.Itoa(tenYears))
	}
}

// Names and tokens are bytes, compared as they are.
func TestScriptsTakeAnyBytes(t *testing.T) {
	noLeak(t)
	client := redistest.Start(t).Client(t)
	for _, name := range []string{"a b", "nul\x00nul", "{a}{b}", "}{", "\xff\xfe", "ключ", "%s", "\r\n"} {
		token := "token of " + name
		for _, step := range []struct {
			script, token string
			args          []any
			want          any
		}{
			{"acquire", token, []any{60_000}, yes},
			{"acquire", token + "\x00", []any{60_000}, no(1, token, 60)},
			{"extend", token, []any{90_000, "keep", ""}, yes},
			{"inspect", token, nil, []any{token, inSeconds(90)}},
			{"release", token + "\x00", nil, no(1, token, 90)},
			{"release", token, nil, yes},
		} {
			reply, err := runScript(t, client, step.script, []string{name}, step.token, step.args...)
			requireReply(t, step.want, reply, err, true)
		}
		requireState(t, client, "-")
	}
}

// markStands is the argument of a "cut" for which the keys' present mark is put in.
const markStands = "the mark as it stands"

var mark = redis.NewScript(`
local time, longest = redis.call('TIME'), 0
for _, key in ipairs(KEYS) do longest = math.max(longest, redis.call('PTTL', key)) end
return time[1] * 1000 + math.floor(time[2] / 1000) + longest`)

// runScript runs a script with one request and returns the answer to that. The mark that extend answers with counts as yes.
func runScript(t *testing.T, client *redis.Client, name string, keys []string, token string, args ...any) (any, error) {
	t.Helper()
	args = withMark(t, client, keys, args)
	request := []any{len(keys)}
	if name != "inspect" {
		request = append(request, token)
	}
	replies := runRequests(t, client, name, keys, append(request, args...)...)
	require.Len(t, replies, 1)
	if text, ok := failed(replies[0]); ok {
		return nil, errors.New(text)
	}
	if expiry, ok := replies[0].(int64); ok && name == "extend" {
		require.Greater(t, expiry, int64(1e12), "no time in milliseconds")
		return yes, nil
	}
	return replies[0], nil
}

// withMark puts the keys' mark where the arguments ask for it.
func withMark(t *testing.T, client *redis.Client, keys []string, args []any) []any {
	t.Helper()
	args = slices.Clone(args)
	if i := slices.Index(args, any(markStands)); i >= 0 {
		now, err := mark.Run(t.Context(), client, keys).Int64()
		require.NoError(t, err)
		args[i] = now
	}
	return args
}

// failed returns the text in the reply to a request that has failed.
func failed(reply any) (text string, ok bool) {
	if list, isList := reply.([]any); isList && len(list) == 1 {
		text, ok = list[0].(string)
	}
	return text, ok
}

func requireFailed(t *testing.T, code string, reply any) {
	t.Helper()
	text, ok := failed(reply)
	require.True(t, ok, "%v", reply)
	require.True(t, strings.HasPrefix(text, code), text)
}

func runRequests(t *testing.T, client *redis.Client, name string, keys []string, args ...any) []any {
	t.Helper()
	replies, err := redis.NewScript(scriptSource(t, name)).Run(t.Context(), client, keys, args...).Slice()
	require.NoError(t, err)
	return replies
}

func scriptSource(t testing.TB, name string) string {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("scripts", name+".lua"))
	require.NoError(t, err)
	return string(source)
}

// One run answers many requests, each by itself: what one of them meets does not concern the others.
func TestScriptsAnswerEachRequestByItself(t *testing.T) {
	noLeak(t)
	client := redistest.Start(t).Client(t)
	keys := setState(t, client, "- other/30 - list mine/50 -")
	replies := runRequests(t, client, "acquire", keys,
		1, "one", 60_000, 2, "two", 60_000, 1, "three", 60_000, 1, "mine", 60_000, 1, "five", 60_000)
	require.Len(t, replies, 5)
	require.Equal(t, yes, replies[0])
	requireReply(t, no(1, "other", 30), replies[1], nil, true)
	requireFailed(t, "WRONGTYPE", replies[2])
	require.Equal(t, yes, replies[3])
	require.Equal(t, yes, replies[4])
	requireState(t, client, "one/60 other/30 - list mine/60 five/60")

	replies = runRequests(t, client, "inspect", keys, 2, 1, 1, 2)
	require.Len(t, replies, 4)
	requireReply(t, []any{"one", inSeconds(60), "other", inSeconds(30)}, replies[0], nil, true)
	requireFailed(t, "WRONGTYPE", replies[2])

	replies = runRequests(t, client, "extend", keys, 1, "one", 90_000, "keep", "", 1, "one", 90_000, "keep", "", 4, "mine", 90_000, "keep", "")
	require.Len(t, replies, 3)
	require.Greater(t, replies[0], int64(1e12))
	requireReply(t, no(1, "other", 30), replies[1], nil, true)
	require.Equal(t, []any{int64(1)}, replies[2])

	replies = runRequests(t, client, "release", keys, 1, "one", 1, "one", 1, "one", 1, "one", 2, "mine")
	require.Len(t, replies, 5)
	require.Equal(t, yes, replies[0])
	requireReply(t, no(1, "other", 30), replies[1], nil, true)
	require.Equal(t, yes, replies[2])
	requireReply(t, no(1, "", ever), replies[3], nil, true)
	requireReply(t, no(2, "five", 60), replies[4], nil, true)
	requireState(t, client, "- other/30 - list - five/60")
}

// go-redis v9.23 stops reading a list at an error such as READONLY, and takes what is left of it for the reply to the next
// command: one node's refusal would become another lock's grant.
func TestFailedRequestDoesNotShiftTheRepliesBehindIt(t *testing.T) {
	noLeak(t)
	server := redistest.Start(t)
	client := server.Client(t)
	ctx := t.Context()
	keys := setState(t, client, "mine/10 other/30 - mine/50")
	server.Do(t, "replicaof", "127.0.0.1", "1") // which is nobody; keys do not expire any more either

	for _, script := range []struct {
		name string
		args []any
		want []any // READONLY where nil
	}{
		{"acquire", []any{1, "mine", 60_000, 1, "mine", 60_000}, []any{nil, nil}},
		{"extend", []any{1, "mine", 60_000, "keep", "", 1, "mine", 60_000, "keep", ""}, []any{nil, no(1, "other", 30)}},
		{"release", []any{1, "mine", 1, "mine"}, []any{nil, no(1, "other", 30)}},
	} {
		t.Run(script.name, func(t *testing.T) {
			pipe := client.Pipeline()
			first := pipe.Eval(ctx, scriptSource(t, script.name), keys[:2], script.args...)
			second := pipe.Eval(ctx, scriptSource(t, "inspect"), keys, 2, 1, 1)
			_, err := pipe.Exec(ctx)
			require.NoError(t, err)
			for i, reply := range first.Val().([]any) {
				if script.want[i] == nil {
					requireFailed(t, "READONLY", reply)
				} else {
					requireReply(t, script.want[i], reply, nil, true)
				}
			}
			requireReply(t, []any{
				[]any{"mine", inSeconds(10), "other", inSeconds(30)}, []any{nil, absent}, []any{"mine", inSeconds(50)},
			}, second.Val(), nil, true)
		})
	}
}

// setState makes the server hold the keys of a state and nothing else. It returns their names.
func setState(t testing.TB, client *redis.Client, state string) []string {
	t.Helper()
	ctx := t.Context()
	require.NoError(t, client.FlushAll(ctx).Err())
	var names []string
	for i, key := range strings.Fields(state) {
		name := string(rune('a' + i))
		names = append(names, name)
		value, ttl, _ := strings.Cut(key, "/")
		switch {
		case key == "-":
		case key == "list":
			require.NoError(t, client.RPush(ctx, name, "element").Err())
		case ttl == "ever":
			require.NoError(t, client.Set(ctx, name, value, 0).Err())
		default:
			require.NoError(t, client.Do(ctx, "set", name, value, "ex", ttl).Err())
		}
	}
	return names
}

// requireState compares what the server holds with a state.
func requireState(t *testing.T, client *redis.Client, state string) {
	t.Helper()
	ctx := t.Context()
	exist := 0
	for i, key := range strings.Fields(state) {
		name := string(rune('a' + i))
		value, ttl, _ := strings.Cut(key, "/")
		switch {
		case key == "-":
			continue
		case key == "list":
			require.Equal(t, "list", client.Type(ctx, name).Val(), name)
		default:
			require.Equal(t, value, client.Get(ctx, name).Val(), name)
			left, err := client.Do(ctx, "pttl", name).Result()
			want := any(ever)
			if seconds, err := strconv.ParseInt(ttl, 10, 64); err == nil {
				want = inSeconds(seconds)
			}
			requireReply(t, want, left, err, true)
		}
		exist++
	}
	require.EqualValues(t, exist, client.DBSize(ctx).Val(), "number of keys")
}

// requireReply compares a reply, in which times may be up to five seconds shorter.
func requireReply(t *testing.T, want, got any, err error, codes bool) {
	t.Helper()
	if code, ok := want.(scriptError); ok {
		require.Error(t, err)
		require.True(t, !codes || strings.HasPrefix(err.Error(), string(code)), err)
		return
	}
	require.NoError(t, err)
	switch want := want.(type) {
	case []any:
		list, _ := got.([]any)
		require.Len(t, list, len(want), "got %v", got)
		for i := range want {
			requireReply(t, want[i], list[i], nil, codes)
		}
	case inSeconds:
		most := int64(want) * 1000
		require.LessOrEqual(t, got, most)
		require.Greater(t, got, most-5000)
	default:
		require.Equal(t, want, got)
	}
}
