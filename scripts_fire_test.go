package redlock_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
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

// photo is what a server has under a key: the value, as DUMP shows it, and when it expires, 0 for
// never.
type photo struct {
	value   any
	expires int64
}

// same compares photos. When a key expires is not seen to the millisecond: the server may be
// interrupted between TIME and PTTL.
func (p photo) same(q photo) bool {
	return p.value == q.value && (p.expires == 0) == (q.expires == 0) &&
		max(p.expires-q.expires, q.expires-p.expires) < 2000
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
	require.True(t, maps.EqualFunc(before, after, photo.same),
		fmt.Sprint("before ", before, ", after ", after, " ", fmt.Sprint(why...)))
}

// ordinary are arguments as the library sends them for some lock keys without queues.
func ordinary(script string, keys int) []any {
	switch script {
	case "acquire":
		return []any{"mine", 60_000, keys}
	case "extend":
		return []any{"mine", 0, 60_000, "keep"}
	case "release":
		return []any{"mine", 0}
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
					reply, err := runScript(t, client, script, keys, ordinary(script, len(keys))...)

					place := int64(slices.Index(keys, "foreign") + 1)
					value, isString := server.Do(t, "type", "foreign"), false
					if isString = value == "string"; isString {
						value = server.Do(t, "get", "foreign")
					}
					switch {
					case script == "inspect" && isString:
						requireReply(t, []any{value, ever}, reply.([]any)[2*place-2:2*place], err,
							true)
					case script == "release" && !isString:
						requireReply(t, no(place, "", ever), reply, err, true)
					case isString:
						requireReply(t, no(place, value, ever), reply, err, true)
					default:
						requireReply(t, wrongType, reply, err, true)
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

// Calls that this library never makes, on the keys "mine/30 other/30 - mine/ever": a to d. What
// does not add up is refused as a whole. For the rest, the worst that can happen is a key of the
// caller's own that lives too long or too short.
var junkCalls = map[string]struct {
	script string
	keys   []string
	args   []any
	want   any
	after  string // "": as before
}{
	"nothing at all": {"acquire", nil, nil, refused, ""},
	"no key":         {"acquire", nil, []any{"mine", 60_000, 0}, refused, ""},
	"no argument":    {"acquire", []string{"c"}, nil, refused, ""},
	"no TTL":         {"acquire", []string{"c"}, []any{"mine"}, refused, ""},
	"an argument too many": {"acquire", []string{"c"}, []any{"mine", 60_000, "more"}, refused,
		""},
	"a number of keys":    {"acquire", []string{"c"}, []any{1, "mine", 60_000}, refused, ""},
	"an empty token":      {"acquire", []string{"c"}, []any{"", 60_000, 1}, refused, ""},
	"TTL empty":           {"acquire", []string{"c"}, []any{"mine", "", 1}, refused, ""},
	"TTL of zero":         {"acquire", []string{"c"}, []any{"mine", 0, 1}, refused, ""},
	"TTL below zero":      {"acquire", []string{"c"}, []any{"mine", -1, 1}, refused, ""},
	"TTL with a fraction": {"acquire", []string{"c"}, []any{"mine", "1.5", 1}, refused, ""},
	"TTL not a number":    {"acquire", []string{"c"}, []any{"mine", "nan", 1}, refused, ""},
	"TTL endless":         {"acquire", []string{"c"}, []any{"mine", "inf", 1}, refused, ""},
	"TTL text":            {"acquire", []string{"c"}, []any{60_000, "mine", 1}, refused, ""},
	"TTL huge": {"acquire", []string{"c"}, []any{"mine", "9223372036854775807", 1},
		refused, ""},
	"TTL beyond 64 bits": {"acquire", []string{"c"}, []any{"mine", "9223372036854775808", 1},
		refused, ""},
	"TTL beyond all numbers":   {"acquire", []string{"c"}, []any{"mine", "1e999", 1}, refused, ""},
	"TTL bad where it is ours": {"acquire", []string{"a"}, []any{"mine", "-5", 1}, refused, ""},
	"TTL bad where it is not":  {"acquire", []string{"b"}, []any{"mine", "x", 1}, refused, ""},
	"TTL with an exponent": {"acquire", []string{"c"}, []any{"mine", "6e4", 1},
		scriptError("ERR value is not an integer"), ""},
	"TTL in base 16": {"acquire", []string{"a", "c"}, []any{"mine", "0xff", 2},
		scriptError("ERR value is not an integer"), ""},
	"TTL with a space": {"acquire", []string{"a", "c"}, []any{"mine", " 60000", 2},
		scriptError("ERR value is not an integer"), ""},
	"the same key twice": {"acquire", []string{"c", "c"}, []any{"mine", 60_000, 2}, yes,
		"mine/30 other/30 mine/60 mine/ever"},
	"twice, and a foreign one": {"acquire", []string{"c", "c", "b"}, []any{"mine", 60_000, 3},
		no(3, "other", 30), ""},

	"extend without a key":  {"extend", nil, []any{"mine", 0, 60_000, "keep"}, refused, ""},
	"extend without a mode": {"extend", []string{"a"}, []any{"mine", 0, 60_000}, refused, ""},
	"extend without a number": {"extend", []string{"a"}, []any{"mine", 60_000, "keep"}, refused,
		""},
	"extend with more": {"extend", []string{"a"}, []any{"mine", 0, 60_000, "keep", ""},
		refused, ""},
	"extend with an empty token": {"extend", []string{"a"}, []any{"", 0, 60_000, "keep"}, refused,
		""},
	"extend with another token": {"extend", []string{"a"}, []any{"other", 0, 60_000, "keep"},
		no(1, "mine", 30), ""},
	"no such mode": {"extend", []string{"a"}, []any{"mine", 0, 60_000, "shrink"},
		refused, ""},
	"an empty mode": {"extend", []string{"a"}, []any{"mine", 0, 60_000, ""}, refused,
		""},
	"number empty": {"extend", []string{"a"}, []any{"mine", "", 60_000, "keep"},
		refused, ""},
	"number below zero": {"extend", []string{"a"}, []any{"mine", -1, 60_000, "keep"},
		refused, ""},
	"number with a fraction": {"extend", []string{"a"}, []any{"mine", "0.5", 60_000, "keep"},
		refused, ""},
	"number not a number": {"extend", []string{"a"}, []any{"mine", "nan", 60_000, "keep"},
		refused, ""},
	"number endless": {"extend", []string{"a"}, []any{"mine", "inf", 60_000, "keep"},
		refused, ""},
	"number huge": {"extend", []string{"a"},
		[]any{"mine", "1000000000000001", 60_000, "keep"}, refused, ""},
	"number text": {"extend", []string{"a"}, []any{"mine", "keep", 60_000, 0},
		refused, ""},
	"number before the token": {"extend", []string{"a"}, []any{0, "mine", 60_000, "keep"},
		refused, ""},
	"number of minus zero": {"extend", []string{"a"}, []any{"mine", "-0", 60_000, "keep"}, yes,
		"mine/60 other/30 - mine/ever"},
	"extend by an empty TTL": {"extend", []string{"a"}, []any{"mine", 0, "", "keep"}, refused,
		""},
	"extend by no number": {"extend", []string{"a"}, []any{"mine", 0, "nan", "keep"}, refused,
		""},
	"extend for ever": {"extend", []string{"a"}, []any{"mine", 0, "inf", "keep"}, refused,
		""},
	"extend by a fraction": {"extend", []string{"a"}, []any{"mine", 0, "1.5", "keep"}, refused,
		""},
	"extend by nothing": {"extend", []string{"a"}, []any{"mine", 0, 0, "keep"}, refused,
		""},
	"extend by more than fits": {"extend", []string{"a"},
		[]any{"mine", 0, "9223372036854775807", "keep"}, refused, ""},
	"extend the same key twice": {"extend", []string{"a", "a"}, []any{"mine", 1, 60_000, "keep"},
		yes, "1~mine/60 other/30 - mine/ever"},
	"cut with number zero": {"extend", []string{"a"}, []any{"mine", 0, 10_000, "cut"}, refused,
		""},
	"cut to nothing":           {"extend", []string{"a"}, []any{"mine", 1, 0, "cut"}, refused, ""},
	"cut to less than nothing": {"extend", []string{"a"}, []any{"mine", 1, -9, "cut"}, refused, ""},
	"cut the same key twice": {"extend", []string{"a", "a"}, []any{"mine", 1, 20_000, "cut"}, yes,
		"1~mine/20 other/30 - mine/ever"},

	"release without a key":    {"release", nil, []any{"mine", 0}, refused, ""},
	"release without a token":  {"release", []string{"a"}, nil, refused, ""},
	"release without a number": {"release", []string{"a"}, []any{"mine"}, refused, ""},
	"release with two tokens": {"release", []string{"a"}, []any{"mine", 0, "mine"}, refused,
		""},
	"release with an empty token": {"release", []string{"a"}, []any{"", 0}, refused, ""},
	"release with an empty one":   {"release", []string{"a"}, []any{"mine", ""}, refused, ""},
	"release below zero":          {"release", []string{"a"}, []any{"mine", -1}, refused, ""},
	"release with a fraction":     {"release", []string{"a"}, []any{"mine", "0.5"}, refused, ""},
	"release with no number":      {"release", []string{"a"}, []any{"mine", "nan"}, refused, ""},
	"release with an endless one": {"release", []string{"a"}, []any{"mine", "inf"}, refused, ""},
	"release the same key twice": {"release", []string{"a", "a"}, []any{"mine", 0}, no(2),
		"- other/30 - mine/ever"},

	"inspect no key":           {"inspect", nil, nil, refused, ""},
	"inspect with an argument": {"inspect", []string{"a"}, []any{1}, refused, ""},
}

// refused is the reply to a call that the script refuses as a whole.
const refused = scriptError("ERR bad arguments")

func TestScriptsRefuseJunk(t *testing.T) {
	noLeak(t)
	const before = "mine/30 other/30 - mine/ever"
	for server, client := range bothServers(t) {
		for name, tt := range junkCalls {
			t.Run(fmt.Sprint(server, "/", tt.script, "/", name), func(t *testing.T) {
				setState(t, client, before)
				reply, err := runScript(t, client, tt.script, tt.keys, tt.args...)
				requireReply(t, tt.want, reply, err, server == "redis")
				if tt.after == "" {
					tt.after = before
				}
				requireState(t, client, tt.after)
			})
		}
	}
}

// A server without memory, or that is a replica, refuses what has to be written, and changes
// nothing. The error's code is what its reply begins with.
func TestScriptsOnAServerThatDoesNotWrite(t *testing.T) {
	noLeak(t)
	server := redistest.Start(t)
	client := server.Client(t)
	const before = "mine/30 other/30 - mine/ever"
	for _, state := range []struct {
		name       string
		code       scriptError
		begin, end []any
		readOnly   bool // else the time to live can be changed, and keys deleted
	}{
		{"out of memory", "OOM ", []any{"config", "set", "maxmemory", 1},
			[]any{"config", "set", "maxmemory", 0}, false},
		{"read only", "READONLY ", []any{"replicaof", "127.0.0.1", "1"},
			[]any{"replicaof", "no", "one"}, true},
	} {
		t.Run(state.name, func(t *testing.T) {
			keys := setState(t, client, before)
			begun := snapshot(t, client)
			server.Do(t, state.begin...)
			defer server.Do(t, state.end...)
			try := func(want any, script string, keys []string, args ...any) {
				t.Helper()
				reply, err := runScript(t, client, script, keys, args...)
				requireReply(t, want, reply, err, true)
			}

			// One key ours, one foreign, one free; and then all of them in one call.
			for _, which := range [][]string{keys[:1], keys[1:2], keys[2:3], keys[:3]} {
				try(state.code, "acquire", which, "mine", 60_000, len(which))
			}
			try(yes, "extend", keys[:1], "mine", 0, 25_000, "keep") // is ours for longer
			try(no(1, "other", 30), "extend", keys[1:2], "mine", 0, 25_000, "keep")
			try(no(1), "extend", keys[2:3], "mine", 0, 25_000, "keep")
			try(no(2, "other", 30), "extend", keys[:3], "mine", 0, 25_000, "keep")
			try(state.code, "extend", keys[:1], "mine", 1, 25_000, "keep")
			try(state.code, "extend", keys[:1], "mine", 1, 25_000, "cut")
			try([]any{"mine", inSeconds(30), "other", inSeconds(30), nil, absent}, "inspect",
				keys[:3])
			try(no(1, "other", 30), "release", keys[1:2], "mine", 0)
			try(yes, "release", keys[2:3], "mine", 0)
			requireUnchanged(t, begun, client)

			if state.readOnly {
				try(state.code, "extend", keys[:1], "mine", 0, 60_000, "keep")
				try(state.code, "release", keys[:1], "mine", 0)
				requireUnchanged(t, begun, client)
				return
			}
			try(yes, "extend", keys[:1], "mine", 0, 60_000, "keep")
			try(yes, "release", keys[:1], "mine", 0)
			requireState(t, client, "- other/30 - mine/ever")
		})
	}
}
