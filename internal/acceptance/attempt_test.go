package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// ownerOn returns what a server has under a resource's key, "" if it has none.
func ownerOn(t *testing.T, s *redistest.Server, resource string) string {
	t.Helper()
	owner, _ := s.Do(t, "get", lockKey(resource)).(string)
	return owner
}

// ownersOn is ownerOn for several servers.
func ownersOn(t *testing.T, servers []*redistest.Server, resource string) []string {
	t.Helper()
	owners := make([]string, len(servers))
	for i, s := range servers {
		owners[i] = ownerOn(t, s, resource)
	}
	return owners
}

// plant gives a resource to a stranger on some servers, for a minute, whoever has it now.
func plant(t *testing.T, resource string, servers ...*redistest.Server) {
	t.Helper()
	for _, s := range servers {
		s.Do(t, "set", lockKey(resource), stranger, "px", 60_000)
	}
}

// uproot deletes a resource's key on some servers, whoever has it.
func uproot(t *testing.T, resource string, servers ...*redistest.Server) {
	t.Helper()
	for _, s := range servers {
		s.Do(t, "del", lockKey(resource))
	}
}

// takenEverywhere waits until the nodes whose votes were not needed have the lock as well.
func takenEverywhere(t *testing.T, h *redlock.Handle, servers ...*redistest.Server) {
	t.Helper()
	for i, s := range servers {
		for _, r := range h.Resources() {
			eventually(t, func() bool { return ownerOn(t, s, r) == h.Token() }, "%s not taken on node %d", r, i)
		}
	}
}

// warmUp makes every node know its scripts and every client have a connection, so that what follows is one command each. It
// leaves nothing behind and nothing under way.
func warmUp(t *testing.T, clients []*redis.Client) {
	t.Helper()
	ctx := context.Background()
	l, err := redlock.New(clients)
	require.NoError(t, err)
	h, err := l.TryAcquire(ctx, "warm-up")
	require.NoError(t, err)
	require.NoError(t, h.Extend(ctx, time.Minute))
	require.NoError(t, h.Extend(ctx, 20*time.Second))
	_, err = l.IsLocked(ctx, "warm-up")
	require.NoError(t, err)
	require.NoError(t, h.Release(ctx))
	require.NoError(t, l.Close()) // waits for the nodes that the calls have not waited for
}

// freeze pauses servers until the test or the caller thaws them.
func freeze(t *testing.T, servers ...*redistest.Server) (thaw func()) {
	t.Helper()
	thaw = func() {
		for _, s := range servers {
			require.NoError(t, s.Resume())
		}
	}
	t.Cleanup(thaw) // before the Locker is closed
	for _, s := range servers {
		require.NoError(t, s.Pause())
	}
	return thaw
}

// eventually waits for a condition that a healthy machine meets within milliseconds.
func eventually(t *testing.T, condition func() bool, msg string, args ...any) {
	t.Helper()
	// In the test's own goroutine, unlike require.Eventually: the conditions may end the test.
	for deadline := time.Now().Add(15 * time.Second); !condition(); {
		if time.Now().After(deadline) {
			require.FailNow(t, "condition never met", fmt.Sprintf(msg, args...))
		}
		<-time.After(2 * time.Millisecond)
	}
}

// await waits for an event.
func await(t *testing.T, event <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(time.Minute):
		require.FailNow(t, "waited in vain for "+what)
	}
}

// noKeysBut checks that nothing but some resources' keys is left on any of the servers, as noKeys does.
func noKeysBut(t *testing.T, servers []*redistest.Server, resources ...string) {
	t.Helper()
	for i, s := range servers {
		eventually(t, func() bool {
			return !slices.ContainsFunc(s.Keys(t), func(key string) bool {
				return !slices.ContainsFunc(resources, func(r string) bool { return key == lockKey(r) })
			})
		}, "keys left on node %d", i)
	}
}

// never checks for a while that something does not happen.
func never(t *testing.T, while time.Duration, condition func() bool, msg string) {
	t.Helper()
	for end := time.Now().Add(while); time.Now().Before(end); {
		require.False(t, condition(), msg)
		<-time.After(10 * time.Millisecond)
	}
}

// failuresOf returns a channel that is closed when the client has given up n commands, each with all its repetitions.
func failuresOf(client *redis.Client, n int64) <-chan struct{} {
	hook := &failureHook{reached: make(chan struct{})}
	hook.missing.Store(n)
	client.AddHook(hook)
	return hook.reached
}

type failureHook struct {
	missing atomic.Int64
	reached chan struct{} // closed when none is missing
}

func (h *failureHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *failureHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return h.note(next(ctx, cmd)) }
}

func (h *failureHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return h.note(next(ctx, cmds)) }
}

func (h *failureHook) note(err error) error {
	if err != nil && h.missing.Add(-1) == 0 {
		close(h.reached)
	}
	return err
}

// Row 3: three of five nodes have another owner's key.
func TestForeignMajorityIsRefusedAndOurKeysAreGone(t *testing.T) {
	for _, resources := range [][]string{{"a"}, {"a", "b", "c"}} {
		t.Run(fmt.Sprintf("%d resources", len(resources)), func(t *testing.T) {
			ctx := context.Background()
			servers, proxies, clients := proxied(t, 5)
			l := open(t, clients)
			warmUp(t, clients)
			foreign, ours := servers[:3], servers[3:]
			plant(t, resources[len(resources)-1], foreign...)
			// The grants come before the refusals, and the clean-up takes long enough to be seen.
			for i, p := range proxies {
				p.Delay(20 * time.Millisecond)
				if i < 3 {
					p.Delay(60 * time.Millisecond)
				}
			}
			for _, s := range servers {
				s.ResetStats(t)
			}

			_, err := l.TryAcquireMulti(ctx, resources)
			for _, s := range ours {
				require.Empty(t, s.Keys(t), "keys are left when the attempt is over")
				require.Equal(t, len(resources), s.CommandCount(t, "set"), "granted nothing that could be left")
			}
			require.ErrorIs(t, err, redlock.ErrHeld)
			require.NotErrorIs(t, err, redlock.ErrNoQuorum)
			var short *redlock.QuorumError
			require.ErrorAs(t, err, &short)
			require.Equal(t, []int{0, 1, 2}, nodesNamed(short))
			require.Equal(t, 2, short.Got)
			for _, s := range foreign {
				require.Equal(t, []string{lockKey(resources[len(resources)-1])}, s.Keys(t), "no more than the stranger's")
				require.Equal(t, stranger, ownerOn(t, s, resources[len(resources)-1]))
			}

			// Acquire gets it as soon as the stranger has gone.
			uproot(t, resources[len(resources)-1], foreign...)
			h, err := l.AcquireMulti(ctx, resources)
			require.NoError(t, err)
			require.NoError(t, h.Release(ctx))
			noKeys(t, servers)
		})
	}
}

// Row 4: another owner has half of an even number of nodes, which is a quorum for nobody.
func TestEvenSplitIsHeldAtOnce(t *testing.T) {
	for _, n := range []int{2, 4} {
		t.Run(fmt.Sprintf("%d nodes", n), func(t *testing.T) {
			ctx := context.Background()
			servers, clients := masters(t, n)
			l := open(t, clients)
			warmUp(t, clients)
			plant(t, "a", servers[:n/2]...)

			start := time.Now()
			_, err := l.TryAcquire(ctx, "a")
			require.ErrorIs(t, err, redlock.ErrHeld)
			require.NotErrorIs(t, err, redlock.ErrNoQuorum)
			require.Less(t, time.Since(start), 500*time.Millisecond, "as if it waited for the node timeout of a second")
			noKeys(t, servers[n/2:])
			require.Equal(t, stranger, ownerOn(t, servers[0], "a"))
		})
	}
}

// Row 4: two competitors reach different halves of the nodes first, again and again, and both get the lock in turn.
func TestCompetitorsOnAnEvenNumberOfNodesBothGetTheirTurns(t *testing.T) {
	const turns = 4
	for _, n := range []int{2, 4} {
		t.Run(fmt.Sprintf("%d nodes", n), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			noLeak(t)
			servers := redistest.StartN(t, n)
			lockers := make([]*redlock.Locker, 2)
			var far []*redistest.Proxy // to the nodes that each competitor reaches later than the other one
			for c := range lockers {
				clients := make([]*redis.Client, n)
				for i, s := range servers {
					p := s.Proxy(t)
					if (i < n/2) == (c == 1) {
						far = append(far, p)
					}
					clients[i] = p.Client(t)
				}
				lockers[c] = open(t, clients, redlock.WithRetryInterval(40*time.Millisecond))
				warmUp(t, clients)
			}

			// Without a wait they split the nodes and both leave with nothing.
			for _, p := range far {
				p.Delay(200 * time.Millisecond)
			}
			failed := make(chan error, len(lockers))
			for _, l := range lockers {
				go func() {
					_, err := l.TryAcquire(ctx, "split")
					failed <- err
				}()
			}
			for range lockers {
				require.ErrorIs(t, <-failed, redlock.ErrHeld)
			}
			noKeys(t, servers)

			for _, p := range far {
				p.Delay(10 * time.Millisecond)
			}
			var holder sync.Mutex // locked by whoever holds the lock: never contended
			results := make(chan error, len(lockers))
			for _, l := range lockers {
				go func() {
					results <- func() error {
						for range turns {
							h, err := l.Acquire(ctx, "a")
							if err != nil {
								return err
							}
							if !holder.TryLock() {
								return errors.New("held twice")
							}
							holder.Unlock()
							if err := h.Release(ctx); err != nil {
								return err
							}
						}
						return nil
					}()
				}()
			}
			for range lockers {
				require.NoError(t, <-results)
			}
			noKeys(t, servers)
		})
	}
}

// Row 5: a quorum has granted the lock, but so late that nothing of its validity is left.
func TestGrantAfterTheEndOfTheValidityIsNoLock(t *testing.T) {
	ctx := context.Background()
	// Of a minute the drift takes all but 298 ms: the replies come later than that, and well within the node timeout.
	late := []redlock.Option{
		redlock.WithTTL(time.Minute), redlock.WithDriftFactor(0.995), redlock.WithNodeTimeout(10 * time.Second),
	}
	for _, resources := range [][]string{{"a"}, {"a", "b"}} {
		t.Run(fmt.Sprintf("%d resources", len(resources)), func(t *testing.T) {
			servers, proxies, clients := proxied(t, 5)
			l := open(t, clients, late...)
			warmUp(t, clients)
			for i, p := range proxies {
				servers[i].ResetStats(t)
				p.DelayReplies(500 * time.Millisecond)
			}

			_, err := l.TryAcquireMulti(ctx, resources)
			require.ErrorIs(t, err, redlock.ErrNoQuorum)
			require.NotErrorIs(t, err, redlock.ErrHeld)
			for i, s := range servers {
				require.Equal(t, len(resources), s.CommandCount(t, "set"), "node %d has not granted it", i)
			}
			noKeys(t, servers)

			for _, p := range proxies {
				p.Delay(0)
			}
			h, err := l.TryAcquireMulti(ctx, resources)
			require.NoError(t, err)
			require.NoError(t, h.Release(ctx))
		})
	}
}

// Row 6: a quorum of the nodes does what it is told, the replies get lost, and the client library says it all again.
func TestLostRepliesChangeNoAnswer(t *testing.T) {
	ctx := context.Background()
	for _, resources := range [][]string{{"a"}, {"a", "b", "c"}} {
		t.Run(fmt.Sprintf("%d resources", len(resources)), func(t *testing.T) {
			servers, proxies, clients := proxied(t, 3)
			l := open(t, clients)
			warmUp(t, clients)

			// lossy makes a call whose replies from two nodes of three get lost, each of them so many times.
			lossy := func(times int, call func() error) error {
				t.Helper()
				var lost []<-chan struct{}
				for i, p := range proxies[:2] {
					servers[i].ResetStats(t)
					lost = append(lost, p.DropReplies(times, "evalsha"))
				}
				err := call()
				for i := range lost {
					await(t, lost[i], "a reply to get lost")
					eventually(t, func() bool { return servers[i].CommandCount(t, "evalsha") >= 2*times }, "not repeated")
				}
				return err
			}

			var h *redlock.Handle
			require.NoError(t, lossy(1, func() (err error) { h, err = l.TryAcquireMulti(ctx, resources); return err }))
			takenEverywhere(t, h, servers...)
			require.ErrorIs(t, lossy(1, func() error { _, err := l.TryAcquireMulti(ctx, resources); return err }), redlock.ErrHeld)
			takenEverywhere(t, h, servers...)
			require.NoError(t, lossy(1, func() error { _, err := l.IsLocked(ctx, "a"); return err }))
			require.NoError(t, lossy(1, func() error { _, err := l.Adopt(ctx, resources, h.Token()); return err }))
			require.NoError(t, lossy(1, func() error { return h.Extend(ctx, time.Minute) }))
			require.Greater(t, time.Until(h.ValidUntil()), 50*time.Second)
			require.NoError(t, lossy(2, func() error { return h.Extend(ctx, 20*time.Second) })) // two rounds
			require.Less(t, time.Until(h.ValidUntil()), 21*time.Second)
			require.NoError(t, h.Extend(ctx, time.Minute), "the repeated shortening is known to be over")
			require.NoError(t, lossy(1, func() error { return h.Release(ctx) }))
			require.ErrorIs(t, h.Err(), redlock.ErrReleased)
			noKeys(t, servers)

			// A loss is a loss.
			h, err := l.TryAcquireMulti(ctx, resources)
			require.NoError(t, err)
			takenEverywhere(t, h, servers...)
			plant(t, "a", servers...)
			require.ErrorIs(t, lossy(1, func() error { return h.Extend(ctx, time.Minute) }), redlock.ErrLost)
			noKeysBut(t, servers, "a")
			uproot(t, "a", servers...)

			h, err = l.TryAcquireMulti(ctx, resources)
			require.NoError(t, err)
			takenEverywhere(t, h, servers...)
			plant(t, "a", servers...)
			require.ErrorIs(t, lossy(1, func() error { return h.Release(ctx) }), redlock.ErrLost)
			noKeysBut(t, servers, "a")
			require.Equal(t, []string{stranger, stranger, stranger}, ownersOn(t, servers, "a"))
		})
	}
}

// Row 7: an attempt is cancelled while its requests lie with nodes that hang, or on the way to them. They are run in the
// end, and what they have set is deleted then.
func TestCancelledAttemptLeavesNoOrphanOnNodesThatResume(t *testing.T) {
	gone := errors.New("not needed any more")
	for _, fault := range []struct {
		name string
		hang func(t *testing.T, servers []*redistest.Server, proxies []*redistest.Proxy) (resume func())
	}{
		{"nodes hang", func(t *testing.T, servers []*redistest.Server, _ []*redistest.Proxy) func() {
			return freeze(t, servers...)
		}},
		{"requests are held up", func(t *testing.T, _ []*redistest.Server, proxies []*redistest.Proxy) func() {
			return holdUp(t, proxies...)
		}},
		{"replies are held up", func(t *testing.T, _ []*redistest.Server, proxies []*redistest.Proxy) func() {
			for _, p := range proxies {
				p.HoldReplies(true)
			}
			return func() {
				for _, p := range proxies {
					p.HoldReplies(false)
				}
			}
		}},
	} {
		for _, resources := range [][]string{{"a"}, {"a", "b", "c"}} {
			t.Run(fmt.Sprintf("%s, %d resources", fault.name, len(resources)), func(t *testing.T) {
				servers, proxies, clients := proxied(t, 3)
				l := open(t, clients)
				warmUp(t, clients)
				for _, s := range servers {
					s.ResetStats(t)
				}

				ctx, cancel := context.WithTimeoutCause(context.Background(), 200*time.Millisecond, gone)
				defer cancel()
				resume := fault.hang(t, servers, proxies)
				_, err := l.TryAcquireMulti(ctx, resources)
				require.ErrorIs(t, err, gone)
				require.NotErrorIs(t, err, redlock.ErrHeld)
				resume()

				for i, s := range servers {
					eventually(t, func() bool { return s.CommandCount(t, "set") >= len(resources) }, "node %d ran nothing", i)
				}
				noKeys(t, servers)
				start := time.Now()
				require.NoError(t, l.Close())
				require.Less(t, time.Since(start), 900*time.Millisecond, "something was still under way")
				noKeys(t, servers)
			})
		}
	}
}

// holdUp keeps what clients send on its way until the test or the caller lets it arrive.
func holdUp(t *testing.T, proxies ...*redistest.Proxy) (arrive func()) {
	t.Helper()
	hold := func(on bool) {
		for _, p := range proxies {
			p.HoldRequests(on)
		}
	}
	t.Cleanup(func() { hold(false) })
	hold(true)
	return func() { hold(false) }
}

// Row 7: the same for so long that the client library has given the requests up. They come from connections that were closed
// long ago, and run all the same.
func TestCancelledAttemptLeavesNoOrphanWhenTheClientHasGivenUp(t *testing.T) {
	servers, proxies, clients := proxied(t, 4)
	l := open(t, clients)
	warmUp(t, clients)
	for _, s := range servers {
		s.ResetStats(t)
	}

	thaw, arrive := freeze(t, servers[:2]...), holdUp(t, proxies[2:]...)
	gaveUp := make([]<-chan struct{}, len(clients))
	for i, c := range clients {
		gaveUp[i] = failuresOf(c, 1)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_, err := l.TryAcquireMulti(ctx, []string{"a", "b"})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	for _, failed := range gaveUp {
		await(t, failed, "the client to give up")
	}
	thaw()
	arrive()

	for i, s := range servers {
		eventually(t, func() bool { return s.CommandCount(t, "set") >= 2 }, "node %d ran nothing", i)
	}
	noKeys(t, servers)
	require.NoError(t, l.Close())
	noKeys(t, servers)
}

// Row 8: a release is held up on its way to two of five nodes until another owner has the lock there too.
func TestDelayedReleaseLeavesTheNextOwnersKeysAlone(t *testing.T) {
	ctx := context.Background()
	servers, proxies, clients := proxied(t, 5)
	first := open(t, clients, redlock.WithTTL(2*time.Second))
	next := open(t, redistest.Clients(t, servers))
	warmUp(t, clients)
	slow := servers[3:]

	h1, err := first.TryAcquire(ctx, "a")
	require.NoError(t, err)
	takenEverywhere(t, h1, servers...)
	arrive := holdUp(t, proxies[3:]...)
	require.NoError(t, h1.Release(ctx))
	noKeys(t, servers) // where the release cannot be known of, they expire

	h2, err := next.TryAcquire(ctx, "a")
	require.NoError(t, err)
	takenEverywhere(t, h2, servers...)
	for _, s := range slow {
		s.ResetStats(t)
	}
	arrive()
	for _, s := range slow {
		eventually(t, func() bool { return s.CommandCount(t, "evalsha") > 0 }, "the release never arrived")
	}
	for _, s := range servers {
		require.Equal(t, h2.Token(), ownerOn(t, s, "a"))
	}
	require.NoError(t, h2.Extend(ctx, time.Minute))
	require.NoError(t, h2.Release(ctx))
	noKeys(t, servers)
}

// Rows 6 and 12: the client library repeats a shortening, and the shortening itself arrives when the lease has been extended
// since. It must not take away what is trusted by then.
func TestShorteningThatArrivesAfterItsRepetitionCutsNoLaterLease(t *testing.T) {
	ctx := context.Background()
	servers, proxies, clients := proxied(t, 3)
	l := open(t, clients)
	warmUp(t, clients)
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	takenEverywhere(t, h, servers...)
	for i, s := range servers {
		s.ResetStats(t)
		proxies[i].DelayReplies(100 * time.Millisecond) // time to delay what follows the first of the two rounds
	}
	shortened := make(chan error, 1)
	go func() { shortened <- h.Extend(ctx, 15*time.Second) }()
	for i, s := range servers {
		eventually(t, func() bool { return s.CommandCount(t, "evalsha") == 1 }, "no first round")
		proxies[i].DelayRequests(clients[i].Options().ReadTimeout + 1500*time.Millisecond)
	}
	require.ErrorIs(t, <-shortened, redlock.ErrNoQuorum)
	for _, p := range proxies {
		p.Delay(0)
	}

	for _, s := range servers {
		eventually(t, func() bool { return s.CommandCount(t, "evalsha") == 2 }, "not repeated")
	}
	extended := h.Extend(ctx, time.Minute) // may fail, but must not promise too much
	for _, s := range servers {
		eventually(t, func() bool { return s.CommandCount(t, "evalsha") == 4 }, "never arrived")
	}
	for i, s := range servers {
		left := time.Duration(s.Do(t, "pttl", lockKey("a")).(int64)) * time.Millisecond
		require.Greater(t, left, time.Until(h.ValidUntil()),
			"node %d lets the key go before the end of the lease; the extension's answer was: %v", i, extended)
	}
	require.NoError(t, h.Release(ctx))
	noKeys(t, servers)
}

// Row 8: the clean-up of a failed attempt is held up on its way to two of five nodes, until an attempt of another Locker has
// succeeded there. (One of the same Locker would wait behind the clean-up.)
func TestDelayedCleanUpLeavesTheNextAttemptsKeysAlone(t *testing.T) {
	ctx := context.Background()
	servers, proxies, clients := proxied(t, 5)
	l := open(t, clients, redlock.WithNodeTimeout(400*time.Millisecond))
	warmUp(t, clients)
	plant(t, "a", servers[:3]...)
	for i, s := range servers {
		s.ResetStats(t)
		if i < 3 {
			proxies[i].DelayReplies(200 * time.Millisecond) // time to hold up what follows the other nodes' grants
		}
	}
	refused := make(chan error, 1)
	go func() {
		_, err := l.TryAcquire(ctx, "a")
		refused <- err
	}()
	for i := 3; i < 5; i++ {
		eventually(t, func() bool { return servers[i].CommandCount(t, "set") > 0 }, "not granted")
		proxies[i].DelayRequests(2 * time.Second)
	}
	require.ErrorIs(t, <-refused, redlock.ErrHeld)
	for _, p := range proxies {
		p.Delay(0)
	}

	uproot(t, "a", servers...)
	h, err := open(t, clients).TryAcquire(ctx, "a")
	require.NoError(t, err)
	takenEverywhere(t, h, servers...)
	for _, s := range servers[3:] { // acquire, clean up, acquire
		eventually(t, func() bool { return s.CommandCount(t, "evalsha") >= 3 }, "the clean-up never arrived")
	}
	for i, owner := range ownersOn(t, servers, "a") {
		require.Equal(t, h.Token(), owner, "node %d", i)
	}
	require.NoError(t, h.Release(ctx))
	noKeys(t, servers)
}

// Row 12: a quorum of the nodes answers the renewals with errors or not at all. They are tried again until the lease ends.
func TestRenewalIsRetriedUntilTheLeaseEndsAndNoLonger(t *testing.T) {
	noLeak(t)
	for _, fault := range []struct {
		name   string
		strike func(t *testing.T, servers ...*redistest.Server)
	}{
		{"hung", func(t *testing.T, servers ...*redistest.Server) { freeze(t, servers...) }},
		{"down", func(t *testing.T, servers ...*redistest.Server) {
			for _, s := range servers {
				require.NoError(t, s.Kill())
			}
		}},
		{"refusing", func(t *testing.T, servers ...*redistest.Server) {
			for _, s := range servers {
				denyScripts(t, s)
			}
		}},
	} {
		runAlongside(t, fault.name, func(t *testing.T) {
			ctx := context.Background()
			servers, clients := masters(t, 5)
			l := open(t, clients, redlock.WithTTL(1500*time.Millisecond), redlock.WithAutoRenewal(true))
			warmUp(t, clients)
			looked, err := l.TryAcquire(ctx, "looked at")
			require.NoError(t, err)
			waited, err := l.TryAcquire(ctx, "waited for")
			require.NoError(t, err)
			done, work := waited.Done(), waited.Context(ctx)
			ended := make(chan time.Time, 1)
			go func() { <-done; ended <- time.Now() }()

			fault.strike(t, servers[:3]...)
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
				require.True(t, before.Before(until), "not lost %v after the end", before.Sub(until))
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
	for _, fault := range []struct {
		name         string
		strike, cure func(t *testing.T, s *redistest.Server)
	}{
		{
			name:   "hung",
			strike: func(t *testing.T, s *redistest.Server) { require.NoError(t, s.Pause()) },
			cure:   func(t *testing.T, s *redistest.Server) { require.NoError(t, s.Resume()) },
		},
		{
			name:   "down, and back with its data",
			strike: func(t *testing.T, s *redistest.Server) { require.NoError(t, s.Kill()) },
			cure:   func(t *testing.T, s *redistest.Server) { s.Restart(t) },
		},
		{
			name:   "refusing",
			strike: denyScripts,
			cure:   func(t *testing.T, s *redistest.Server) { s.Do(t, "acl", "setuser", "default", "+@all") },
		},
	} {
		runAlongside(t, fault.name, func(t *testing.T) {
			ctx := context.Background()
			servers, clients := masters(t, 5, redistest.WithAOF(redistest.FsyncAlways))
			l := open(t, clients, redlock.WithTTL(3*time.Second), redlock.WithAutoRenewal(true))
			warmUp(t, clients)
			h, err := l.TryAcquire(ctx, "a")
			require.NoError(t, err)
			takenEverywhere(t, h, servers...)

			for _, s := range servers[:3] {
				fault.strike(t, s)
			}
			servers[4].ResetStats(t)
			eventually(t, func() bool { return servers[4].CommandCount(t, "evalsha") >= 2 }, "not tried again")
			until := h.ValidUntil()
			for _, s := range servers[:3] {
				fault.cure(t, s)
			}
			eventually(t, func() bool { return h.ValidUntil().After(until) || h.Err() != nil }, "neither renewed nor lost")
			require.NoError(t, h.Err())
			require.NoError(t, h.Release(ctx))
			noKeys(t, servers)
		})
	}
}

// Row 12: an extension that fails changes nothing, and so do denials from so few nodes that the lock may still be there.
func TestFailedExtendLeavesTheLeaseAsItWas(t *testing.T) {
	ctx := context.Background()
	for _, fault := range []struct {
		name           string
		foreign, empty int // nodes, from the first on
		hung           int // nodes, behind those
	}{
		{"three hang", 0, 0, 3},
		{"all hang", 0, 0, 5},
		{"two foreign, one hangs", 2, 0, 1},
		{"one foreign, one empty, three hang", 1, 1, 3},
	} {
		for name, ttl := range map[string]time.Duration{"longer": time.Minute, "shorter": 10 * time.Second} {
			t.Run(fault.name+", "+name, func(t *testing.T) {
				servers, clients := masters(t, 5)
				l := open(t, clients, redlock.WithNodeTimeout(100*time.Millisecond))
				warmUp(t, clients)
				h, err := l.TryAcquire(ctx, "a")
				require.NoError(t, err)
				takenEverywhere(t, h, servers...)
				until := h.ValidUntil()
				denying := fault.foreign + fault.empty
				plant(t, "a", servers[:fault.foreign]...)
				uproot(t, "a", servers[fault.foreign:denying]...)
				thaw := freeze(t, servers[denying:denying+fault.hung]...)

				err = h.Extend(ctx, ttl)
				require.ErrorIs(t, err, redlock.ErrNoQuorum)
				require.NotErrorIs(t, err, redlock.ErrLost)
				require.NotErrorIs(t, err, redlock.ErrHeld)
				require.NoError(t, h.Err())
				require.Equal(t, until, h.ValidUntil())

				thaw()
				require.NoError(t, h.Extend(ctx, ttl))
				require.NotEqual(t, until, h.ValidUntil())
				require.NoError(t, h.Release(ctx))
				uproot(t, "a", servers[:fault.foreign]...)
				noKeys(t, servers)
			})
		}
	}
}

// Row 13: a quorum of the nodes says that the lock is somebody else's, or gone.
func TestLossThatAQuorumReportsIsALossAtOnce(t *testing.T) {
	noLeak(t)
	ctx := context.Background()
	waitForRenewal := func(_ *redlock.Handle) error { return redlock.ErrLost }
	for _, damage := range []struct {
		name           string
		foreign, empty int // nodes of five, from the first on
	}{
		{"foreign", 3, 0}, {"gone", 0, 3}, {"foreign and gone", 1, 2}, {"gone everywhere", 0, 5},
	} {
		for _, notice := range []struct {
			name string
			look func(h *redlock.Handle) error
		}{
			{"renewal", waitForRenewal},
			{"extension", func(h *redlock.Handle) error { return h.Extend(ctx, time.Minute) }},
			{"shortening", func(h *redlock.Handle) error { return h.Extend(ctx, time.Second) }},
		} {
			for _, resources := range [][]string{{"a"}, {"a", "b", "c"}} {
				runAlongside(t, fmt.Sprintf("%s, %s, %d resources", damage.name, notice.name, len(resources)), func(t *testing.T) {
					servers, clients := masters(t, 5)
					l := open(t, clients, redlock.WithTTL(20*time.Second))
					warmUp(t, clients)
					for _, s := range servers {
						s.ResetStats(t)
					}
					h, err := l.TryAcquireMulti(ctx, resources, redlock.WithAutoRenewal(notice.name == "renewal"))
					require.NoError(t, err)
					calls := 1
					if notice.name == "renewal" {
						// A third of the twenty seconds is not worth waiting for. Shortening takes two calls.
						require.NoError(t, h.Extend(ctx, 1500*time.Millisecond))
						calls = 3
					}
					for _, s := range servers { // an extension that comes after the damage would heal it
						eventually(t, func() bool { return s.CommandCount(t, "evalsha") == calls }, "not called")
					}
					takenEverywhere(t, h, servers...)
					work := h.Context(ctx)
					until := h.ValidUntil()
					damaged := damage.foreign + damage.empty
					plant(t, "a", servers[:damage.foreign]...)
					uproot(t, "a", servers[damage.foreign:damaged]...)
					for _, s := range servers {
						s.ResetStats(t)
					}

					err = notice.look(h)
					await(t, h.Done(), "the loss")
					now := time.Now()
					require.ErrorIs(t, err, redlock.ErrLost)
					require.NotErrorIs(t, err, redlock.ErrHeld)
					require.NotErrorIs(t, err, redlock.ErrNoQuorum)
					require.ErrorIs(t, h.Err(), redlock.ErrLost)
					await(t, work.Done(), "the end of the context")
					require.ErrorIs(t, context.Cause(work), redlock.ErrLost)
					require.True(t, now.Before(until), "it took the end of the lease to notice")
					require.ErrorIs(t, h.Extend(ctx, time.Minute), redlock.ErrLost)

					noKeysBut(t, servers, "a")
					noKeys(t, servers[damage.foreign:])
					require.NoError(t, l.Close()) // nothing is under way any more
					noKeys(t, servers[damage.foreign:])
					for i, s := range servers {
						require.Zero(t, s.CommandCount(t, "set"), "made anew on node %d", i)
						if i < damage.foreign {
							require.Equal(t, stranger, ownerOn(t, s, "a"))
							require.Greater(t, s.Do(t, "pttl", lockKey("a")), int64(30_000), "a stranger's key was cut")
						}
					}
				})
			}
		}
	}
}

const (
	crowdSize = 50
	crowdTTL  = 600 * time.Millisecond

	// What a process of the crowd is told by its environment.
	crowdNodes  = "REDLOCK_TEST_CROWD_NODES"
	crowdMarker = "REDLOCK_TEST_CROWD_MARKER"
)

// A process of the crowd is this test binary with another task.
func init() {
	if nodes := os.Getenv(crowdNodes); nodes != "" {
		compete(strings.Split(nodes, ","), os.Getenv(crowdMarker))
		os.Exit(0)
	}
}

// compete takes and leaves one lock until standard input ends, as it does when the test is over or has died. Whoever has the
// lock puts a marker up on a server apart from the nodes, which must have none by then. The marker's time is the lock's: that
// of a process killed in the act goes when the lock may go.
func compete(nodes []string, markerServer string) {
	ctx, stop := context.WithCancel(context.Background())
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); stop() }()

	clients := make([]*redis.Client, len(nodes))
	for i, addr := range nodes {
		clients[i] = redis.NewClient(&redis.Options{Addr: addr})
	}
	marker := redis.NewClient(&redis.Options{Addr: markerServer})
	complain := func(format string, args ...any) {
		marker.RPush(context.Background(), "complaints", fmt.Sprintf(format, args...))
	}
	// The drift leaves a tenth of the TTL between the end of a lock and its next beginning.
	l, err := redlock.New(clients, redlock.WithTTL(crowdTTL), redlock.WithDriftFactor(0.1),
		redlock.WithNodeTimeout(crowdTTL/2), redlock.WithRetryInterval(50*time.Millisecond))
	if err != nil {
		complain("%v", err)
		return
	}
	marker.Incr(ctx, "started")
	for ctx.Err() == nil {
		h, err := l.Acquire(ctx, "the one")
		if err != nil {
			if ctx.Err() == nil {
				complain("acquire: %v", err)
			}
			continue
		}
		hold(marker, h, complain)
		// A process that was not let run for a while may come too late, or hear too late.
		err = h.Release(ctx)
		if err != nil && !errors.Is(err, redlock.ErrLost) && !errors.Is(err, redlock.ErrNoQuorum) {
			complain("release: %v", err)
		}
	}
	if err := l.Close(); err != nil {
		complain("close: %v", err)
	}
}

var (
	// putUp sets the marker if there is none, until the given time in milliseconds, and counts.
	putUp = redis.NewScript(`
		if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PXAT', ARGV[2]) then
			redis.call('INCR', KEYS[2])
			return ARGV[1]
		end
		return redis.call('GET', KEYS[1])`)
	takeDown = redis.NewScript(`
		if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
		return 0`)
)

// hold does what a holder does. What it finds counts only if its lock is still held after it has looked.
func hold(marker *redis.Client, h *redlock.Handle, complain func(string, ...any)) {
	ctx := context.Background()
	me := fmt.Sprintf("%d %s", os.Getpid(), h.Token())
	until := time.Now().Add(time.Until(h.ValidUntil())).UnixMilli() + 1
	found, err := putUp.Run(ctx, marker, []string{"marker", "grants"}, me, until).Text()
	for range 20 {
		if h.Err() != nil {
			return
		}
		if found != me {
			complain("%s holds the lock, and the marker is %q (%v)", me, found, err)
			return
		}
		found, err = marker.Get(ctx, "marker").Result()
	}
	takeDown.Run(ctx, marker, []string{"marker"}, me)
}

// crowd is the processes that are alive, by their ids.
type crowd struct {
	t       *testing.T
	environ []string
	members map[int]*member
}

type member struct {
	cmd   *exec.Cmd
	stdin io.Closer // closed: come to an end
}

func (c *crowd) join() {
	c.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = c.environ
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(c.t, err)
	require.NoError(c.t, cmd.Start())
	c.members[cmd.Process.Pid] = &member{cmd, stdin}
}

// kill ends a member in the midst of whatever it does, and returns when it is dead. Another one takes its place.
func (c *crowd) kill(pid int) {
	c.t.Helper()
	m := c.members[pid]
	require.NotNil(c.t, m, "%d is none of ours", pid)
	delete(c.members, pid)
	require.NoError(c.t, m.cmd.Process.Kill())
	require.Error(c.t, m.cmd.Wait(), "ended by itself")
	_ = m.stdin.Close()
	c.join()
}

// disperse ends all members in peace.
func (c *crowd) disperse() {
	c.t.Helper()
	for _, m := range c.members {
		_ = m.stdin.Close()
	}
	for pid, m := range c.members {
		require.NoError(c.t, m.cmd.Wait(), "process %d", pid)
	}
	clear(c.members)
}

// Row 20: a crowd of processes competes for one lock on an even number of nodes, and they are killed at random.
func TestCrowdUnderRandomKillsHasOneHolderAtATime(t *testing.T) {
	noLeak(t)
	servers, marker := redistest.StartN(t, 4), redistest.Start(t)
	nodes := make([]string, len(servers))
	for i, s := range servers {
		nodes[i] = s.Addr()
	}
	c := &crowd{t: t, members: make(map[int]*member), environ: append(os.Environ(),
		crowdNodes+"="+strings.Join(nodes, ","), crowdMarker+"="+marker.Addr(), "GOMAXPROCS=1")}
	t.Cleanup(func() { // if the test has failed
		for _, m := range c.members {
			_, _ = m.cmd.Process.Kill(), m.cmd.Wait()
		}
	})
	number := func(key string) int {
		s, _ := marker.Do(t, "get", key).(string)
		n, _ := strconv.Atoi(s)
		return n
	}
	for range crowdSize {
		c.join()
	}
	eventually(t, func() bool { return number("started") == crowdSize }, "not all there")

	died, waited := 0, []time.Duration{}
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end); {
		calm := number("grants") + 10
		eventually(t, func() bool { return number("grants") >= calm }, "nobody gets the lock")
		pids := slices.Collect(maps.Keys(c.members))
		c.kill(pids[rand.N(len(pids))])

		// And the holder, if it is quick enough.
		held, _ := marker.Do(t, "get", "marker").(string)
		if held == "" {
			continue
		}
		pid, err := strconv.Atoi(strings.Fields(held)[0])
		require.NoError(t, err)
		if c.members[pid] == nil {
			continue // it died a moment ago, with the lock
		}
		c.kill(pid)
		start, grants := time.Now(), number("grants")
		if now, _ := marker.Do(t, "get", "marker").(string); now != held {
			continue // it had let go before
		}
		died++
		eventually(t, func() bool { return number("grants") > grants }, "the lock did not move on")
		waited = append(waited, time.Since(start))
	}
	c.disperse()

	t.Logf("%d grants, %d processes, %d died with the lock, which then moved on after %v",
		number("grants"), number("started"), died, waited)
	require.Empty(t, marker.Do(t, "lrange", "complaints", 0, -1))
	require.GreaterOrEqual(t, died, 3)
	require.GreaterOrEqual(t, number("grants"), 50)
	require.Less(t, slices.Max(waited), crowdTTL+2*time.Second)
	noKeys(t, servers)
}
