package node

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

// cutter is a go-redis hook. Calls for "cut" are run, lose their answer, and pause until their
// context ends, as go-redis does between two tries. Those for "hung" are held up, as by a read.
type cutter struct {
	began chan any
	free  chan struct{}
}

func (h *cutter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *cutter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *cutter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		args := cmd.Args()
		switch name := args[len(args)-1]; name {
		case "cut":
			_ = next(context.Background(), cmd)
			h.began <- name
			<-ctx.Done()
			cmd.SetErr(ctx.Err())
			return ctx.Err()
		case "hung":
			h.began <- name
			<-h.free
		}
		return next(ctx, cmd)
	}
}

// A late Close cuts a call short that the node has run, and queues it again behind connections that
// hang. Whatever keeps it from its next try, it does not end as one that the node knows nothing of.
func TestCallThatCloseCutsShortEndsAsOneThatMayHaveRun(t *testing.T) {
	for name, c := range map[string]struct{ sendBy, grace time.Duration }{
		"when its time is over": {time.Second, time.Minute},
		"when Close gives up":   {time.Hour, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			client := redistest.Start(t).Client(t)
			h := &cutter{make(chan any, 8), make(chan struct{})}
			client.AddHook(h)
			n := New(client, false)
			send := func(name string, patience time.Duration, sendBy time.Time) (*Call, delivered) {
				call, d := newCall()
				call.Keys, call.Args = []string{name}, []any{name}
				call.Patience, call.SendBy = patience, sendBy
				require.True(t, n.Send(call))
				require.Equal(t, name, receive(t, h.began))
				return call, d
			}
			_, first := send("hung", time.Hour, time.Time{})
			cut, back := send("cut", 10*time.Millisecond, time.Now().Add(c.sendBy))
			_, second := send("hung", time.Hour, time.Time{}) // once that worker counts as stuck
			ended, end := context.WithCancel(context.Background())
			end()
			closed := make(chan error, 1)
			go func() { closed <- n.Close(ended, c.grace) }()
			if c.sendBy < c.grace {
				<-time.After(time.Until(cut.SendBy))
				close(h.free)
			}
			require.ErrorIs(t, receive(t, back).Err, context.Canceled)
			if c.sendBy > c.grace {
				require.Error(t, receive(t, closed))
				close(h.free)
				receive(t, first)
				receive(t, second)
				return
			}
			receive(t, first)
			receive(t, second)
			require.NoError(t, receive(t, closed))
		})
	}
}
