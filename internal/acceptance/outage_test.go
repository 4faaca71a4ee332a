package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// Row 1 of the failure table: a minority of the nodes is down, hung or slow.
func TestMinorityThatIsDownHungOrSlowDelaysNoCall(t *testing.T) {
	type setting struct {
		servers []*redistest.Server
		proxies []*redistest.Proxy // nil: the clients connect directly
	}
	for _, fault := range []struct {
		name    string
		proxied bool
		strike  func(s setting, i int) error
		cure    func(s setting, i int) error
	}{
		{
			name:   "down",
			strike: func(s setting, i int) error { return s.servers[i].Kill() },
			cure:   func(s setting, i int) error { return s.servers[i].Relaunch() },
		},
		{
			name:   "hung",
			strike: func(s setting, i int) error { return s.servers[i].Pause() },
			cure:   func(s setting, i int) error { return s.servers[i].Resume() },
		},
		{
			name: "slow", proxied: true,
			strike: func(s setting, i int) error {
				s.proxies[i].Delay(150 * time.Millisecond)
				return nil
			},
			cure: func(s setting, i int) error { s.proxies[i].Delay(0); return nil },
		},
	} {
		for _, n := range []int{3, 5} {
			t.Run(fmt.Sprintf("%d of %d %s", (n-1)/2, n, fault.name), func(t *testing.T) {
				var s setting
				var clients []*redis.Client
				if fault.proxied {
					s.servers, s.proxies, clients = proxied(t, n)
				} else {
					s.servers, clients = masters(t, n)
				}
				warmUp(t, clients)
				measure := func() (stopwatch, func()) {
					mine, theirs, w := open(t, clients), open(t, clients), stopwatch{}
					for range 9 {
						callEverything(t, mine, theirs, w)
					}
					return w,
						func() { require.NoError(t, errors.Join(mine.Close(), theirs.Close())) }
				}
				healthy, settle := measure()
				settle() // what nodes were not waited for is over on all of them
				struck := make([]int, 0, 2)
				for i := range (n - 1) / 2 {
					struck = append(struck, 2*i+1)
					require.NoError(t, fault.strike(s, 2*i+1))
				}
				faulty, _ := measure()
				for call := range healthy {
					require.Less(t, faulty.median(call), healthy.median(call)+50*time.Millisecond,
						"%s: %v without the fault, %v with it", call, healthy[call], faulty[call])
				}

				for _, i := range struck {
					require.NoError(t, fault.cure(s, i))
				}
				noKeys(t, s.servers)
			})
		}
	}
}

// callEverything makes each call of the API, with the outcome that it has when the nodes are
// healthy.
func callEverything(t *testing.T, mine, theirs *redlock.Locker, w stopwatch) {
	t.Helper()
	ctx := context.Background()
	var h *redlock.Handle
	acquired := func(got *redlock.Handle, err error) error { h = got; return err }
	release := func() error { return h.Release(ctx) }
	several := []string{"b", "c"}

	w.time(t, "TryAcquire", func() error { return acquired(mine.TryAcquire(ctx, "a")) })
	w.time(t, "TryAcquire of a held lock", func() error {
		_, err := theirs.TryAcquire(ctx, "a")
		require.ErrorIs(t, err, redlock.ErrHeld)
		return nil
	})
	w.time(t, "IsLocked of a held lock", func() error {
		locked, err := theirs.IsLocked(ctx, "a")
		require.True(t, locked)
		return err
	})
	w.time(t, "Inspect of a held lock", func() error {
		status, err := theirs.Inspect(ctx, "a")
		require.True(t, status.Locked)
		return err
	})
	w.time(t, "Extend to longer", func() error { return h.Extend(ctx, time.Minute) })
	w.time(t, "Extend to shorter", func() error { return h.Extend(ctx, 20*time.Second) })
	former := h
	w.time(t, "Adopt",
		func() error { return acquired(theirs.Adopt(ctx, []string{"a"}, h.Token())) })
	w.time(t, "Release", release)
	w.time(t, "Release again", release)
	w.time(t, "Release by the former owner", func() error { return former.Release(ctx) })

	w.time(t, "IsLocked of a free lock", func() error {
		locked, err := mine.IsLocked(ctx, "a")
		require.False(t, locked)
		return err
	})
	w.time(t, "Inspect of a free lock", func() error {
		status, err := mine.Inspect(ctx, "a")
		require.False(t, status.Locked)
		return err
	})
	w.time(t, "WaitForUnlock of a free lock", func() error { return mine.WaitForUnlock(ctx, "a") })
	w.time(t, "Acquire", func() error { return acquired(mine.Acquire(ctx, "a")) })
	w.time(t, "Release", release)

	w.time(t, "TryAcquireMulti",
		func() error { return acquired(mine.TryAcquireMulti(ctx, several)) })
	w.time(t, "TryAcquireMulti of held locks", func() error {
		_, err := theirs.TryAcquireMulti(ctx, several)
		require.ErrorIs(t, err, redlock.ErrHeld)
		return nil
	})
	w.time(t, "Extend of several", func() error { return h.Extend(ctx, time.Minute) })
	w.time(t, "Release of several", release)
	w.time(t, "AcquireMulti", func() error { return acquired(mine.AcquireMulti(ctx, several)) })
	w.time(t, "Release of several", release)

	w.time(t, "Do", func() error {
		return mine.Do(ctx, "d", func(ctx context.Context) error { return ctx.Err() })
	})
}

// stopwatch is how long calls took, by their names.
type stopwatch map[string][]time.Duration

// time runs a call, which must succeed.
func (w stopwatch) time(t *testing.T, name string, call func() error) {
	t.Helper()
	start := time.Now()
	require.NoError(t, call(), name)
	w[name] = append(w[name], time.Since(start))
}

// median is what a call takes on a machine that is now and then busy with other things.
func (w stopwatch) median(name string) time.Duration {
	sorted := slices.Sorted(slices.Values(w[name]))
	return sorted[len(sorted)/2]
}

// Rows 1, 2 and 19: a node that fails at once has voted, and nobody waits until its clean-up has
// worked.
func TestNodesThatFailAtOnceAreNotWaitedFor(t *testing.T) {
	ctx := context.Background()
	const nodeTimeout = 4 * time.Second
	for _, fault := range []fault{refusing, down} {
		t.Run(fault.name+", a minority, beside a holder", func(t *testing.T) {
			servers, proxies, clients := proxied(t, 3)
			l := open(t, clients, redlock.WithNodeTimeout(nodeTimeout))
			warmUp(t, clients)
			takeFor(t, time.Minute, "a", servers[1:]...)
			fault.strike(t, servers[0])
			for _, p := range proxies[1:] {
				p.Delay(250 * time.Millisecond) // so that the error is there first
			}

			start := time.Now()
			_, err := l.TryAcquire(ctx, "a")
			require.ErrorIs(t, err, redlock.ErrHeld)
			require.Less(t, time.Since(start), nodeTimeout)
		})

		t.Run(fault.name+", a quorum", func(t *testing.T) {
			servers, proxies, clients := proxied(t, 3)
			l := open(t, clients, redlock.WithNodeTimeout(nodeTimeout))
			warmUp(t, clients)
			for i := range 2 {
				fault.strike(t, servers[i])
				// so that the third node's grant is there first
				proxies[i].Delay(20 * time.Millisecond)
			}

			start := time.Now()
			_, err := l.TryAcquire(ctx, "a")
			require.ErrorIs(t, err, redlock.ErrNoQuorum)
			require.Less(t, time.Since(start), nodeTimeout)
			noKeys(t, servers[2:])
		})
	}
}

// Row 2: three of five nodes are silent.
func TestSilentQuorumIsAnOutageAndNotContention(t *testing.T) {
	noLeak(t)
	const nodeTimeout = 150 * time.Millisecond
	silent := []int{1, 3, 4}
	several := []string{"b", "c"}

	for _, fault := range []fault{down, hung} {
		runAlongside(t, fault.name, func(t *testing.T) {
			ctx := context.Background()
			servers, clients := masters(t, 5)
			l := open(t, clients, redlock.WithNodeTimeout(nodeTimeout))
			warmUp(t, clients)
			h := heldEverywhere(t, l, servers, "held")
			for _, i := range silent {
				fault.strike(t, servers[i])
			}
			reachable := []*redistest.Server{servers[0], servers[2]}

			for _, call := range []struct {
				op  string
				run func() error
			}{
				{"acquire", func() error { _, err := l.TryAcquire(ctx, "a"); return err }},
				{"acquire", func() error { _, err := l.TryAcquireMulti(ctx, several); return err }},
				{"acquire", func() error {
					return l.Do(expiring(t), "a", func(context.Context) error { return nil })
				}},
				{"acquire", func() error { _, err := l.Acquire(expiring(t), "a"); return err }},
				{"acquire", func() error {
					_, err := l.AcquireMulti(expiring(t), several)
					return err
				}},
				{"inspect", func() error { _, err := l.IsLocked(ctx, "held"); return err }},
				{"inspect", func() error { _, err := l.Inspect(ctx, "held"); return err }},
				{"inspect", func() error { return l.WaitForUnlock(expiring(t), "held") }},
				{"adopt", func() error {
					_, err := l.Adopt(ctx, []string{"held"}, h.Token())
					return err
				}},
				{"extend", func() error { return h.Extend(ctx, time.Minute) }},
				{"extend", func() error { return h.Extend(ctx, time.Second) }},
				{"release", func() error { return h.Release(ctx) }},
			} {
				start := time.Now()
				err := call.run()
				took := time.Since(start)
				requireOnly(t, err, redlock.ErrNoQuorum, call.op)
				require.Less(t, took, 1500*time.Millisecond,
					"%s waits for the client's own timeout", call.op)

				var short *redlock.QuorumError
				require.ErrorAs(t, err, &short)
				require.Equal(t, call.op, short.Op)
				require.Equal(t, 3, short.Need)
				require.Equal(t, 2, short.Got)
				require.Equal(t, silent, nodesNamed(short), err)
				if call.op != "release" {
					noKeysBut(t, reachable, "held")
				}
			}
			noKeys(t, reachable)

			// And once they are back, what was on its way to them is undone as well.
			for _, i := range silent {
				fault.cure(t, servers[i])
			}
			noKeys(t, servers)
		})
	}
}

func TestSickMinorityDoesNotSlowRefusedAttemptsDown(t *testing.T) {
	for _, fault := range []fault{refusing, down} {
		t.Run(fault.name, func(t *testing.T) {
			servers, clients := masters(t, 3)
			l := open(t, clients)
			warmUp(t, clients)
			median := func(foreign ...*redistest.Server) time.Duration {
				takeFor(t, time.Minute, "r", foreign...)
				w := stopwatch{}
				for range 9 {
					w.time(t, "TryAcquire", func() error {
						_, err := l.TryAcquire(context.Background(), "r")
						require.ErrorIs(t, err, redlock.ErrHeld)
						return nil
					})
				}
				return w.median("TryAcquire")
			}
			healthy := median(servers[:2]...) // and the third one grants, and is cleaned up
			fault.strike(t, servers[2])
			require.Less(t, median(), 10*healthy+200*time.Millisecond, "the node timeout is 1 s")
		})
	}
}

func TestErroringAndHangingNodesCostOneNodeTimeoutTogether(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	const timeout = time.Second
	l := open(t, clients, redlock.WithNodeTimeout(timeout))
	warmUp(t, clients)
	noKeys(t, servers)
	denyAllScripts(t, servers[2])
	require.NoError(t, servers[1].Pause())

	start := time.Now()
	_, err := l.TryAcquire(ctx, "r")
	took := time.Since(start)
	require.NoError(t, servers[1].Resume())
	require.ErrorIs(t, err, redlock.ErrNoQuorum)
	require.Less(t, took, timeout*9/5)
	noKeys(t, servers)
}
