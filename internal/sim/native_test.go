package sim

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/protocol"
	"github.com/rediskit/redlock/internal/redistest"
)

// scriptText returns a script of the library by its verb.
func scriptText(t *testing.T, verb string) string {
	t.Helper()
	return protocol.Source(os.DirFS("../.."), verb)
}

// The handlers in Go stand in for these very texts. Whoever changes a script changes its handler
// too, and then its digest in natives.
func TestNativeHandlersMirrorTheScriptsAsTheyAre(t *testing.T) {
	require.Len(t, natives, len(arity))
	for verb, s := range allScripts(t) {
		require.Equal(t, verb, s.verb)
		require.NotNil(t, s.native, "%s.lua has changed: its digest is %s now", verb,
			digest(s.text))
	}
}

// words are what follows the script in EVAL.
func (c call) words() []string {
	return slices.Concat([]string{fmt.Sprint(len(c.keys))}, c.keys, c.args)
}

// randomCall is for few keys of few owners, so that they meet, with times to live of at least so
// many seconds.
func randomCall(random *rand.Rand, scripts map[string]*script, least int) call {
	verb := [...]string{"acquire", "acquire", "extend", "extend", "extend", "release", "inspect",
		"wait", "wait", "wait", "watch", "release"}[random.IntN(12)]
	c := call{script: scripts[verb], keys: []string{"a", "b", "c",
		"d"}[random.IntN(3):][:1+random.IntN(2)], args: []string{}}
	c.locks = c.keys
	token := [...]string{"mine", "mine", "mine", "other", "min", "1~mine"}[random.IntN(6)]
	number := fmt.Sprint(random.IntN(4))
	ttl := fmt.Sprint((least + random.IntN(60)) * 1000)
	switch verb {
	case "acquire":
		if random.IntN(3) == 0 {
			token = number + "~" + token
		}
		c.args = []string{token, ttl, fmt.Sprint(len(c.locks))}
	case "extend":
		c.args = []string{token, number, ttl, [...]string{"keep", "cut"}[random.IntN(2)]}
	case "release":
		c.args = []string{token, number}
	}
	c.stand(random, ttl)
	if random.IntN(2) == 0 {
		c.fence(random)
	}
	if len(c.args) > 0 && random.IntN(16) == 0 {
		junk := [...]string{"", "0", "-1", "1.5", "nan", "x", "1000000000000001"}
		c.args[random.IntN(len(c.args))] = junk[random.IntN(len(junk))]
	}
	return c
}

// stand has a call care for queues, if it can.
func (c *call) stand(random *rand.Rand, ttl string) {
	name := func() string {
		return [...]string{"1@live", "2@live", "3@dead", "4@dead", "5@live"}[random.IntN(5)]
	}
	signed := [...]string{"+", "-"}[random.IntN(2)] + fmt.Sprint(1000*(1+random.IntN(20)))
	ticket := fmt.Sprint(1_700_000_000_000_000 + random.Int64N(4))
	switch {
	case c.verb == "wait":
		c.args = []string{[...]string{"mine", "other"}[random.IntN(2)], ttl,
			fmt.Sprint(len(c.locks)), name(), ticket, signed,
			[...]string{"take", "take", "take", "stand", "over"}[random.IntN(5)]}
	case c.verb == "watch":
		c.keys, c.locks, c.args = c.keys[:1], c.locks[:1], []string{name(), signed}
	case random.IntN(2) == 0 || c.verb == "extend":
		return
	case c.verb == "acquire":
		c.args = c.args[:2]
	case c.verb == "release" && random.IntN(3) == 0:
		c.args = c.args[:1]
	case c.verb == "release":
		c.args = append(c.args, fmt.Sprint(len(c.locks)))
		if leaver := [...]string{"", name()}[random.IntN(2)]; random.IntN(4) > 0 {
			c.args = append(c.args, leaver, [...]string{"", leaver, name()}[random.IntN(3)], ticket,
				signed)
		}
	case c.verb == "inspect":
		c.args = append(c.args, fmt.Sprint(len(c.locks)), "queues")
	}
	keys := slices.Clone(c.locks)
	for _, key := range c.locks {
		keys = append(keys, key+":queue")
	}
	c.keys = keys
}

// fence makes the call one with fencing, if it can be.
func (c *call) fence(random *rand.Rand) {
	number := [...]string{"1", "7", "8", "1000000000000000", "4503599627370495",
		"4503599627370496"}[random.IntN(6)]
	switch {
	case c.verb == "extend":
		c.args = append(c.args, number)
	case c.verb == "acquire" || c.verb == "wait":
		if len(c.args) == 2 {
			c.args = append(c.args, fmt.Sprint(len(c.locks)))
		}
		c.args = append(c.args, [...]string{"=", ""}[random.IntN(2)]+number)
	case c.verb == "inspect":
		c.args = append([]string{fmt.Sprint(len(c.locks))}, c.args[min(1, len(c.args)):]...)
	default:
		return
	}
	for _, key := range c.locks {
		c.counters = append(c.counters, counterKey(key))
	}
	c.keys = slices.Concat(c.keys, c.counters)
}

// allScripts are the scripts of the library by their verbs.
func allScripts(t *testing.T) map[string]*script {
	t.Helper()
	scripts := make(map[string]*script)
	for verb := range arity {
		s, err := newScript(scriptText(t, verb))
		require.NoError(t, err)
		scripts[verb] = s
	}
	return scripts
}

// twin is a miniredis whose clock stands still unless it is told to move.
func twin(t *testing.T, now time.Time) *memory {
	t.Helper()
	m := &memory{Miniredis: miniredis.NewMiniRedis(),
		publish: func(string, string) int { return 0 }}
	m.tick(now)
	m.ClockTTL(true)
	wake, err := m.Dial()
	require.NoError(t, err)
	require.NoError(t, wake.Close())
	t.Cleanup(m.Close)
	return m
}

// contents are all keys with type, value and time to live in milliseconds.
func (m *memory) contents() []string {
	var all []string
	for _, key := range m.Keys() {
		all = append(all, m.describe(key))
	}
	return all
}

// spoil makes a key what no lock is: one that lives for ever, a list, nothing, or one that only
// looks like a lock.
func (m *memory) spoil(key string, how int) {
	if how > 5 {
		key = counterKey(key)
	}
	m.Del(key)
	switch how {
	case 0, 1, 2, 3:
		_ = m.Set(key, [...]string{"other", "mine", "2~mine", "02~mine"}[how])
	case 4:
		_, _ = m.Push(key, "element")
	case 6, 7, 8:
		_ = m.Set(key, [...]string{"4503599627370494", "1.5", "x"}[how-6])
	case 9:
		_, _ = m.Push(key, "element")
	}
}

// TestNativeHandlersDoWhatTheScriptsDo gives the same random calls to a node with handlers and to
// one with Lua.
func TestNativeHandlersDoWhatTheScriptsDo(t *testing.T) {
	scripts := allScripts(t)
	outcomes := make(map[string]int)
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		now := time.UnixMilli(1_700_000_000_000)
		native, lua := twin(t, now), twin(t, now)
		var told []string
		native.publish = func(channel, message string) int {
			if channel != "live" {
				return 0
			}
			told = append(told, message)
			return 1
		}
		listener, heard := lua.NewSubscriber(), make(chan []string)
		listener.Subscribe("live")
		go func() {
			var all []string
			for m := range listener.Messages() {
				all = append(all, m.Message)
			}
			heard <- all
		}()
		for i := range 240 {
			if random.IntN(8) == 0 {
				key, how := string(rune('a'+random.IntN(4))), random.IntN(11)
				native.spoil(key, how)
				lua.spoil(key, how)
			}
			now = now.Add(time.Duration(random.IntN(4000)) * time.Millisecond)
			for _, m := range []*memory{native, lua} {
				m.tick(now)
			}
			c := randomCall(random, scripts, 1)
			before := native.contents()
			mine, theirs := native.answerOf(t, c, true), lua.answerOf(t, c, false)
			require.Equal(t, theirs, mine, "seed %d, call %d: %s %q on %v", seed, i, c.verb,
				c.words(), before)
			require.Equal(t, lua.contents(), native.contents(), "seed %d, call %d: %s %q on %v",
				seed, i, c.verb, c.words(), before)
			outcomes[c.verb+" "+mine[:1]]++
			if c.verb == "wait" && c.fenced() && mine[:2] == "*2" {
				outcomes["wait with a fence"]++
			}
			if c.cuts() && mine[:1] == ":" && !slices.Equal(before, native.contents()) {
				outcomes["cut"]++
			}
		}
		listener.Close()
		require.Equal(t, <-heard, told, "seed %d: what was published", seed)
		for _, message := range told {
			word, _, _ := strings.Cut(message, " ")
			outcomes[word]++
		}
	}
	for _, outcome := range []string{
		"acquire *", "acquire -", "acquire :", "acquire $", "extend *", "extend -", "extend :",
		"extend $", "cut", "release *", "release -", "release :", "inspect *", "inspect -",
		"wait *", "wait -", "wait :", "wait with a fence", "watch *", "come", "stand-by",
	} {
		require.Greater(t, outcomes[outcome], 3, "too few replies of the kind %q: %v", outcome,
			outcomes)
	}
}

// answerOf makes a call and returns what goes to the client.
func (m *memory) answerOf(t *testing.T, c call, native bool) string {
	t.Helper()
	var out bytes.Buffer
	peer := server.NewPeer(bufio.NewWriter(&out))
	if !native {
		m.Server().Dispatch(peer, append([]string{"EVAL", c.text}, c.words()...))
	} else {
		taken, err := c.call(c.words())
		require.NoError(t, err)
		require.Equal(t, c.keys, taken.keys)
		require.Equal(t, c.args, taken.args)
		(&node{memory: *m}).evalNative(peer, taken)
	}
	peer.Flush()
	return out.String()
}

// TestNativeHandlersDoWhatRedisDoes is the same with a real Redis, whose clock goes on: times to
// live may differ by what passes.
func TestNativeHandlersDoWhatRedisDoes(t *testing.T) {
	scripts := allScripts(t)
	client := redistest.Start(t).Client(t)
	ctx := context.Background()
	random := rand.New(rand.NewPCG(1, 2))
	native := twin(t, time.Now())
	for i := range 600 {
		if i%12 == 0 { // else it would all be somebody's
			require.NoError(t, client.FlushAll(ctx).Err())
			native.FlushAll()
		}
		native.tick(time.Now())
		c := randomCall(random, scripts, 120) // so that nothing expires meanwhile
		what := fmt.Sprintf("call %d: %s %q on %v", i, c.verb, c.words(), native.contents())
		var argv []any
		for _, a := range c.args {
			argv = append(argv, a)
		}
		got, err := redis.NewScript(c.text).Run(ctx, client, c.keys, argv...).Result()
		want := c.native(native, c.keys, c.args)
		if failure, failed := want.(error); failed {
			require.EqualError(t, err, failure.Error(), what)
		} else {
			require.NoError(t, err, what)
			requireAlike(t, want, got, what)
		}
		for _, key := range []string{
			"a", "b", "c", "d", counterKey("a"), counterKey("b"), counterKey("c"), counterKey("d"),
		} {
			value, err := client.Get(ctx, key).Result()
			require.True(t, err == nil || err == redis.Nil, err)
			require.Equal(t, native.get(key) != nil, err == nil, "%s: %s", what, key)
			if err == nil {
				requireAlike(t, native.get(key), value, what)
				requireAlike(t, native.pttl(key), client.PTTL(ctx, key).Val().Milliseconds(), what)
			}
		}
	}
}

// requireAlike compares replies, in which numbers of milliseconds may differ by what the test
// takes.
func requireAlike(t *testing.T, want, got any, what string) {
	t.Helper()
	switch want := want.(type) {
	case int:
		number, ok := got.(int64)
		require.True(t, ok, "%v is no number: %s", got, what)
		switch {
		case want < 100:
			require.EqualValues(t, want, number, what)
		case int64(want) > 1e15: // a time, in microseconds
			require.InDelta(t, want, number, 2e6, what)
		default:
			require.InDelta(t, want, number, 2000, what)
		}
	case []any:
		list, ok := got.([]any)
		require.True(t, ok && len(list) == len(want), "%v is not like %v: %s", got, want, what)
		for i := range want {
			requireAlike(t, want[i], list[i], what)
		}
	case string:
		if micros, err := strconv.ParseInt(want, 10, 64); err == nil && len(want) == 16 {
			// cut to the server's clock
			number, err := strconv.ParseInt(got.(string), 10, 64)
			require.NoError(t, err, what)
			require.InDelta(t, micros, number, 2e6, what)
			return
		}
		require.Equal(t, want, got, what)
	default:
		require.Equal(t, want, got, what)
	}
}
