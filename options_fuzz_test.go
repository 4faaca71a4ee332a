//go:build go1.25

package redlock_test

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// FuzzOptions gives New and the calls any values. What they take must work, and what they refuse
// must be named.
func FuzzOptions(f *testing.F) {
	nameScripts(f)
	const most = math.MaxInt64
	for _, v := range []int64{
		0, 1, -1, 10_000_000, 20_000_000, 30_000_000_000, int64(tenYears), int64(tenYears) + 1,
		most, -most - 1, most/2 + 1,
	} {
		for _, drift := range []float64{
			0.01, 0, math.Copysign(0, -1), 1, math.Nextafter(1, 0), math.NaN(), math.Inf(1), 5e-324,
			0.8,
		} {
			f.Add(int64(30_000_000_000), int64(0), int64(1), int64(0), v, drift, "o", "p",
				int64(30_000_000_000), uint8(0x1f))
			f.Add(v, v, v, v, v/2, drift, "", "", v, uint8(0xff))
		}
		f.Add(v, int64(0), int64(100), int64(0), int64(0), 0.01, "o", "p", int64(30_000_000_000),
			uint8(0x01))
		f.Add(int64(30_000_000_000), v, int64(100), int64(0), int64(0), 0.01, "o", "p", v,
			uint8(0xa2))
		f.Add(int64(30_000_000_000), int64(0), v, int64(0), int64(0), 0.01, "o", "p", v,
			uint8(0x44))
		f.Add(int64(30_000_000_000), int64(0), int64(100), v, int64(0), 0.01,
			strings.Repeat("o", 257), "p", v, uint8(0x68))
	}
	f.Fuzz(func(t *testing.T, ttl, wait, retry, hold, timeout int64, drift float64, owner,
		prefix string, ofCall int64, given uint8) {
		o := options{
			ttl: 30 * time.Second, retry: 100 * time.Millisecond, drift: 0.01,
			owner: owner, prefix: prefix, renew: given&0x80 != 0,
		}
		set(&o.ttl, ttl, given&1 != 0)
		set(&o.wait, wait, given&2 != 0)
		set(&o.retry, retry, given&4 != 0)
		set(&o.hold, hold, given&8 != 0)
		if given&16 != 0 {
			o.timeout, o.drift, o.explicit = time.Duration(timeout), drift, true
		}
		call := o
		set(&call.ttl, ofCall, given&32 != 0)
		set(&call.hold, ofCall, given&64 != 0)
		synctest.Test(t, func(t *testing.T) { o.use(t, call) })
	})
}

// options are what New or a call is told.
type options struct {
	ttl, wait, retry, hold, timeout time.Duration
	drift                           float64
	explicit                        bool // timeout and drift are given
	owner, prefix                   string
	renew                           bool
}

func set(option *time.Duration, value int64, given bool) {
	if given {
		*option = time.Duration(value)
	}
}

func (o *options) ofCall() []redlock.AcquireOption {
	return []redlock.AcquireOption{
		redlock.WithTTL(o.ttl), redlock.WithMaxWait(o.wait), redlock.WithRetryInterval(o.retry),
		redlock.WithMaxHold(o.hold),
		redlock.WithAutoRenewal(o.renew),
	}
}

func (o *options) ofLocker() []redlock.Option {
	opts := []redlock.Option{redlock.WithOwner(o.owner), redlock.WithKeyPrefix(o.prefix)}
	for _, c := range o.ofCall() {
		opts = append(opts, c)
	}
	if o.explicit {
		opts = append(opts, redlock.WithNodeTimeout(o.timeout), redlock.WithDriftFactor(o.drift))
	}
	return opts
}

// wrong lists what the error for a bad option may be about: words of its message, each with the
// value that it has to name.
func (o *options) wrong() map[string]any {
	wrong := map[string]any{}
	note := func(word string, value any, bad bool) {
		if bad {
			wrong[word] = value
		}
	}
	note("TTL", o.ttl, o.ttl < 10*time.Millisecond || o.ttl > tenYears)
	note("maximum wait", o.wait, o.wait < 0)
	note("retry interval", o.retry, o.retry <= 0 || o.retry > tenYears)
	note("maximum hold", o.hold, o.hold < 0 || o.hold > 0 && o.hold < o.ttl)
	note("owner", len(o.owner), len(o.owner) > 256)
	if o.explicit {
		note("node timeout", o.timeout, o.timeout <= 0 || o.timeout >= o.ttl)
		note("drift", o.drift, !(o.drift >= 0 && o.drift < 1))
	}
	if o.drift >= 0 && o.drift < 1 {
		note("drift factor", o.drift, o.lease() <= 0)
	}
	return wrong
}

// lease is for how long the lock is trusted.
func (o *options) lease() time.Duration {
	return o.ttl - time.Duration(float64(o.ttl)*o.drift) - 2*time.Millisecond
}

// nodeTimeout is how long a node may take.
func (o *options) nodeTimeout() time.Duration {
	if o.explicit {
		return o.timeout
	}
	return min(max(o.ttl/20, 20*time.Millisecond), time.Second)
}

// judge checks whether the options were rightly taken or refused.
func (o *options) judge(t *testing.T, err error) (taken bool) {
	t.Helper()
	wrong := o.wrong()
	if err == nil {
		require.Empty(t, wrong, "%+v", *o)
		return true
	}
	require.ErrorContains(t, err, "redlock: ")
	require.NotEmpty(t, wrong, "%+v: %v", *o, err)
	for word, value := range wrong {
		if text := err.Error(); strings.Contains(text, word) &&
			strings.Contains(text, fmt.Sprint(value)) {
			return false
		}
	}
	require.Fail(t, "not named", "%v should be about one of %v", err, wrong)
	return false
}

// use tries everything with options that New takes, o, and others of a call.
func (o *options) use(t *testing.T, call options) {
	node := &babbler{said: new(atomic.Int64)}
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	client.AddHook(node)
	defer func() { require.NoError(t, client.Close()) }()

	l, err := redlock.New([]*redis.Client{client}, o.ofLocker()...)
	if !o.judge(t, err) {
		require.Nil(t, l)
		return
	}
	defer func() { require.NoError(t, l.Close()) }()
	ctx := context.Background()
	began := time.Now()
	h, err := l.Acquire(ctx, "r", call.ofCall()...)
	if !call.judge(t, err) {
		require.Nil(t, h)
		require.Zero(t, node.said.Load(), "refused before anything is sent")
		return
	}
	require.Equal(t, began.Add(call.lease()), h.ValidUntil())
	require.NoError(t, h.Err())
	node.mu.Lock()
	first := node.calls[0]
	node.mu.Unlock()
	require.True(t, strings.HasPrefix(first.keys[0], o.prefix))
	px, err := strconv.ParseInt(first.args[1], 10, 64)
	require.NoError(t, err)
	require.GreaterOrEqual(t, px, call.ttl.Milliseconds())
	require.LessOrEqual(t, px, tenYears.Milliseconds())

	// Half of its time later it is still ours, and at the end it is not, unless it is renewed.
	time.Sleep(call.lease() / 2)
	require.NoError(t, h.Err())
	extended := time.Now()
	if err = h.Extend(ctx, call.ttl); err == nil {
		require.False(t, h.ValidUntil().Before(extended.Add(call.lease())))
	}
	require.NoError(t, h.Err())
	time.Sleep(call.lease())
	if !call.renew {
		require.ErrorIs(t, h.Err(), redlock.ErrLost)
		require.ErrorIs(t, h.Release(ctx), redlock.ErrLost)
	} else if call.hold == 0 && call.lease() > time.Microsecond {
		require.NoError(t, h.Err())
		require.NoError(t, h.Release(ctx))
	}
	node.hangs(t, l, &call)
}

// hangs checks that a node that does not answer costs the node timeout and no more.
func (n *babbler) hangs(t *testing.T, l *redlock.Locker, o *options) {
	n.mu.Lock()
	n.tape, n.slow = tape{0xc0}, true
	n.mu.Unlock()
	began := time.Now()
	_, err := l.TryAcquire(context.Background(), "hung", o.ofCall()...)
	took := time.Since(began)
	if o.nodeTimeout() < slowest {
		require.ErrorIs(t, err, redlock.ErrNoQuorum)
		require.Equal(t, o.nodeTimeout(), took)
	} else {
		require.LessOrEqual(t, took, slowest)
	}
}
