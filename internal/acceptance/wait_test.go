package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

var errBored = errors.New("the waiter is bored")

// waits are the calls that wait for a resource.
var waits = map[string]func(ctx context.Context, l *redlock.Locker) error{
	"Acquire": func(ctx context.Context, l *redlock.Locker) error {
		_, err := l.Acquire(ctx, "r")
		return err
	},
	"AcquireMulti": func(ctx context.Context, l *redlock.Locker) error {
		_, err := l.AcquireMulti(ctx, []string{"free", "r"})
		return err
	},
	"Do": func(ctx context.Context, l *redlock.Locker) error {
		return l.Do(ctx, "r", func(context.Context) error { return nil })
	},
	"WaitForUnlock": func(ctx context.Context,
		l *redlock.Locker) error {
		return l.WaitForUnlock(ctx, "r")
	},
}

// eachWait runs a test for each of them.
func eachWait(t *testing.T, test func(t *testing.T,
	wait func(ctx context.Context, l *redlock.Locker) error)) {
	noLeak(t)
	for name, wait := range waits {
		runAlongside(t, name, func(t *testing.T) { test(t, wait) })
	}
}

func TestWaiterGoesOnAfterRelease(t *testing.T) {
	eachWait(t, func(t *testing.T, wait func(context.Context, *redlock.Locker) error) {
		ctx := context.Background()
		_, clients, taps := tapped(t, 3)
		holder, waiter := open(t, clients[:2]), open(t, clients)
		h, err := holder.TryAcquire(ctx, "r")
		require.NoError(t, err)

		seen := requests(taps[2], "r") // the holder does not know that node
		done := inBackground(func() error { return wait(ctx, waiter) })
		outcome(t, seen, "the first try")
		outcome(t, seen, "the next try, or the end of the first one")
		select {
		case err := <-done:
			t.Fatalf("did not wait: %v", err)
		default:
		}
		require.NoError(t, h.Release(ctx))
		require.NoError(t, outcome(t, done, "the waiter"))
	})
}

func TestWaiterIsWokenByTheExpiryAndNotByTheNextPoll(t *testing.T) {
	for _, ttl := range []time.Duration{time.Millisecond, 400 * time.Millisecond} {
		t.Run(ttl.String(), func(t *testing.T) {
			eachWait(t, func(t *testing.T, wait func(context.Context, *redlock.Locker) error) {
				servers, clients := masters(t, 3)
				l := open(t, clients, redlock.WithRetryInterval(time.Hour))
				takeFor(t, ttl, "r", servers...)
				done := inBackground(func() error { return wait(context.Background(), l) })
				require.NoError(t, outcome(t, done, "the waiter, who slept on"))
			})
		})
	}
}

func TestWaiterIsWokenByTheExpiryThatCountsWhereNodesDiffer(t *testing.T) {
	const hour = 3600 * 1000
	tests := []struct {
		name   string
		millis []int // of the foreign keys; 0: free, -1: for ever
	}{
		{"one node keeps a dead owner's key", []int{400, 400, hour}},
		{"one node never lets go", []int{400, -1, 400}},
		{"one node lets go early and another one late", []int{100, 400, hour}},
		{"one node is free", []int{0, 400, hour}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			servers, clients := masters(t, 3)
			l := open(t, clients, redlock.WithRetryInterval(time.Hour))
			for i, s := range servers {
				switch ms := test.millis[i]; ms {
				case 0:
				case -1:
					s.Do(t, "set", "lock:r", "x")
				default:
					s.Do(t, "set", "lock:r", "x", "px", ms)
				}
			}
			done := inBackground(func() error {
				_, err := l.Acquire(context.Background(), "r")
				return err
			})
			require.NoError(t, outcome(t, done, "the waiter, who slept on"))
		})
	}
}

func TestWaiterFollowsAHolderWhoExtendsAndThenLetsItExpire(t *testing.T) {
	eachWait(t, func(t *testing.T, wait func(context.Context, *redlock.Locker) error) {
		ctx := context.Background()
		_, clients := masters(t, 3)
		holder := open(t, clients, redlock.WithTTL(2*time.Second),
			redlock.WithNodeTimeout(time.Second))
		waiter := open(t, clients, redlock.WithRetryInterval(time.Hour))
		h, err := holder.TryAcquire(ctx, "r")
		require.NoError(t, err)
		done := inBackground(func() error { return wait(ctx, waiter) })
		require.NoError(t, h.Extend(ctx, 2200*time.Millisecond))
		require.NoError(t, h.Extend(ctx, 3*time.Second))
		require.NoError(t, outcome(t, done, "the waiter, who slept on"))
		require.ErrorIs(t, h.Err(), redlock.ErrLost, "two holders")
	})
}

func TestKeyThatLivesForAgesDoesNotKeepWaitersBusy(t *testing.T) {
	eachWait(t, func(t *testing.T, wait func(context.Context, *redlock.Locker) error) {
		servers, clients, taps := tapped(t, 3)
		warmUp(t, clients)
		for _, s := range servers {
			// more than a Duration can hold
			s.Do(t, "set", "lock:r", "x", "px", int64(9_223_370_000_000_000_000))
		}
		l := open(t, clients, redlock.WithRetryInterval(time.Hour))
		ctx, cancel := context.WithCancelCause(context.Background())
		defer cancel(nil)
		seen := requestsUntil(ctx, taps[0], "r") // then it leaves the line
		refused := make(chan struct{}, 2)
		for _, p := range taps[:2] { // a quorum
			var once sync.Once
			p.onReply(func(string) error {
				once.Do(func() { refused <- struct{}{} })
				return nil
			})
		}
		done := inBackground(func() error { return wait(ctx, l) })
		for range 2 {
			outcome(t, refused, "a refusal")
		}
		<-time.After(300 * time.Millisecond)
		cancel(errBored)
		err := outcome(t, done, "the waiter")
		require.ErrorIs(t, err, redlock.ErrHeld)
		require.ErrorIs(t, err, errBored)
		// A try, a place in line, and the same place when it can be called there; each as text too
		// if the node did not know the script.
		require.LessOrEqual(t, len(seen), 6)
	})
}

func TestWaitThatItsContextEndsTellsCauseAndReason(t *testing.T) {
	eachWait(t, func(t *testing.T, wait func(context.Context, *redlock.Locker) error) {
		for name, reason := range map[string]error{
			"contention": redlock.ErrHeld, "an outage": redlock.ErrNoQuorum,
		} {
			t.Run(name, func(t *testing.T) {
				servers, clients, taps := tapped(t, 3)
				l := open(t, clients, redlock.WithRetryInterval(5*time.Millisecond))
				warmUp(t, clients)
				for _, s := range servers[1:] {
					if reason == redlock.ErrHeld {
						takeFor(t, time.Hour, "r", s)
					} else {
						orphan(t, s)
					}
				}
				ctx, cancel := context.WithCancelCause(context.Background())
				seen := requests(taps[1], "r")
				done := inBackground(func() error { return wait(ctx, l) })
				for range 3 {
					outcome(t, seen, "some tries")
				}
				cancel(errBored)
				err := outcome(t, done, "the waiter")
				require.ErrorIs(t, err, errBored)
				requireOnly(t, err, reason)
				noKeys(t, servers[:1])
			})
		}
	})
}

func TestWaitLastsThroughAnOutage(t *testing.T) {
	eachWait(t, func(t *testing.T, wait func(context.Context, *redlock.Locker) error) {
		servers, clients, taps := tapped(t, 3)
		l := open(t, clients, redlock.WithNodeTimeout(300*time.Millisecond))
		for _, s := range servers[1:] {
			require.NoError(t, s.Kill())
		}
		_, err := l.TryAcquire(context.Background(), "r")
		require.ErrorIs(t, err, redlock.ErrNoQuorum)
		noKeys(t, servers[:1])

		seen := requests(taps[0], "r") // by the node that is left
		done := inBackground(func() error { return wait(context.Background(), l) })
		for range 3 {
			outcome(t, seen, "some tries")
		}
		for _, s := range servers[1:] {
			s.Restart(t)
		}
		require.NoError(t, outcome(t, done, "the waiter"))
	})
}

func TestMaximumWaitEndsWithTheReasonAndWithoutAContextError(t *testing.T) {
	const most = 300 * time.Millisecond
	for name, reason := range map[string]error{
		"contention": redlock.ErrHeld, "an outage": redlock.ErrNoQuorum,
	} {
		t.Run(name, func(t *testing.T) {
			servers, clients := masters(t, 3)
			l := open(t, clients, redlock.WithMaxWait(most), redlock.WithRetryInterval(time.Hour))
			warmUp(t, clients)
			for _, s := range servers {
				if reason == redlock.ErrHeld {
					takeFor(t, time.Hour, "r", s)
				} else {
					orphan(t, s)
				}
			}
			ctx := context.Background()
			for what, call := range map[string]func() error{
				"Acquire":      func() error { return waits["Acquire"](ctx, l) },
				"AcquireMulti": func() error { return waits["AcquireMulti"](ctx, l) },
				"Do":           func() error { return waits["Do"](ctx, l) },
				"an option of the call": func() error {
					_, err := l.Acquire(ctx, "r", redlock.WithMaxWait(most/2))
					return err
				},
			} {
				start := time.Now()
				err := call()
				took := time.Since(start)
				require.ErrorIs(t, err, reason, what)
				require.ErrorContains(t, err, "maximum wait", what)
				require.NotErrorIs(t, err, context.DeadlineExceeded, what)
				require.NotErrorIs(t, err, context.Canceled, what)
				require.GreaterOrEqual(t, took, most/2, what)
				require.Less(t, took, most+5*time.Second, what)
			}
			require.NoError(t, ctx.Err())
		})
	}
}

func TestMaximumWaitDoesNotBoundWhatDoesNotWait(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients, redlock.WithMaxWait(time.Second))
	var held context.Context
	require.NoError(t, l.Do(ctx, "r", func(ctx context.Context) error {
		held = ctx
		_, bounded := ctx.Deadline()
		require.False(t, bounded)
		return ctx.Err()
	}))
	require.ErrorIs(t, held.Err(), context.Canceled)
	h, err := l.Acquire(ctx, "r")
	require.NoError(t, err)
	require.NoError(t, h.Release(ctx))
	noKeys(t, servers)
}

func TestNothingIsSentWhenTheContextHasEndedBefore(t *testing.T) {
	servers, clients := masters(t, 3)
	l := open(t, clients)
	bored, cancel := context.WithCancelCause(context.Background())
	cancel(errBored)
	late, cancelLate := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancelLate()
	calls := map[string]func(ctx context.Context, l *redlock.Locker) error{
		"TryAcquire": func(ctx context.Context, l *redlock.Locker) error {
			_, err := l.TryAcquire(ctx, "r")
			return err
		},
		"TryAcquireMulti": func(ctx context.Context, l *redlock.Locker) error {
			_, err := l.TryAcquireMulti(ctx, []string{"r"})
			return err
		},
		"Adopt": func(ctx context.Context, l *redlock.Locker) error {
			_, err := l.Adopt(ctx, []string{"r"}, "x")
			return err
		},
		"IsLocked": func(ctx context.Context, l *redlock.Locker) error {
			_, err := l.IsLocked(ctx, "r")
			return err
		},
		"Inspect": func(ctx context.Context, l *redlock.Locker) error {
			_, err := l.Inspect(ctx, "r")
			return err
		},
	}
	for name, wait := range waits {
		calls[name] = wait
	}
	for name, call := range calls {
		err := call(bored, l)
		require.ErrorIs(t, err, errBored, name)
		require.NotErrorIs(t, err, redlock.ErrHeld, name)
		require.NotErrorIs(t, err, redlock.ErrNoQuorum, name)
		require.ErrorIs(t, call(late, l), context.DeadlineExceeded, name)
	}
	require.NoError(t, l.Close()) // nothing is on its way any more
	for _, s := range servers {
		require.Zero(t, scriptCalls(t, s))
	}
}

func TestCloseEndsWaitsAtOnce(t *testing.T) {
	eachWait(t, func(t *testing.T, wait func(context.Context, *redlock.Locker) error) {
		for name, prepare := range map[string]func(*testing.T, *redistest.Server){
			"for a holder": func(t *testing.T,
				s *redistest.Server) {
				s.Do(t, "set", "lock:r", "x")
			},
			"for the outage to end": orphan,
		} {
			t.Run(name, func(t *testing.T) {
				servers, clients, taps := tapped(t, 1)
				l := open(t, clients, redlock.WithRetryInterval(time.Hour))
				prepare(t, servers[0])
				ctx := observe(context.Background())
				answered := make(chan struct{}, 100)
				taps[0].onReply(func(string) error { answered <- struct{}{}; return nil })
				done := inBackground(func() error { return wait(ctx, l) })
				outcome(t, answered, "the first answer")
				outcome(t, ctx.waited, "the wait")
				require.NoError(t, l.Close())
				err := outcome(t, done, "the waiter")
				requireOnly(t, err, redlock.ErrClosed)
				require.ErrorIs(t, wait(ctx, l), redlock.ErrClosed)
			})
		}
	})
}

func TestWaitForUnlockOfAFreeResourceAsksOnce(t *testing.T) {
	servers, clients := masters(t, 1)
	l := open(t, clients, redlock.WithRetryInterval(time.Hour))
	require.NoError(t, l.WaitForUnlock(context.Background(), "r"))
	require.Equal(t, 1, servers[0].CommandCount(t, "evalsha"))
	require.Empty(t, servers[0].Keys(t), "it takes nothing")
}

func TestWaitForUnlockIgnoresKeysThatAreNoQuorum(t *testing.T) {
	servers, clients := masters(t, 5)
	l := open(t, clients, redlock.WithRetryInterval(time.Hour))
	for i, owner := range []string{"A", "A", "B", "B"} {
		servers[i].Do(t, "set", "lock:r", owner)
	}
	require.NoError(t, outcome(t, inBackground(func() error {
		return l.WaitForUnlock(context.Background(), "r")
	}), "the waiter"))
}

func TestEachAttemptHasATokenOfItsOwn(t *testing.T) {
	const attempts = 20
	ctx, cancel := context.WithCancelCause(context.Background())
	servers, clients, taps := tapped(t, 3)
	l := open(t, clients, redlock.WithOwner("waiter"), redlock.WithRetryInterval(time.Millisecond),
		redlock.WithTTL(31*time.Second))
	warmUp(t, clients)
	takeFor(t, time.Hour, "r", servers[:2]...)

	// The third node grants each attempt, unless the one before it is not undone there yet.
	var sent sync.Map
	acquired, strays := make(chan string, 10000), make(chan string, 10000)
	request := regexp.MustCompile(`{lock:r}:queue ([\w-]{22}:waiter)( 31000)?`)
	taps[2].onSend(func(text string) error {
		if strings.Contains(text, "[eval ") { // the same again, as text
			return nil
		}
		for _, m := range request.FindAllStringSubmatch(text, -1) {
			if m[2] != "" {
				sent.Store(m[1], true)
				acquired <- m[1]
			} else if _, known := sent.Load(m[1]); !known {
				strays <- m[1]
			}
		}
		return nil
	})
	done := inBackground(func() error { _, err := l.Acquire(ctx, "r"); return err })
	seen := make(map[string]bool)
	for range attempts {
		token := outcome(t, acquired, "an attempt")
		require.False(t, seen[token], "%s again", token)
		seen[token] = true
	}
	cancel(errBored)
	require.ErrorIs(t, outcome(t, done, "the waiter"), errBored)
	noKeys(t, servers[2:])
	require.Empty(t, strays, "a release of what was not acquired")
}

func TestWaitersOfManyLockersAllGetTheirTurn(t *testing.T) {
	const waiters = 12
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, n := range []int{1, 2, 3, 4} { // even numbers of nodes split evenly
		t.Run(fmt.Sprintf("%d nodes", n), func(t *testing.T) {
			servers, clients := masters(t, n)
			holder := make(chan struct{}, 1)
			var results []<-chan error
			for range waiters {
				l := open(t, clients, redlock.WithRetryInterval(2*time.Millisecond))
				results = append(results, inBackground(func() error {
					return l.Do(ctx, "r", func(context.Context) error {
						select {
						case holder <- struct{}{}:
						default:
							return errors.New("two holders")
						}
						<-holder
						return nil
					})
				}))
			}
			for _, result := range results {
				require.NoError(t, outcome(t, result, "a turn"))
			}
			noKeys(t, servers)
		})
	}
}

// What a call has not heard when its context ends says nothing of the nodes.
func TestCallThatItsContextCutsShortIsNoOutage(t *testing.T) {
	servers, clients := masters(t, 3)
	l := open(t, clients, redlock.WithNodeTimeout(10*time.Second))
	warmUp(t, clients)
	for _, s := range servers {
		freeze(t, s)
	}
	for name, call := range map[string]func(ctx context.Context) error{
		"TryAcquire": func(ctx context.Context) error {
			return onlyError(l.TryAcquire(ctx, "r"))
		},
		"Acquire": func(ctx context.Context) error { return onlyError(l.Acquire(ctx, "r")) },
		"Adopt": func(ctx context.Context) error {
			return onlyError(l.Adopt(ctx, []string{"r"}, "token"))
		},
		"WaitForUnlock": func(ctx context.Context) error { return l.WaitForUnlock(ctx, "r") },
	} {
		ctx, cancel := context.WithTimeoutCause(context.Background(), 60*time.Millisecond, errBored)
		err := call(ctx)
		require.ErrorIs(t, err, errBored, name)
		require.ErrorIs(t, err, context.DeadlineExceeded, name)
		require.NotErrorIs(t, err, redlock.ErrNoQuorum, name)
		cancel()
	}
}
