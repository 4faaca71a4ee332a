//go:build go1.25

package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

func TestVirtualAttemptTakesTheNodeTimeoutAtMost(t *testing.T) {
	for _, tt := range []struct {
		ttl  time.Duration
		opts []redlock.Option
		want time.Duration
	}{
		{30 * time.Second, nil, time.Second},
		{time.Hour, nil, time.Second},
		{2 * time.Second, nil, 500 * time.Millisecond},
		{400 * time.Millisecond, nil, 100 * time.Millisecond},
		{50 * time.Millisecond, nil, 20 * time.Millisecond},
		{30 * time.Second, []redlock.Option{redlock.WithNodeTimeout(7 * time.Second)},
			7 * time.Second},
		{30 * time.Second, []redlock.Option{redlock.WithNodeTimeout(3 * time.Millisecond)},
			3 * time.Millisecond},
	} {
		t.Run(fmt.Sprint(tt.ttl, len(tt.opts), tt.want), func(t *testing.T) {
			virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
				ctx := context.Background()
				l := open(t, clientsOf(nodes), tt.opts...)
				h, err := l.TryAcquire(ctx, "b", redlock.WithTTL(time.Hour))
				require.NoError(t, err)
				nodes[0].hang()
				nodes[1].hang()

				start := time.Now()
				_, err = l.TryAcquire(ctx, "a", redlock.WithTTL(tt.ttl))
				require.ErrorIs(t, err, redlock.ErrNoQuorum)
				require.Equal(t, tt.want, time.Since(start), "acquire")

				start = time.Now()
				require.ErrorIs(t, h.Extend(ctx, tt.ttl), redlock.ErrNoQuorum)
				require.Equal(t, tt.want, time.Since(start), "extend")

				for _, n := range nodes {
					n.recover()
				}
			})
		})
	}
}

// tcpLike is a pipe that ends as a broken connection does, so that go-redis tries again.
type tcpLike struct{ net.Conn }

func (c tcpLike) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, broken(err)
}

func (c tcpLike) SetReadDeadline(t time.Time) error  { return broken(c.Conn.SetReadDeadline(t)) }
func (c tcpLike) SetWriteDeadline(t time.Time) error { return broken(c.Conn.SetWriteDeadline(t)) }

func broken(err error) error {
	if errors.Is(err, io.ErrClosedPipe) {
		return io.EOF
	}
	return err
}

// An acquire runs, its connection breaks before the reply, and go-redis's repetition gets an error:
// the key is there all the same.
func TestVirtualAcquireWhoseRepetitionFailsLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := miniredis.NewMiniRedis()
		memory.ClockTTL(true)
		client := redis.NewClient(&redis.Options{
			Addr: "127.0.0.1:6379", // not a name: looking one up leaves the bubble
			Dialer: func(context.Context, string, string) (net.Conn, error) {
				conn, err := memory.Dial()
				return tcpLike{conn}, err
			},
		})
		require.NoError(t, client.Ping(context.Background()).Err())
		var tries atomic.Int32
		memory.Server().SetPreHook(func(peer *server.Peer, command string, args ...string) bool {
			if !strings.HasPrefix(command, "EVAL") {
				return false
			}
			switch tries.Add(1) {
			case 1:
				require.NoError(t, memory.Set(args[2], args[4])) // behind its queue
				memory.SetTTL(args[2], time.Hour)
				peer.Close()
				return true
			case 2:
				peer.WriteError("OOM command not allowed when used memory > 'maxmemory'.")
				return true
			}
			return false
		})
		l := open(t, []*redis.Client{client}, redlock.WithTTL(time.Hour))
		_, err := l.TryAcquire(context.Background(), "a")
		require.ErrorIs(t, err, redlock.ErrNoQuorum)
		require.ErrorContains(t, err, "OOM")

		time.Sleep(10 * time.Second)
		require.Greater(t, tries.Load(), int32(2))
		require.False(t, memory.Exists("lock:a"),
			"the key stays for an hour, and nobody has the lock")
		require.NoError(t, l.Close())
		require.NoError(t, client.Close())
		memory.Close()
		time.Sleep(10 * time.Second) // whatever go-redis still waits for
	})
}
