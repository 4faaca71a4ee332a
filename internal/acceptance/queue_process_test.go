//go:build unix

package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/locktest"
	"github.com/rediskit/redlock/internal/redistest"
)

// waiterNodes tells a process that it is to wait for a lock, and where its nodes are.
const waiterNodes = "REDLOCK_TEST_WAITER_NODES"

// The waiter is this test binary with another task.
func init() {
	if nodes := os.Getenv(waiterNodes); nodes != "" {
		if err := waitAndRelease(strings.Split(nodes, ",")); err != nil {
			fmt.Fprintln(os.Stderr, "waiter:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

func waitAndRelease(nodes []string) error {
	clients := make([]*redis.Client, len(nodes))
	for i, addr := range nodes {
		clients[i] = redis.NewClient(&redis.Options{Addr: addr})
	}
	l, err := redlock.New(clients)
	if err != nil {
		return err
	}
	h, err := l.Acquire(context.Background(), "r")
	if err != nil {
		return err
	}
	// else a node that is late would keep the key
	return errors.Join(h.Release(context.Background()), l.Close())
}

// A process that is first in line, and cannot come when it is called.
func TestProcessThatIsKilledOrStoppedInLineHoldsNobodyUp(t *testing.T) {
	for name, strike := range map[string]func(c *redistest.Child) error{
		"killed":  (*redistest.Child).Kill,
		"stopped": (*redistest.Child).Pause,
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			servers, clients := masters(t, 3)
			l, next := open(t, clients), processes(t, servers, 1, byEvent)[0]
			h, err := l.TryAcquire(ctx, "r", redlock.WithTTL(time.Hour))
			require.NoError(t, err)

			addrs := make([]string, len(servers))
			for i, s := range servers {
				addrs[i] = s.Addr()
			}
			cmd := exec.Command(os.Args[0])
			cmd.Env, cmd.Stderr = append(os.Environ(), waiterNodes+"="+strings.Join(addrs, ",")),
				os.Stderr
			first, err := redistest.LaunchChild(cmd)
			require.NoError(t, err)
			t.Cleanup(func() { _ = first.Kill() }) // it may have ended
			sureOf(t, servers, 1)
			got := make(chan time.Time, 1)
			done := inBackground(func() error {
				h, err := next.Acquire(ctx, "r")
				if err != nil {
					return err
				}
				got <- time.Now()
				return h.Release(ctx)
			})
			sureOf(t, servers, 2)

			require.NoError(t, strike(first))
			released := time.Now()
			require.NoError(t, h.Release(ctx))
			require.NoError(t, outcome(t, done, "the second in line"))
			took := (<-got).Sub(released)
			t.Logf("the second in line had the lock after %v", took)
			require.Less(t, took, 3*time.Second,
				"it was the next poll, or the end of a patience, that helped")
			if name == "stopped" {
				require.NoError(t, first.Resume())
				require.Zero(t, first.ExitCode(), "it gets its turn when it goes on")
			}
			// A node that had to call it before it saw that it was gone keeps its place for its
			// patience, if nobody comes there again.
			locktest.NoKeysWithin(t, 13*time.Second, servers)
		})
	}
}

// sureOf waits until so many stand in the queue of r on every server, where it would be noticed
// that they are gone.
func sureOf(t *testing.T, servers []*redistest.Server, waiters int) {
	t.Helper()
	for _, s := range servers {
		eventually(t, func() bool {
			sure := 0
			for _, name := range s.Do(t, "zrange", "{lock:r}:queue", "0", "-1").([]any) {
				if strings.HasPrefix(name.(string), "+") {
					sure++
				}
			}
			return sure == waiters
		}, "there are never %d in line", waiters)
	}
}
