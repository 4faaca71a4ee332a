package redlock_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// What deadlock detection publishes and reads, on a real Redis and on miniredis.
func TestScriptsOfWaits(t *testing.T) {
	noLeak(t)
	ctx := context.Background()
	for server, client := range bothServers(t) {
		t.Run(server, func(t *testing.T) {
			run := func(script string, keys []string, args ...any) any {
				t.Helper()
				reply, err := runScript(t, client, script, keys, args...)
				require.NoError(t, err)
				return reply
			}
			a := []string{"a", "{a}:waits", "{a}:queue"}
			both := append(a, "b", "{b}:waits", "{b}:queue")
			require.NoError(t, client.Set(ctx, "a", "3~mine", time.Minute).Err())
			require.Equal(t, []any{"3~mine", []any{}}, run("follow", a))

			require.Equal(t, yes, run("waits", both, "mine", "me", "w1", 30_000, "for b"),
				"b is not ours, which is no error")
			require.Equal(t, map[string]string{"owner": "me", "w1": "for b"},
				client.HGetAll(ctx, "{a}:waits").Val())
			require.InDelta(t, 30, client.PTTL(ctx, "{a}:waits").Val().Seconds(), 2)
			require.Zero(t, client.Exists(ctx, "{b}:waits").Val())
			require.Equal(t, yes, run("waits", a, "mine", "me", "w2", 60_000, "for c"))
			require.InDelta(t, 60, client.PTTL(ctx, "{a}:waits").Val().Seconds(), 2)
			reply := run("follow", a).([]any)
			require.Equal(t, "3~mine", reply[0])
			require.ElementsMatch(t, []any{"owner", "me", "w1", "for b", "w2", "for c"}, reply[1])

			require.Equal(t, yes, run("waits", a, "mine", "me", "w1", 0, ""))
			require.Equal(t, map[string]string{"owner": "me", "w2": "for c"},
				client.HGetAll(ctx, "{a}:waits").Val())
			require.Equal(t, yes, run("waits", a, "other", "not me", "w3", 0, ""),
				"which there is not")
			require.Equal(t, yes, run("waits", a, "other", "not me", "w3", 60_000, "x"),
				"nor may it be")
			require.Equal(t, map[string]string{"owner": "me", "w2": "for c"},
				client.HGetAll(ctx, "{a}:waits").Val())

			require.NoError(t, client.Set(ctx, "a", "other", time.Minute).Err())
			require.Equal(t, yes, run("waits", a, "other", "not me", "w3", 60_000, "for d"))
			require.Equal(t, map[string]string{"owner": "not me", "w3": "for d"},
				client.HGetAll(ctx, "{a}:waits").Val())
			require.Equal(t, yes, run("waits", a, "mine", "me", "w2", 0, ""),
				"what is over changes nothing")
			require.NoError(t, client.Del(ctx, "a").Err())
			require.Equal(t, []any{nil, []any{}}, run("follow", a))
			require.Equal(t, yes, run("waits", a, "other", "not me", "w3", 0, ""),
				"also when the lock is gone")
			require.Empty(t, client.Keys(ctx, "*").Val())

			// While a lock is free, it is kept for who is first in its queue.
			require.NoError(t, client.ZAdd(ctx, "{a}:queue", redis.Z{Score: 2, Member: "2@x"},
				redis.Z{Score: 1, Member: "1@x"}).Err())
			require.Equal(t, yes, run("waits", a, "2@x", "second", "w1", 60_000, "for c"))
			require.Equal(t, []any{nil, []any{}, "1@x"}, run("follow", a))
			require.Equal(t, yes, run("waits", both, "1@x", "first", "w2", 60_000, "for b"))
			require.Equal(t, []any{nil, []any{"owner", "first", "w2", "for b"}, "1@x"},
				run("follow", a))
			require.NoError(t, client.Set(ctx, "a", "mine", time.Minute).Err())
			require.Equal(t, yes, run("waits", a, "1@x", "first", "w2", 0, ""),
				"also when somebody has it")
			require.Equal(t, yes, run("waits", a, "1@x", "first", "w3", 60_000, "for b"))
			require.Equal(t, []any{"mine", []any{}}, run("follow", a))
			require.NoError(t, client.Del(ctx, "a", "{a}:queue").Err())
			require.Empty(t, client.Keys(ctx, "*").Val())

			for _, args := range [][]any{
				{"", "me", "w", 1, "x"}, {"mine", "", "w", 1, "x"}, {"mine", "me", "", 1, "x"},
				{"mine", "me", "owner", 1, "x"},
				{"mine", "me", "w", -1, "x"}, {"mine", "me", "w", 1.5, "x"},
				{"mine", "me", "w", "nan", "x"}, {"mine", "me", "w", 1}, {},
			} {
				_, err := runScript(t, client, "waits", a, args...)
				require.ErrorContains(t, err, "bad arguments", "%v", args)
			}
			for script, keys := range map[string][]string{"waits": {"a"}, "follow": both} {
				_, err := runScript(t, client, script, keys,
					[]any{"mine", "me", "w", 1, "x"}[:len(keys)%2*5]...)
				require.ErrorContains(t, err, "bad arguments", script)
			}
			if server == "redis" { // miniredis loses the code of an error in a script
				require.NoError(t, client.Set(ctx, "a", "mine", time.Minute).Err())
				require.NoError(t, client.Set(ctx, "{a}:waits", "a string", time.Minute).Err())
				for script, args := range map[string][]any{
					"waits": {"mine", "me", "w", 1, "x"}, "follow": nil,
				} {
					_, err := runScript(t, client, script, a, args...)
					require.ErrorContains(t, err, "WRONGTYPE")
				}
			}
		})
	}
}
