package redlock_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/protocol"
	"github.com/rediskit/redlock/internal/redistest"
)

// inSeconds is a time in a reply, which counts milliseconds.
type inSeconds int64

// scriptError is what a reply that is an error begins with: its code. miniredis loses it in
// scripts.
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

// bothServers returns clients of a real Redis and of a miniredis.
func bothServers(t *testing.T) map[string]*redis.Client {
	t.Helper()
	mini := miniredis.NewMiniRedis()
	// which stops its clock: unlike Redis 7 it lets time go by while a script runs
	mini.SetTime(time.Now())
	require.NoError(t, mini.Start())
	t.Cleanup(mini.Close)
	client := redis.NewClient(&redis.Options{Addr: mini.Addr()})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return map[string]*redis.Client{"redis": redistest.Start(t).Client(t), "miniredis": client}
}

// runScript runs a script.
func runScript(t testing.TB, client *redis.Client, name string, keys []string,
	args ...any) (any, error) {
	t.Helper()
	return redis.NewScript(scriptSource(t, name)).Run(t.Context(), client, keys, args...).Result()
}

// withToken returns a script's arguments.
func withToken(script, token string, args ...any) []any {
	if script == "inspect" {
		return args
	}
	return append([]any{token}, args...)
}

func scriptSource(t testing.TB, name string) string {
	t.Helper()
	return protocol.Source(os.DirFS("."), name)
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
	case aboutNow:
		require.InDelta(t, time.Now().UnixMicro(), got, 5e6)
	case inSeconds:
		most := int64(want) * 1000
		require.LessOrEqual(t, got, most)
		require.Greater(t, got, most-5000)
	default:
		require.Equal(t, want, got)
	}
}
