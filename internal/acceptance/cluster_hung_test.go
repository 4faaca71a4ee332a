package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// lameCluster is a Redis Cluster of three masters, of which one can be made to hang.
type lameCluster struct {
	*redistest.Cluster
	lame *redistest.Server
}

func startLameCluster(t *testing.T) *lameCluster {
	t.Helper()
	// Whatever the masters think of each other, each goes on to serve its own slots.
	c := redistest.StartCluster(t, 3,
		redistest.WithConfig("cluster-require-full-coverage", "no"),
		redistest.WithConfig("cluster-node-timeout", "60000"))
	return &lameCluster{c, c.Nodes[1]}
}

// resources returns n names whose keys belong to the master that is going to hang, or to others.
func (c *lameCluster) resources(t *testing.T, n int, lame bool, prefix string) []string {
	t.Helper()
	var names []string
	for i := 0; len(names) < n; i++ {
		name := fmt.Sprint(prefix, i)
		if (c.MasterOf(t, c.Nodes[0], "lock:"+name) == c.lame) == lame {
			names = append(names, name)
		}
	}
	return names
}

// locker returns a Locker over a client that knows the cluster. From the test's end on nothing
// hangs.
func (c *lameCluster) locker(t *testing.T) *redlock.Locker {
	t.Helper()
	l := open(t, []*redis.ClusterClient{c.Client(t)})
	t.Cleanup(func() { assert.NoError(t, c.lame.Resume()) }) // before the Locker is closed
	ctx := context.Background()
	for _, name := range slices.Concat(c.resources(t, 4, false, "warm-up "),
		c.resources(t, 2, true, "warm-up ")) {
		h, err := l.TryAcquire(ctx, name)
		require.NoError(t, err)
		require.NoError(t, errors.Join(h.Extend(ctx, time.Minute), h.Release(ctx)))
	}
	return l
}

func TestHungMasterOfAClusterHoldsUpItsOwnLocksOnly(t *testing.T) {
	const attempts = 24
	for _, together := range []bool{false, true} {
		t.Run(fmt.Sprintf("together: %v", together), func(t *testing.T) {
			c := startLameCluster(t)
			healthy, lame := c.resources(t, attempts, false, "a"),
				c.resources(t, attempts, true, "b")
			l := c.locker(t)
			kept, err := l.TryAcquire(context.Background(), c.resources(t, 1, false, "kept")[0],
				redlock.WithTTL(3*time.Second), redlock.WithAutoRenewal(true))
			require.NoError(t, err)
			require.NoError(t, c.lame.Pause())

			// Each healthy lock comes with one that the hung master would have to grant.
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			inVain := make(chan error, attempts)
			attempt := func(i int) error {
				go func() { inVain <- onlyError(l.Acquire(ctx, lame[i])) }()
				ctx, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				h, err := l.Acquire(ctx, healthy[i])
				if err != nil {
					return err
				}
				return errors.Join(h.Extend(ctx, time.Minute), h.Release(ctx))
			}
			var errs []error
			if together {
				errs = atOnce(attempts, attempt)
			} else {
				for i := range attempts {
					errs = append(errs, attempt(i))
				}
			}
			requireNoErrors(t, errs, "with one of three masters hung, locks on the others")
			require.NoError(t, kept.Err())
			before := kept.ValidUntil()
			until(t, 2*time.Second, func() bool { return kept.ValidUntil().After(before) },
				"not renewed")
			require.NoError(t, kept.Release(ctx))

			cancel()
			for range attempts {
				require.Error(t, <-inVain, "the hung master has granted a lock")
			}
			require.NoError(t, c.lame.Resume())
			requireEmpty(t, c.Nodes...)
		})
	}
}

func TestFailedMultiLockLeavesNothingOnTheMastersThatAnswer(t *testing.T) {
	c := startLameCluster(t)
	// They are taken in order, so the hung master is asked when the others have granted theirs.
	healthy, lame := c.resources(t, 4, false, "a"), c.resources(t, 1, true, "b")
	l := c.locker(t)
	require.NoError(t, c.lame.Pause())

	_, err := l.TryAcquireMulti(context.Background(), slices.Concat(healthy, lame))
	require.ErrorIs(t, err, redlock.ErrNoQuorum)
	for _, s := range c.Nodes {
		if s != c.lame {
			until(t, time.Second, func() bool { return len(lockKeysOn(t, s)) == 0 },
				"keys left on a master that answers")
		}
	}
	// So they are free for others at once, who have never heard of the hung one.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, name := range healthy {
		h, err := l.TryAcquire(ctx, name)
		require.NoError(t, err)
		require.NoError(t, h.Release(ctx))
	}
	require.NoError(t, c.lame.Resume())
	requireEmpty(t, c.Nodes...)
}

// A client that has never been used has to ask a master first who the masters are, and ignores
// contexts while it waits for the answer. That must not keep callers.
func TestCallersAreNotKeptByAClusterClientThatKnowsNoMasters(t *testing.T) {
	c := redistest.StartCluster(t, 3)
	l := open(t, []*redis.ClusterClient{c.Client(t)})
	resume := func() {
		for _, s := range c.Nodes {
			assert.NoError(t, s.Resume())
		}
	}
	t.Cleanup(resume) // before the Locker is closed
	for _, s := range c.Nodes {
		require.NoError(t, s.Pause())
	}
	for range 2 {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		start := time.Now()
		for _, err := range atOnce(8,
			func(i int) error { return onlyError(l.Acquire(ctx, fmt.Sprint("r", i))) }) {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		require.Less(t, time.Since(start), time.Second, "200 ms were allowed")
	}
	resume()
	h, err := l.Acquire(context.Background(), "r", redlock.WithMaxWait(30*time.Second))
	require.NoError(t, err)
	require.NoError(t, h.Release(context.Background()))
	requireEmpty(t, c.Nodes...)
}
