//go:build go1.25

package redlock

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// renewalsHang is a node that grants whatever it is asked, but never answers an extension.
type renewalsHang struct{ end chan struct{} }

func (renewalsHang) DialHook(next redis.DialHook) redis.DialHook { return next }

func (r renewalsHang) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		if args := cmd.Args(); args[len(args)-1] == "keep" {
			<-r.end
		}
		cmd.(*redis.Cmd).SetVal(int64(1))
		return nil
	}
}

func (renewalsHang) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// Between the look at a renewal's deadline and its end, the deadline may move. Then the alarm,
// which has rung, must be set anew: nothing else would see the end of the lease.
func TestRenewalWhoseDeadlineHasMovedIsWatchedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := redis.NewClient(&redis.Options{Addr: "node",
			Dialer: func(context.Context, string, string) (net.Conn, error) {
				conn, other := net.Pipe()
				return conn, other.Close()
			}})
		end := make(chan struct{})
		client.AddHook(renewalsHang{end})
		l, err := New([]*redis.Client{client})
		require.NoError(t, err)
		h, err := l.TryAcquire(context.Background(), "a", WithTTL(30*time.Second),
			WithAutoRenewal(true))
		require.NoError(t, err)
		done, until := h.Done(), h.ValidUntil()
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		h.mu.Lock()
		r := h.renewing
		h.mu.Unlock()
		require.NotNil(t, r)
		require.True(t, r.Deadline().After(time.Now()))
		l.schedule.Remove(&h.alarm) // as when it rings

		h.giveUp(r)
		<-done
		require.Equal(t, until, time.Now())
		require.Equal(t, ErrLost, h.Err())
		close(end)
		require.NoError(t, l.Close())
		require.NoError(t, client.Close())
	})
}
