package redlock_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

// foreigners are keys that are no locks of ours, and what makes them.
var foreigners = map[string][]any{
	"list":        {"rpush", "foreign", "a", "b"},
	"hash":        {"hset", "foreign", "field", "value"},
	"set":         {"sadd", "foreign", "member"},
	"sorted set":  {"zadd", "foreign", 1, "member"},
	"stream":      {"xadd", "foreign", "1-1", "field", "value"},
	"hyperloglog": {"pfadd", "foreign", "a", "b"}, // which is a string
	"bitmap":      {"setbit", "foreign", 77, 1},
	"number":      {"incr", "foreign"},
}

// photo is what a server has under a key: the value, as DUMP shows it, and when it expires, 0 for never.
type photo struct {
	value   any
	expires int64
}

// same compares photos. When a key expires is not seen to the millisecond: the server may be interrupted between TIME and PTTL.
func (p photo) same(q photo) bool {
	return p.value == q.value && (p.expires == 0) == (q.expires == 0) && max(p.expires-q.expires, q.expires-p.expires) < 2000
}

var photograph = redis.NewScript(`
local time, left = redis.call('TIME'), redis.call('PTTL', KEYS[1])
return {redis.call('DUMP', KEYS[1]), left < 0 and 0 or time[1] * 1000 + math.floor(time[2] / 1000) + left}`)

// snapshot is all that a server has.
func snapshot(t testing.TB, client *redis.Client) map[string]photo {
	t.Helper()
	ctx := context.Background()
	all := map[string]photo{}
	for _, key := range client.Keys(ctx, "*").Val() {
		reply, err := photograph.Run(ctx, client, []string{key}).Slice()
		require.NoError(t, err)
		all[key] = photo{reply[0], reply[1].(int64)}
	}
	return all
}

// requireUnchanged checks that a server has what it had.
func requireUnchanged(t *testing.T, before map[string]photo, client *redis.Client, why ...any) {
	t.Helper()
	after := snapshot(t, client)
	require.True(t, maps.EqualFunc(before, after, photo.same), fmt.Sprint("before ", before, ", after ", after, " ", fmt.Sprint(why...)))
}

// ordinary are the arguments of a request as the library sends them.
func ordinary(script string) []any {
	switch script {
	case "acquire":
		return []any{"mine", 60_000}
	case "extend":
		return []any{"mine", 60_000, "keep", ""}
	case "release":
		return []any{"mine"}
	default:
		return nil
	}
}

func TestScriptsLeaveForeignKeysOfEveryTypeAlone(t *testing.T) {
	noLeak(t)
	server := redistest.Start(t)
	client := server.Client(t)
	for kind, command := range foreigners {
		for _, script := range []string{"acquire", "extend", "release", "inspect"} {
			for _, keys := range [][]string{{"foreign"}, {"first", "foreign", "last"}} {
				t.Run(fmt.Sprint(script, "/", kind, "/", len(keys)), func(t *testing.T) {
					server.Do(t, "flushall")
					server.Do(t, command...)
					if len(keys) > 1 && script != "acquire" {
						server.Do(t, "set", "first", "mine", "px", 30_000)
						server.Do(t, "set", "last", "mine", "px", 30_000)
					}
					before := snapshot(t, client)
					replies := runRequests(t, client, script, keys, append([]any{len(keys)}, ordinary(script)...)...)

					place := int64(slices.Index(keys, "foreign") + 1)
					value, isString := server.Do(t, "type", "foreign"), false
					if isString = value == "string"; isString {
						value = server.Do(t, "get", "foreign")
					}
					switch {
					case script == "inspect" && isString:
						require.Equal(t, []any{value, ever}, replies[0].([]any)[2*place-2:2*place])
					case script == "release" && !isString:
						require.Equal(t, no(place, "", ever), replies[0])
					case isString:
						require.Equal(t, no(place, value, ever), replies[0])
					default:
						requireFailed(t, "WRONGTYPE", replies[0])
					}
					if script == "release" {
						delete(before, "first")
						delete(before, "last")
					}
					requireUnchanged(t, before, client)
				})
			}
		}
	}
}

// refused is the reply to a call that the script refuses as a whole.
type refused string

// Calls that this library never makes, on the keys "mine/30 other/30 - mine/ever": a to d. What does not add up is refused as a
// whole. For the rest, the worst that can happen is a key of the caller's own that lives too long or too short.
var junkCalls = map[string]struct {
	script string
	keys   []string
	args   []any
	want   any    // the reply, or refused
	after  string // "": as before
}{
	"no request, no key":      {"acquire", nil, nil, []any{}, ""},
	"no request, but a key":   {"acquire", []string{"c"}, nil, refused("arguments"), ""},
	"number without the rest": {"acquire", []string{"c"}, []any{1}, refused("arguments"), ""},
	"no TTL":                  {"acquire", []string{"c"}, []any{1, "mine"}, refused("arguments"), ""},
	"an argument too many":    {"acquire", []string{"c"}, []any{1, "mine", 60_000, "more"}, refused("keys"), ""},
	"a number too many":       {"acquire", []string{"c"}, []any{1, "mine", 60_000, 1}, refused("arguments"), ""},
	"fewer keys than named":   {"acquire", []string{"c"}, []any{2, "mine", 60_000}, refused("arguments"), ""},
	"more keys than named":    {"acquire", []string{"c", "e"}, []any{1, "mine", 60_000}, refused("arguments"), ""},
	"a key too few at last": {
		"acquire", []string{"c", "e"}, []any{1, "mine", 60_000, 2, "mine", 60_000}, refused("arguments"), "",
	},
	"no number at last": {"acquire", []string{"c", "e"}, []any{1, "mine", 60_000, "x", "mine", 60_000}, refused("keys"), ""},
	"no keys":           {"acquire", nil, []any{0, "mine", 60_000}, refused("keys"), ""},
	"less than none":    {"acquire", []string{"c"}, []any{-1, "mine", 60_000}, refused("keys"), ""},
	"half a key":        {"acquire", []string{"c"}, []any{"1.5", "mine", 60_000}, refused("keys"), ""},
	"a sum of halves":   {"acquire", []string{"c"}, []any{"0.5", "mine", 60_000, "0.5", "mine", 60_000}, refused("keys"), ""},
	"not a number":      {"acquire", []string{"c"}, []any{"nan", "mine", 60_000}, refused("keys"), ""},
	"endless":           {"acquire", []string{"c"}, []any{"inf", "mine", 60_000}, refused("keys"), ""},
	"a huge number":     {"acquire", []string{"c"}, []any{"1e300", "mine", 60_000}, refused("arguments"), ""},
	"an empty number":   {"acquire", []string{"c"}, []any{"", "mine", 60_000}, refused("keys"), ""},
	"text for a number": {"acquire", []string{"c"}, []any{"mine", 1, 60_000}, refused("keys"), ""},

	"TTL empty":                 {"acquire", []string{"c"}, []any{1, "mine", ""}, scriptError("ERR value is not an integer"), ""},
	"TTL of zero":               {"acquire", []string{"c"}, []any{1, "mine", 0}, scriptError("ERR invalid expire time"), ""},
	"TTL below zero":            {"acquire", []string{"c"}, []any{1, "mine", -1}, scriptError("ERR invalid expire time"), ""},
	"TTL with a fraction":       {"acquire", []string{"c"}, []any{1, "mine", "1.5"}, scriptError("ERR value is not an integer"), ""},
	"TTL not a number":          {"acquire", []string{"c"}, []any{1, "mine", "nan"}, scriptError("ERR value is not an integer"), ""},
	"TTL huge":                  {"acquire", []string{"c"}, []any{1, "mine", "9223372036854775807"}, scriptError("ERR invalid expire time"), ""},
	"TTL beyond 64 bits":        {"acquire", []string{"c"}, []any{1, "mine", "9223372036854775808"}, scriptError("ERR value is not an integer"), ""},
	"TTL bad where it is ours":  {"acquire", []string{"a"}, []any{1, "mine", "-5"}, scriptError("ERR invalid expire time"), ""},
	"TTL bad where it is not":   {"acquire", []string{"b"}, []any{1, "mine", "x"}, scriptError("ERR value is not an integer"), ""},
	"an empty token":            {"acquire", []string{"c"}, []any{1, "", 60_000}, yes, "mine/30 other/30 /60 mine/ever"},
	"the same key twice":        {"acquire", []string{"c", "c"}, []any{2, "mine", 60_000}, yes, "mine/30 other/30 mine/60 mine/ever"},
	"twice, and a foreign one":  {"acquire", []string{"c", "c", "b"}, []any{3, "mine", 60_000}, no(3, "other", 30), ""},
	"extend without a key":      {"extend", nil, []any{0, "mine", 60_000, "keep", ""}, refused("keys"), ""},
	"extend without a mode":     {"extend", []string{"a"}, []any{1, "mine", 60_000}, refused("mode"), ""},
	"extend without a TTL":      {"extend", []string{"a"}, []any{1, "mine", "", "keep", ""}, refused("TTL"), ""},
	"extend by no number":       {"extend", []string{"a"}, []any{1, "mine", "nan", "keep", ""}, refused("TTL"), ""},
	"extend for ever":           {"extend", []string{"a"}, []any{1, "mine", "inf", "keep", ""}, refused("TTL"), ""},
	"extend by a fraction":      {"extend", []string{"a"}, []any{1, "mine", "1.5", "keep", ""}, refused("TTL"), ""},
	"extend by nothing":         {"extend", []string{"a"}, []any{1, "mine", 0, "keep", ""}, refused("TTL"), ""},
	"cut to nothing":            {"extend", []string{"a"}, []any{1, "mine", 0, "cut", markStands}, refused("TTL"), ""},
	"cut to less than nothing":  {"extend", []string{"a"}, []any{1, "mine", -9, "cut", markStands}, refused("TTL"), ""},
	"cut without a mark":        {"extend", []string{"a"}, []any{1, "mine", 10_000, "cut", ""}, yes, ""},
	"cut with text for a mark":  {"extend", []string{"a"}, []any{1, "mine", 10_000, "cut", "mark"}, yes, ""},
	"cut with nan for a mark":   {"extend", []string{"a"}, []any{1, "mine", 10_000, "cut", "nan"}, yes, ""},
	"move with junk for marks":  {"extend", []string{"a"}, []any{1, "mine", 60_000, "move", ",,x-1e9,99999999999999999999"}, yes, "mine/60 other/30 - mine/ever"},
	"no such mode":              {"extend", []string{"a"}, []any{1, "mine", 60_000, "shrink", ""}, refused("mode"), ""},
	"extend by more than fits":  {"extend", []string{"a"}, []any{1, "mine", "9223372036854775807", "keep", ""}, scriptError("ERR value is not an integer"), ""},
	"extend with another token": {"extend", []string{"a"}, []any{1, "", 60_000, "keep", ""}, no(1, "mine", 30), ""},
	"release without a key":     {"release", nil, []any{0, "mine"}, refused("keys"), ""},
	"release without a token":   {"release", []string{"a"}, []any{1}, refused("arguments"), ""},
	"release with two tokens":   {"release", []string{"a"}, []any{1, "mine", "mine"}, refused("keys"), ""},
	"release with an empty one": {"release", []string{"a"}, []any{1, ""}, no(1, "mine", 30), ""},
	"release of too many":       {"release", []string{"a"}, []any{2, "mine"}, refused("arguments"), ""},
	"release of too few":        {"release", []string{"a", "d"}, []any{1, "mine"}, refused("arguments"), ""},
	"inspect no key":            {"inspect", nil, []any{0}, refused("keys"), ""},
	"inspect too many":          {"inspect", []string{"a"}, []any{2}, refused("arguments"), ""},
	"inspect text":              {"inspect", []string{"a"}, []any{"a"}, refused("keys"), ""},
}

func TestScriptsRefuseJunk(t *testing.T) {
	noLeak(t)
	const before = "mine/30 other/30 - mine/ever"
	server := redistest.Start(t)
	client := server.Client(t)
	for name, tt := range junkCalls {
		t.Run(tt.script+"/"+name, func(t *testing.T) {
			setState(t, client, before)
			args := withMark(t, client, tt.keys, tt.args)
			replies, err := redis.NewScript(scriptSource(t, tt.script)).Run(t.Context(), client, tt.keys, args...).Slice()
			switch want := tt.want.(type) {
			case refused:
				require.ErrorContains(t, err, string(want))
				require.NotContains(t, err.Error(), "script:", "said by us, and not by Lua")
			case []any:
				require.NoError(t, err)
				if len(want) == 0 {
					require.Empty(t, replies)
					break
				}
				require.Len(t, replies, 1)
				requireReply(t, want, replies[0], nil, true)
			case scriptError:
				require.NoError(t, err)
				requireFailed(t, string(want), replies[0])
			default:
				require.NoError(t, err)
				if expiry, ok := replies[0].(int64); ok && tt.script == "extend" && expiry > 1e12 {
					replies[0] = yes
				}
				require.Equal(t, []any{want}, replies)
			}
			if tt.after == "" {
				tt.after = before
			}
			requireState(t, client, tt.after)
		})
	}
}

// A server without memory, or that is a replica, refuses: with an error for each request, and with nothing changed.
func TestScriptsOnAServerThatDoesNotWrite(t *testing.T) {
	noLeak(t)
	server := redistest.Start(t)
	client := server.Client(t)
	const before = "mine/30 other/30 - mine/ever"
	for _, state := range []struct {
		name, code string
		begin, end []any
		deletes    bool // is still possible
	}{
		{"out of memory", "OOM", []any{"config", "set", "maxmemory", 1}, []any{"config", "set", "maxmemory", 0}, true},
		{"read only", "READONLY", []any{"replicaof", "127.0.0.1", "1"}, []any{"replicaof", "no", "one"}, false},
	} {
		t.Run(state.name, func(t *testing.T) {
			keys := setState(t, client, before)
			begun := snapshot(t, client)
			server.Do(t, state.begin...)
			defer server.Do(t, state.end...)

			// One key ours, one foreign, one free; and then all of them in one request.
			each := func(args ...any) (all []any) {
				for range 3 {
					all = append(append(all, 1), args...)
				}
				return append(append(all, 3), args...)
			}
			six := slices.Concat(keys[:3], keys[:3])
			for _, reply := range runRequests(t, client, "acquire", six, each("mine", 60_000)...) {
				requireFailed(t, state.code, reply)
			}
			requireUnchanged(t, begun, client)

			replies := runRequests(t, client, "extend", six, each("mine", 25_000, "keep", "")...)
			require.Greater(t, replies[0], int64(1e12), "is ours for longer")
			requireReply(t, no(1, "other", 30), replies[1], nil, true)
			require.Equal(t, no(1), replies[2])
			requireReply(t, no(2, "other", 30), replies[3], nil, true)
			requireUnchanged(t, begun, client)

			replies = runRequests(t, client, "inspect", keys, 3, 1)
			requireReply(t, []any{[]any{"mine", inSeconds(30), "other", inSeconds(30), nil, absent}, []any{"mine", ever}}, replies, nil, true)

			replies = runRequests(t, client, "release", six, each("mine")...)
			if state.deletes {
				require.Equal(t, yes, replies[0])
				delete(begun, "a")
			} else {
				requireFailed(t, state.code, replies[0])
			}
			requireReply(t, no(1, "other", 30), replies[1], nil, true)
			require.Equal(t, yes, replies[2])
			requireUnchanged(t, begun, client)
		})
	}
}

// FuzzScripts runs scripts with any arguments on a real server. Whatever they are, keys that do not hold the token stay as they
// are, nobody is told that he has what he has not, and the server goes on.
func FuzzScripts(f *testing.F) {
	server := redistest.Start(f)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	f.Cleanup(func() { _ = client.Close() })
	scripts := []string{"acquire", "extend", "release", "inspect"}
	for i, name := range scripts {
		ordinary := fmt.Sprint(append([]any{1}, ordinary(name)...)...)
		for _, s := range []string{"1\nmine\n60000\nkeep\n", "1\nmine\n60000", "2\nmine", "nan\nmine\n60000", "1\nother\n-1\ncut\n0", "1\n\n0\n\n", ordinary, ""} {
			for keys := range uint16(4) {
				f.Add(uint8(i), keys*0x111+keys, s)
			}
		}
	}
	for _, tt := range junkCalls {
		var text []string
		for _, a := range tt.args {
			text = append(text, fmt.Sprint(a))
		}
		f.Add(uint8(slices.Index(scripts, tt.script)), uint16(0x3210), strings.Join(text, "\n"))
	}
	f.Fuzz(func(t *testing.T, script uint8, which uint16, text string) {
		keys := setState(t, client, "mine/30 other/30 - list mine/ever /30")
		before := snapshot(t, client)
		var named []string
		for n := which % 5; n > 0; n-- {
			named = append(named, keys[int(which>>(3*n))%len(keys)])
		}
		var args []any
		for _, a := range strings.Split(text, "\n") {
			args = append(args, a)
		}
		name := scripts[int(script)%len(scripts)]
		replies, err := redis.NewScript(scriptSource(t, name)).Run(t.Context(), client, named, args...).Slice()
		if err != nil || name == "inspect" {
			requireUnchanged(t, before, client, "though it ended with ", err)
			return
		}
		after := snapshot(t, client)
		// What has changed must have held a token of the call, or nothing.
		owner := map[string]string{"a": "mine", "b": "other", "e": "mine", "f": ""}
		for _, key := range keys {
			if !before[key].same(after[key]) {
				require.Contains(t, named, key)
				require.NotEqual(t, "d", key, "a list")
				require.True(t, key == "c" || slices.Contains(args, any(owner[key])), "%q was another's", key)
			}
		}
		require.Subset(t, keys, slices.Collect(maps.Keys(after)), "a key from nowhere")
		if name == "acquire" && len(replies) == 1 && replies[0] == yes && len(args[2].(string)) > 4 { // for more than 10 s
			for _, key := range named {
				require.Equal(t, args[1], client.Get(t.Context(), key).Val(), "granted, but not there")
			}
		}
	})
}
