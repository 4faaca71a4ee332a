package acceptance_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// Row 5: a quorum has granted the lock, but so late that nothing of its validity is left.
func TestGrantAfterTheEndOfTheValidityIsNoLock(t *testing.T) {
	ctx := context.Background()
	// Of a minute the drift takes all but 298 ms: the replies come later than that, and well within
	// the node timeout. Of a day it leaves enough.
	late := []redlock.Option{
		redlock.WithTTL(time.Minute), redlock.WithDriftFactor(0.995), patient,
	}
	for number, resources := range oneAndSeveral {
		t.Run(number, func(t *testing.T) {
			servers, proxies, clients := proxied(t, 5)
			l := open(t, clients, late...)
			warmUp(t, clients)
			resetStats(t, servers...)
			for _, p := range proxies {
				p.HoldReplies(true)
			}

			began := time.Now()
			attempt := inBackground(func() error {
				return onlyError(l.TryAcquireMulti(ctx, resources))
			})
			for i, s := range servers {
				eventually(t, func() bool { return s.CommandCount(t, "set") > 0 },
					"node %d has not granted it", i)
			}
			<-time.After(time.Until(began.Add(500 * time.Millisecond)))
			for _, p := range proxies {
				p.HoldReplies(false)
			}
			requireOnly(t, outcome(t, attempt, "the attempt"), redlock.ErrNoQuorum)
			for i, s := range servers {
				require.Equal(t, len(resources), s.CommandCount(t, "set"), "on node %d", i)
			}
			noKeys(t, servers)

			h, err := l.TryAcquireMulti(ctx, resources, redlock.WithTTL(24*time.Hour))
			require.NoError(t, err)
			require.NoError(t, h.Release(ctx))
		})
	}
}

// Row 6: a quorum of the nodes does what it is told, the replies get lost, and the client library
// says it all again.
func TestLostRepliesChangeNoAnswer(t *testing.T) {
	ctx := context.Background()
	for number, resources := range oneAndSeveral {
		t.Run(number, func(t *testing.T) {
			servers, proxies, clients := proxied(t, 3)
			l := open(t, clients, patient) // a repetition needs a new connection
			warmUp(t, clients)

			// lossy makes a call whose replies from two nodes of three get lost, each of them so
			// many times.
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
					eventually(t, func() bool {
						return servers[i].CommandCount(t, "evalsha") >= 2*times
					}, "not repeated")
				}
				return err
			}

			var h *redlock.Handle
			require.NoError(t, lossy(1, func() (err error) {
				h, err = l.TryAcquireMulti(ctx, resources)
				return err
			}))
			takenEverywhere(t, h, servers...)
			require.ErrorIs(t, lossy(1, func() error {
				_, err := l.TryAcquireMulti(ctx, resources)
				return err
			}), redlock.ErrHeld)
			takenEverywhere(t, h, servers...)
			require.NoError(t,
				lossy(1, func() error { _, err := l.IsLocked(ctx, "a"); return err }))
			require.NoError(t,
				lossy(1, func() error { _, err := l.Adopt(ctx, resources, h.Token()); return err }))
			require.NoError(t, lossy(1, func() error { return h.Extend(ctx, time.Minute) }))
			require.Greater(t, time.Until(h.ValidUntil()), 50*time.Second)
			// two rounds
			require.NoError(t, lossy(2, func() error { return h.Extend(ctx, 20*time.Second) }))
			require.Less(t, time.Until(h.ValidUntil()), 21*time.Second)
			require.NoError(t, h.Extend(ctx, time.Minute),
				"the repeated shortening is known to be over")
			require.NoError(t, lossy(1, func() error { return h.Release(ctx) }))
			require.ErrorIs(t, h.Err(), redlock.ErrReleased)
			noKeys(t, servers)

			// A loss is a loss.
			h = heldEverywhere(t, l, servers, resources...)
			takeFor(t, time.Minute, "a", servers...)
			require.ErrorIs(t, lossy(1, func() error { return h.Extend(ctx, time.Minute) }),
				redlock.ErrLost)
			noKeysBut(t, servers, "a")
			uproot(t, "a", servers...)

			h = heldEverywhere(t, l, servers, resources...)
			takeFor(t, time.Minute, "a", servers...)
			require.ErrorIs(t, lossy(1, func() error { return h.Release(ctx) }), redlock.ErrLost)
			noKeysBut(t, servers, "a")
			require.Equal(t, []string{stranger, stranger, stranger}, ownersOn(t, servers, "a"))
		})
	}
}

// Row 7: an attempt is cancelled while its requests lie with nodes that hang, or on the way to
// them. They are run in the end, and what they have set is deleted then.
func TestCancelledAttemptLeavesNoOrphanOnNodesThatResume(t *testing.T) {
	gone := errors.New("not needed any more")
	for _, fault := range []struct {
		name string
		hang func(t *testing.T, servers []*redistest.Server,
			proxies []*redistest.Proxy) (resume func())
	}{
		{"nodes hang", func(t *testing.T, servers []*redistest.Server,
			_ []*redistest.Proxy) func() {
			return freeze(t, servers...)
		}},
		{"requests are held up", func(t *testing.T, _ []*redistest.Server,
			proxies []*redistest.Proxy) func() {
			return holdUp(t, proxies...)
		}},
		{"replies are held up", func(t *testing.T, _ []*redistest.Server,
			proxies []*redistest.Proxy) func() {
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
		for number, resources := range oneAndSeveral {
			t.Run(fault.name+", "+number, func(t *testing.T) {
				servers, proxies, clients := proxied(t, 3)
				l := open(t, clients, patient)
				warmUp(t, clients)
				resetStats(t, servers...)

				ctx, cancel := context.WithCancelCause(context.Background())
				defer cancel(nil)
				resume := fault.hang(t, servers, proxies)
				sent := sentBy(clients)
				attempt := inBackground(func() error {
					return onlyError(l.TryAcquireMulti(ctx, resources))
				})
				sent(t)
				cancel(gone)
				err := outcome(t, attempt, "the attempt")
				require.ErrorIs(t, err, gone)
				require.NotErrorIs(t, err, redlock.ErrHeld)
				resume()

				for i, s := range servers {
					eventually(t, func() bool { return s.CommandCount(t, "set") >= len(resources) },
						"node %d ran nothing", i)
				}
				noKeys(t, servers)
				start := time.Now()
				require.NoError(t, l.Close())
				require.Less(t, time.Since(start), 900*time.Millisecond,
					"something was still under way")
				noKeys(t, servers)
			})
		}
	}
}

// sentBy returns a function that waits until each client has begun to send a script, and gives it
// the time to get to where it is held up. The client is not to be kept from sending it any more.
func sentBy(clients []*redis.Client) (sent func(t *testing.T)) {
	begun := make([]<-chan struct{}, len(clients))
	for i, c := range clients {
		once, ch := sync.Once{}, make(chan struct{})
		tapOf(c).onSend(func(string) error { once.Do(func() { close(ch) }); return nil })
		begun[i] = ch
	}
	return func(t *testing.T) {
		t.Helper()
		for _, ch := range begun {
			await(t, ch, "a request to be sent")
		}
		<-time.After(100 * time.Millisecond)
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

// Row 7: the same for so long that the client library has given the requests up. They come from
// connections that were closed long ago, and run all the same.
func TestCancelledAttemptLeavesNoOrphanWhenTheClientHasGivenUp(t *testing.T) {
	servers, proxies, clients := proxied(t, 4)
	l := open(t, clients, patient)
	warmUp(t, clients)
	resetStats(t, servers...)

	thaw, arrive := freeze(t, servers[:2]...), holdUp(t, proxies[2:]...)
	gaveUp := make([]<-chan struct{}, len(clients))
	for i, c := range clients {
		gaveUp[i] = failuresOf(c, 1)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	sent := sentBy(clients)
	attempt := inBackground(func() error {
		return onlyError(l.TryAcquireMulti(ctx, []string{"a", "b"}))
	})
	sent(t)
	cancel()
	require.ErrorIs(t, outcome(t, attempt, "the attempt"), context.Canceled)
	for _, failed := range gaveUp {
		await(t, failed, "the client to give up")
	}
	thaw()
	arrive()

	for i, s := range servers {
		eventually(t, func() bool { return s.CommandCount(t, "set") >= 2 }, "node %d ran nothing",
			i)
	}
	noKeys(t, servers)
	require.NoError(t, l.Close())
	noKeys(t, servers)
}

// Row 8: the clean-up of a failed attempt is held up on its way to two of five nodes, until an
// attempt of another Locker has succeeded there. (One of the same Locker would wait behind the
// clean-up.)
func TestDelayedCleanUpLeavesTheNextAttemptsKeysAlone(t *testing.T) {
	ctx := context.Background()
	servers, proxies, clients := proxied(t, 5)
	l := open(t, clients, redlock.WithNodeTimeout(3*time.Second))
	warmUp(t, clients)
	takeFor(t, time.Minute, "a", servers[:3]...)
	resetStats(t, servers...)
	for _, p := range proxies[:3] { // they refuse when what follows the others' grants is held up
		p.HoldReplies(true)
	}
	refused := inBackground(func() error { return onlyError(l.TryAcquire(ctx, "a")) })
	for i := 3; i < 5; i++ {
		eventually(t, func() bool { return servers[i].CommandCount(t, "set") > 0 }, "not granted")
		proxies[i].HoldRequests(true)
	}
	for _, p := range proxies[:3] {
		p.HoldReplies(false)
	}
	require.ErrorIs(t, outcome(t, refused, "the attempt"), redlock.ErrHeld)
	for _, p := range proxies[3:] {
		eventually(t, func() bool { return p.Held() > 0 }, "no clean-up is on its way")
	}

	uproot(t, "a", servers...)
	other := open(t, redistest.Clients(t, servers)) // on another way, which is not held up
	h, err := other.TryAcquire(ctx, "a")
	require.NoError(t, err)
	takenEverywhere(t, h, servers...)
	for _, p := range proxies[3:] {
		p.HoldRequests(false)
	}
	require.NoError(t, l.Close())   // the clean-up has arrived
	for _, s := range servers[3:] { // acquire, acquire, clean up
		require.GreaterOrEqual(t, s.CommandCount(t, "evalsha"), 3, "the clean-up never arrived")
	}
	for i, owner := range ownersOn(t, servers, "a") {
		require.Equal(t, h.Token(), owner, "node %d", i)
	}
	require.NoError(t, h.Release(ctx))
	noKeys(t, servers)
}
