//go:build go1.25

package acceptance_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// virtualNode is a node in memory, in virtual time: there, computing takes no time at all, and an hour passes at once. Its
// faults act on scripts only, so that the test's own commands always get through.
type virtualNode struct {
	client *redis.Client
	gone   chan struct{} // closed at the end of the test

	mu     sync.Mutex
	delay  time.Duration // before a script runs
	hung   chan struct{} // what scripts wait for, if it is not nil
	broken string        // an error in place of any reply
	calls  []virtualCall
}

// virtualCall is a script that reached a node.
type virtualCall struct {
	at   time.Time
	args []string // behind the keys
}

// virtually runs a test in virtual time, with that many nodes.
func virtually(t *testing.T, nodes int, test func(t *testing.T, nodes []*virtualNode)) {
	synctest.Test(t, func(t *testing.T) {
		started := make([]*virtualNode, nodes)
		for i := range started {
			started[i] = startVirtualNode(t)
		}
		test(t, started)
	})
}

func startVirtualNode(t *testing.T) *virtualNode {
	memory := miniredis.NewMiniRedis()
	memory.ClockTTL(true)
	n := &virtualNode{gone: make(chan struct{})}
	n.client = redis.NewClient(&redis.Options{
		Addr:     "127.0.0.1:6379", // not a name: looking one up leaves the bubble
		PoolSize: 100,              // a client that waits for a connection leaves it, too
		Dialer:   func(context.Context, string, string) (net.Conn, error) { return memory.Dial() },
	})
	require.NoError(t, n.client.Ping(context.Background()).Err())
	memory.Server().SetPreHook(n.serve)
	t.Cleanup(func() {
		close(n.gone)
		require.NoError(t, n.client.Close())
		memory.Close()
		time.Sleep(10 * time.Second) // whatever go-redis still waits for
	})
	return n
}

// serve comes before each command. It returns true if the command is done with.
func (n *virtualNode) serve(peer *server.Peer, command string, args ...string) bool {
	if !strings.HasPrefix(command, "EVAL") {
		return false
	}
	n.mu.Lock()
	delay, hung, broken := n.delay, n.hung, n.broken
	if command == "EVALSHA" && args[1] == "1" {
		n.calls = append(n.calls, virtualCall{time.Now(), args[3:]})
	}
	n.mu.Unlock()

	time.Sleep(delay)
	if hung != nil {
		select {
		case <-hung:
		case <-n.gone:
		}
	}
	if broken != "" {
		peer.WriteError(broken)
		return true
	}
	return false
}

func (n *virtualNode) hang() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hung = make(chan struct{})
}

// fail makes the node answer with an error; with "" it works again.
func (n *virtualNode) fail(reply string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broken = reply
}

func (n *virtualNode) delayBy(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay = d
}

// sent returns when scripts with that argument behind token and TTL reached the node.
func (n *virtualNode) sent(argument string) []time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	var at []time.Time
	for _, c := range n.calls {
		if len(c.args) > 3 && c.args[3] == argument || argument == "" && len(c.args) == 3 {
			at = append(at, c.at)
		}
	}
	return at
}

// owner returns what stands under the key.
func (n *virtualNode) owner(key string) string {
	return n.client.Get(context.Background(), key).Val()
}

func clientsOf(nodes []*virtualNode) []*redis.Client {
	clients := make([]*redis.Client, len(nodes))
	for i, n := range nodes {
		clients[i] = n.client
	}
	return clients
}

// extensions returns how long after start the node was asked to extend a lock.
func (n *virtualNode) extensions(start time.Time) []time.Duration {
	var after []time.Duration
	for _, at := range slices.Concat(n.sent("keep"), n.sent("move")) { // after a shortening all are moves
		after = append(after, at.Sub(start))
	}
	return after
}

func TestVirtualLockIsTrustedForItsTTLLessDriftAndNotANanosecondLonger(t *testing.T) {
	for _, tt := range []struct {
		ttl   time.Duration
		drift float64
		want  time.Duration
	}{
		{30 * time.Second, 0.01, 29_698 * time.Millisecond},
		{10 * time.Millisecond, 0.01, 7_900 * time.Microsecond},
		{12_345_678 * time.Nanosecond, 0.01, 10_222_222 * time.Nanosecond},
		{30 * time.Second, 0, 29_998 * time.Millisecond},
		{time.Minute, 0.25, 44_998 * time.Millisecond},
		{100 * time.Hour, 0.001, 100*time.Hour - 360*time.Second - 2*time.Millisecond},
	} {
		t.Run(fmt.Sprintf("TTL %v, drift %v", tt.ttl, tt.drift), func(t *testing.T) {
			virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
				ctx := context.Background()
				l := open(t, clientsOf(nodes), redlock.WithDriftFactor(tt.drift))
				start := time.Now()
				h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(tt.ttl))
				require.NoError(t, err)
				require.Equal(t, tt.want, h.ValidUntil().Sub(start))

				var wg sync.WaitGroup
				for name, done := range map[string]<-chan struct{}{"Done": h.Done(), "Context": h.Context(ctx).Done()} {
					wg.Add(1)
					go func() {
						defer wg.Done()
						<-done
						require.Equal(t, tt.want, time.Since(start), name)
						require.Equal(t, redlock.ErrLost, h.Err())
					}()
				}
				time.Sleep(tt.want - 1)
				require.NoError(t, h.Err())
				wg.Wait()
				for _, n := range nodes {
					require.Equal(t, h.Token(), n.owner("lock:a"), "the key outlives the lease")
				}
			})
		})
	}
}

func TestVirtualLeaseBeginsBeforeTheRequestGoesOut(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes))
		for _, n := range nodes {
			n.delayBy(400 * time.Millisecond)
		}
		requireLease := func(h *redlock.Handle, start time.Time) {
			t.Helper()
			require.Equal(t, 400*time.Millisecond, time.Since(start))
			require.Equal(t, 29_698*time.Millisecond, h.ValidUntil().Sub(start))
		}
		warm, err := l.TryAcquire(ctx, "scripts") // the first time takes two requests
		require.NoError(t, err)
		require.NoError(t, warm.Extend(ctx, time.Minute))
		require.NoError(t, warm.Release(ctx))

		start := time.Now()
		h, err := l.TryAcquire(ctx, "a")
		require.NoError(t, err)
		requireLease(h, start)

		start = time.Now()
		require.NoError(t, h.Extend(ctx, 30*time.Second))
		requireLease(h, start)
		require.NoError(t, h.Release(ctx))
	})
}

func TestVirtualLookAfterTheEndTellsTheTruth(t *testing.T) {
	virtually(t, 1, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes))
		acquire := func() *redlock.Handle {
			h, err := l.TryAcquire(ctx, "a")
			require.NoError(t, err)
			time.Sleep(time.Minute) // nobody watches
			return h
		}
		select {
		case <-acquire().Done():
		default:
			require.Fail(t, "not done")
		}
		require.Equal(t, redlock.ErrLost, acquire().Err())
		lockCtx := acquire().Context(ctx)
		require.Equal(t, context.Canceled, lockCtx.Err())
		require.Equal(t, redlock.ErrLost, context.Cause(lockCtx))
		require.ErrorIs(t, acquire().Extend(ctx, time.Minute), redlock.ErrLost)
		require.ErrorIs(t, acquire().Release(ctx), redlock.ErrLost)
		require.Empty(t, nodes[0].owner("lock:a"))
	})
}

func TestVirtualForgottenLockLivesForExactlyItsTTL(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		l := open(t, clientsOf(nodes), redlock.WithTTL(24*time.Hour))
		h, err := l.TryAcquire(context.Background(), "a", redlock.WithAutoRenewal(false))
		require.NoError(t, err)
		require.NoError(t, l.Close())

		time.Sleep(24*time.Hour - time.Millisecond)
		for _, n := range nodes {
			require.Equal(t, h.Token(), n.owner("lock:a"))
		}
		time.Sleep(time.Millisecond)
		for _, n := range nodes {
			require.Empty(t, n.owner("lock:a"))
		}
	})
}

func TestVirtualRenewalComesWithEveryThirdOfTheTTL(t *testing.T) {
	for _, ttl := range []time.Duration{30 * time.Second, time.Second, 100 * time.Millisecond, 3 * time.Hour} {
		t.Run(ttl.String(), func(t *testing.T) {
			virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
				const renewals = 10
				ctx := context.Background()
				l := open(t, clientsOf(nodes), redlock.WithTTL(ttl))
				start := time.Now()
				h, err := l.TryAcquire(ctx, "a", redlock.WithAutoRenewal(true))
				require.NoError(t, err)
				third := ttl - ttl*2/3
				time.Sleep(renewals * third)
				synctest.Wait()

				var want []time.Duration
				for i := range renewals {
					want = append(want, time.Duration(i+1)*third)
				}
				for _, n := range nodes {
					require.Equal(t, want, n.extensions(start))
				}
				require.Equal(t, renewals*third+ttl-ttl/100-2*time.Millisecond, h.ValidUntil().Sub(start))
				require.NoError(t, h.Release(ctx))
				time.Sleep(ttl)
				require.Len(t, nodes[0].sent("keep"), renewals, "no renewal after the release")
			})
		})
	}
}

func TestVirtualRenewalForAnHour(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes))
		h, err := l.TryAcquire(ctx, "a", redlock.WithAutoRenewal(true))
		require.NoError(t, err)
		done := h.Done()
		for range 60 {
			time.Sleep(time.Minute)
			require.NoError(t, h.Err())
			for _, n := range nodes {
				require.Equal(t, h.Token(), n.owner("lock:a"))
			}
		}
		select {
		case <-done:
			require.Fail(t, "done while it is held")
		default:
		}
		synctest.Wait() // a renewal is due at this very moment
		require.NoError(t, h.Release(ctx))
		for _, n := range nodes {
			require.Len(t, n.sent("keep"), 360)
			require.Empty(t, n.owner("lock:a"))
		}
	})
}

func TestVirtualRenewalNeverCarriesTheLockPastTheLongestHold(t *testing.T) {
	for _, hold := range []time.Duration{30 * time.Second, 31 * time.Second, 45 * time.Second, 5 * time.Minute, 5*time.Minute + 1} {
		t.Run(hold.String(), func(t *testing.T) {
			virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
				l := open(t, clientsOf(nodes), redlock.WithMaxHold(hold))
				start := time.Now()
				h, err := l.TryAcquire(context.Background(), "a", redlock.WithAutoRenewal(true))
				require.NoError(t, err)
				<-h.Done()
				require.Equal(t, redlock.ErrLost, h.Err())
				require.LessOrEqual(t, time.Since(start), hold)
				require.Greater(t, time.Since(start), hold-time.Second, "it is used up, less the drift")

				time.Sleep(time.Until(start.Add(hold).Add(time.Millisecond)))
				for _, n := range nodes {
					require.Empty(t, n.owner("lock:a"), "the keys do not outlive the hold")
					extensions := n.extensions(start)
					if len(extensions) > 0 {
						require.Less(t, extensions[len(extensions)-1], hold)
					}
				}
			})
		})
	}
}

func TestVirtualExtendMovesTheLease(t *testing.T) {
	for _, ttl := range []time.Duration{time.Hour, 30 * time.Second, 6 * time.Second, 10 * time.Millisecond} {
		t.Run(ttl.String(), func(t *testing.T) {
			virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
				ctx := context.Background()
				l := open(t, clientsOf(nodes))
				h, err := l.TryAcquire(ctx, "a")
				require.NoError(t, err)
				time.Sleep(5 * time.Second)

				start, want := time.Now(), ttl-ttl/100-2*time.Millisecond
				require.NoError(t, h.Extend(ctx, ttl))
				require.Equal(t, want, h.ValidUntil().Sub(start))
				synctest.Wait() // the last node
				for _, n := range nodes {
					require.Equal(t, ttl, n.client.PTTL(ctx, "lock:a").Val())
				}
				<-h.Done()
				require.Equal(t, want, time.Since(start))
			})
		})
	}
}

// A renewal never shortens, nor does it take back a shortening, and it comes before the end of the validity however long the
// lease is and however much of it the drift takes.
func TestVirtualRenewalGoesOnAfterAnExtension(t *testing.T) {
	for _, tt := range []struct {
		extend time.Duration
		first  time.Duration // when the first renewal comes at the earliest, after the extension
		every  time.Duration // and those behind it
	}{
		{6 * time.Second, 2 * time.Second, 2 * time.Second},
		{30 * time.Second, 10 * time.Second, 10 * time.Second},
		{5 * time.Minute, 4 * time.Minute, 10 * time.Second},
		{time.Hour, 59 * time.Minute, 10 * time.Second},
		{100 * time.Hour, 98 * time.Hour, 10 * time.Second},
	} {
		t.Run(tt.extend.String(), func(t *testing.T) {
			virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
				ctx := context.Background()
				l := open(t, clientsOf(nodes))
				h, err := l.TryAcquire(ctx, "a", redlock.WithAutoRenewal(true))
				require.NoError(t, err)
				time.Sleep(5 * time.Second)
				start := time.Now()
				require.NoError(t, h.Extend(ctx, tt.extend))
				time.Sleep(tt.extend + 10*tt.every)
				require.NoError(t, h.Err())

				renewals := nodes[0].extensions(start)[1:]
				require.GreaterOrEqual(t, renewals[0], tt.first)
				for i := 1; i < len(renewals); i++ {
					require.Equal(t, tt.every, renewals[i]-renewals[i-1])
				}
				require.NoError(t, h.Release(ctx))
			})
		})
	}
}

// Row 12 of the failure table: errors from a quorum.
func TestVirtualRenewalIsRetriedUntilTheLeaseEndsAndNotLonger(t *testing.T) {
	for name, fault := range map[string]func(*virtualNode){
		"errors": func(n *virtualNode) { n.fail("ERR out of order") },
		"hung":   (*virtualNode).hang,
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
				l := open(t, clientsOf(nodes))
				h, err := l.TryAcquire(context.Background(), "a", redlock.WithAutoRenewal(true))
				require.NoError(t, err)
				time.Sleep(time.Minute + time.Second)
				until := h.ValidUntil()
				fault(nodes[0])
				fault(nodes[1])

				<-h.Done()
				require.Equal(t, until, time.Now())
				require.Equal(t, redlock.ErrLost, h.Err())
				retries := 0
				for _, at := range nodes[2].sent("keep") {
					if at.After(until.Add(-20 * time.Second)) {
						retries++
					}
				}
				require.Greater(t, retries, 5)
				require.Less(t, retries, 25)
				for _, n := range nodes {
					n.recover()
				}
			})
		})
	}
}

func TestVirtualRenewalRecoversWithTheNodes(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes))
		h, err := l.TryAcquire(ctx, "a", redlock.WithAutoRenewal(true))
		require.NoError(t, err)
		for range 20 {
			for _, n := range nodes[:2] {
				n.fail("LOADING Redis is loading the dataset in memory")
			}
			time.Sleep(time.Until(h.ValidUntil()) - 1500*time.Millisecond) // a retry comes each second
			for _, n := range nodes[:2] {
				n.fail("")
			}
			time.Sleep(1400 * time.Millisecond)
			require.NoError(t, h.Err())
			require.Greater(t, time.Until(h.ValidUntil()), 25*time.Second)
		}
		require.NoError(t, h.Release(ctx))
	})
}

// Whatever the nodes do, as long as they keep their keys: a lock that does not say that it is lost is on a quorum of them.
func TestVirtualLossIsNeverSignalledLate(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			virtually(t, 5, func(t *testing.T, nodes []*virtualNode) {
				random := rand.New(rand.NewPCG(seed, seed))
				ctx := context.Background()
				l := open(t, clientsOf(nodes), redlock.WithTTL(2*time.Second), redlock.WithAutoRenewal(true))
				losses := 0
				for end := time.Now().Add(time.Minute); time.Now().Before(end); losses++ {
					h, err := l.Acquire(ctx, "a")
					require.NoError(t, err)
					for h.Err() == nil {
						n := nodes[random.IntN(len(nodes))]
						switch random.IntN(6) {
						case 0:
							n.fail("MISCONF")
						case 1:
							n.hang()
						case 2:
							n.delayBy(time.Duration(random.IntN(200)) * time.Millisecond)
						default:
							n.recover()
						}
						for range 20 {
							requireOnAQuorum(t, h, nodes)
							time.Sleep(time.Duration(random.IntN(40_000)) * time.Microsecond)
						}
					}
					for _, n := range nodes {
						n.recover()
					}
					require.ErrorIs(t, h.Release(ctx), redlock.ErrLost)
				}
				require.Greater(t, losses, 1, "too few faults that matter")
			})
		})
	}
}

// requireOnAQuorum checks that a lock which counts as held is on a quorum of the nodes.
func requireOnAQuorum(t *testing.T, h *redlock.Handle, nodes []*virtualNode) {
	t.Helper()
	ours := 0
	for _, n := range nodes {
		if n.owner("lock:a") == h.Token() {
			ours++
		}
	}
	require.True(t, h.Err() != nil || ours > len(nodes)/2, "it is on %d of %d nodes", ours, len(nodes))
}

// recover undoes all faults.
func (n *virtualNode) recover() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hung != nil {
		close(n.hung)
	}
	n.delay, n.hung, n.broken = 0, nil, ""
}

func TestVirtualAttemptTakesTheNodeTimeoutAtMost(t *testing.T) {
	for _, tt := range []struct {
		ttl  time.Duration
		opts []redlock.Option
		want time.Duration
	}{
		{30 * time.Second, nil, time.Second},
		{time.Hour, nil, time.Second},
		{10 * time.Second, nil, 500 * time.Millisecond},
		{400 * time.Millisecond, nil, 20 * time.Millisecond},
		{50 * time.Millisecond, nil, 20 * time.Millisecond},
		{30 * time.Second, []redlock.Option{redlock.WithNodeTimeout(7 * time.Second)}, 7 * time.Second},
		{30 * time.Second, []redlock.Option{redlock.WithNodeTimeout(3 * time.Millisecond)}, 3 * time.Millisecond},
	} {
		t.Run(fmt.Sprint(tt.ttl, len(tt.opts), tt.want), func(t *testing.T) {
			virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
				ctx := context.Background()
				l := open(t, clientsOf(nodes), tt.opts...)
				h, err := l.TryAcquire(ctx, "b", redlock.WithTTL(time.Hour))
				require.NoError(t, err)
				nodes[0].hang()
				nodes[1].hang()

				start := time.Now()
				_, err = l.TryAcquire(ctx, "a", redlock.WithTTL(tt.ttl))
				require.ErrorIs(t, err, redlock.ErrNoQuorum)
				require.Equal(t, tt.want, time.Since(start), "acquire")

				start = time.Now()
				require.ErrorIs(t, h.Extend(ctx, tt.ttl), redlock.ErrNoQuorum)
				require.Equal(t, tt.want, time.Since(start), "extend")

				for _, n := range nodes {
					n.recover()
				}
			})
		})
	}
}

func TestVirtualWaiterComesWhenTheHoldersLockExpires(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l, other := open(t, clientsOf(nodes)), open(t, clientsOf(nodes))
		start := time.Now()
		_, err := other.TryAcquire(ctx, "a")
		require.NoError(t, err)

		h, err := l.Acquire(ctx, "a", redlock.WithRetryInterval(time.Hour))
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Since(start), 30*time.Second)
		require.LessOrEqual(t, time.Since(start), 30*time.Second+2*time.Millisecond)
		require.NoError(t, h.Release(ctx))
	})
}

func TestVirtualWaiterBacksOffWithJitter(t *testing.T) {
	virtually(t, 1, func(t *testing.T, nodes []*virtualNode) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		l := open(t, clientsOf(nodes))
		require.NoError(t, nodes[0].client.Set(ctx, "lock:a", "somebody", 0).Err())
		_, err := l.Acquire(ctx, "a", redlock.WithRetryInterval(time.Second))
		require.ErrorIs(t, err, redlock.ErrHeld)

		tries := nodes[0].sent("")
		pauses := map[time.Duration]bool{}
		for i := 1; i < len(tries); i++ {
			pause, middle := tries[i].Sub(tries[i-1]), time.Second<<min(i-1, 3)
			require.GreaterOrEqual(t, pause, middle/2, "pause %d", i)
			require.LessOrEqual(t, pause, middle*3/2, "pause %d", i)
			pauses[pause] = true
		}
		require.Greater(t, len(pauses), 20)
	})
}

func TestVirtualWaitIsOverAtItsMaximum(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l, other := open(t, clientsOf(nodes), redlock.WithMaxWait(time.Minute)), open(t, clientsOf(nodes))
		_, err := other.TryAcquire(ctx, "a", redlock.WithAutoRenewal(true))
		require.NoError(t, err)
		for maximum, opts := range map[time.Duration][]redlock.AcquireOption{
			time.Minute:     nil,
			7 * time.Second: {redlock.WithMaxWait(7 * time.Second)},
		} {
			start := time.Now()
			_, err = l.Acquire(ctx, "a", opts...)
			require.ErrorIs(t, err, redlock.ErrHeld)
			require.Equal(t, maximum, time.Since(start))
		}
	})
}

func TestVirtualWaitForUnlockEndsWhenTheHoldersLockExpires(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes), redlock.WithRetryInterval(time.Hour))
		start := time.Now()
		_, err := l.TryAcquire(ctx, "a")
		require.NoError(t, err)
		require.NoError(t, l.WaitForUnlock(ctx, "a"))
		require.GreaterOrEqual(t, time.Since(start), 30*time.Second)
		require.LessOrEqual(t, time.Since(start), 30*time.Second+2*time.Millisecond)
	})
}

func TestVirtualDoRenewsUnlessToldNotTo(t *testing.T) {
	never, always := redlock.WithAutoRenewal(false), redlock.WithAutoRenewal(true)
	for name, tt := range map[string]struct {
		locker []redlock.Option
		call   []redlock.AcquireOption
		renews bool
	}{
		"by default":                     {nil, nil, true},
		"the Locker says no":             {[]redlock.Option{never}, nil, false},
		"the Locker says yes":            {[]redlock.Option{always}, nil, true},
		"the call says no":               {nil, []redlock.AcquireOption{never}, false},
		"the call says no, Locker yes":   {[]redlock.Option{always}, []redlock.AcquireOption{never}, false},
		"the call says yes, Locker no":   {[]redlock.Option{never}, []redlock.AcquireOption{always}, true},
		"the call says something else":   {nil, []redlock.AcquireOption{redlock.WithTTL(time.Minute)}, true},
		"the Locker says something else": {[]redlock.Option{redlock.WithTTL(time.Minute)}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
				l := open(t, clientsOf(nodes), tt.locker...)
				err := l.Do(context.Background(), "a", func(ctx context.Context) error {
					select {
					case <-ctx.Done():
						require.False(t, tt.renews)
						require.Equal(t, redlock.ErrLost, context.Cause(ctx))
					case <-time.After(time.Hour):
						require.True(t, tt.renews)
					}
					return nil
				}, tt.call...)
				if tt.renews {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, redlock.ErrLost)
				}
			})
		})
	}
}

func TestVirtualAdoptedLockIsValidForWhatIsProvablyLeft(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes))
		h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(time.Hour))
		require.NoError(t, err)
		// What two of three nodes keep for half an hour is held by a quorum for half an hour.
		require.NoError(t, nodes[0].client.PExpire(ctx, "lock:a", 10*time.Minute).Err())
		require.NoError(t, nodes[1].client.PExpire(ctx, "lock:a", 40*time.Minute).Err())
		require.NoError(t, nodes[2].client.PExpire(ctx, "lock:a", 50*time.Minute).Err())
		time.Sleep(9 * time.Minute)

		start := time.Now()
		adopted, err := l.Adopt(ctx, []string{"a"}, h.Token(), redlock.WithAutoRenewal(true))
		require.NoError(t, err)
		left := adopted.ValidUntil().Sub(start)
		require.Contains(t, []time.Duration{
			time.Minute - time.Minute/100 - 2*time.Millisecond, // the first two that answered
			31*time.Minute - 31*time.Minute/100 - 2*time.Millisecond,
		}, left)
		time.Sleep(2 * time.Hour) // it is renewed
		require.NoError(t, adopted.Err())
		require.NoError(t, adopted.Release(ctx))
	})
}

func TestVirtualAdoptOfALockWithNothingProvablyLeftIsALoss(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes))
		h, err := l.TryAcquire(ctx, "a")
		require.NoError(t, err)
		time.Sleep(30*time.Second - 2*time.Millisecond)
		for _, n := range nodes {
			require.Equal(t, h.Token(), n.owner("lock:a"))
		}
		_, err = l.Adopt(ctx, []string{"a"}, h.Token())
		require.ErrorIs(t, err, redlock.ErrLost)
		require.NotErrorIs(t, err, redlock.ErrNoQuorum)
	})
}

// A node that answers the first step of a shortening late is not told to cut when a later extension is on its way to it.
func TestVirtualShorteningThatComesLateDoesNotOvertakeALaterExtension(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes))
		h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(30*time.Second))
		require.NoError(t, err)
		nodes[2].delayBy(200 * time.Millisecond)
		require.NoError(t, h.Extend(ctx, 5*time.Second))
		nodes[1].fail("ERR down")
		time.Sleep(time.Millisecond)
		require.NoError(t, h.Extend(ctx, 20*time.Second))
		nodes[2].delayBy(0)
		time.Sleep(time.Second)
		nodes[1].fail("")

		other := open(t, clientsOf(nodes))
		for h.Err() == nil {
			_, err := other.TryAcquire(ctx, "a")
			require.ErrorIs(t, err, redlock.ErrHeld, "valid until %v more", time.Until(h.ValidUntil()))
			time.Sleep(100 * time.Millisecond)
		}
		require.NoError(t, l.Close())
	})
}

// What an extension says of earlier shortenings does not grow for ever.
func TestVirtualShorteningsAreForgottenWhenTheyCannotComeLateAnyMore(t *testing.T) {
	virtually(t, 1, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l := open(t, clientsOf(nodes))
		h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(time.Minute))
		require.NoError(t, err)
		for range 100 {
			require.NoError(t, h.Extend(ctx, 10*time.Second))
			require.NoError(t, h.Extend(ctx, 20*time.Second))
			time.Sleep(5 * time.Second)
		}
		longest := 0
		nodes[0].mu.Lock()
		for _, call := range nodes[0].calls {
			longest = max(longest, len(call.args[len(call.args)-1]))
		}
		nodes[0].mu.Unlock()
		require.Less(t, longest, 30*14, "a minute's marks of 13 digits, at two in ten seconds")
		require.Greater(t, longest, 13)
		require.NoError(t, h.Release(ctx))
	})
}
