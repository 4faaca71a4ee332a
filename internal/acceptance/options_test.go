package acceptance_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// Settings of an acquisition that make no sense, with what the error has to name.
var badAcquireOptions = map[string]struct {
	opts []redlock.AcquireOption
	want []string
}{
	"TTL of zero": {[]redlock.AcquireOption{redlock.WithTTL(0)},
		[]string{"TTL", "not 0s"}},
	"TTL below zero": {[]redlock.AcquireOption{redlock.WithTTL(-time.Second)},
		[]string{"TTL", "-1s"}},
	"TTL too short": {[]redlock.AcquireOption{redlock.WithTTL(9999 * time.Microsecond)},
		[]string{"TTL", "9.999ms"}},
	"TTL too long": {[]redlock.AcquireOption{redlock.WithTTL(tenYears + 1)},
		[]string{"TTL", "87600h0m0.000000001s"}},
	"wait below zero": {[]redlock.AcquireOption{redlock.WithMaxWait(-1)},
		[]string{"wait", "-1ns"}},
	"no retry interval": {[]redlock.AcquireOption{redlock.WithRetryInterval(0)},
		[]string{"retry interval", "0s"}},
	"retry below zero": {[]redlock.AcquireOption{redlock.WithRetryInterval(-time.Minute)},
		[]string{"retry interval", "-1m0s"}},
	"hold below zero": {[]redlock.AcquireOption{redlock.WithMaxHold(-time.Hour)},
		[]string{"hold", "-1h0m0s"}},
	"hold below the TTL": {[]redlock.AcquireOption{redlock.WithMaxHold(29 * time.Second)},
		[]string{"hold", "29s", "TTL", "30s"}},
	"TTL above the hold": {[]redlock.AcquireOption{redlock.WithMaxHold(time.Minute),
		redlock.WithTTL(61 * time.Second)}, []string{"hold", "1m0s", "TTL", "1m1s"}},
	"nil option": {[]redlock.AcquireOption{nil}, []string{"option 0", "nil"}},
	"nil among the options": {[]redlock.AcquireOption{redlock.WithTTL(time.Minute), nil},
		[]string{"option 1", "nil"}},
}

// The same for settings that only a Locker has.
var badOptions = map[string]struct {
	opts []redlock.Option
	want []string
}{
	"node timeout of zero": {[]redlock.Option{redlock.WithNodeTimeout(0)},
		[]string{"node timeout", "0s"}},
	"node timeout below zero": {[]redlock.Option{redlock.WithNodeTimeout(-time.Second)},
		[]string{"node timeout", "-1s"}},
	"node timeout like the TTL": {[]redlock.Option{redlock.WithNodeTimeout(30 * time.Second)},
		[]string{"node timeout", "30s", "TTL"}},
	"TTL below the node timeout": {[]redlock.Option{redlock.WithNodeTimeout(time.Second),
		redlock.WithTTL(900 * time.Millisecond)}, []string{"node timeout", "1s", "TTL", "900ms"}},
	"drift below zero": {[]redlock.Option{redlock.WithDriftFactor(-0.01)},
		[]string{"drift", "-0.01"}},
	"drift of one": {[]redlock.Option{redlock.WithDriftFactor(1)},
		[]string{"drift", "not 1"}},
	"infinite drift": {[]redlock.Option{redlock.WithDriftFactor(math.Inf(1))},
		[]string{"drift", "Inf"}},
	"drift that is no number": {[]redlock.Option{redlock.WithDriftFactor(math.NaN())},
		[]string{"drift", "NaN"}},
	"drift that leaves nothing": {[]redlock.Option{redlock.WithDriftFactor(0.8),
		redlock.WithTTL(10 * time.Millisecond)}, []string{"drift", "0.8", "TTL", "10ms"}},
	"owner too long": {[]redlock.Option{redlock.WithOwner(strings.Repeat("x", 257))},
		[]string{"owner", "257"}},
	"nil option": {[]redlock.Option{redlock.WithTTL(time.Minute), nil},
		[]string{"option 1", "nil"}},
}

func TestNewRefusesBadOptions(t *testing.T) {
	client := redis.NewClient(&redis.Options{})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	for name, tt := range badOptions {
		t.Run(name, func(t *testing.T) {
			_, err := redlock.New([]*redis.Client{client}, tt.opts...)
			requireNamed(t, err, tt.want)
		})
	}
	for name, tt := range badAcquireOptions {
		t.Run("default: "+name, func(t *testing.T) {
			opts := make([]redlock.Option, len(tt.opts))
			for i, o := range tt.opts {
				if o != nil {
					opts[i] = o
				}
			}
			_, err := redlock.New([]*redis.Client{client}, opts...)
			requireNamed(t, err, tt.want)
		})
	}
}

func TestBadOptionsOfACallAreRefusedBeforeAnythingIsSent(t *testing.T) {
	servers, clients := masters(t, 3)
	l := open(t, clients)
	for name, tt := range badAcquireOptions {
		for call, acquire := range acquisitions(l, "a") {
			t.Run(call+": "+name, func(t *testing.T) {
				requireNamed(t, acquire(tt.opts...), tt.want)
			})
		}
	}
	requireNothingSent(t, servers)
}

func TestBadResourcesAreRefusedBeforeAnythingIsSent(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients)

	for call, acquire := range acquisitions(l, "") {
		t.Run(call+": empty", func(t *testing.T) {
			requireNamed(t, acquire(), []string{"resource", "empty", `""`})
		})
	}
	for name, tt := range map[string]struct {
		resources []string
		want      []string
	}{
		"nil list":        {nil, []string{"list of resources", "empty"}},
		"empty list":      {[]string{}, []string{"list of resources", "empty"}},
		"empty among two": {[]string{"a", ""}, []string{"resource 1 of 2", `""`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := l.TryAcquireMulti(ctx, tt.resources)
			requireNamed(t, err, tt.want)
			_, err = l.AcquireMulti(ctx, tt.resources)
			requireNamed(t, err, tt.want)
			_, err = l.Adopt(ctx, tt.resources, "token")
			requireNamed(t, err, tt.want)
		})
	}
	t.Run("status of nothing", func(t *testing.T) {
		_, err := l.IsLocked(ctx, "")
		requireNamed(t, err, []string{"resource", `""`})
		_, err = l.Inspect(ctx, "")
		requireNamed(t, err, []string{"resource", `""`})
		requireNamed(t, l.WaitForUnlock(ctx, ""), []string{"resource", `""`})
	})
	t.Run("no token", func(t *testing.T) {
		_, err := l.Adopt(ctx, []string{"a"}, "")
		requireNamed(t, err, []string{"token", "empty"})
	})
	requireNothingSent(t, servers)
}

func TestExtendRefusesABadTTLAndKeepsTheLease(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients, redlock.WithNodeTimeout(500*time.Millisecond),
		redlock.WithDriftFactor(0.1))
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)
	until := h.ValidUntil()
	sentToAll(t, servers, 1)

	for ttl, want := range map[time.Duration][]string{
		0:                       {"TTL", "not 0s"},
		-time.Second:            {"TTL", "-1s"},
		9999 * time.Microsecond: {"TTL", "9.999ms"},
		tenYears + 1:            {"TTL", "87600h0m0.000000001s"},
	} {
		requireNamed(t, h.Extend(ctx, ttl), want)
	}
	require.Equal(t, until, h.ValidUntil())
	require.NoError(t, h.Err())
	sentToAll(t, servers, 1)
	require.NoError(t, h.Release(ctx))
	noKeys(t, servers)
}

func TestNewRefusesBadNodes(t *testing.T) {
	one, two := redis.NewClient(&redis.Options{}),
		redis.NewClient(&redis.Options{Addr: "elsewhere:6379"})
	ring := redis.NewRing(&redis.RingOptions{})
	t.Cleanup(func() {
		for _, c := range []redis.UniversalClient{one, two, ring} {
			require.NoError(t, c.Close())
		}
	})

	requireNamed(t, newError[*redis.Client](nil), []string{"list of nodes", "empty"})
	requireNamed(t, newError([]redis.UniversalClient{}), []string{"list of nodes", "empty"})
	requireNamed(t, newError([]*redis.Client{one, nil}), []string{"node 1", "nil"})
	requireNamed(t, newError([]*redis.ClusterClient{nil}), []string{"node 0", "nil"})
	requireNamed(t, newError([]redlock.Node{one, two, nil}), []string{"node 2", "nil"})
	requireNamed(t, newError([]redis.UniversalClient{one, (*redis.Client)(nil)}),
		[]string{"node 1", "nil"})
	requireNamed(t, newError([]redlock.Node{one, (*redis.ClusterClient)(nil)}),
		[]string{"node 1", "nil"})
	requireNamed(t, newError([]*redis.Client{one, two, one}), []string{"nodes 0 and 2", "same"})
	requireNamed(t, newError([]redlock.Node{one, redis.UniversalClient(one)}),
		[]string{"nodes 0 and 1", "same"})
	requireNamed(t, newError([]*redis.Ring{ring}), []string{"node 0", "Ring"})
	requireNamed(t, newError([]redis.UniversalClient{one, ring}), []string{"node 1", "Ring"})
}

// taggedNode is what a user's own Node may look like: one that Go cannot compare.
type taggedNode struct {
	tags any
	redis.UniversalClient
}

func TestNewTakesNodesThatCannotBeCompared(t *testing.T) {
	one, two := redis.NewClient(&redis.Options{}), redis.NewClient(&redis.Options{})
	t.Cleanup(func() {
		require.NoError(t, one.Close())
		require.NoError(t, two.Close())
	})
	require.NotPanics(t, func() {
		l, err := redlock.New([]taggedNode{{[]string{"east"}, one}, {[]string{"west"}, two}})
		require.NoError(t, err)
		require.NoError(t, l.Close())
	})
}

func TestNewAndItsOptionsSendNothing(t *testing.T) {
	servers, clients := masters(t, 3)
	open(t, clients)
	for _, s := range servers {
		require.Zero(t, s.CommandCount(t, "script|load"))
	}
	for _, c := range clients {
		require.Zero(t, c.PoolStats().Misses, "not even connected")
	}
	requireNothingSent(t, servers)
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

func TestLimitsAreAllowed(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 1)
	l := open(t, clients, redlock.WithOwner(strings.Repeat("x", 256)), redlock.WithDriftFactor(0),
		redlock.WithLogger(nil),
		redlock.WithMaxWait(0), redlock.WithMaxHold(0), redlock.WithRetryInterval(1))

	// Of 10 ms not much is left when the answer is there, perhaps nothing.
	require.Eventually(t, func() bool {
		h, err := l.TryAcquire(ctx, "long", redlock.WithTTL(tenYears),
			redlock.WithMaxHold(tenYears))
		return err == nil && h.Extend(ctx, 10*time.Millisecond) == nil &&
			h.Extend(ctx, tenYears) == nil && h.Release(ctx) == nil
	}, 30*time.Second, time.Millisecond)
	require.Eventually(t, func() bool {
		h, err := l.TryAcquire(ctx, "short", redlock.WithTTL(10*time.Millisecond))
		return err == nil && h.Release(ctx) == nil
	}, 30*time.Second, time.Millisecond)
	noKeys(t, servers)
}

func TestDefaults(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l := open(t, clients)
	before := time.Now()
	h, err := l.TryAcquire(ctx, "a")
	require.NoError(t, err)

	sentToAll(t, servers, 1)
	for _, s := range servers {
		require.Equal(t, []string{"lock:a"}, s.Keys(t))
		left := keyTTL(t, s, "lock:a")
		require.LessOrEqual(t, left, 30*time.Second)
		require.Greater(t, left, 20*time.Second)
	}
	validity := 30*time.Second - 300*time.Millisecond - 2*time.Millisecond
	require.False(t, h.ValidUntil().Before(before.Add(validity)))
	require.False(t, h.ValidUntil().After(time.Now().Add(validity)))

	host, err := os.Hostname()
	require.NoError(t, err)
	s, err := l.Inspect(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("%s:%d", host, os.Getpid()), s.Owner)
	require.NoError(t, h.Release(ctx))
}

func TestOptionOfACallOverridesTheLockersAndOnlyForThatCall(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 1)
	l := open(t, clients, redlock.WithTTL(time.Minute), redlock.WithTTL(time.Hour))
	for _, tt := range []struct {
		opts []redlock.AcquireOption
		want time.Duration
	}{
		{nil, time.Hour},
		{[]redlock.AcquireOption{redlock.WithTTL(10 * time.Minute)}, 10 * time.Minute},
		{nil, time.Hour},
		{[]redlock.AcquireOption{redlock.WithTTL(time.Hour), redlock.WithTTL(20 * time.Minute)},
			20 * time.Minute},
	} {
		h, err := l.TryAcquire(ctx, "a", tt.opts...)
		require.NoError(t, err)
		require.InDelta(t, tt.want, keyTTL(t, servers[0], "lock:a"), float64(time.Minute))
		require.NoError(t, h.Release(ctx))
	}
}

// Redis counts milliseconds: a key may outlive its lease, never the other way round.
func TestFractionsOfAMillisecondAreRoundedUpOnTheNodes(t *testing.T) {
	ctx := context.Background()
	noLeak(t)
	server := miniredis.RunT(t)
	server.SetTime(time.Now()) // and it stands still
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	l := open(t, []*redis.Client{client})

	h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(time.Minute+time.Nanosecond))
	require.NoError(t, err)
	require.Equal(t, time.Minute+time.Millisecond, server.TTL("lock:a"))
	require.NoError(t, h.Extend(ctx, time.Hour+time.Microsecond))
	require.Equal(t, time.Hour+time.Millisecond, server.TTL("lock:a"))
	require.NoError(t, h.Extend(ctx, time.Second+999*time.Microsecond))
	require.Equal(t, time.Second+time.Millisecond, server.TTL("lock:a"))
	require.NoError(t, h.Extend(ctx, time.Second))
	require.NoError(t, h.Release(ctx))
}

// acquisitions are the calls that lock a resource and take options.
func acquisitions(l *redlock.Locker,
	resource string) map[string]func(opts ...redlock.AcquireOption) error {
	ctx := context.Background()
	type options = []redlock.AcquireOption
	of := func(f func(opts options) (*redlock.Handle,
		error)) func(opts ...redlock.AcquireOption) error {
		return func(opts ...redlock.AcquireOption) error {
			_, err := f(opts)
			return err
		}
	}
	return map[string]func(opts ...redlock.AcquireOption) error{
		"TryAcquire": of(func(o options) (*redlock.Handle,
			error) {
			return l.TryAcquire(ctx, resource, o...)
		}),
		"Acquire": of(func(o options) (*redlock.Handle,
			error) {
			return l.Acquire(ctx, resource, o...)
		}),
		"TryAcquireMulti": of(func(o options) (*redlock.Handle, error) {
			return l.TryAcquireMulti(ctx, []string{resource}, o...)
		}),
		"AcquireMulti": of(func(o options) (*redlock.Handle,
			error) {
			return l.AcquireMulti(ctx, []string{resource}, o...)
		}),
		"Adopt": of(func(o options) (*redlock.Handle,
			error) {
			return l.Adopt(ctx, []string{resource}, "token", o...)
		}),
		"Do": func(opts ...redlock.AcquireOption) error {
			return l.Do(ctx, resource, func(context.Context) error { return nil }, opts...)
		},
	}
}

func newError[N redlock.Node](nodes []N) error {
	_, err := redlock.New(nodes)
	return err
}

// requireNamed checks that an error is about an argument: it names it and its value.
func requireNamed(t *testing.T, err error, want []string) {
	t.Helper()
	for _, w := range append([]string{"redlock: "}, want...) {
		require.ErrorContains(t, err, w)
	}
}

func requireNothingSent(t *testing.T, servers []*redistest.Server) {
	t.Helper()
	for i, s := range servers {
		require.Zero(t, scriptCalls(t, s), "node %d", i)
	}
}

// sentToAll waits until every server has been asked to run so many scripts, and checks that it were
// not more. The first use of a script takes two requests, of which the first fails.
func sentToAll(t *testing.T, servers []*redistest.Server, scripts int) {
	t.Helper()
	for i, s := range servers {
		require.Eventually(t, func() bool { return s.CommandCount(t, "eval") >= scripts },
			10*time.Second, time.Millisecond,
			"node %d", i)
		require.Equal(t, scripts, s.CommandCount(t, "eval"), "node %d", i)
	}
}
