package acceptance_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

func TestErrorsSayWhatHappened(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l, other := open(t, clients), open(t, clients, redlock.WithOwner("worker-7"))
	h := heldEverywhere(t, other, servers, "a", "b")

	_, err := l.TryAcquireMulti(ctx, []string{"b", "c", "d", "e", "f"})
	var quorum *redlock.QuorumError
	require.ErrorAs(t, err, &quorum)
	require.Equal(t, "acquire", quorum.Op)
	require.Equal(t, 2, quorum.Need)
	require.Zero(t, quorum.Got)
	require.GreaterOrEqual(t, len(quorum.Nodes), 2)
	require.Regexp(t,
		`^redlock: acquire "b", "c", "d" and 2 more: held by another owner: 0 of 3 nodes agreed, 2 needed: `+
			`(node \d \(127\.0\.0\.1:\d+\): "b" is held by "worker-7" for \d+(\.\d+)?s more(; )?)+$`, err.Error())

	require.NoError(t, h.Release(ctx))
	require.EqualError(t, h.Extend(ctx, time.Minute), `redlock: extend "a", "b": lock released`)

	_, err = l.TryAcquire(ctx, strings.Repeat("x", 10_000))
	require.NoError(t, err)
	_, err = other.TryAcquire(ctx, strings.Repeat("x", 10_000))
	require.ErrorIs(t, err, redlock.ErrHeld)
	require.Less(t, len(err.Error()), 1000, "a long name does not flood the message")
}

// scene is where an attempt is to be stopped.
type scene struct {
	servers []*redistest.Server
	taps    []*tap
	reached *gate // where the context is to end
}

// stopSecond stops the second request to each node and those behind it. The requests end with err,
// or get through if it is nil.
func (s scene) stopSecond(err error) {
	for _, p := range s.taps {
		var sent atomic.Int32
		p.onSend(func(string) error {
			if sent.Add(1) > 1 {
				s.reached.pass()
			}
			return err
		})
	}
}

func TestAcquireTellsTheCauseAndTheReasonWheneverTheContextEnds(t *testing.T) {
	tests := []struct {
		name    string
		reason  error
		prepare func(t *testing.T, s scene)
	}{
		{"during the first attempt, when nobody has answered", nil, func(t *testing.T, s scene) {
			for _, p := range s.taps {
				p.onSend(func(string) error { s.reached.pass(); return nil })
			}
		}},
		{"during the second attempt, after contention", redlock.ErrHeld,
			func(t *testing.T, s scene) {
				takeFor(t, time.Minute, "r", s.servers...)
				s.stopSecond(nil)
			}},
		{"during the second attempt, after an outage", redlock.ErrNoQuorum,
			func(t *testing.T, s scene) {
				s.stopSecond(errPartition)
			}},
		{"during the clean-up", redlock.ErrHeld, func(t *testing.T, s scene) {
			takeFor(t, time.Minute, "r", s.servers[1:]...)
			var sent atomic.Int32
			s.taps[0].onSend(func(string) error {
				if sent.Add(1) > 1 { // the grant is taken back
					s.reached.pass()
				}
				return nil
			})
			// The node that grants does so before the others refuse.
			granted := newGate(t)
			s.taps[0].onReply(func(string) error { granted.open(); return nil })
			for _, p := range s.taps[1:] {
				p.onSend(func(string) error { granted.pass(); return nil })
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			servers, clients, taps := tapped(t, 3)
			// A pause that only the second attempts get over: between attempts nothing happens.
			pause := time.Minute
			if strings.HasPrefix(test.name, "during the second") {
				pause = time.Millisecond
			}
			l := open(t, clients, redlock.WithNodeTimeout(20*time.Second),
				redlock.WithRetryInterval(pause))
			warmUp(t, clients)
			noKeys(t, servers)
			s := scene{servers, taps, newGate(t)}
			test.prepare(t, s)
			ctx, cancel := context.WithCancelCause(context.Background())
			defer cancel(nil)
			result := inBackground(func() error { _, err := l.Acquire(ctx, "r"); return err })
			outcome(t, s.reached.reached, "the moment")
			cancel(errGaveUp)

			err := outcome(t, result, "Acquire")
			require.ErrorIs(t, err, errGaveUp)
			require.ErrorIs(t, err, context.Canceled)
			if test.reason == nil {
				requireNoneBut(t, err, nil,
					"an attempt that was cut short tells nothing of the nodes")
				return
			}
			requireOnly(t, err, test.reason)
		})
	}
}

func TestNodeTimeoutsDoNotLookLikeTheEndOfAContext(t *testing.T) {
	tests := []struct {
		name string
		harm func(*redistest.Server) error
		dial time.Duration
	}{
		{"the node cannot be dialled in time", func(*redistest.Server) error { return nil },
			time.Nanosecond},
		{"the node hangs", (*redistest.Server).Pause, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			noLeak(t)
			s := redistest.Start(t)
			c := redis.NewClient(&redis.Options{Addr: s.Addr(), DialTimeout: test.dial,
				ReadTimeout: 100 * time.Millisecond, MaxRetries: -1})
			t.Cleanup(func() { require.NoError(t, c.Close()) })
			l := open(t, []*redis.Client{c})
			require.NoError(t, test.harm(s))

			_, acquire := l.TryAcquire(context.Background(), "r")
			_, inspect := l.IsLocked(context.Background(), "r")
			for _, err := range []error{acquire, inspect} {
				require.ErrorIs(t, err, redlock.ErrNoQuorum)
				require.NotErrorIs(t, err, context.DeadlineExceeded)
				require.NotErrorIs(t, err, context.Canceled)
			}
		})
	}
}

func TestDoTellsOfAnOwnerWhomOnlyReleaseHasFound(t *testing.T) {
	servers, clients := masters(t, 3)
	l := open(t, clients)
	errWork := errors.New("work failed")
	for _, result := range []error{nil, errWork} {
		err := l.Do(context.Background(), "r", func(context.Context) error {
			takeFor(t, time.Minute, "r", servers[:2]...)
			return result
		})
		require.ErrorIs(t, err, redlock.ErrLost)
		if result != nil {
			require.ErrorIs(t, err, result)
		}
		for _, s := range servers[:2] {
			require.Equal(t, stranger, ownerOn(t, s, "r"))
			s.Do(t, "del", "lock:r")
		}
	}
}

func TestErrorOfACheckNamesNoResource(t *testing.T) {
	_, clients := masters(t, 1)
	l := open(t, clients)
	require.NoError(t, l.Close())
	require.EqualError(t, l.Check(context.Background()), "redlock: check: locker closed")
}

// Programs make errors by hand to test what they do about them.
func TestErrorsMadeByHandCanBeReadAndMatched(t *testing.T) {
	nodes := func(err error) []redlock.NodeError { return []redlock.NodeError{{Node: 2, Err: err}} }
	for _, c := range []struct {
		made error
		want error
		says string
	}{
		{
			&redlock.QuorumError{Op: "acquire", Need: 2, Nodes: nodes(&redlock.HeldError{
				Resource: "r", Owner: "a", TTL: time.Second,
			})},
			redlock.ErrHeld, `node 2: "r" is held by "a" for 1s more`,
		},
		{
			&redlock.QuorumError{Op: "acquire", Need: 2, Nodes: nodes(errors.New("refused"))},
			redlock.ErrNoQuorum, "node 2: refused",
		},
		{&redlock.QuorumError{}, redlock.ErrNoQuorum, "no quorum"},
		{redlock.ErrMisconfigured, redlock.ErrNoQuorum, "not set up for locks"},
		{&redlock.DeadlockError{}, redlock.ErrDeadlock, "deadlock"},
	} {
		requireOnly(t, c.made, c.want)
		require.ErrorContains(t, c.made, c.says)
	}
	require.NotErrorIs(t, &redlock.CheckError{Nodes: nodes(errors.New("evicts"))},
		redlock.ErrNoQuorum)
}
