package acceptance_test

import (
	"context"
	"net"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// A quorum of one server is worth nothing, whatever the clients to it are called.
func TestNewRefusesTheSameServerTwice(t *testing.T) {
	noLeak(t)
	closed := func(c redis.UniversalClient) redlock.Node {
		t.Cleanup(func() { require.NoError(t, c.Close()) })
		return c
	}
	single := func(o redis.Options) redlock.Node { return closed(redis.NewClient(&o)) }
	cluster := func(o redis.ClusterOptions) redlock.Node {
		return closed(redis.NewClusterClient(&o))
	}
	own := func(addr string) redlock.Node {
		c := redis.NewClient(&redis.Options{Addr: addr})
		closed(c)
		return struct{ *redis.Client }{c}
	}
	custom := func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }
	const one, two, three = "127.0.0.1:1001", "127.0.0.1:1002", "127.0.0.1:1003"

	for name, nodes := range map[string][]redlock.Node{
		"two clients": {single(redis.Options{Addr: one}),
			single(redis.Options{Addr: one})},
		"clients without an address": {single(redis.Options{}), single(redis.Options{})},
		"two databases": {single(redis.Options{Addr: one}),
			single(redis.Options{Addr: one, DB: 1})},
		"two users": {single(redis.Options{Addr: one}),
			single(redis.Options{Addr: one, Username: "a", Password: "b"})},
		"the third": {single(redis.Options{Addr: one}),
			single(redis.Options{Addr: two}), single(redis.Options{Addr: one})},
		"two clients of a cluster": {cluster(redis.ClusterOptions{Addrs: []string{one, two}}),
			cluster(redis.ClusterOptions{Addrs: []string{three, two}})},
		"a master of a cluster": {cluster(redis.ClusterOptions{Addrs: []string{two, one}}),
			single(redis.Options{Addr: one})},
		"a universal client": {closed(
			redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{one}})),
			single(redis.Options{Addr: one})},
		"two nodes of the user's own": {own(one), own(one)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := redlock.New(nodes)
			require.ErrorContains(t, err, "one server")
			if name == "the third" {
				require.ErrorContains(t, err, "nodes 0 and 2")
				require.ErrorContains(t, err, one)
			}
		})
	}
	for name, nodes := range map[string][]redlock.Node{
		"different ports": {single(redis.Options{Addr: one}),
			single(redis.Options{Addr: two})},
		"a dialer of the user's own": {single(redis.Options{Addr: one, Dialer: custom}),
			single(redis.Options{Addr: one, Dialer: custom})},
		"sentinels": {
			closed(
				redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "a",
					SentinelAddrs: []string{one}})),
			closed(
				redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "b",
					SentinelAddrs: []string{one}})),
		},
		"clusters with different addresses": {
			cluster(redis.ClusterOptions{Addrs: []string{one, two}}),
			cluster(redis.ClusterOptions{Addrs: []string{three}}),
		},
		"clusters with a dialer of the user's own": {
			cluster(redis.ClusterOptions{Addrs: []string{one}, Dialer: custom}),
			cluster(redis.ClusterOptions{Addrs: []string{one}, Dialer: custom}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := redlock.New(nodes)
			require.NoError(t, err)
			require.NoError(t, l.Close())
		})
	}
}
