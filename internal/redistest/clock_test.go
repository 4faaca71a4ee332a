package redistest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

func TestClockJumpsExpireKeysAndLetThemLive(t *testing.T) {
	s := redistest.Start(t, redistest.WithFakeClock(), redistest.WithAOF(redistest.FsyncNever))
	s.Do(t, "set", "a", 1, "px", 10_000)
	require.NoError(t, s.SetClock(-20*time.Second))
	eventually(t, func() bool { return s.Do(t, "pttl", "a").(int64) > 25_000 })
	s.Restart(t)
	require.Greater(t, s.Do(t, "pttl", "a"), int64(20_000),
		"the clock is what it was before the restart")

	require.NoError(t, s.SetClock(20*time.Second))
	eventually(t, func() bool { return len(s.Keys(t)) == 0 })
	s.Do(t, "set", "a", 1, "px", 10_000)
	require.LessOrEqual(t, s.Do(t, "pttl", "a"), int64(10_000))
}

func TestServersOwnClockCannotBeSet(t *testing.T) {
	require.ErrorIs(t, redistest.Start(t).SetClock(time.Second), redistest.ErrNoFakeClock)
}
