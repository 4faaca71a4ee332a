package redistest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

func TestShardingSpreadsKeys(t *testing.T) {
	for _, protocol := range []int{2, 3} {
		t.Run(fmt.Sprintf("RESP%d", protocol), func(t *testing.T) {
			servers := redistest.StartN(t, 2)
			proxy := redistest.StartSharding(t, servers...)
			client := redis.NewClient(&redis.Options{Addr: proxy.Addr(), Protocol: protocol})
			t.Cleanup(func() { _ = client.Close() })

			const n = 100
			cmds, err := client.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
				for i := range n {
					pipe.Set(t.Context(), fmt.Sprintf("key%d", i), i, 0)
					pipe.Get(t.Context(), fmt.Sprintf("key%d", i))
					pipe.HGetAll(t.Context(), "no such key")
					pipe.Echo(t.Context(), fmt.Sprint("echo ", i))
				}
				return nil
			})
			require.NoError(t, err)
			for i := range n {
				require.Equal(t, fmt.Sprint(i), cmds[4*i+1].(*redis.StringCmd).Val(),
					"replies out of order")
				require.Empty(t, cmds[4*i+2].(*redis.MapStringStringCmd).Val())
				require.Equal(t, fmt.Sprint("echo ", i), cmds[4*i+3].(*redis.StringCmd).Val())
			}
			total := 0
			for _, s := range servers {
				keys := s.Keys(t)
				require.NotEmpty(t, keys, "each server has its share")
				for _, key := range keys {
					require.Same(t, s, proxy.ServerOf(key))
				}
				total += len(keys)
			}
			require.Equal(t, n, total)
		})
	}
}

func TestShardingSendsAScriptToTheServerOfItsFirstKey(t *testing.T) {
	servers := redistest.StartN(t, 2)
	proxy := redistest.StartSharding(t, servers...)
	client := proxy.Client(t)
	const source = "return redis.call('SET', KEYS[1], ARGV[1])"
	digest := client.ScriptLoad(t.Context(), source).Val()

	keys := make(map[*redistest.Server]string)
	for i := 0; len(keys) < len(servers); i++ {
		key := fmt.Sprint("key", i)
		keys[proxy.ServerOf(key)] = key
	}
	require.NoError(t, client.EvalSha(t.Context(), digest, []string{keys[servers[0]]}, "x").Err(),
		"SCRIPT goes to the first server")
	err := client.EvalSha(t.Context(), digest, []string{keys[servers[1]]}, "x").Err()
	require.True(t, redis.HasErrorPrefix(err, "NOSCRIPT"), "%v", err)
	require.NoError(t, client.Eval(t.Context(), source, []string{keys[servers[1]]}, "x").Err())
	require.NoError(t, client.EvalSha(t.Context(), digest, []string{keys[servers[1]]}, "x").Err())
	for _, s := range servers {
		require.Equal(t, []string{keys[s]}, s.Keys(t))
	}

	// The other keys do not count.
	both := []string{keys[servers[1]], keys[servers[0]]}
	const two = "redis.call('SET', KEYS[1], 1) return redis.call('SET', KEYS[2], 1)"
	require.NoError(t, client.Eval(t.Context(), two, both).Err())
	require.Len(t, servers[1].Keys(t), 2, "on the wrong server, and no error")
}

func TestShardingKeepsAHashTagTogether(t *testing.T) {
	proxy := redistest.StartSharding(t, redistest.StartN(t, 2)...)
	for i := range 20 {
		key := fmt.Sprint("key", i)
		require.Same(t, proxy.ServerOf(key), proxy.ServerOf("{"+key+"}:more"))
	}
}

func TestShardingRefusesWhatIsNotAboutOneKey(t *testing.T) {
	client := redistest.StartSharding(t, redistest.Start(t)).Client(t)
	_, err := client.Subscribe(context.Background(), "news").Receive(t.Context())
	require.ErrorContains(t, err, "unsupported command")
	require.NoError(t, client.Ping(t.Context()).Err())
}
