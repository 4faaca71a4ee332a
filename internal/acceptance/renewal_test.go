package acceptance_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// Row 12: a quorum of the nodes answers the renewals with errors or not at all. They are tried
// again until the lease ends.
func TestRenewalIsRetriedUntilTheLeaseEndsAndNoLonger(t *testing.T) {
	noLeak(t)
	for _, fault := range []fault{hung, down, refusing} {
		runAlongside(t, fault.name, func(t *testing.T) {
			ctx := context.Background()
			servers, clients := masters(t, 5)
			l := open(t, clients, redlock.WithTTL(1500*time.Millisecond),
				redlock.WithAutoRenewal(true))
			warmUp(t, clients)
			looked, err := l.TryAcquire(ctx, "looked at")
			require.NoError(t, err)
			waited, err := l.TryAcquire(ctx, "waited for")
			require.NoError(t, err)
			done, work := waited.Done(), waited.Context(ctx)
			ended := make(chan time.Time, 1)
			go func() { <-done; ended <- time.Now() }()

			for _, s := range servers[:3] {
				fault.strike(t, s)
			}
			servers[4].ResetStats(t)
			for {
				before := time.Now()
				err := looked.Err()
				after, until := time.Now(), looked.ValidUntil()
				if err != nil {
					require.ErrorIs(t, err, redlock.ErrLost)
					require.False(t, after.Before(until), "lost %v too early", until.Sub(after))
					break
				}
				require.True(t, before.Before(until), "not lost %v after the end",
					before.Sub(until))
				<-time.After(time.Millisecond)
			}
			await(t, done, "the loss of the other lock")
			late := (<-ended).Sub(waited.ValidUntil())
			require.GreaterOrEqual(t, late, time.Duration(0), "signalled too early")
			require.Less(t, late, 500*time.Millisecond, "signalled late")
			require.ErrorIs(t, waited.Err(), redlock.ErrLost)
			await(t, work.Done(), "the end of the context")
			require.ErrorIs(t, context.Cause(work), redlock.ErrLost)

			// The two locks have been extended twice at least, where that worked.
			require.GreaterOrEqual(t, servers[4].CommandCount(t, "evalsha"), 4, "not tried again")
			require.ErrorIs(t, looked.Extend(ctx, time.Minute), redlock.ErrLost)
			require.ErrorIs(t, looked.Release(ctx), redlock.ErrLost)
			require.ErrorIs(t, looked.Err(), redlock.ErrLost)
			require.ErrorIs(t, waited.Release(ctx), redlock.ErrLost)
			noKeys(t, servers[3:])
		})
	}
}

// Row 12: the nodes are back before the lease ends.
func TestLockSurvivesAnOutageShorterThanItsLease(t *testing.T) {
	noLeak(t)
	for _, fault := range []fault{hung, down, refusing} { // down, and back with its data
		runAlongside(t, fault.name, func(t *testing.T) {
			ctx := context.Background()
			servers, clients := masters(t, 5, redistest.WithAOF(redistest.FsyncAlways))
			l := open(t, clients, redlock.WithTTL(3*time.Second), redlock.WithAutoRenewal(true))
			warmUp(t, clients)
			h := heldEverywhere(t, l, servers, "a")

			for _, s := range servers[:3] {
				fault.strike(t, s)
			}
			servers[4].ResetStats(t)
			eventually(t, func() bool { return servers[4].CommandCount(t, "evalsha") >= 2 },
				"not tried again")
			until := h.ValidUntil()
			for _, s := range servers[:3] {
				fault.cure(t, s)
			}
			eventually(t, func() bool { return h.ValidUntil().After(until) || h.Err() != nil },
				"neither renewed nor lost")
			require.NoError(t, h.Err())
			require.NoError(t, h.Release(ctx))
			noKeys(t, servers)
		})
	}
}

func TestRenewalGoesOnAfterAFailedOneAndALongExtend(t *testing.T) {
	ctx := context.Background()
	_, clients, taps := tapped(t, 1)
	logger, failed := onceLogged("renewal failed")
	l := open(t, clients, logger)
	h, err := l.TryAcquire(ctx, "r", redlock.WithTTL(1500*time.Millisecond),
		redlock.WithAutoRenewal(true))
	require.NoError(t, err)

	taps[0].onSend(func(string) error { return errPartition })
	outcome(t, failed, "a renewal that fails")
	taps[0].onSend(nil)
	require.NoError(t, h.Extend(ctx, 2500*time.Millisecond))
	long := h.ValidUntil()

	require.Eventually(t, func() bool { return h.ValidUntil().After(long) }, 10*time.Second,
		5*time.Millisecond, "not renewed")
	require.NoError(t, h.Err())
	require.NoError(t, h.Release(ctx))
}
