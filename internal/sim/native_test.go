package sim

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

// scriptText returns a script of the library by its verb.
func scriptText(t *testing.T, verb string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "scripts", verb+".lua"))
	require.NoError(t, err)
	return string(text)
}

// The handlers in Go stand in for these very texts. Whoever changes a script changes its handler too, and then its digest in natives.
func TestNativeHandlersMirrorTheScriptsAsTheyAre(t *testing.T) {
	require.Len(t, natives, len(arity))
	for verb := range arity {
		s, err := newScript(scriptText(t, verb))
		require.NoError(t, err)
		require.Equal(t, verb, s.verb)
		require.NotNil(t, s.native, "%s.lua has changed: its digest is %s now", verb, digest(s.text))
	}
}

// step is a run of a script.
type step struct {
	verb     string
	requests []request
}

// args are what follows the script in EVAL.
func (s step) args() []string {
	var keys, args []string
	for _, r := range s.requests {
		keys = append(keys, r.keys...)
		args = append(append(args, fmt.Sprint(len(r.keys))), r.args...)
	}
	return append(append([]string{fmt.Sprint(len(keys))}, keys...), args...)
}

// randomStep is for few keys of few owners, so that they meet, with times to live of at least so many seconds.
func randomStep(random *rand.Rand, least int, mark func(keys []string) int) step {
	s := step{verb: [...]string{"acquire", "acquire", "extend", "extend", "release", "inspect"}[random.IntN(6)]}
	for range 1 + random.IntN(3) {
		r := request{args: []string{}, keys: []string{"a", "b", "c", "d"}[random.IntN(3):][:1+random.IntN(2)]}
		token := [...]string{"mine", "other", "min", ""}[random.IntN(4)]
		ttl := fmt.Sprint((least + random.IntN(60)) * 1000)
		switch s.verb {
		case "acquire":
			r.args = []string{token, ttl}
		case "extend":
			r.args = append([]string{token, ttl}, randomMode(random, mark(r.keys))...)
		case "release":
			r.args = []string{token}
		}
		s.requests = append(s.requests, r)
	}
	return s
}

// randomMode is a mode of extend with its mark: one that stands, nearly stands or does not.
func randomMode(random *rand.Rand, mark int) []string {
	near := mark + random.IntN(7) - 3
	switch random.IntN(4) {
	case 0:
		return []string{"keep", ""}
	case 1:
		return []string{"cut", fmt.Sprint(near)}
	case 2:
		return []string{"move", ""}
	default:
		return []string{"move", fmt.Sprintf("%d,%d", near, near+5)}
	}
}

// twin is a miniredis whose clock stands still unless it is told to move.
func twin(t *testing.T, now time.Time) *memory {
	t.Helper()
	m := &memory{Miniredis: miniredis.NewMiniRedis(), now: now}
	m.SetTime(now)
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
		all = append(all, fmt.Sprint(key, " ", m.get(key), " ", m.pttl(key)))
	}
	return all
}

// spoil makes a key what no lock is: one that lives for ever, a list, nothing.
func (m *memory) spoil(key string, how int) {
	m.Del(key)
	switch how {
	case 0:
		_ = m.Set(key, "other")
	case 1:
		_ = m.Set(key, "mine")
	case 2:
		_, _ = m.Push(key, "element")
	}
}

// TestNativeHandlersDoWhatTheScriptsDo gives the same random requests to a node with handlers and to one with Lua.
func TestNativeHandlersDoWhatTheScriptsDo(t *testing.T) {
	scripts := make(map[string]*script)
	for verb := range arity {
		s, err := newScript(scriptText(t, verb))
		require.NoError(t, err)
		scripts[verb] = s
	}
	outcomes := make(map[string]int)
	for seed := range uint64(12) {
		random := rand.New(rand.NewPCG(seed, 1))
		now := time.UnixMilli(1_700_000_000_000)
		native, lua := twin(t, now), twin(t, now)
		for i := range 60 {
			if random.IntN(8) == 0 {
				key, how := string(rune('a'+random.IntN(4))), random.IntN(4)
				native.spoil(key, how)
				lua.spoil(key, how)
			}
			now = now.Add(time.Duration(random.IntN(4000)) * time.Millisecond)
			for _, m := range []*memory{native, lua} {
				m.now = now
				m.SetTime(now)
			}
			s := randomStep(random, 1, func(keys []string) int { return native.milliseconds() + native.longest(keys) })
			before := native.contents()
			mine, theirs := native.reply(t, scripts[s.verb], s, true), lua.reply(t, scripts[s.verb], s, false)
			require.Equal(t, theirs, mine, "seed %d, step %d: %+v on %v", seed, i, s, before)
			require.Equal(t, lua.contents(), native.contents(), "seed %d, step %d: %+v on %v", seed, i, s, before)
			outcomes[s.verb+" "+kind(mine)]++
		}
	}
	for _, outcome := range []string{"acquire *", "acquire -", "acquire :", "extend *", "extend -", "extend :", "release *", "release :", "inspect *", "inspect -"} {
		require.Greater(t, outcomes[outcome], 3, "too few replies of the kind %q: %v", outcome, outcomes)
	}
}

// longest returns the longest time to live of the keys.
func (m *memory) longest(keys []string) (longest int) {
	for _, key := range keys {
		longest = max(longest, m.pttl(key))
	}
	return longest
}

// kind is that of a reply's first element: "-" for a list of one text, which is an error.
func kind(reply string) string {
	lines := strings.Split(reply, "\r\n")
	if lines[1] == "*1" && lines[2][:1] == "$" {
		return "-"
	}
	return lines[1][:1]
}

// reply runs a step and returns what goes to the client.
func (m *memory) reply(t *testing.T, s *script, what step, native bool) string {
	t.Helper()
	var out bytes.Buffer
	peer := server.NewPeer(bufio.NewWriter(&out))
	if !native {
		m.Server().Dispatch(peer, append([]string{"EVAL", s.text}, what.args()...))
	} else {
		requests, err := s.requests(what.args())
		require.NoError(t, err)
		require.Equal(t, what.requests, requests)
		(&node{memory: *m}).evalNative(peer, s, requests)
	}
	peer.Flush()
	return out.String()
}

// TestNativeHandlersDoWhatRedisDoes is the same with a real Redis, whose clock goes on: times to live may differ by what passes.
func TestNativeHandlersDoWhatRedisDoes(t *testing.T) {
	client := redistest.Start(t).Client(t)
	ctx := context.Background()
	random := rand.New(rand.NewPCG(1, 2))
	native := twin(t, time.Now())
	for i := range 300 {
		native.now = time.Now()
		native.SetTime(native.now)
		s := randomStep(random, 120, func([]string) int { return 0 }) // so that nothing expires meanwhile; and no mark stands
		lua := scriptText(t, s.verb)
		args := s.args()
		var argv []any
		for _, a := range args[1+number(args[0]):] {
			argv = append(argv, a)
		}
		got, err := redis.NewScript(lua).Run(ctx, client, args[1:1+number(args[0])], argv...).Slice()
		require.NoError(t, err)
		sc, err := newScript(lua)
		require.NoError(t, err)
		for k, r := range s.requests {
			want := sc.native(native, r.keys, r.args)
			requireAlike(t, want, got[k], "step %d: %+v", i, s)
		}
		for _, key := range []string{"a", "b", "c", "d", "e"} {
			value, err := client.Get(ctx, key).Result()
			require.True(t, err == nil || err == redis.Nil, err)
			require.Equal(t, native.get(key) != nil, err == nil, "step %d: %+v: %s", i, s, key)
			if err == nil {
				require.Equal(t, native.get(key), value, "step %d: %+v: %s", i, s, key)
				requireAlike(t, native.pttl(key), client.PTTL(ctx, key).Val().Milliseconds(), "step %d: %+v: %s", i, s, key)
			}
		}
	}
}

// requireAlike compares replies, in which numbers of milliseconds may differ by what the test takes.
func requireAlike(t *testing.T, want, got any, format string, args ...any) {
	t.Helper()
	switch want := want.(type) {
	case int:
		number, ok := got.(int64)
		require.True(t, ok, "%v is no number: %s", got, fmt.Sprintf(format, args...))
		if want < 100 {
			require.EqualValues(t, want, number, fmt.Sprintf(format, args...))
		} else {
			require.InDelta(t, want, number, 2000, fmt.Sprintf(format, args...))
		}
	case []any:
		list, ok := got.([]any)
		require.True(t, ok && len(list) == len(want), "%v is not like %v: %s", got, want, fmt.Sprintf(format, args...))
		for i := range want {
			requireAlike(t, want[i], list[i], format, args...)
		}
	default:
		require.Equal(t, want, got, fmt.Sprintf(format, args...))
	}
}
