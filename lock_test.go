package redlock_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

func TestLockExcludesOthersUntilReleased(t *testing.T) {
	servers, clients := masters(t, 3)
	mine, theirs := open(t, clients), open(t, clients)
	ctx := context.Background()

	h, err := mine.TryAcquire(ctx, "order:1")
	require.NoError(t, err)
	_, err = theirs.TryAcquire(ctx, "order:1")
	require.ErrorIs(t, err, redlock.ErrHeld)

	require.NoError(t, h.Release(ctx))
	h, err = theirs.TryAcquire(ctx, "order:1")
	require.NoError(t, err)
	require.NoError(t, h.Release(ctx))
	noKeys(t, servers)
}
