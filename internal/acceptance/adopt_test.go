package acceptance_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// What never expires has no validity that could be proved, and an extension would give it an end
// that nobody counts on.
func TestLockThatNeverExpiresIsNotAdopted(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients)
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	for _, s := range servers {
		takenEverywhere(t, h, s)
		s.Do(t, "persist", "lock:a")
	}
	_, err = l.Adopt(ctx, []string{"a"}, h.Token())
	require.ErrorIs(t, err, redlock.ErrLost)
	require.ErrorContains(t, err, "never expires")
}

func TestAdoptOfALockWithTooLittleLeftIsALoss(t *testing.T) {
	servers, clients := masters(t, 3)
	for _, s := range servers {
		s.Do(t, "set", "lock:r", "token", "px", 1500)
	}
	// Clocks as bad as these leave nothing of 1.5 s.
	l := open(t, clients, redlock.WithDriftFactor(0.999), redlock.WithTTL(time.Hour))

	_, err := l.Adopt(context.Background(), []string{"r"}, "token")
	requireOnly(t, err, redlock.ErrLost)
}
