package acceptance_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// Nodes that stop for a moment while the Locker is closed run what they have been sent when they go
// on: Close is there to take it back.
func TestCloseTakesBackWhatNodesThatStopForAMomentHaveBeenSent(t *testing.T) {
	const attempts = 20
	for _, nodes := range []int{1, 3} {
		for _, cut := range []string{"by the node timeout", "by the end of ctx", "by Close"} {
			t.Run(fmt.Sprint(nodes, " nodes, cut short ", cut), func(t *testing.T) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				servers, clients := masters(t, nodes)
				timeout := 20 * time.Second
				if cut == "by the node timeout" {
					timeout = 100 * time.Millisecond
				}
				l, err := redlock.New(clients, redlock.WithNodeTimeout(timeout),
					redlock.WithTTL(time.Minute))
				require.NoError(t, err)
				warmUp(t, clients)
				thaw := freeze(t, servers...)
				var tries []<-chan error
				for i := range attempts {
					waiting := observe(ctx)
					tries = append(tries, inBackground(func() error {
						return onlyError(l.TryAcquireMulti(waiting,
							[]string{fmt.Sprint("r", i), fmt.Sprint("s", i)}))
					}))
					await(t, waiting.waited, "the attempt")
				}
				if cut == "by the end of ctx" {
					cancel()
				}
				if cut != "by Close" {
					for _, try := range tries {
						require.Error(t, outcome(t, try, "an attempt"))
					}
				}
				resumed := make(chan time.Time, 1)
				time.AfterFunc(1200*time.Millisecond, func() { thaw(); resumed <- time.Now() })
				assert.NoError(t, l.Close())
				closed := time.Now()
				require.Less(t, closed.Sub(<-resumed), 1500*time.Millisecond,
					"Close returns promptly after the resume")
				for i, s := range servers {
					require.Empty(t, s.Keys(t), "left on node %d", i)
				}
			})
		}
	}
}

func TestCloseIsBoundedWhenNodesHangAndPromptWhenTheyAreDown(t *testing.T) {
	for _, tt := range []struct {
		fault fault
		limit time.Duration
	}{{down, 1700 * time.Millisecond}, {hung, 8 * time.Second}} {
		runAlongside(t, tt.fault.name, func(t *testing.T) {
			ctx := context.Background()
			servers, clients := masters(t, 3)
			l, err := redlock.New(clients, redlock.WithNodeTimeout(100*time.Millisecond))
			require.NoError(t, err)
			warmUp(t, clients)
			h := heldEverywhere(t, l, servers, "held")
			for _, s := range servers {
				tt.fault.strike(t, s)
			}
			for i := range 5 {
				require.ErrorIs(t, onlyError(l.TryAcquire(ctx, fmt.Sprint("r", i))),
					redlock.ErrNoQuorum)
			}
			require.ErrorIs(t, h.Release(ctx), redlock.ErrNoQuorum)
			began := time.Now()
			_ = l.Close() // may tell of calls that the client has not given up
			require.Less(t, time.Since(began), tt.limit)
		})
	}
}
