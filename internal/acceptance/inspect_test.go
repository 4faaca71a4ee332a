package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// splits calls f with every way to divide n nodes between the free, those of A, those of B and the
// sick.
func splits(n int, f func(free, a, b, sick int)) {
	for sick := range n + 1 {
		for a := range n - sick + 1 {
			for b := range n - sick - a + 1 {
				f(n-sick-a-b, a, b, sick)
			}
		}
	}
}

func TestIsLockedIsFalseOnlyIfNoOwnerCanHaveAQuorum(t *testing.T) {
	ctx := context.Background()
	for _, n := range []int{1, 2, 3, 4, 5} {
		t.Run(fmt.Sprintf("%d nodes", n), func(t *testing.T) {
			servers, clients := masters(t, n)
			l := open(t, clients, redlock.WithNodeTimeout(20*time.Second))
			quorum := n/2 + 1
			splits(n, func(free, a, b, sick int) {
				t.Run(fmt.Sprintf("%d free, %d A, %d B, %d sick", free, a, b, sick),
					func(t *testing.T) {
						for i, s := range servers {
							s.Do(t, "flushall")
							allowScripts(t, s)
							switch {
							case i < a:
								s.Do(t, "set", "lock:r", "A", "px", 60000)
							case i < a+b:
								s.Do(t, "set", "lock:r", "B", "px", 60000)
							case i < a+b+sick:
								denyAllScripts(t, s)
							}
						}
						possible := max(a, b)+sick >= quorum
						locked, err := l.IsLocked(ctx, "r")
						status, err2 := l.Inspect(ctx, "r")
						require.Equal(t, err == nil, err2 == nil)
						require.Equal(t, locked, status.Locked)
						require.Equal(t, "r", status.Resource)
						if possible && n-sick < quorum {
							requireOnly(t, err, redlock.ErrNoQuorum)
							require.False(t, locked)
							var q *redlock.QuorumError
							require.ErrorAs(t, err, &q)
							require.Equal(t, "inspect", q.Op)
							require.Equal(t, quorum, q.Need)
							return
						}
						require.NoError(t, err)
						require.Equal(t, possible, locked)
						if !locked {
							require.Equal(t, redlock.Status{Resource: "r"}, status)
						}
					})
			})
		})
	}
}

func TestIsLockedWithDeadNodes(t *testing.T) {
	tests := []struct {
		nodes, killed int
		values        []string // on the living
		locked        bool
		fails         bool
	}{
		{3, 1, []string{"", ""}, false, false},
		{3, 1, []string{"A", ""}, true, false}, // the dead one may be A's
		{3, 1, []string{"A", "B"}, true, false},
		{3, 1, []string{"A", "A"}, true, false},
		{3, 2, []string{""}, false, true},
		{3, 2, []string{"A"}, false, true},
		{5, 2, []string{"", "", ""}, false, false},
		{5, 2, []string{"A", "", ""}, true, false},
		{5, 2, []string{"A", "B", ""}, true, false},
		{5, 1, []string{"A", "B", "", ""}, false, false},
		{5, 1, []string{"A", "A", "B", "B"}, true, false},
		{5, 3, []string{"", ""}, false, true},
		{5, 3, []string{"A", "A"}, false, true},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%d of %d dead, %q", test.killed, test.nodes, test.values),
			func(t *testing.T) {
				servers, clients := masters(t, test.nodes)
				l := open(t, clients, redlock.WithNodeTimeout(2*time.Second))
				for i, v := range test.values {
					if v != "" {
						servers[i].Do(t, "set", "lock:r", v, "px", 60000)
					}
				}
				for _, s := range servers[len(test.values):] {
					require.NoError(t, s.Kill())
				}
				locked, err := l.IsLocked(context.Background(), "r")
				if test.fails {
					require.ErrorIs(t, err, redlock.ErrNoQuorum)
					return
				}
				require.NoError(t, err)
				require.Equal(t, test.locked, locked)
			})
	}
}

func TestInspectShowsTheOwnersLabel(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	asking := open(t, clients, redlock.WithOwner("somebody who only asks"))
	labels := []string{
		"worker-1", "worker-10", "worker-1:", "host:4711", "", ":", "a b", "\x00\xff\r\n", "%s",
		"ключ", strings.Repeat("w", 256),
	}
	for _, label := range labels {
		t.Run(fmt.Sprintf("%.20q", label), func(t *testing.T) {
			l := open(t, clients, redlock.WithOwner(label))
			h, err := l.TryAcquire(ctx, "r")
			require.NoError(t, err)
			status, err := asking.Inspect(ctx, "r")
			require.NoError(t, err)
			require.True(t, status.Locked)
			require.Equal(t, label, status.Owner)
			require.NoError(t, h.Release(ctx))
			noKeys(t, servers)
			status, err = asking.Inspect(ctx, "r")
			require.NoError(t, err)
			require.Equal(t, redlock.Status{Resource: "r"}, status)
		})
	}
}

func TestLockersWhoseLabelsAreAlikeAreDifferentOwners(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	for _, labels := range [][2]string{
		{"worker-1", "worker-10"}, {"worker-10", "worker-1"}, {"worker-1", "worker-1"}, {"", ""},
	} {
		t.Run(fmt.Sprintf("%q", labels), func(t *testing.T) {
			first, second := open(t, clients, redlock.WithOwner(labels[0])),
				open(t, clients, redlock.WithOwner(labels[1]))
			h, err := first.TryAcquire(ctx, "r")
			require.NoError(t, err)
			_, err = second.TryAcquire(ctx, "r")
			require.ErrorIs(t, err, redlock.ErrHeld)
			_, err = second.Adopt(ctx, []string{"r"}, h.Token()+"0")
			require.ErrorIs(t, err, redlock.ErrLost)
			require.NoError(t, h.Release(ctx))

			// A handle whose key another has taken leaves that one alone.
			stale, err := first.TryAcquire(ctx, "r")
			require.NoError(t, err)
			for _, s := range servers {
				s.Do(t, "flushall")
			}
			current, err := second.TryAcquire(ctx, "r")
			require.NoError(t, err)
			require.ErrorIs(t, stale.Release(ctx), redlock.ErrLost)
			require.NoError(t, current.Extend(ctx, time.Minute))
			require.NoError(t, current.Release(ctx))
			noKeys(t, servers)
		})
	}
}

func TestInspectOfKeysThatAreNotOurs(t *testing.T) {
	servers, clients := masters(t, 3)
	l := open(t, clients)
	for _, value := range []string{
		"", "x", "unknown", "0123456789012345678901", "worker-1", "\x00", ":",
		"::::::::::::::::::::::::::",
		strings.Repeat("x", 1<<16), "aGVsbG8gd29ybGQhIQ==", "550e8400-e29b-41d4-a716-446655440000",
	} {
		t.Run(fmt.Sprintf("%.24q", value), func(t *testing.T) {
			for _, s := range servers {
				s.Do(t, "set", "lock:r", value, "px", 60000)
			}
			status, err := l.Inspect(context.Background(), "r")
			require.NoError(t, err)
			require.True(t, status.Locked)
			require.Equal(t, "unknown", status.Owner)
			require.Greater(t, status.TTL, 50*time.Second)
			require.LessOrEqual(t, status.TTL, time.Minute)
			_, err = l.TryAcquire(context.Background(), "r")
			require.ErrorIs(t, err, redlock.ErrHeld)
		})
	}
}

func TestInspectTellsWhatIsLeftAtMost(t *testing.T) {
	const never = -1
	const forAges = 9_223_370_000_000_000_000 // milliseconds: more than a Duration can hold
	tests := []struct {
		name   string
		millis []int64 // on each node; 0: free
		most   time.Duration
		least  time.Duration
	}{
		{"the same everywhere", []int64{60000, 60000, 60000}, time.Minute, 50 * time.Second},
		// Two of the first three answer first, and the one that did not could carry the longer one
		// on.
		{"without end", []int64{never, never, never}, -1, -1 << 62},
		{"without end where it counts", []int64{60000, never, never}, -1, -1 << 62},
		{"for ages", []int64{forAges, forAges, forAges}, 1<<63 - 1, 1 << 62},
	}
	servers, clients := masters(t, 3)
	l := open(t, clients)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for i, s := range servers {
				s.Do(t, "flushall")
				if test.millis[i] == never {
					s.Do(t, "set", "lock:r", "x")
				} else {
					s.Do(t, "set", "lock:r", "x", "px", test.millis[i])
				}
			}
			for range 5 {
				status, err := l.Inspect(context.Background(), "r")
				require.NoError(t, err)
				require.True(t, status.Locked)
				require.LessOrEqual(t, status.TTL, test.most)
				require.GreaterOrEqual(t, status.TTL, test.least)
			}
		})
	}
}

func TestInspectNeverUnderstatesHowLongAQuorumKeepsTheLock(t *testing.T) {
	servers, clients := masters(t, 5)
	l := open(t, clients)
	lives := []time.Duration{time.Minute, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute,
		5 * time.Minute}
	for shift := range servers {
		for i, s := range servers {
			s.Do(t, "set", "lock:r", "x", "px", lives[(i+shift)%len(lives)].Milliseconds())
		}
		status, err := l.Inspect(context.Background(), "r")
		require.NoError(t, err)
		require.Greater(t, status.TTL, 170*time.Second, "three nodes keep it for three minutes")
		require.LessOrEqual(t, status.TTL, 5*time.Minute)
	}
}

func TestInspectDoesNotUnderstateTheTimeOfAnyOwnerWhoMayHaveTheLock(t *testing.T) {
	// A and B have one node each, and a quorum together with the one that does not answer.
	tests := []struct {
		name      string
		a, b      []any // how long they have it
		atLeast   time.Duration
		unbounded bool
	}{
		{"the one asked first for shorter", []any{"px", 10000}, []any{"px", 60000},
			50 * time.Second, false},
		{"the one asked first for longer", []any{"px", 60000}, []any{"px", 10000}, 50 * time.Second,
			false},
		{"one of them for ever", []any{"px", 10000}, nil, 0, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			servers, clients := masters(t, 3)
			l := open(t, clients)
			servers[0].Do(t, append([]any{"set", "lock:r", "A"}, test.a...)...)
			servers[1].Do(t, append([]any{"set", "lock:r", "B"}, test.b...)...)
			denyAllScripts(t, servers[2])
			status, err := l.Inspect(context.Background(), "r")
			require.NoError(t, err)
			require.True(t, status.Locked)
			if test.unbounded {
				require.Negative(t, status.TTL)
			} else {
				require.Greater(t, status.TTL, test.atLeast)
			}
		})
	}
}

func TestInspectOfAHeldLockTellsItsTime(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 3)
	l := open(t, clients)
	for _, ttl := range []time.Duration{time.Minute, time.Hour, 24 * time.Hour} {
		h, err := l.TryAcquire(ctx, "r", redlock.WithTTL(ttl))
		require.NoError(t, err)
		status, err := l.Inspect(ctx, "r")
		require.NoError(t, err)
		require.LessOrEqual(t, status.TTL, ttl)
		require.Greater(t, status.TTL, time.Until(h.ValidUntil())-20*time.Second)
		require.Zero(t, status.Fence)
		require.NoError(t, h.Release(ctx))
	}
}

func TestLookingChangesNothingOnTheServers(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients)
	h := heldEverywhere(t, l, servers, "held")
	takeFor(t, time.Hour, "foreign", servers...)
	for _, s := range servers {
		s.Do(t, "set", "lock:persistent", "x")
		s.Do(t, "rpush", "lock:list", "x")
		s.Do(t, "config", "resetstat")
	}
	before := make([]any, len(servers))
	dirty := func(s *redistest.Server) string {
		for line := range strings.Lines(s.Do(t, "info", "persistence").(string)) {
			if strings.HasPrefix(line, "rdb_changes_since_last_save:") {
				return line
			}
		}
		t.Fatal("no count of changes in INFO")
		return ""
	}
	for i, s := range servers {
		before[i] = dirty(s)
	}
	for range 3 {
		for _, resource := range []string{"held", "foreign", "persistent", "free"} {
			_, err := l.IsLocked(ctx, resource)
			require.NoError(t, err)
			_, err = l.Inspect(ctx, resource)
			require.NoError(t, err)
		}
		require.NoError(t, l.WaitForUnlock(ctx, "free"))
		_, err := l.Inspect(ctx, "list")
		require.ErrorIs(t, err, redlock.ErrNoQuorum,
			"a node that cannot read the key has not said anything")
	}
	for i, s := range servers {
		require.Equal(t, before[i], dirty(s))
		require.Positive(t, scriptCalls(t, s), "nobody has looked")
		require.EqualValues(t, -1, s.Do(t, "pttl", "lock:persistent"))
	}
	require.NoError(t, h.Release(ctx))
}

func TestInspectFailsWithTheCauseOfItsContext(t *testing.T) {
	servers, clients := masters(t, 3)
	l := open(t, clients, redlock.WithNodeTimeout(20*time.Second))
	warmUp(t, clients)
	thaw := freeze(t, servers...)
	ctx, cancel := context.WithCancelCause(context.Background())
	waiting := observe(ctx)
	result := inBackground(func() error { _, err := l.Inspect(waiting, "r"); return err })
	outcome(t, waiting.waited, "the question on its way")
	enough := errors.New("enough")
	cancel(enough)
	err := outcome(t, result, "Inspect")
	require.ErrorIs(t, err, enough)
	require.ErrorIs(t, err, redlock.ErrNoQuorum)
	thaw()
}

func TestLookingAtAClosedLockerFails(t *testing.T) {
	_, clients := masters(t, 1)
	l := open(t, clients)
	require.NoError(t, l.Close())
	_, err := l.IsLocked(context.Background(), "r")
	require.ErrorIs(t, err, redlock.ErrClosed)
	_, err = l.Inspect(context.Background(), "r")
	require.ErrorIs(t, err, redlock.ErrClosed)
	require.ErrorIs(t, l.WaitForUnlock(context.Background(), "r"), redlock.ErrClosed)
}
