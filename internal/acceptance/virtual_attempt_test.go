//go:build go1.25

package acceptance_test

import (
	"context"
	"errors"
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

// An acquire runs, its connection breaks before the reply, and go-redis's repetition gets an error: the key is there all the same.
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
				require.NoError(t, memory.Set(args[2], args[4]))
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
		require.False(t, memory.Exists("lock:a"), "the key stays for an hour, and nobody has the lock")
		require.NoError(t, l.Close())
		require.NoError(t, client.Close())
		memory.Close()
		time.Sleep(10 * time.Second) // whatever go-redis still waits for
	})
}
