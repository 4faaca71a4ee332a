package acceptance_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// manyNames returns n resources in sorted order.
func manyNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("r%05d", i)
	}
	return names
}

func TestOverlappingMultiLocksInOppositeOrdersAllMakeProgress(t *testing.T) {
	const rounds = 15
	servers, clients := masters(t, 3)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	holders := map[string]*atomic.Int32{"a": {}, "b": {}, "c": {}}
	var wg sync.WaitGroup
	errs := make(chan error, 1000)
	for _, resources := range [][]string{
		{"a", "b"}, {"b", "a"}, {"b", "c"}, {"c", "b", "a"}, {"b"},
	} {
		l := open(t, clients, redlock.WithRetryInterval(5*time.Millisecond))
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range rounds {
				h, err := l.AcquireMulti(ctx, resources)
				if err != nil {
					errs <- fmt.Errorf("%v, round %d: %w", resources, i, err)
					return
				}
				for _, r := range resources {
					if n := holders[r].Add(1); n != 1 {
						errs <- fmt.Errorf("%d holders of %s", n, r)
					}
				}
				for _, r := range resources {
					holders[r].Add(-1)
				}
				if err := h.Release(ctx); err != nil {
					errs <- err
				}
			}
		}()
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	noKeys(t, servers)
}

func TestMultiSortsAndDeduplicatesWithoutTouchingTheCallersList(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients)
	asked := []string{"c", "a", "b", "a", "c", "c"}
	want := []string{"a", "b", "c"}

	h, err := l.TryAcquireMulti(ctx, asked)
	require.NoError(t, err)
	require.Equal(t, []string{"c", "a", "b", "a", "c", "c"}, asked)
	require.Equal(t, want, h.Resources())
	for _, s := range servers {
		waitForKeys(t, s, lockKeys(want...)...)
	}

	// What the caller does with his lists afterwards is his own affair.
	asked[0] = "mine"
	clear(h.Resources())
	require.Equal(t, want, h.Resources())
	require.NoError(t, h.Extend(ctx, time.Minute))
	require.NoError(t, h.Release(ctx))
	noKeys(t, servers)
}

func TestOneForeignKeyAmongManyKeepsTheOthersOffItsNode(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	names := manyNames(64)
	for _, foreign := range []int{0, 31, 63} {
		for nodes := 1; nodes <= len(servers); nodes++ {
			t.Run(fmt.Sprintf("number %d on %d nodes", foreign, nodes), func(t *testing.T) {
				l := open(t, clients)
				takeFor(t, time.Minute, names[foreign], servers[:nodes]...)
				h, err := l.TryAcquireMulti(ctx, names)
				if nodes == 1 {
					require.NoError(t, err)
					require.NoError(t, h.Extend(ctx, time.Minute))
				} else {
					requireOnly(t, err, redlock.ErrHeld)
				}
				for _, s := range servers[:nodes] {
					require.Equal(t, lockKeys(names[foreign]), s.Keys(t))
				}
				if nodes == 1 {
					require.NoError(t, h.Release(ctx))
				}
				require.NoError(t, l.Close()) // all has arrived
				noKeys(t, servers[nodes:])
				for _, s := range servers[:nodes] {
					require.Equal(t, stranger, ownerOn(t, s, names[foreign]))
					s.Do(t, "flushall")
				}
			})
		}
	}
}

func TestMultiAsksEachNodeOnceWhateverTheNumberOfResources(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	warmUp(t, clients)
	l := open(t, clients)
	for _, n := range []int{1, 2, 64, 1500} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			counted := func(what string, call func() error) {
				resetStats(t, servers...)
				require.NoError(t, call())
				for _, s := range servers { // the third node need not have been waited for
					require.Eventually(t, func() bool { return s.CommandCount(t, "evalsha") == 1 },
						5*time.Second, 2*time.Millisecond, what)
				}
			}
			var h *redlock.Handle
			counted("acquire", func() (err error) {
				h, err = l.TryAcquireMulti(ctx, manyNames(n))
				return err
			})
			for _, s := range servers {
				require.Len(t, s.Keys(t), n)
			}
			counted("extend", func() error { return h.Extend(ctx, time.Hour) })
			counted("release", func() error { return h.Release(ctx) })
			for _, s := range servers {
				require.Equal(t, 1, s.CommandCount(t, "evalsha"), "something followed")
			}
			noKeys(t, servers)
		})
	}
}

func TestMultiIsUndoneInFullWhereverNodesFail(t *testing.T) {
	names := manyNames(8)
	for _, fault := range []fault{down, hung, refusing} {
		for k := range 3 {
			t.Run(fmt.Sprintf("node %d and the next are %s", k, fault.name), func(t *testing.T) {
				ctx := context.Background()
				servers, clients := masters(t, 3)
				l := open(t, clients, redlock.WithNodeTimeout(500*time.Millisecond))
				warmUp(t, clients)
				first, second, healthy := servers[k], servers[(k+1)%3], servers[(k+2)%3]

				fault.strike(t, first)
				h, err := l.TryAcquireMulti(ctx, names)
				require.NoError(t, err)
				require.NoError(t, h.Release(ctx))

				fault.strike(t, second)
				_, err = l.TryAcquireMulti(ctx, names)
				requireOnly(t, err, redlock.ErrNoQuorum)
				noKeys(t, []*redistest.Server{healthy})

				// What the others do belatedly is undone as well.
				fault.cure(t, first)
				fault.cure(t, second)
				noKeys(t, servers)
			})
		}
	}
}

// breakMulti is what can happen to one resource of a multi lock on a server.
var breakMulti = map[string]func(t *testing.T, s *redistest.Server, resource string){
	"gone": func(t *testing.T, s *redistest.Server,
		resource string) {
		s.Do(t, "del", "lock:"+resource)
	},
	"foreign": func(t *testing.T, s *redistest.Server,
		resource string) {
		takeFor(t, time.Minute, resource, s)
	},
}

func TestReleaseTellsWhenAMultiLockIsPartlyGone(t *testing.T) {
	names := []string{"a", "b", "c"}
	for what, breakOne := range breakMulti {
		for _, victim := range names {
			for nodes := 1; nodes <= 3; nodes++ {
				t.Run(fmt.Sprintf("%s is %s on %d nodes", victim, what, nodes), func(t *testing.T) {
					ctx := context.Background()
					servers, clients := masters(t, 3)
					h := heldEverywhere(t, open(t, clients), servers, names...)
					for _, s := range servers[:nodes] {
						breakOne(t, s, victim)
					}
					err := h.Release(ctx)
					if nodes == 1 {
						require.NoError(t, err)
					} else {
						requireOnly(t, err, redlock.ErrLost)
						require.ErrorContains(t, err, fmt.Sprintf("%q", victim))
					}
					require.Equal(t, err, h.Release(ctx), "the first call decides")
					if what == "foreign" {
						for _, s := range servers[:nodes] {
							require.Equal(t, stranger, ownerOn(t, s, victim))
							require.Eventually(t, func() bool { return len(s.Keys(t)) == 1 },
								5*time.Second, 2*time.Millisecond)
							s.Do(t, "flushall")
						}
					}
					noKeys(t, servers)
				})
			}
		}
	}
}

func TestReleaseOfAMultiLockThatIsGoneAltogetherHasNothingToComplainAbout(t *testing.T) {
	servers, clients := masters(t, 3)
	h := heldEverywhere(t, open(t, clients), servers, "a", "b")
	for _, s := range servers {
		s.Do(t, "flushall")
	}
	require.NoError(t, h.Release(context.Background()),
		"nothing is left, as after a release whose answer was lost")
}

func TestExtendOfAMultiLockThatIsPartlyGoneIsALossAndRecreatesNothing(t *testing.T) {
	names := []string{"a", "b", "c"}
	for what, breakOne := range breakMulti {
		for _, victim := range names {
			t.Run(fmt.Sprintf("%s is %s", victim, what), func(t *testing.T) {
				ctx := context.Background()
				servers, clients := masters(t, 3)
				h := heldEverywhere(t, open(t, clients), servers, names...)
				for _, s := range servers[:2] {
					breakOne(t, s, victim)
				}
				require.ErrorIs(t, h.Extend(ctx, time.Hour), redlock.ErrLost)
				require.ErrorIs(t, h.Err(), redlock.ErrLost)
				require.ErrorIs(t, h.Extend(ctx, time.Hour), redlock.ErrLost)
				require.ErrorIs(t, h.Release(ctx), redlock.ErrLost)
				if what == "foreign" {
					for _, s := range servers[:2] {
						require.Equal(t, stranger, ownerOn(t, s, victim))
						require.LessOrEqual(t, s.Do(t, "pttl", "lock:"+victim),
							time.Minute.Milliseconds())
						s.Do(t, "del", "lock:"+victim)
					}
				}
				noKeys(t, servers)
			})
		}
	}
}

func TestExtendHealsAMultiLockOnAMinority(t *testing.T) {
	ctx := context.Background()
	names := []string{"a", "b", "c"}
	servers, clients := masters(t, 3)
	h := heldEverywhere(t, open(t, clients), servers, names...)
	servers[1].Do(t, "del", "lock:b")
	require.NoError(t, h.Extend(ctx, time.Hour))
	require.Eventually(t, func() bool { return servers[1].Do(t, "get", "lock:b") == h.Token() },
		5*time.Second, 2*time.Millisecond)
	require.Greater(t, servers[1].Do(t, "pttl", "lock:b"), (59 * time.Minute).Milliseconds())
	require.NoError(t, h.Release(ctx))
	noKeys(t, servers)
}

func TestListsOfResourcesThatCannotBeLockedAreRefusedUnsent(t *testing.T) {
	servers, clients := masters(t, 1)
	l := open(t, clients)
	tests := []struct {
		name      string
		resources []string
		says      string
	}{
		{"nil", nil, "list of resources is empty"},
		{"an empty list", []string{}, "list of resources is empty"},
		{"one empty name", []string{""}, `empty ("")`},
		{"an empty name in front", []string{"", "a", "b"}, "resource 0 of 3"},
		{"an empty name in the middle", []string{"b", "", "a"}, "resource 1 of 3"},
		{"an empty name at the end", []string{"b", "a", "a", ""}, "resource 3 of 4"},
		{"two empty names", []string{"b", "", "a", ""}, "resource 1 of 4"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			asked := slices.Clone(test.resources)
			for op, call := range map[string]func() (*redlock.Handle, error){
				"TryAcquireMulti": func() (*redlock.Handle,
					error) {
					return l.TryAcquireMulti(context.Background(), asked)
				},
				"AcquireMulti": func() (*redlock.Handle,
					error) {
					return l.AcquireMulti(context.Background(), asked)
				},
				"Adopt": func() (*redlock.Handle,
					error) {
					return l.Adopt(context.Background(), asked, "token")
				},
			} {
				h, err := call()
				require.Nil(t, h, op)
				require.ErrorContains(t, err, test.says, op)
				for _, other := range []error{
					redlock.ErrHeld, redlock.ErrNoQuorum, redlock.ErrLost,
				} {
					require.NotErrorIs(t, err, other, op)
				}
			}
			require.Equal(t, test.resources, asked)
		})
	}
	require.Zero(t, scriptCalls(t, servers[0]))
}

func TestNamesMayHoldAnyBytes(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	names := []string{
		"\x00", "a\x00b", "a", "\xff\xfe", "\r\n", "a\r\nb", " ", "%s%d", "a:b", ":", "lock:a", "{",
		"}", "{}", "}{", "{a}", "{a", "a}",
		"$-1", "*1", `"quoted"`, `\`, "ключ", "鍵", strings.Repeat("x", 1<<20),
	}
	for _, prefix := range []string{"lock", "", "{}", "\x00"} {
		t.Run(fmt.Sprintf("prefix %q", prefix), func(t *testing.T) {
			mine, theirs := open(t, clients, redlock.WithKeyPrefix(prefix)),
				open(t, clients, redlock.WithKeyPrefix(prefix))
			h, err := mine.TryAcquireMulti(ctx, names)
			require.NoError(t, err)
			sorted := slices.Sorted(slices.Values(names))
			require.Equal(t, sorted, h.Resources())
			want := slices.Clone(names)
			if prefix != "" {
				for i, name := range want {
					want[i] = prefix + ":" + name
				}
			}
			slices.Sort(want)
			for _, s := range servers {
				waitForKeys(t, s, want...)
			}
			for _, name := range names {
				_, err := theirs.TryAcquire(ctx, name)
				require.ErrorIs(t, err, redlock.ErrHeld)
				require.Less(t, len(err.Error()), 2000, "the message is flooded")
			}
			require.NoError(t, h.Extend(ctx, time.Minute))
			require.NoError(t, h.Release(ctx))
			noKeys(t, servers)
		})
	}
}
