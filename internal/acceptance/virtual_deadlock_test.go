//go:build go1.25

package acceptance_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/protocol"
)

// diary is a logger whose records can be looked up.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(writer(func(b []byte) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.lines = append(d.lines, string(b))
	}), nil))
}

// with returns the records that contain all the texts.
func (d *diary) with(texts ...string) (found []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, line := range d.lines {
		has := true
		for _, text := range texts {
			has = has && strings.Contains(line, text)
		}
		if has {
			found = append(found, line)
		}
	}
	return found
}

const (
	deadlockWarning = "deadlock: this wait ends"
	longWait        = "a wait is long"
)

// party is a process that holds something and waits for something else: a Locker of its own, so
// that it learns of others from the nodes only.
type party struct {
	*diary
	name string
	l    *redlock.Locker
	h    *redlock.Handle
	got  chan *redlock.Handle
	err  chan error
}

// newParty returns one that holds some resources.
func newParty(t *testing.T, nodes []*virtualNode, name string, after time.Duration,
	holds ...string) *party {
	t.Helper()
	p := &party{diary: &diary{}, name: name, got: make(chan *redlock.Handle, 1),
		err: make(chan error, 1)}
	p.l = open(t, clientsOf(nodes), redlock.WithOwner(name), redlock.WithAutoRenewal(true),
		redlock.WithLogger(p.logger()), redlock.WithDeadlockDetection(after))
	if len(holds) > 0 {
		var err error
		p.h, err = p.l.TryAcquireMulti(context.Background(), holds)
		require.NoError(t, err)
	}
	return p
}

// waitFor begins to wait for some resources, as a task that holds what the party holds.
func (p *party) waitFor(resources []string, opts ...redlock.AcquireOption) {
	ctx := context.Background()
	if p.h != nil {
		ctx = p.h.Context(ctx)
	}
	go func() {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Minute) // for tests that fail
		defer cancel()
		h, err := p.l.AcquireMulti(ctx, resources, opts...)
		p.got <- h
		p.err <- err
	}()
}

// leave releases what the party holds or has got.
func (p *party) leave(t *testing.T, h *redlock.Handle) {
	t.Helper()
	if h != nil {
		require.NoError(t, h.Release(context.Background()))
	}
	if p.h != nil {
		require.NoError(t, p.h.Release(context.Background()))
	}
}

// knowsScripts runs a test in virtual time, on nodes that have been sent the scripts: a pipe takes
// no batch with long texts.
func knowsScripts(t *testing.T, test func(t *testing.T, nodes []*virtualNode)) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		for _, name := range protocol.ScriptNames {
			text := protocol.Source(os.DirFS("../.."), name)
			for _, n := range nodes {
				require.NoError(t, n.client.ScriptLoad(context.Background(), text).Err())
			}
		}
		test(t, nodes)
	})
}

// nothingLeft checks that nodes have no keys.
func nothingLeft(t *testing.T, nodes []*virtualNode) {
	t.Helper()
	time.Sleep(100 * time.Millisecond)
	for i, n := range nodes {
		require.Empty(t, n.client.Keys(context.Background(), "*").Val(), "keys left on node %d", i)
	}
}

func TestVirtualDeadlockIsToldToTheYoungestAndTheOthersGoOn(t *testing.T) {
	for name, ring := range map[string][][]string{
		"two":       {{"a"}, {"b"}},
		"three":     {{"a"}, {"b"}, {"c"}},
		"several":   {{"a", "a2"}, {"b", "b2"}, {"c", "c2"}},
		"many":      {{"a"}, {"b"}, {"c"}, {"d"}, {"e"}, {"f"}, {"g"}},
		"the label": {{"own er"}, {`quo"ted`}},
	} {
		t.Run(name, func(t *testing.T) {
			knowsScripts(t, func(t *testing.T, nodes []*virtualNode) {
				parties := make([]*party, len(ring))
				for i := range ring {
					parties[i] = newParty(t, nodes, "owner "+ring[i][0], time.Second, ring[i]...)
				}
				start := time.Now()
				for i, p := range parties {
					p.waitFor(ring[(i+1)%len(ring)])
					time.Sleep(10 * time.Millisecond)
				}
				last := len(parties) - 1
				youngest := parties[last]
				err := <-youngest.err
				require.ErrorIs(t, err, redlock.ErrDeadlock)
				requireNoneBut(t, err, nil)
				require.NotErrorIs(t, err, context.Canceled)
				require.Less(t, time.Since(start), 4*time.Second)
				var found *redlock.DeadlockError
				require.ErrorAs(t, err, &found)
				require.Len(t, found.Cycle, len(ring))
				for i, w := range found.Cycle {
					at := (last + i) % len(ring)
					require.Equal(t, "owner "+ring[at][0], w.Owner)
					require.Equal(t, ring[(at+1)%len(ring)][0], w.Resource)
				}
				require.Nil(t, <-youngest.got)
				youngest.leave(t, nil)

				for i := last - 1; i >= 0; i-- {
					p := parties[i]
					require.NoError(t, <-p.err)
					p.leave(t, <-p.got)
					require.Empty(t, p.with("eadlock"), "another one is told")
				}
				synctest.Wait() // for the log
				said := youngest.with("WARN", deadlockWarning)
				require.Len(t, said, 1)
				for _, holds := range ring {
					require.Contains(t, strings.ReplaceAll(said[0], `\`, ""), "owner "+holds[0])
					require.Contains(t, strings.ReplaceAll(said[0], `\`, ""), `s for "`+holds[0])
				}
				nothingLeft(t, nodes)
			})
		})
	}
}

// apart has no two scripts run at the same moment: a node tells by the time which of two came
// first.
func apart(nodes []*virtualNode) {
	for i, n := range nodes {
		n.delayBy(time.Duration(i+1) * time.Millisecond)
		n.delayMoreBy(time.Microsecond)
	}
}

// Whoever waits for several locks keeps those that are free from all who came later, also from
// somebody who has another of them.
func TestVirtualWaitForSeveralLocksKeepsThemFromOthers(t *testing.T) {
	knowsScripts(t, func(t *testing.T, nodes []*virtualNode) {
		one, several := newParty(t, nodes, "one", time.Second, "b"),
			newParty(t, nodes, "several", time.Second)
		apart(nodes)
		several.waitFor([]string{"a", "b"})
		time.Sleep(500 * time.Millisecond) // by then it stands in the queues
		one.waitFor([]string{"a"})
		require.EqualError(t, <-one.err,
			`redlock: acquire "a": deadlock: "one" waits for "a", kept for "several", which waits for "b", held by "one"`)
		one.leave(t, <-one.got)
		require.NoError(t, <-several.err)
		several.leave(t, <-several.got)
		synctest.Wait() // for the log
		require.Empty(t, several.with("eadlock"))
		require.Len(t, one.with("WARN", deadlockWarning), 1)
		nothingLeft(t, nodes)
	})
}

func TestVirtualWaitForSeveralLocksMayBeOneOfMany(t *testing.T) {
	knowsScripts(t, func(t *testing.T, nodes []*virtualNode) {
		one, two := newParty(t, nodes, "one", time.Second, "c"),
			newParty(t, nodes, "two", time.Second, "b")
		several, free := newParty(t, nodes, "several", time.Second),
			newParty(t, nodes, "free", time.Second)
		apart(nodes)
		several.waitFor([]string{"a", "b"})
		time.Sleep(500 * time.Millisecond) // by then it stands in the queues
		one.waitFor([]string{"a"})
		time.Sleep(10 * time.Millisecond)
		two.waitFor([]string{"c"})
		time.Sleep(10 * time.Millisecond)
		free.waitFor([]string{"a"}) // waits in vain too, but nobody waits for it
		require.EqualError(t, <-two.err,
			`redlock: acquire "c": deadlock: "two" waits for "c", held by "one", `+
				`which waits for "a", kept for "several", which waits for "b", held by "two"`)
		two.leave(t, <-two.got)
		for _, p := range []*party{several, one, free} {
			require.NoError(t, <-p.err)
			p.leave(t, <-p.got)
			require.Empty(t, p.with("eadlock"))
		}
		require.Contains(t, free.with("INFO", longWait)[0],
			`\"several\" is first in line for \"a\" and waits for \"b\"`)
		nothingLeft(t, nodes)
	})
}

// The first search finds a circle, and before the second one the other wait ends.
func TestVirtualWaitThatEndsIsNotReported(t *testing.T) {
	knowsScripts(t, func(t *testing.T, nodes []*virtualNode) {
		const after = 2 * time.Second // and a second from one look to the next
		older, younger := newParty(t, nodes, "older", after, "a"),
			newParty(t, nodes, "younger", after, "b")
		older.waitFor([]string{"b"}, redlock.WithMaxWait(after+500*time.Millisecond))
		time.Sleep(100 * time.Millisecond)
		younger.waitFor([]string{"a"})

		require.ErrorIs(t, <-older.err, redlock.ErrHeld)
		time.Sleep(10 * time.Second)
		require.Empty(t, younger.err, "told of a deadlock")
		require.Empty(t, younger.with("deadlock"))
		require.Empty(t, older.with("eadlock"))
		older.leave(t, <-older.got)
		require.NoError(t, <-younger.err)
		younger.leave(t, <-younger.got)
		nothingLeft(t, nodes)
	})
}

func TestVirtualChainWithoutACircleIsLoggedOnceAsLong(t *testing.T) {
	knowsScripts(t, func(t *testing.T, nodes []*virtualNode) {
		first := newParty(t, nodes, "first", time.Second, "a")
		time.Sleep(time.Minute)
		second := newParty(t, nodes, "second", time.Second, "b")
		third := newParty(t, nodes, "third", time.Second)
		second.waitFor([]string{"a"})
		time.Sleep(5 * time.Second)
		third.waitFor([]string{"b"})
		time.Sleep(time.Minute)

		require.Empty(t, first.with(longWait))
		said := second.with("INFO", longWait)
		require.Len(t, said, 1)
		require.Contains(t, said[0], `\"first\" has held \"a\" for at least`)
		said = third.with("INFO", longWait)
		require.Len(t, said, 1)
		require.Regexp(t, `second\\" has held \\"b\\" for at least (5.5|6)s and waits for \\"a\\"`,
			said[0])
		for _, p := range []*party{first, second, third} {
			require.Empty(t, p.with("WARN"))
		}
		require.NoError(t, first.h.Release(context.Background()))
		for _, p := range []*party{second, third} {
			require.NoError(t, <-p.err)
			p.leave(t, <-p.got)
		}
		nothingLeft(t, nodes)
	})
}

// A process that has died cannot be in a deadlock, whatever it has published.
func TestVirtualDeadWaitIsNotInACircle(t *testing.T) {
	knowsScripts(t, func(t *testing.T, nodes []*virtualNode) {
		const after = 2 * time.Second
		dead, alive := newParty(t, nodes, "dead", after, "a"),
			newParty(t, nodes, "alive", after, "b")
		dead.waitFor([]string{"b"})
		time.Sleep(after + 100*time.Millisecond) // published
		var keys []string
		notices := make([]map[string]string, len(nodes))
		for i, n := range nodes {
			keys = n.client.Keys(context.Background(), "*:waits").Val()
			require.Equal(t, []string{"{lock:a}:waits"}, keys)
			require.LessOrEqual(t, n.client.PTTL(context.Background(), keys[0]).Val(),
				5*time.Second)
			notices[i] = n.client.HGetAll(context.Background(), keys[0]).Val()
			for _, text := range notices[i] {
				require.NotContains(t, text, secretOf(dead.h.Token()))
				require.NotContains(t, text, secretOf(alive.h.Token()))
			}
		}
		require.NoError(t, dead.l.Close())
		require.ErrorIs(t, <-dead.err, redlock.ErrClosed)
		<-dead.got
		for i, n := range nodes { // what a crash leaves behind, for longer than it would stay
			require.NoError(t, n.client.HSet(context.Background(), keys[0], notices[i]).Err())
			require.NoError(t, n.client.PExpire(context.Background(), keys[0], time.Minute).Err())
		}
		alive.waitFor([]string{"a"})
		require.NoError(t, <-alive.err, "when the lock of the dead has expired")
		require.Empty(t, alive.with("WARN"))
		alive.leave(t, <-alive.got)
	})
}

func TestVirtualDeadlockWithinOneProcessNeedsNoRedis(t *testing.T) {
	knowsScripts(t, func(t *testing.T, nodes []*virtualNode) {
		const after = time.Second
		// for a test that fails
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		d, events := &diary{}, &recorder{}
		opts := []redlock.Option{redlock.WithAutoRenewal(true), redlock.WithTTL(time.Hour),
			redlock.WithDeadlockDetection(after), redlock.WithLogger(d.logger()),
			redlock.WithObserver(events)}
		l, other := open(t, clientsOf(nodes), opts...),
			open(t, clientsOf(nodes), append(opts, redlock.WithKeyPrefix("other"))...)
		a, err := l.TryAcquire(ctx, "a", redlock.WithOwner("anna"))
		require.NoError(t, err)
		b, err := other.TryAcquire(ctx, "b", redlock.WithOwner("ben"))
		require.NoError(t, err)
		for _, n := range nodes {
			n.hang()
		}
		start := time.Now()
		anna := inBackground(func() error { return onlyError(other.Acquire(a.Context(ctx), "b")) })
		time.Sleep(10 * time.Millisecond)
		ben := inBackground(func() error { return onlyError(l.Acquire(b.Context(ctx), "a")) })
		err = <-ben
		require.ErrorIs(t, err, redlock.ErrDeadlock)
		require.EqualError(t, err,
			`redlock: acquire "a": deadlock: "ben" waits for "a", held by "anna", which waits for "b", held by "ben"`)
		// A wait begins with its first attempt that fails, after a node timeout.
		require.Less(t, time.Since(start), after+time.Second+100*time.Millisecond)
		require.Empty(t, anna)
		for _, n := range nodes {
			n.recover()
		}
		require.NoError(t, b.Release(ctx))
		require.NoError(t, <-anna)
		synctest.Wait() // for the log
		require.Len(t, d.with("WARN", deadlockWarning), 1)
		found := theOne[redlock.DeadlockFound](t, events)
		require.True(t, found.Victim)
		require.Equal(t, []string{"a"}, found.Resources)
		require.Equal(t, []redlock.Wait{{Owner: "ben", Resource: "a"},
			{Owner: "anna", Resource: "b"}}, found.Cycle)
		require.NotNil(t, found.Context.Done(), "the one of the call")
	})
}

func TestVirtualTaskThatWaitsForItselfIsTold(t *testing.T) {
	knowsScripts(t, func(t *testing.T, nodes []*virtualNode) {
		p := newParty(t, nodes, "me", time.Second, "a")
		err := p.l.Do(p.h.Context(context.Background()), "a",
			func(context.Context) error { return errors.New("has run") },
			redlock.WithMaxWait(time.Minute))
		require.EqualError(t, err,
			`redlock: acquire "a": deadlock: "me" waits for "a", which it holds itself`)
		p.leave(t, nil)
		nothingLeft(t, nodes)
	})
}
