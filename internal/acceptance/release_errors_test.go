package acceptance_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// What a server says to a release is told at once, and not hidden behind the repetitions that go on
// meanwhile. When the server can again, the key is deleted.
func TestReleaseTellsWhatTheServersSay(t *testing.T) {
	for name, tt := range map[string]struct {
		strike, cure func(t *testing.T, s *redistest.Server)
		says         string
	}{
		"NOPERM": {denyAllScripts, allowScripts, "NOPERM"},
		"MISCONF": {
			failToSave,
			func(t *testing.T, s *redistest.Server) {
				s.Do(t, "config", "set", "stop-writes-on-bgsave-error", "no")
			},
			"MISCONF",
		},
		"READONLY": {
			func(t *testing.T, s *redistest.Server) { s.Do(t, "replicaof", "127.0.0.1", "1") },
			func(t *testing.T, s *redistest.Server) { s.Do(t, "replicaof", "no", "one") },
			"READONLY",
		},
	} {
		for _, nodes := range []int{1, 3} {
			runAlongside(t, name+map[int]string{1: " on one", 3: " on three"}[nodes],
				func(t *testing.T) {
					ctx := context.Background()
					servers := redistest.StartN(t, nodes)
					l := open(t, redistest.Clients(t, servers),
						redlock.WithNodeTimeout(15*time.Second))
					h := heldEverywhere(t, l, servers, "a")
					for _, s := range servers {
						tt.strike(t, s)
					}
					began := time.Now()
					err := h.Release(ctx)
					took := time.Since(began)
					require.ErrorIs(t, err, redlock.ErrNoQuorum)
					require.ErrorContains(t, err, tt.says)
					require.NotContains(t, err.Error(), "no answer")
					var failed *redlock.QuorumError
					require.ErrorAs(t, err, &failed)
					said := 0
					for _, n := range failed.Nodes {
						if strings.Contains(n.Err.Error(), tt.says) {
							said++
						}
					}
					require.GreaterOrEqual(t, said, nodes/2+1, "%v", err)
					require.Less(t, took, 7*time.Second,
						"READONLY has go-redis try again; nobody waits for more than that")
					require.Equal(t, err, h.Release(ctx))

					for _, s := range servers {
						tt.cure(t, s)
					}
					noKeys(t, servers)
				})
		}
	}
}

// The repetition is not a second vote: what it brings changes nothing of what Release says, or has
// said.
func TestReleaseCountsTheFirstAnswerOfEachNode(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients, redlock.WithNodeTimeout(15*time.Second))
	h := heldEverywhere(t, l, servers, "a")
	denyAllScripts(t, servers[0])
	require.NoError(t, h.Release(ctx), "a quorum has deleted it")
	next := heldEverywhere(t, l, servers[1:], "b")
	for _, s := range servers[1:] {
		denyAllScripts(t, s)
	}
	began := time.Now()
	err := next.Release(ctx)
	require.ErrorContains(t, err, "NOPERM")
	require.ErrorIs(t, err, redlock.ErrMisconfigured)
	require.Less(t, time.Since(began), 2*time.Second)
	for _, s := range servers {
		allowScripts(t, s)
	}
	noKeys(t, servers)
	require.Equal(t, err, next.Release(ctx))
}

// Also the release of a lock with a minimum hold, which keeps the keys for a while.
func TestReleaseInTheMinHoldTellsWhatTheServersSay(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients, redlock.WithNodeTimeout(15*time.Second))
	h, err := l.TryAcquire(ctx, "a", redlock.WithMinHold(time.Minute), redlock.WithTTL(time.Hour))
	require.NoError(t, err)
	takenEverywhere(t, h, servers...)
	for _, s := range servers {
		denyAllScripts(t, s)
	}
	began := time.Now()
	err = h.Release(ctx)
	require.ErrorIs(t, err, redlock.ErrNoQuorum)
	require.ErrorContains(t, err, "NOPERM")
	require.Less(t, time.Since(began), 2*time.Second)
	for _, s := range servers {
		allowScripts(t, s)
		eventually(t, func() bool { return keyTTL(t, s, lockKey("a")) <= time.Minute },
			"not cut when the server could again")
	}
}

// A node that answers nothing is still told from one that says no.
func TestReleaseThatIsNotAnsweredSaysSo(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 1)
	l := open(t, []*redis.Client{clients[0]}, redlock.WithNodeTimeout(200*time.Millisecond))
	warmUp(t, clients)
	h := heldEverywhere(t, l, servers, "a")
	thaw := freeze(t, servers...)
	began := time.Now()
	err := h.Release(ctx)
	requireOnly(t, err, redlock.ErrNoQuorum)
	require.ErrorContains(t, err, "no answer within")
	require.Less(t, time.Since(began), 2*time.Second)
	thaw()
	noKeys(t, servers)
}
