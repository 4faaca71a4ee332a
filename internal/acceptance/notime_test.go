package acceptance_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// Some servers refuse TIME in scripts that write: those that replicate the script and not its
// effects. A user who may not use TIME stands for them.
func TestLocksAreExtendedAndRenewedWhereScriptsMayNotAskForTheTime(t *testing.T) {
	ctx := context.Background()
	s := redistest.Start(t)
	l := open(t, []*redis.Client{asUser(t, s, "~*", "&*", "+@all", "-time")},
		redlock.WithNodeTimeout(time.Second))

	h, err := l.Acquire(ctx, "extended", redlock.WithTTL(5*time.Second))
	require.NoError(t, err)
	require.NoError(t, h.Extend(ctx, time.Minute))
	require.Greater(t, time.Until(h.ValidUntil()), 50*time.Second)
	require.Greater(t, s.Do(t, "pttl", "lock:extended"), int64(50_000))
	require.NoError(t, h.Extend(ctx, time.Hour))
	require.NoError(t, h.Release(ctx))

	const ttl = 1500 * time.Millisecond
	h, err = l.Acquire(ctx, "renewed", redlock.WithTTL(ttl), redlock.WithAutoRenewal(true))
	require.NoError(t, err)
	first := h.ValidUntil()
	until(t, 3*ttl, func() bool {
		require.NoError(t, h.Err(), "not renewed")
		return h.ValidUntil().After(first.Add(ttl))
	}, "not renewed")
	require.NoError(t, h.Release(ctx))

	h, err = l.AcquireMulti(ctx, []string{"a", "b", "c"})
	require.NoError(t, err)
	require.NoError(t, h.Extend(ctx, time.Minute))
	require.NoError(t, h.Release(ctx))
	requireEmpty(t, s)
}

// Without a clock nobody in a queue could ever be forgotten: a waiter that is gone, or frozen, must
// not hold up the others.
func TestWaiterThatIsGoneHoldsNobodyUpWhereScriptsMayNotAskForTheTime(t *testing.T) {
	ctx := context.Background()
	s := redistest.Start(t)
	client, gone := asUser(t, s, "~*", "&*", "+@all", "-time"),
		redis.NewClient(&redis.Options{Addr: s.Addr(), Username: "locker", Password: "secret"})
	l := open(t, []*redis.Client{client})
	first, err := redlock.New([]*redis.Client{gone})
	require.NoError(t, err)
	h, err := l.TryAcquire(ctx, "r")
	require.NoError(t, err)
	bored, cancel := context.WithCancel(ctx)
	defer cancel()
	before := s.CommandCount(t, "evalsha")
	left := inBackground(func() error { return onlyError(first.Acquire(bored, "r")) })
	eventually(t, func() bool { return s.CommandCount(t, "evalsha") > before+3 }, "nobody waits")
	frozen := newGate(t) // what it sends does not arrive any more, nor that it leaves
	tapOf(gone).onSend(func(string) error { frozen.pass(); return context.Canceled })
	next := inBackground(
		func() error { return onlyError(l.Acquire(ctx, "r", redlock.WithMaxWait(12*time.Second))) })
	require.NoError(t, h.Release(ctx))
	require.NoError(t, outcome(t, next, "the next waiter"))
	cancel()
	frozen.open()
	outcome(t, left, "the one that is gone")
	require.NoError(t, gone.Close())
	_ = first.Close() // its client is gone
}
