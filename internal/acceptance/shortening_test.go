package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
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

// What is here went wrong once: mostly when two things happened in an order that nobody had thought of. A tap and gates put
// them into that order.

var (
	errPartition = errors.New("the network is cut")
	errGaveUp    = errors.New("the user went home")
)

// tap is a go-redis hook that shows the test the scripts that a client runs, all that goes out together as one string, and
// interferes.
type tap struct {
	mu   sync.Mutex
	out  func(sent string) error // called before it is sent; an error keeps it back
	back func(sent string) error // called when it was answered; an error takes the answer's place
}

// onSend sets what happens to requests from now on. nil: nothing.
func (p *tap) onSend(f func(sent string) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out = f
}

// onReply sets what happens to replies from now on. nil: nothing.
func (p *tap) onReply(f func(sent string) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.back = f
}

func (p *tap) pass(send func() error, sent ...redis.Cmder) error {
	if !strings.HasPrefix(sent[0].Name(), "eval") { // some versions of go-redis show hooks how a client greets a server
		return send()
	}
	p.mu.Lock()
	out, back := p.out, p.back
	p.mu.Unlock()
	args := make([]any, len(sent))
	for i, cmd := range sent {
		args[i] = cmd.Args()
	}
	text := fmt.Sprint(args...)
	if out != nil {
		if err := out(text); err != nil {
			return err
		}
	}
	err := send()
	if back != nil {
		if lost := back(text); lost != nil {
			return lost
		}
	}
	return err
}

func (p *tap) DialHook(next redis.DialHook) redis.DialHook { return next }

func (p *tap) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return p.pass(func() error { return next(ctx, cmd) }, cmd)
	}
}

func (p *tap) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := p.pass(func() error { return next(ctx, cmds) }, cmds...)
		if errors.Is(err, errPartition) {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
		}
		return err
	}
}

// tapped is masters with a tap on each client.
func tapped(t *testing.T, n int) ([]*redistest.Server, []*redis.Client, []*tap) {
	t.Helper()
	servers, clients := masters(t, n)
	taps := make([]*tap, n)
	for i, c := range clients {
		taps[i] = &tap{}
		c.AddHook(taps[i])
	}
	return servers, clients, taps
}

// wrapped is a client whose calls never go out on the goroutine of the test.
type wrapped struct{ *redis.Client }

// isExtension reports whether a request is for extend.lua.
func isExtension(sent string) bool {
	return strings.Contains(sent, " keep") || strings.Contains(sent, " move") || isCut(sent)
}

// isCut reports whether a request shortens a lease.
func isCut(sent string) bool { return strings.Contains(sent, " cut ") }

// gate stops who comes to it until it is opened.
type gate struct {
	reached chan struct{} // closed when the first one has come
	opened  chan struct{}
	once    [2]sync.Once
}

// newGate returns a gate that is opened at the end of the test at the latest.
func newGate(t *testing.T) *gate {
	g := &gate{reached: make(chan struct{}), opened: make(chan struct{})}
	t.Cleanup(g.open)
	return g
}

func (g *gate) pass() {
	g.once[0].Do(func() { close(g.reached) })
	<-g.opened
}

func (g *gate) open() { g.once[1].Do(func() { close(g.opened) }) }

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

// observed is a context that tells when somebody begins to wait for its end: his request is on its way by then.
type observed struct {
	context.Context
	once   sync.Once
	waited chan struct{}
}

func observe(ctx context.Context) *observed {
	return &observed{Context: ctx, waited: make(chan struct{})}
}

func (o *observed) Done() <-chan struct{} {
	o.once.Do(func() { close(o.waited) })
	return o.Context.Done()
}

// keysOutlive checks that servers keep a resource for at least as long as the handle trusts them to.
func keysOutlive(t *testing.T, h *redlock.Handle, servers ...*redistest.Server) {
	t.Helper()
	for _, s := range servers {
		trusted := time.Until(h.ValidUntil())
		left := time.Duration(s.Do(t, "pttl", "lock:"+h.Resources()[0]).(int64)) * time.Millisecond
		require.LessOrEqual(t, trusted, left, "the lease outlives the key")
	}
}

// loadScripts makes the servers know the scripts, so that each request goes out once.
func loadScripts(t *testing.T, l *redlock.Locker) {
	t.Helper()
	ctx := context.Background()
	h, err := l.TryAcquire(ctx, "loads scripts")
	require.NoError(t, err)
	require.NoError(t, h.Extend(ctx, time.Hour))
	require.NoError(t, h.Release(ctx))
}

// cacheScripts is loadScripts with a Locker of its own, of which nothing is under way any more when it returns.
func cacheScripts(t *testing.T, clients []*redis.Client) {
	t.Helper()
	l, err := redlock.New(clients)
	require.NoError(t, err)
	loadScripts(t, l)
	require.NoError(t, l.Close())
}

// takeFor makes a stranger the owner of a resource on the given servers.
func takeFor(t *testing.T, px time.Duration, resource string, servers ...*redistest.Server) {
	t.Helper()
	for _, s := range servers {
		s.Do(t, "set", "lock:"+resource, "somebody else", "px", px.Milliseconds())
	}
}

func TestTwoShorteningsAtOnceNeverLeaveALeaseThatOutlivesItsKeys(t *testing.T) {
	ctx := context.Background()
	servers, clients, taps := tapped(t, 1)
	l := open(t, []wrapped{{clients[0]}}, redlock.WithNodeTimeout(20*time.Second))
	cacheScripts(t, clients)
	h, err := l.TryAcquire(ctx, "r", redlock.WithTTL(time.Hour))
	require.NoError(t, err)

	first, second := newGate(t), newGate(t)
	var sent atomic.Int32
	taps[0].onSend(func(string) error {
		switch sent.Add(1) {
		case 1: // of the first call, to prove that the lock is held
			first.pass()
		case 2: // of the second call, likewise
			second.pass()
		case 3: // of the first call, to shorten
		default:
			return errPartition
		}
		return nil
	})
	short := inBackground(func() error { return h.Extend(ctx, time.Minute) })
	outcome(t, first.reached, "the first call's request")
	waiting := observe(ctx)
	long := inBackground(func() error { return h.Extend(waiting, 2*time.Minute) })
	outcome(t, waiting.waited, "the second call's request")

	// The first call shortens the lease while the second one is under way.
	first.open()
	outcome(t, second.reached, "the second call's request on its way")
	require.Eventually(t, func() bool { return time.Until(h.ValidUntil()) < time.Minute }, 10*time.Second, time.Millisecond)
	second.open()
	require.NoError(t, outcome(t, short, "the first call"))
	_ = outcome(t, long, "the second call") // its shortening may not have got through

	require.NoError(t, h.Err())
	keysOutlive(t, h, servers...)
}

// forked is a client with two ways to its server. New connections take the proxy until direct is set.
type forked struct {
	*redis.Client
	proxy  *redistest.Proxy
	direct atomic.Bool
}

func newForked(t *testing.T, s *redistest.Server, opts *redis.Options) *forked {
	t.Helper()
	f := &forked{proxy: s.Proxy(t)}
	opts.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
		addr := f.proxy.Addr()
		if f.direct.Load() {
			addr = s.Addr()
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	f.Client = redis.NewClient(opts)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

func TestLateCopyOfAShorteningCutsNothing(t *testing.T) {
	tests := []struct {
		name    string
		retries int           // of go-redis
		then    time.Duration // what the lease is extended to before the late copy arrives
	}{
		{"the client has repeated it with success", 1, time.Hour},
		{"nothing else got through, and the lease grows beyond the old expiry", -1, 2 * time.Hour},
		{"nothing else got through, and the lease stays within the old expiry", -1, 30 * time.Minute},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ctx := context.Background()
			noLeak(t)
			s := redistest.Start(t)
			c := newForked(t, s, &redis.Options{ReadTimeout: 200 * time.Millisecond, MaxRetries: test.retries})
			watch := &tap{}
			c.AddHook(watch)
			l := open(t, []wrapped{{c.Client}}, redlock.WithNodeTimeout(20*time.Second))
			h, err := l.TryAcquire(ctx, "r", redlock.WithTTL(time.Hour))
			require.NoError(t, err)

			watch.onSend(func(sent string) error {
				if isCut(sent) { // is held up on its way; new connections take another
					c.proxy.HoldRequests(true)
					c.direct.Store(true)
				}
				return nil
			})
			err = h.Extend(ctx, time.Minute)
			if test.retries > 0 {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, redlock.ErrNoQuorum)
			}
			require.True(t, c.direct.Load(), "the lease was not shortened")
			watch.onSend(nil)
			require.NoError(t, h.Extend(ctx, test.then))
			require.Greater(t, time.Until(h.ValidUntil()), test.then*9/10)

			before := s.CommandCount(t, "evalsha")
			c.proxy.HoldRequests(false)
			require.Eventually(t, func() bool { return s.CommandCount(t, "evalsha") > before }, 10*time.Second, time.Millisecond,
				"the late copy has not arrived")
			keysOutlive(t, h, s)
			require.NoError(t, h.Extend(ctx, test.then))
		})
	}
}

func TestLostAnswerToAShorteningDoesNotCondemnTheLock(t *testing.T) {
	ctx := context.Background()
	servers, clients, taps := tapped(t, 1)
	l := open(t, []wrapped{{clients[0]}})
	cacheScripts(t, clients)
	h, err := l.TryAcquire(ctx, "r", redlock.WithTTL(time.Hour))
	require.NoError(t, err)

	var answers atomic.Int32
	taps[0].onReply(func(string) error {
		if answers.Add(1) == 1 { // that the lock is held
			return nil
		}
		return errPartition // that it was shortened
	})
	require.ErrorIs(t, h.Extend(ctx, time.Minute), redlock.ErrNoQuorum)
	require.Greater(t, answers.Load(), int32(1))
	require.Less(t, time.Until(h.ValidUntil()), time.Minute)
	taps[0].onReply(nil)

	for range 3 {
		require.NoError(t, h.Extend(ctx, 30*time.Minute))
		require.Greater(t, time.Until(h.ValidUntil()), 29*time.Minute)
		keysOutlive(t, h, servers...)
	}
	require.NoError(t, h.Release(ctx))
	noKeys(t, servers)
}

// record is a log handler that passes each record on to a function.
type record func(slog.Record)

func (f record) Enabled(context.Context, slog.Level) bool      { return true }
func (f record) Handle(_ context.Context, r slog.Record) error { f(r); return nil }
func (f record) WithAttrs([]slog.Attr) slog.Handler            { return f }
func (f record) WithGroup(string) slog.Handler                 { return f }
func loggingTo(f func(slog.Record)) redlock.Option             { return redlock.WithLogger(slog.New(record(f))) }
func onceLogged(substr string) (redlock.Option, <-chan struct{}) {
	var once sync.Once
	seen := make(chan struct{})
	return loggingTo(func(r slog.Record) {
		if strings.Contains(r.Message, substr) {
			once.Do(func() { close(seen) })
		}
	}), seen
}

func TestRenewalGoesOnAfterAFailedOneAndALongExtend(t *testing.T) {
	ctx := context.Background()
	_, clients, taps := tapped(t, 1)
	logger, failed := onceLogged("renewal failed")
	l := open(t, clients, logger)
	h, err := l.TryAcquire(ctx, "r", redlock.WithTTL(1500*time.Millisecond), redlock.WithAutoRenewal(true))
	require.NoError(t, err)

	taps[0].onSend(func(string) error { return errPartition })
	outcome(t, failed, "a renewal that fails")
	taps[0].onSend(nil)
	require.NoError(t, h.Extend(ctx, 2500*time.Millisecond))
	long := h.ValidUntil()

	require.Eventually(t, func() bool { return h.ValidUntil().After(long) }, 10*time.Second, 5*time.Millisecond, "not renewed")
	require.NoError(t, h.Err())
	require.NoError(t, h.Release(ctx))
}

func TestContextsOfContextsOfAHandleDoNotDeadlockWithRelease(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	l, err := redlock.New(clients)
	require.NoError(t, err)
	for range 300 {
		h, err := l.TryAcquire(ctx, "r")
		require.NoError(t, err)
		held := h.Context(ctx)
		calls := []func() error{func() error { return h.Release(ctx) }}
		for range 2 {
			calls = append(calls, func() error {
				for range 20 {
					h.Context(held)
				}
				return nil
			})
		}
		var results []<-chan error
		for _, call := range calls {
			results = append(results, inBackground(call))
		}
		for _, result := range results {
			require.NoError(t, outcome(t, result, "a deadlock"))
		}
		<-held.Done()
	}
	require.NoError(t, l.Close()) // only now: it would not survive a deadlock either
}

func TestContextIsOverOnceErrIsSet(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	l := open(t, clients)
	for range 1000 {
		h, err := l.TryAcquire(ctx, "r")
		require.NoError(t, err)
		held := h.Context(ctx)
		for range 20 { // the more there are, the longer it takes to tell them all
			h.Context(ctx)
		}
		looked := inBackground(func() error {
			for h.Err() == nil {
			}
			return held.Err()
		})
		require.NoError(t, h.Release(ctx))
		require.ErrorIs(t, outcome(t, looked, "the end"), context.Canceled, "the lock has ended, its context has not")
		require.ErrorIs(t, context.Cause(held), redlock.ErrReleased)
	}
}

func TestCloseDuringAnAttemptLeavesNoKey(t *testing.T) {
	ctx := context.Background()
	servers, clients, taps := tapped(t, 3)
	for range 5 {
		l, err := redlock.New(clients, redlock.WithNodeTimeout(20*time.Second))
		require.NoError(t, err)
		granted, slow := newGate(t), newGate(t)
		granted.open()
		taps[0].onReply(func(string) error { granted.pass(); return nil })
		for _, p := range taps[1:] {
			p.onSend(func(string) error { slow.pass(); return nil })
		}
		attempt := inBackground(func() error { _, err := l.TryAcquire(ctx, "r"); return err })
		outcome(t, granted.reached, "a node's grant")

		closed := inBackground(l.Close)
		require.ErrorIs(t, outcome(t, attempt, "the attempt"), redlock.ErrClosed)
		slow.open()
		require.NoError(t, outcome(t, closed, "Close"))
		for i, s := range servers {
			require.Empty(t, s.Keys(t), "left on node %d", i)
		}
	}
}

func TestReleaseIsNilWhenNothingIsLeftOnAQuorum(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	takeFor(t, time.Minute, "r", servers[2])
	l := open(t, clients)
	h, err := l.TryAcquire(ctx, "r")
	require.NoError(t, err)

	require.NoError(t, servers[0].Kill())
	require.NoError(t, h.Release(ctx), "one node has deleted it and another never had it")
	require.Equal(t, "somebody else", servers[2].Do(t, "get", "lock:r"))
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
			require.Equal(t, "somebody else", s.Do(t, "get", "lock:r"))
			s.Do(t, "del", "lock:r")
		}
	}
}

func TestAcquireTellsTheCauseAndTheReasonWheneverTheContextEnds(t *testing.T) {
	type scene struct {
		servers []*redistest.Server
		taps    []*tap
		reached *gate // where the context is to end
	}
	tests := []struct {
		name    string
		reason  error
		prepare func(t *testing.T, s scene)
	}{
		{"during the first attempt, when nobody has answered", redlock.ErrNoQuorum, func(t *testing.T, s scene) {
			for _, p := range s.taps {
				p.onSend(func(string) error { s.reached.pass(); return nil })
			}
		}},
		{"during the second attempt, after contention", redlock.ErrHeld, func(t *testing.T, s scene) {
			takeFor(t, time.Minute, "r", s.servers...)
			for _, p := range s.taps {
				var sent atomic.Int32
				p.onSend(func(string) error {
					if sent.Add(1) > 1 {
						s.reached.pass()
					}
					return nil
				})
			}
		}},
		{"during the second attempt, after an outage", redlock.ErrNoQuorum, func(t *testing.T, s scene) {
			for _, p := range s.taps {
				var sent atomic.Int32
				p.onSend(func(string) error {
					if sent.Add(1) > 1 {
						s.reached.pass()
					}
					return errPartition
				})
			}
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
			l := open(t, clients, redlock.WithNodeTimeout(20*time.Second), redlock.WithRetryInterval(pause))
			cacheScripts(t, clients)
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
			for _, reason := range []error{redlock.ErrHeld, redlock.ErrNoQuorum} {
				require.Equal(t, reason == test.reason, errors.Is(err, reason), "%v: %v", reason, err)
			}
		})
	}
}

func TestNodeTimeoutsDoNotLookLikeTheEndOfAContext(t *testing.T) {
	tests := []struct {
		name string
		harm func(*redistest.Server) error
		dial time.Duration
	}{
		{"the node cannot be dialled in time", func(*redistest.Server) error { return nil }, time.Nanosecond},
		{"the node hangs", (*redistest.Server).Pause, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			noLeak(t)
			s := redistest.Start(t)
			c := redis.NewClient(&redis.Options{Addr: s.Addr(), DialTimeout: test.dial, ReadTimeout: 100 * time.Millisecond, MaxRetries: -1})
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

func TestAdoptOfALockWithTooLittleLeftIsALoss(t *testing.T) {
	servers, clients := masters(t, 3)
	for _, s := range servers {
		s.Do(t, "set", "lock:r", "token", "px", 1500)
	}
	// Clocks as bad as these leave nothing of 1.5 s.
	l := open(t, clients, redlock.WithDriftFactor(0.999), redlock.WithTTL(time.Hour))

	_, err := l.Adopt(context.Background(), []string{"r"}, "token")
	require.ErrorIs(t, err, redlock.ErrLost)
	require.NotErrorIs(t, err, redlock.ErrNoQuorum)
	require.NotErrorIs(t, err, redlock.ErrHeld)
}

func TestDoneThatRacesCloseIsClosedByIt(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	const handles = 64
	for range 30 {
		l, err := redlock.New(clients)
		require.NoError(t, err)
		var held [handles]*redlock.Handle
		for i := range held {
			held[i], err = l.TryAcquire(ctx, fmt.Sprint("r", i))
			require.NoError(t, err)
		}
		var done [handles]<-chan struct{}
		var looked sync.WaitGroup
		start := make(chan struct{})
		for i, h := range held {
			looked.Add(1)
			go func() {
				defer looked.Done()
				<-start
				done[i] = h.Done()
			}()
		}
		close(start)
		require.NoError(t, l.Close())
		looked.Wait()
		for i, h := range held {
			select {
			case <-done[i]:
			default:
				t.Fatal("the Locker is closed, its handle's Done is not")
			}
			require.ErrorIs(t, h.Err(), redlock.ErrClosed)
		}
		require.NoError(t, clients[0].FlushAll(ctx).Err())
	}
}

func TestHugeRetryIntervalIsRefused(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 1)
	const tenYears = 10 * 365 * 24 * time.Hour
	for _, d := range []time.Duration{math.MaxInt64, math.MaxInt64 / 8, tenYears + 1} {
		_, err := redlock.New(clients, redlock.WithRetryInterval(d))
		require.ErrorContains(t, err, "retry interval")
	}

	// The longest one works: it gives way to the time at which the lock expires.
	takeFor(t, 50*time.Millisecond, "r", servers...)
	l := open(t, clients)
	h, err := l.Acquire(ctx, "r", redlock.WithRetryInterval(tenYears))
	require.NoError(t, err)
	require.NoError(t, h.Release(ctx))
	_, err = l.Acquire(ctx, "r", redlock.WithRetryInterval(math.MaxInt64))
	require.ErrorContains(t, err, "retry interval")
	require.Empty(t, servers[0].Keys(t))
}
