package redlock_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

func TestSmoke(t *testing.T) {
	servers := redistest.StartN(t, 3)
	l, err := redlock.New(redistest.Clients(t, servers))
	require.NoError(t, err)
	ctx := context.Background()
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	_, err = l.TryAcquire(ctx, "a")
	require.ErrorIs(t, err, redlock.ErrHeld)
	t.Log(err)
	s, err := l.Inspect(ctx, "a")
	require.NoError(t, err)
	t.Logf("%+v", s)
	require.NoError(t, h.Extend(ctx, time.Minute))
	require.NoError(t, h.Extend(ctx, time.Second))
	t.Log(time.Until(h.ValidUntil()), servers[0].Do(t, "PTTL", "lock:a"))
	require.NoError(t, h.Release(ctx))
	servers[1].Pause()
	h, err = l.AcquireMulti(ctx, []string{"b", "a"})
	require.NoError(t, err)
	servers[2].Pause()
	_, err = l.TryAcquire(ctx, "c")
	t.Log(err)
	require.ErrorIs(t, err, redlock.ErrNoQuorum)
	servers[2].Resume()
	servers[1].Resume()
	require.NoError(t, h.Release(ctx))
	require.NoError(t, l.Close())
	for _, s := range servers {
		require.Empty(t, s.Keys(t))
	}
}
