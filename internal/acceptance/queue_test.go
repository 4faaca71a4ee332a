package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
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

// inLine waits until so many Lockers stand in a resource's queue.
func inLine(t *testing.T, l *redlock.Locker, resource string, waiters int) {
	t.Helper()
	eventually(t, func() bool {
		s, err := l.Inspect(context.Background(), resource)
		require.NoError(t, err)
		return s.Waiters == waiters
	}, "there are never %d waiters for %s", waiters, resource)
}

// inEachLine is inLine for all servers: a call that has yet to arrive at one may be granted the
// lock there when it is released.
func inEachLine(t *testing.T, servers []*redistest.Server, resource string, waiters int64) {
	t.Helper()
	for i, s := range servers {
		eventually(t, func() bool { return waitersOn(t, s, resource) == waiters },
			"there are never %d waiters for %s on node %d", waiters, resource, i)
	}
}

// waitersOn returns how many stand in a server's queue, in which each of them is twice.
func waitersOn(t *testing.T, s *redistest.Server, resource string) int64 {
	t.Helper()
	return s.Do(t, "zcard", "{"+lockKey(resource)+"}:queue").(int64) / 2
}

// processes returns Lockers as several processes have them: each with clients of its own.
func processes(t *testing.T, servers []*redistest.Server, n int,
	opts ...redlock.Option) []*redlock.Locker {
	t.Helper()
	lockers := make([]*redlock.Locker, n)
	for i := range lockers {
		clients := make([]*redis.Client, len(servers))
		for j, s := range servers {
			clients[j] = s.Client(t)
		}
		lockers[i] = open(t, clients, opts...)
	}
	return lockers
}

// byEvent has waiters poll so seldom that it must be a message that wakes them.
var byEvent = redlock.WithRetryInterval(time.Hour)

// acquainted has Lockers wait in vain for a while. Then they know the nodes' clocks, and draw
// tickets that are off by no more than half of the shortest round trip.
func acquainted(t *testing.T, holder *redlock.Locker, lockers ...*redlock.Locker) {
	t.Helper()
	ctx := context.Background()
	h, err := holder.TryAcquire(ctx, "known")
	require.NoError(t, err)
	for _, l := range lockers {
		for range 5 {
			_, err := l.Acquire(ctx, "known", redlock.WithMaxWait(time.Microsecond))
			require.ErrorIs(t, err, redlock.ErrHeld)
		}
	}
	require.NoError(t, h.Release(ctx))
}

// passTime has a Locker ask in vain. Whoever comes after it comes later by the nodes' clocks too.
func passTime(t *testing.T, l *redlock.Locker, held string) {
	t.Helper()
	for range 5 {
		requireOnly(t, onlyError(l.TryAcquire(context.Background(), held)), redlock.ErrHeld)
	}
}

func TestWaitersAreServedInTheOrderInWhichTheyCame(t *testing.T) {
	ctx := context.Background()
	for _, nodes := range []int{1, 2, 5} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			servers, clients := masters(t, nodes)
			const waiters = 10
			holder, lockers := open(t, clients), processes(t, servers, waiters, byEvent)
			acquainted(t, holder, lockers...)
			h, err := holder.TryAcquire(ctx, "r")
			require.NoError(t, err)
			served := make(chan int, waiters)
			var dones []<-chan error
			for i, l := range lockers {
				dones = append(dones, inBackground(func() error {
					h, err := l.Acquire(ctx, "r")
					if err != nil {
						return err
					}
					served <- i
					return h.Release(ctx)
				}))
				inLine(t, l, "r", i+1)
				passTime(t, holder, "r")
			}
			require.NoError(t, h.Release(ctx))
			for i, done := range dones {
				require.NoError(t, outcome(t, done, "a waiter"))
				require.Equal(t, i, <-served)
			}
			noKeys(t, servers)
		})
	}
}

// grace is how long nodes wait for whoever they have called.
const grace = 250 * time.Millisecond

// A machine that is busy may take longer than nodes wait for whoever was called. Then it is tried
// anew.
func TestTryAcquireDoesNotOvertakeAWaiter(t *testing.T) {
	ctx := context.Background()
	servers, clients, taps := tapped(t, 3)
	waiter, other := open(t, clients, byEvent), processes(t, servers, 1)[0]
	for round, inTime := 0, false; !inTime; round++ {
		require.Less(t, round, 50, "the machine is too busy for this test")
		h, err := other.TryAcquire(ctx, "r")
		require.NoError(t, err)
		takenEverywhere(t, h, servers...)
		done := inBackground(func() error { return haveOnce(ctx, waiter, "r") })
		inEachLine(t, servers, "r", 1)
		turn := newGate(t) // the waiter has been called, and does not get to the nodes
		for _, tap := range taps {
			tap.onSend(func(string) error { turn.pass(); return nil })
		}
		called := time.Now()
		require.NoError(t, h.Release(ctx))
		outcome(t, turn.reached, "the call")
		h, err = other.TryAcquire(ctx, "r")
		if inTime = time.Since(called) < grace; inTime {
			require.ErrorIs(t, err, redlock.ErrHeld)
			require.ErrorContains(t, err, "others wait for it")
		} else if err == nil {
			require.NoError(t, h.Release(ctx))
		}
		for _, tap := range taps {
			tap.onSend(nil)
		}
		turn.open()
		require.NoError(t, outcome(t, done, "the waiter"))
		h, err = other.TryAcquire(ctx, "r")
		require.NoError(t, err)
		require.NoError(t, h.Release(ctx))
		noKeys(t, servers)
	}
}

// Where the first in line has seen the call and is cancelled, the turn passes on.
func TestWaiterThatIsCancelledPassesItsTurnOn(t *testing.T) {
	for name, resources := range oneAndSeveral {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			servers, clients, taps := tapped(t, 3)
			first := open(t, clients, byEvent)
			lockers := processes(t, servers, 2, byEvent)
			h, err := lockers[0].TryAcquireMulti(ctx, resources)
			require.NoError(t, err)
			bored, cancel := context.WithCancelCause(ctx)
			defer cancel(nil)
			leaving := inBackground(
				func() error { return onlyError(first.AcquireMulti(bored, resources)) })
			inLine(t, first, "a", 1)
			next := inBackground(func() error { return haveOnce(ctx, lockers[1], resources...) })
			inEachLine(t, servers, resources[0], 2)
			inEachLine(t, servers, resources[len(resources)-1], 2)
			turn := newGate(t)
			for _, tap := range taps {
				tap.onSend(func(string) error { turn.pass(); return nil })
			}
			require.NoError(t, h.Release(ctx))
			outcome(t, turn.reached, "the call")
			cancel(errBored)
			require.ErrorIs(t, outcome(t, leaving, "the first waiter"), errBored)
			turn.open()
			require.NoError(t, outcome(t, next, "the second waiter"))
			noKeys(t, servers)
		})
	}
}

// And it passes on to the next one of the same Locker, if that one came before others. A machine
// that is busy may take longer for that than nodes wait for whoever was called. Then it is tried
// anew.
func TestNextOfALockerKeepsItsTurnWhereTheFirstIsCancelledAtIts(t *testing.T) {
	ctx := context.Background()
	servers, clients, taps := tapped(t, 3)
	watcher := &recorder{}
	l := open(t, clients, byEvent, redlock.WithObserver(watcher))
	others := processes(t, servers, 2, byEvent)
	acquainted(t, others[0], l, others[1])
	for inTime, round := 0, 0; inTime < 6; round++ {
		require.Less(t, round, 50, "the machine is too busy for this test")
		h, err := others[0].TryAcquire(ctx, "r")
		require.NoError(t, err)
		takenEverywhere(t, h, servers...)
		bored, cancel := context.WithCancelCause(ctx)
		first := inBackground(func() error { return onlyError(l.Acquire(bored, "r")) })
		inLine(t, others[0], "r", 1)
		order := make(chan string, 2)
		take := func(l *redlock.Locker, name string) <-chan error {
			return inBackground(func() error {
				h, err := l.Acquire(ctx, "r")
				if err != nil {
					return err
				}
				order <- name
				return h.Release(ctx)
			})
		}
		waiting := len(told[redlock.Waiting](watcher))
		next := take(l, "the next one")
		eventually(t, func() bool { return len(told[redlock.Waiting](watcher)) > waiting },
			"the next one does not wait")
		passTime(t, others[1], "r")
		last := take(others[1], "who came last")
		inEachLine(t, servers, "r", 2)
		turn := newGate(t)
		for _, tap := range taps {
			tap.onSend(func(string) error { turn.pass(); return nil })
		}
		called := time.Now()
		require.NoError(t, h.Release(ctx))
		outcome(t, turn.reached, "the call")
		cancel(errBored)
		require.ErrorIs(t, outcome(t, first, "the first"), errBored)
		for _, tap := range taps {
			tap.onSend(nil)
		}
		turn.open()
		require.NoError(t, outcome(t, next, "the next one"))
		require.NoError(t, outcome(t, last, "who came last"))
		served := <-order
		<-order
		if time.Since(called) < grace {
			require.Equal(t, "the next one", served, "round %d", round)
			inTime++
		}
		noKeys(t, servers)
	}
}

func TestWaitersThatGiveUpLeaveNothingBehind(t *testing.T) {
	ctx := context.Background()
	servers, _ := masters(t, 3)
	lockers := processes(t, servers, 3)
	const each, rounds = 16, 40
	var got, left atomic.Int64
	var all sync.WaitGroup
	for i := range len(lockers) * each {
		all.Add(1)
		go func() {
			defer all.Done()
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for range rounds {
				resources := [][]string{{"a"}, {"b"}, {"a", "b"}}[random.IntN(3)]
				patience, cancel := context.WithTimeout(ctx,
					time.Duration(random.Int64N(int64(60*time.Millisecond))))
				h, err := lockers[i%len(lockers)].AcquireMulti(patience, resources)
				cancel()
				if err != nil {
					left.Add(1)
					continue
				}
				got.Add(1)
				_ = h.Release(ctx) // it says what it says; what counts is what is left
			}
		}()
	}
	all.Wait()
	require.Greater(t, got.Load(), int64(10))
	require.Greater(t, left.Load(), int64(10))
	noKeys(t, servers)
	for _, l := range lockers {
		h, err := l.Acquire(ctx, "a")
		require.NoError(t, err)
		require.NoError(t, h.Release(ctx))
	}
}

// Two resources each, in a ring: nobody gets both unless somebody gives way.
func TestWaitersForSeveralResourcesDoNotBlockEachOther(t *testing.T) {
	ctx := context.Background()
	servers, _ := masters(t, 3)
	lockers := processes(t, servers, 3)
	var all sync.WaitGroup
	errs := make(chan error, 100)
	for i, l := range lockers {
		for range 2 {
			all.Add(1)
			go func() {
				defer all.Done()
				for range 15 {
					h, err := l.AcquireMulti(ctx,
						[]string{fmt.Sprint(i), fmt.Sprint((i + 1) % len(lockers))})
					if err == nil {
						err = h.Release(ctx)
					}
					if err != nil {
						errs <- err
					}
				}
			}()
		}
	}
	done := inBackground(func() error { all.Wait(); return nil })
	require.NoError(t, outcome(t, done, "the ring"))
	require.Empty(t, errs)
	noKeys(t, servers)
}

// interferences are what keeps messages from a waiter.
var interferences = map[string]func(t *testing.T, s *redistest.Server){
	"subscriptions killed": func(t *testing.T,
		s *redistest.Server) {
		s.Do(t, "client", "kill", "type", "pubsub")
	},
	"scripts flushed": func(t *testing.T, s *redistest.Server) { s.Do(t, "script", "flush") },
	"a wrong message": func(t *testing.T, s *redistest.Server) {
		for _, channel := range s.Do(t, "pubsub", "channels").([]any) {
			for _, text := range []any{
				"", "come", "come 1 x", "come x 1", "stand-by 1 1", "free 1 1", "come 1 1",
				"come 77 9999999999999999",
			} {
				s.Do(t, "publish", channel, text)
			}
		}
	},
}

func TestWaitersGoOnWhateverHappensToTheirMessages(t *testing.T) {
	for name, interfere := range interferences {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			servers, _ := masters(t, 3)
			lockers := processes(t, servers, 4)
			var all sync.WaitGroup
			var rounds atomic.Int64
			errs := make(chan error, 1000)
			for i := range 16 {
				all.Add(1)
				go func() {
					defer all.Done()
					for range 10 {
						h, err := lockers[i%len(lockers)].Acquire(ctx, "r")
						if err == nil {
							err = h.Release(ctx)
						}
						if err != nil {
							errs <- err
						}
						rounds.Add(1)
					}
				}()
			}
			done := inBackground(func() error { all.Wait(); return nil })
			for k := 0; rounds.Load() < 140; k++ {
				interfere(t, servers[k%len(servers)])
			}
			require.NoError(t, outcome(t, done, "the waiters"))
			require.Empty(t, errs)
			noKeys(t, servers)
		})
	}
}

func TestWaitersPollAndSaySoWhereTheyMayNotSubscribe(t *testing.T) {
	for name, rules := range map[string][]any{
		"no right to SUBSCRIBE": {"~*", "&*", "+@all", "-subscribe"},
		"no right to PUBLISH":   {"~*", "&*", "+@all", "-publish"},
		"no right to channels":  {"~*", "resetchannels", "+@all"},
	} {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			ctx := context.Background()
			s := redistest.Start(t)
			var told atomic.Int64
			l := open(t, []*redis.Client{asUser(t, s, rules...)},
				redlock.WithNodeTimeout(time.Second), loggingTo(func(r slog.Record) {
					if strings.Contains(r.Message, "no messages from a node") {
						told.Add(1)
					}
				}))
			other := open(t, []*redis.Client{asUser(t, s, rules...)},
				redlock.WithNodeTimeout(time.Second))
			h, err := other.TryAcquire(ctx, "r")
			require.NoError(t, err)
			done := inBackground(func() error { return haveOnce(ctx, l, "r") })
			inLine(t, other, "r", 1)
			mute := name != "no right to PUBLISH" // which is the releaser's affair
			if mute {
				eventually(t, func() bool { return told.Load() > 0 }, "never says so")
			}
			require.NoError(t, h.Release(ctx))
			require.NoError(t, outcome(t, done, "the waiter"))
			require.NoError(t, l.Close())
			if mute {
				require.EqualValues(t, 1, told.Load(), "says so once")
			}
			requireEmpty(t, s)
		})
	}
}

func TestWatchersAreToldAndHoldNobodyUp(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	holder, watching := open(t, clients), processes(t, servers, 2, byEvent)
	h, err := holder.TryAcquire(ctx, "r", redlock.WithTTL(time.Hour))
	require.NoError(t, err)
	const watchers = 2000
	var begun sync.WaitGroup
	errs := make(chan error, watchers)
	for i := range watchers {
		begun.Add(1)
		go func() {
			begun.Done()
			errs <- watching[i%len(watching)].WaitForUnlock(ctx, "r")
		}()
	}
	begun.Wait()
	for _, s := range servers {
		eventually(t, func() bool {
			return s.Do(t, "zcount", "{lock:r}:queue", "inf", "inf").(int64) == 2
		}, "not both processes watch")
	}
	status, err := holder.Inspect(ctx, "r")
	require.NoError(t, err)
	require.Zero(t, status.Waiters, "they wait for nothing of their own")
	resetStats(t, servers...)
	require.NoError(t, h.Release(ctx))
	for range watchers {
		require.NoError(t, outcome(t, errs, "a watcher"))
	}
	for _, s := range servers {
		require.Less(t, s.CommandCount(t, "evalsha"), 50, "somebody asks for all")
	}
	h, err = holder.TryAcquire(ctx, "r")
	require.NoError(t, err)
	require.NoError(t, h.Release(ctx))
	noKeys(t, servers)
}

func TestWatcherThatGivesUpLeavesNothingAndTheOthersGoOn(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	watcher := &recorder{}
	l := open(t, clients, byEvent, redlock.WithObserver(watcher))
	h, err := processes(t, servers, 1)[0].TryAcquire(ctx, "r")
	require.NoError(t, err)
	bored, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	first := inBackground(func() error { return l.WaitForUnlock(bored, "r") })
	for _, s := range servers {
		eventually(t, func() bool { return s.Do(t, "exists", "{lock:r}:queue").(int64) == 1 },
			"nobody watches")
	}
	second := inBackground(func() error { return l.WaitForUnlock(ctx, "r") })
	cancel(errBored)
	require.ErrorIs(t, outcome(t, first, "the first watcher"), errBored)
	require.NoError(t, h.Release(ctx))
	require.NoError(t, outcome(t, second, "the second watcher"))

	h, err = l.TryAcquire(ctx, "r")
	require.NoError(t, err)
	takenEverywhere(t, h, servers...) // or a node says that it is free
	began := time.Now()
	brief, stop := context.WithCancel(ctx)
	defer stop()
	last := inBackground(func() error { return l.WaitForUnlock(brief, "r") })
	eventually(t, func() bool {
		answers := 0
		for _, e := range told[redlock.NodeCall](watcher) {
			if e.Op == "inspect" && e.Start.After(began) {
				answers++
			}
		}
		return answers >= 2 // which settles it: an answer is counted before it is told
	}, "no answer to the look")
	stop()
	require.ErrorIs(t, outcome(t, last, "the last watcher"), redlock.ErrHeld)
	require.NoError(t, h.Release(ctx))
	noKeys(t, servers)
}

// The holder has crashed: nobody releases anything.
func TestExpiryIsNoticedByTheFirstOfManyWaiters(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	lockers := processes(t, servers, 40, byEvent)
	const ttl = 3 * time.Second
	dead := open(t, clients)
	_, err := dead.TryAcquire(ctx, "r", redlock.WithTTL(ttl))
	require.NoError(t, err)
	expires := time.Now().Add(ttl)
	got := make(chan time.Time, len(lockers))
	var dones []<-chan error
	for _, l := range lockers {
		dones = append(dones, inBackground(func() error {
			h, err := l.Acquire(ctx, "r")
			if err != nil {
				return err
			}
			got <- time.Now()
			return h.Release(ctx)
		}))
	}
	for _, done := range dones {
		require.NoError(t, outcome(t, done, "a waiter"))
	}
	first := <-got
	t.Logf("served %v after the end of the TTL", first.Sub(expires))
	require.Less(t, first.Sub(expires), 2*time.Second,
		"neither the expiry nor the grace has woken anybody")
	noKeys(t, servers)
}

func TestWaitersSurviveNodesThatRestartEmptyOrHang(t *testing.T) {
	ctx := context.Background()
	servers, _ := masters(t, 5)
	lockers := processes(t, servers, 4)
	var all sync.WaitGroup
	var held atomic.Int64
	var rounds atomic.Int64
	stop := make(chan struct{})
	errs := make(chan error, 1000)
	for i := range 32 {
		all.Add(1)
		go func() {
			defer all.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				h, err := lockers[i%len(lockers)].Acquire(ctx, "r")
				if err != nil {
					errs <- err
					return
				}
				if held.Add(1) > 1 && h.Err() == nil {
					errs <- errors.New("two holders")
				}
				held.Add(-1)
				_ = h.Release(ctx) // a node that has lost it is no reason to end
				rounds.Add(1)
			}
		}()
	}
	progress := func(why string) {
		t.Helper()
		before := rounds.Load()
		eventually(t, func() bool { return rounds.Load() > before+20 }, "no progress: %s", why)
	}
	progress("all is well")
	for _, s := range servers[:2] {
		require.NoError(t, s.Pause())
	}
	progress("two hang")
	for _, s := range servers[:2] {
		require.NoError(t, s.Resume())
	}
	progress("they go on")
	require.NoError(t, servers[4].Kill())
	progress("one is dead")
	servers[4].Restart(t)
	progress("it has come back empty")
	close(stop)
	all.Wait()
	require.Empty(t, errs)
	noKeys(t, servers)
}

// However short the longest wait is, there is one attempt, and the error says what it saw and why
// there is no other.
func TestShortestWaitBehindOthersInALocker(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 3)
	l := open(t, clients)
	h, err := l.TryAcquire(ctx, "r")
	require.NoError(t, err)
	bored, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	first := inBackground(func() error { return onlyError(l.Acquire(bored, "r")) })
	inLine(t, l, "r", 1)
	_, err = l.Acquire(ctx, "r", redlock.WithMaxWait(time.Microsecond))
	requireOnly(t, err, redlock.ErrHeld)
	require.ErrorContains(t, err, "the maximum wait of 1µs is over")
	var q *redlock.QuorumError
	require.ErrorAs(t, err, &q)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	second := inBackground(func() error { return onlyError(l.Acquire(bored, "r")) })
	cancel(errBored)
	for _, done := range []<-chan error{first, second} {
		err := outcome(t, done, "a waiter")
		require.ErrorIs(t, err, errBored)
	}
	inLine(t, l, "r", 0)
	require.NoError(t, h.Release(ctx))
}

// What waiters leave in the queue of a node that has another owner, when their locks end without a
// release.
func TestLocksThatEndWithoutAReleaseHoldNobodyUp(t *testing.T) {
	const waiters = 12
	for name, end := range map[string]func(h *redlock.Handle) error{
		"a minimum hold": func(h *redlock.Handle) error { return h.Release(context.Background()) },
		"their expiry":   func(h *redlock.Handle) error { <-h.Done(); return nil },
	} {
		runAlongside(t, name, func(t *testing.T) {
			ctx := context.Background()
			servers, clients := masters(t, 3)
			former, crowd, next := open(t, clients), open(t, clients), open(t, clients)
			servers[2].Do(t, "set", "lock:r", "AAAAAAAAAAAAAAAAAAAAAA:somebody")
			h, err := former.TryAcquire(ctx, "r")
			require.NoError(t, err)
			opts := []redlock.AcquireOption{redlock.WithTTL(20 * time.Second),
				redlock.WithMinHold(30 * time.Millisecond)}
			if name == "their expiry" {
				opts = []redlock.AcquireOption{redlock.WithTTL(50 * time.Millisecond)}
			}
			done := inBackground(func() error {
				return errors.Join(atOnce(waiters, func(int) error {
					h, err := crowd.Acquire(ctx, "r", opts...)
					if err != nil {
						return err
					}
					return end(h)
				})...)
			})
			inLine(t, next, "r", 1)
			require.NoError(t, h.Release(ctx))
			require.NoError(t, outcome(t, done, "the waiters"))
			if name == "a minimum hold" { // its end is known, so they need not be called first
				require.Eventually(t, func() bool {
					return servers[2].Do(t, "exists", "{lock:r}:queue").(int64) == 0
				}, 3*time.Second, 5*time.Millisecond, "they stay in line for 10 s")
			}

			// Now the node counts.
			servers[2].Do(t, "del", "lock:r")
			servers[0].Do(t, "set", "lock:r", "AAAAAAAAAAAAAAAAAAAAAA:somebody", "px", 3600*1000)
			began := time.Now()
			h, err = next.Acquire(ctx, "r")
			require.NoError(t, err)
			require.Less(t, time.Since(began), 3*time.Second,
				"those who were there before hold it up")
			require.NoError(t, h.Release(ctx))
		})
	}
}

// A wait that sees the lock expire leaves the queues of nodes on which it had seen it held.
func TestWaitForALockThatExpiresLeavesNothingBehind(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	warmUp(t, clients)
	_, err := open(t, clients, shortLived(400*time.Millisecond)...).TryAcquire(ctx, "r")
	require.NoError(t, err)
	require.NoError(t, open(t, clients).WaitForUnlock(ctx, "r"))
	noKeys(t, servers) // within 5 s, and a place in line lives for 11
}

// A leftover on the node that is nearest: the grant of a node that is far away is worth waiting
// for.
func TestWaiterGetsALockThatIsFreeOnFarNodes(t *testing.T) {
	ctx := context.Background()
	servers, _ := masters(t, 3)
	clients := func() []*redis.Client {
		far := servers[2].Proxy(t)
		far.DelayReplies(20 * time.Millisecond)
		clients := []*redis.Client{servers[0].Client(t), servers[1].Client(t), far.Client(t)}
		warmUp(t, clients)
		return clients
	}
	holder, waiter := open(t, clients()), open(t, clients())
	servers[0].Do(t, "set", "lock:r", "zzzzzzzzzzzzzzzzzzzzzz:crashed", "px", 60_000)
	h, err := holder.TryAcquire(ctx, "r", redlock.WithTTL(time.Minute))
	require.NoError(t, err)
	var got time.Time
	done := inBackground(func() error {
		h, err := waiter.Acquire(ctx, "r", redlock.WithTTL(time.Minute))
		if err != nil {
			return err
		}
		got = time.Now()
		return h.Release(ctx)
	})
	inLine(t, holder, "r", 1)
	released := time.Now()
	require.NoError(t, h.Release(ctx))
	require.NoError(t, outcome(t, done, "the waiter"))
	require.Less(t, got.Sub(released), 5*time.Second)
}

// Another waiter of the same Locker leaves while this one makes its first attempt, for which it has
// no place yet.
func TestWaiterThatGetsAPlaceWhileItTriesStandsThere(t *testing.T) {
	ctx := context.Background()
	servers, clients, taps := tapped(t, 3)
	l, other := open(t, clients, byEvent), processes(t, servers, 1, byEvent)[0]
	acquainted(t, other, l)
	h := heldEverywhere(t, other, servers, "r")
	watched, unwatch := context.WithCancel(ctx)
	watching := inBackground(func() error { return l.WaitForUnlock(watched, "r") })
	eventually(t, func() bool { return servers[0].Do(t, "exists", "{lock:r}:queue").(int64) == 1 },
		"nobody watches")
	g := newGate(t)
	for _, tap := range taps {
		tap.onSend(func(string) error { g.pass(); return nil })
	}
	first := inBackground(func() error { return haveOnce(ctx, l, "r") })
	outcome(t, g.reached, "the first attempt")
	bored, leave := context.WithCancel(ctx)
	second := observe(bored)
	left := inBackground(func() error { return onlyError(l.Acquire(second, "r")) })
	outcome(t, second.waited, "the second waiter")
	leave()
	require.ErrorIs(t, outcome(t, left, "the second waiter"), context.Canceled)
	g.open()
	unwatch()
	require.ErrorIs(t, outcome(t, watching, "the watcher"), context.Canceled)
	require.Eventually(t, func() bool {
		s, err := other.Inspect(ctx, "r")
		return err == nil && s.Waiters == 1
	}, time.Second, time.Millisecond, "it sleeps, and nobody calls it")
	require.NoError(t, h.Release(ctx))
	require.NoError(t, outcome(t, first, "the waiter"))
}
