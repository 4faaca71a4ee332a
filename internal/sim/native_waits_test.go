package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

// randomWaitsCall is for two locks of few owners, with few waits.
func randomWaitsCall(random *rand.Rand, scripts map[string]*script) call {
	lock := [...]string{"a", "b"}[random.IntN(2)]
	token := [...]string{"mine", "other"}[random.IntN(2)]
	keys := []string{lock, "{" + lock + "}:waits", lock + ":queue"}
	switch random.IntN(10) {
	case 8, 9: // somebody waits for a lock, or for both
		return waiting(random, scripts["wait"], lock)
	case 0:
		return callOf(scripts["acquire"], []string{lock}, token, "900000", "1")
	case 1:
		return callOf(scripts["release"], []string{lock}, token, "0")
	case 2, 3:
		return callOf(scripts["follow"], keys)
	}
	if random.IntN(3) == 0 {
		keys = []string{"a", "{a}:waits", "a:queue", "b", "{b}:waits", "b:queue"}
	}
	if random.IntN(3) == 0 {
		token = [...]string{"1@live", "2@dead"}[random.IntN(2)]
	}
	wait, ttl, text := fmt.Sprint("wait ", random.IntN(3)), "800000",
		fmt.Sprint("text ", random.IntN(3))
	if random.IntN(3) == 0 {
		ttl, text = "0", ""
	}
	args := []string{token, "name of " + token, wait, ttl, text}
	if random.IntN(20) == 0 {
		args[random.IntN(4)] = [...]string{"", "-1", "owner", "1.5"}[random.IntN(4)]
		if args[0] != token {
			args[0] = "" // what is left is any owner's
		}
	}
	return callOf(scripts["waits"], keys, args...)
}

// waiting is a call of somebody who stands in queues.
func waiting(random *rand.Rand, wait *script, lock string) call {
	locks := [][]string{{lock}, {"a", "b"}}[random.IntN(2)]
	keys := slices.Clone(locks)
	for _, key := range locks {
		keys = append(keys, key+":queue")
	}
	i := random.IntN(2)
	return callOf(wait, keys, "mine", "900000", fmt.Sprint(len(locks)),
		[...]string{"1@live", "2@dead"}[i], fmt.Sprint(int64(1_700_000_000_000_000)+int64(i)),
		"+800000",
		[...]string{"take", "stand", "over"}[random.IntN(3)])
}

// callOf is a call without queues.
func callOf(s *script, keys []string, args ...string) call {
	return call{s, apart(s.verb, keys, args), keys, append([]string{}, args...)}
}

// TestNativeWaitsDoWhatRedisDoes makes the same random calls of a real Redis, of Lua in miniredis
// and of the handlers, and compares replies and keys.
func TestNativeWaitsDoWhatRedisDoes(t *testing.T) {
	scripts := allScripts(t)
	client := redistest.Start(t).Client(t)
	ctx := context.Background()
	random := rand.New(rand.NewPCG(1, 3))
	now := time.Now()
	native, lua := twin(t, now), twin(t, now)
	outcomes := make(map[string]int)
	for i := range 1500 {
		if random.IntN(100) == 0 {
			hash := [...]string{"{a}:waits", "{b}:waits"}[random.IntN(2)]
			native.Del(hash)
			lua.Del(hash)
			require.NoError(t, client.Del(ctx, hash).Err())
		}
		c := randomWaitsCall(random, scripts)
		what := fmt.Sprintf("call %d: %s %q", i, c.verb, c.words())
		mine := native.answerOf(t, c, true)
		require.Equal(t, lua.answerOf(t, c, false), mine, what)
		require.Equal(t, lua.contents(), native.contents(), what)
		outcomes[c.verb+" "+mine[:1]]++

		var argv []any
		for _, a := range c.args {
			argv = append(argv, a)
		}
		got, err := redis.NewScript(c.text).Run(ctx, client, c.keys, argv...).Result()
		require.Equal(t, mine[:1] == "-", err != nil, "%s: %v", what, err)
		if c.verb == "follow" {
			requireSameFields(t, native, c.keys, got, what)
		}
		for _, hash := range []string{"{a}:waits", "{b}:waits"} {
			requireSameHash(t, native, client, hash, what)
		}
	}
	for _, outcome := range []string{
		"follow *", "waits :", "waits -", "wait *", "wait :", "acquire *", "release *",
	} {
		require.Greater(t, outcomes[outcome], 10, "too few replies of the kind %q: %v", outcome,
			outcomes)
	}
}

// requireSameFields compares what follow says, in which the fields come in any order.
func requireSameFields(t *testing.T, m *memory, keys []string, got any, what string) {
	t.Helper()
	want := nativeFollow(m, keys, nil).([]any)
	reply, ok := got.([]any)
	require.True(t, ok && len(reply) == len(want), what)
	require.Equal(t, want[0], reply[0], what)
	require.Equal(t, want[2:], reply[2:], what)
	pairs := func(list any) (pairs []string) {
		for two := range slices.Chunk(list.([]any), 2) {
			pairs = append(pairs, fmt.Sprint(two...))
		}
		slices.Sort(pairs)
		return pairs
	}
	require.Equal(t, pairs(want[1]), pairs(reply[1]), what)
}

func requireSameHash(t *testing.T, m *memory, client *redis.Client, hash, what string) {
	t.Helper()
	want := map[string]string{}
	names, _ := m.HKeys(hash)
	for _, name := range names {
		want[name] = m.HGet(hash, name)
	}
	require.Equal(t, want, client.HGetAll(context.Background(), hash).Val(), what)
	if len(want) > 0 {
		require.Greater(t, client.PTTL(context.Background(), hash).Val(), time.Minute, what)
	}
}
