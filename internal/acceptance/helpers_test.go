package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
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
			eventually(t, func() bool { return ownerOn(t, s, r) == h.Token() },
				"%s not taken on node %d", r, i)
		}
	}
}

// warmUp makes every node know its scripts and every client have a connection, so that what follows
// is one command each. It leaves nothing behind and nothing under way.
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

// fault is what makes a server useless, and what makes it work again.
type fault struct {
	name         string
	strike, cure func(t *testing.T, s *redistest.Server)
}

var (
	down = fault{
		name:   "down",
		strike: func(t *testing.T, s *redistest.Server) { require.NoError(t, s.Kill()) },
		cure:   func(t *testing.T, s *redistest.Server) { s.Restart(t) },
	}
	hung = fault{
		name:   "hung",
		strike: func(t *testing.T, s *redistest.Server) { freeze(t, s) },
		cure:   func(t *testing.T, s *redistest.Server) { require.NoError(t, s.Resume()) },
	}
	refusing = fault{name: "refusing", strike: denyAllScripts, cure: allowScripts}
)

// oneAndSeveral are the lists of resources of tests in which the number may matter.
var oneAndSeveral = map[string][]string{"one resource": {"a"}, "several resources": {"a", "b", "c"}}

// resetStats starts the servers' counts of commands anew.
func resetStats(t *testing.T, servers ...*redistest.Server) {
	t.Helper()
	for _, s := range servers {
		s.ResetStats(t)
	}
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

// noKeysBut checks that nothing but some resources' keys is left on any of the servers, as noKeys
// does.
func noKeysBut(t *testing.T, servers []*redistest.Server, resources ...string) {
	t.Helper()
	for i, s := range servers {
		eventually(t, func() bool {
			return !slices.ContainsFunc(s.Keys(t), func(key string) bool {
				return !slices.ContainsFunc(resources,
					func(r string) bool { return key == lockKey(r) })
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

// takeFor makes a stranger the owner of a resource on some servers, whoever has it now.
func takeFor(t *testing.T, px time.Duration, resource string, servers ...*redistest.Server) {
	t.Helper()
	for _, s := range servers {
		s.Do(t, "set", lockKey(resource), stranger, "px", px.Milliseconds())
	}
}

// keysOutlive checks that servers keep a resource for at least as long as the handle trusts them
// to.
func keysOutlive(t *testing.T, h *redlock.Handle, servers ...*redistest.Server) {
	t.Helper()
	for _, s := range servers {
		left := keyTTL(t, s, "lock:"+h.Resources()[0])
		trusted := time.Until(h.ValidUntil())
		require.LessOrEqual(t, trusted, left, "the lease outlives the key")
	}
}

// denyAllScripts makes a server answer every script with an error.
func denyAllScripts(t *testing.T, s *redistest.Server) {
	t.Helper()
	s.Do(t, "acl", "setuser", "default", "-eval", "-evalsha")
}

// allowScripts undoes denyAllScripts.
func allowScripts(t *testing.T, s *redistest.Server) {
	t.Helper()
	s.Do(t, "acl", "setuser", "default", "+eval", "+evalsha")
}

// orphan makes a server the replica of a master that is not there. It answers every script with an
// error.
func orphan(t *testing.T, s *redistest.Server) {
	t.Helper()
	s.Do(t, "config", "set", "replica-serve-stale-data", "no")
	s.Do(t, "replicaof", "127.0.0.1", "1")
}

// lockKeys returns the keys of resources under the default prefix, sorted.
func lockKeys(resources ...string) []string {
	keys := make([]string, len(resources))
	for i, r := range resources {
		keys[i] = "lock:" + r
	}
	slices.Sort(keys)
	return keys
}

// scriptCalls returns how many scripts a server has been asked to run.
func scriptCalls(t *testing.T, s *redistest.Server) int {
	t.Helper()
	stats := s.Stats(t)
	return stats["evalsha"] + stats["eval"]
}

// heldEverywhere locks resources and waits until all the servers have them, where a call returns
// with a quorum.
func heldEverywhere(t *testing.T, l *redlock.Locker, servers []*redistest.Server,
	resources ...string) *redlock.Handle {
	t.Helper()
	h, err := l.TryAcquireMulti(context.Background(), resources)
	require.NoError(t, err)
	takenEverywhere(t, h, servers...)
	return h
}

// haveOnce waits for a lock and releases it.
func haveOnce(ctx context.Context, l *redlock.Locker, resources ...string) error {
	h, err := l.AcquireMulti(ctx, resources)
	if err != nil {
		return err
	}
	return h.Release(ctx)
}

// keyTTL returns for how long a server will keep a key.
func keyTTL(t *testing.T, s *redistest.Server, key string) time.Duration {
	t.Helper()
	ms, ok := s.Do(t, "pttl", key).(int64)
	require.True(t, ok)
	require.GreaterOrEqual(t, ms, int64(-1), "no such key: %q", key)
	return time.Duration(ms) * time.Millisecond
}

// waitForKeys waits until a server has these keys and no others.
func waitForKeys(t *testing.T, s *redistest.Server, want ...string) {
	t.Helper()
	require.Eventually(t, func() bool {
		return slices.Equal(s.Keys(t), want)
	}, 5*time.Second, time.Millisecond, "not exactly the keys %q", want)
}

// shortLived are the options for locks that are to expire soon. The nodes get nearly all that time
// to answer: the machine may be busy.
func shortLived(ttl time.Duration) []redlock.Option {
	return []redlock.Option{redlock.WithTTL(ttl), redlock.WithNodeTimeout(ttl * 9 / 10)}
}

// expiring returns a context for one call that would wait for ever.
func expiring(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// nodesNamed returns the indices of the nodes that an error blames.
func nodesNamed(e *redlock.QuorumError) []int {
	named := make([]int, len(e.Nodes))
	for i, n := range e.Nodes {
		named[i] = n.Node
	}
	return named
}

// requireOnly checks that an error is the wanted one of the library's and none of the others. nil:
// there is no error.
func requireOnly(t *testing.T, err, want error, msgAndArgs ...any) {
	t.Helper()
	require.ErrorIs(t, err, want, msgAndArgs...)
	requireNoneBut(t, err, want, msgAndArgs...)
}

// requireNoneBut checks that an error is none of the library's, or the given one.
func requireNoneBut(t *testing.T, err, want error, msgAndArgs ...any) {
	t.Helper()
	for _, other := range []error{
		redlock.ErrHeld, redlock.ErrNoQuorum, redlock.ErrMisconfigured, redlock.ErrLost,
		redlock.ErrReleased, redlock.ErrClosed,
	} {
		if other != want && !(other == redlock.ErrMisconfigured && want == redlock.ErrNoQuorum) {
			// which matches both
			require.NotErrorIs(t, err, other, msgAndArgs...)
		}
	}
}

// outcome waits for what a channel brings.
func outcome[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(10 * time.Second):
		t.Fatalf("waited too long: %s", what)
	}
	return v
}

// inBackground runs a call and returns where its error will be found.
func inBackground(call func() error) <-chan error {
	c := make(chan error, 1)
	go func() { c <- call() }()
	return c
}

// isClosed reports whether a channel is closed.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// together runs functions at the same time and returns what went wrong.
func together(fns ...func() error) error {
	errs := make([]error, len(fns))
	var wg sync.WaitGroup
	for i, fn := range fns {
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = fn()
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}

// wrapped is a client in a wrapper, as programs have them for tracing or metrics. What is inside
// cannot be told.
type wrapped struct{ redis.UniversalClient }
