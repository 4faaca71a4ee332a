package acceptance_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// asUser makes a user with the given rules on the server and returns a stock client that logs in as
// this user.
func asUser(t *testing.T, s *redistest.Server, rules ...any) *redis.Client {
	t.Helper()
	const name, password = "locker", "secret"
	s.Do(t, append([]any{"acl", "setuser", name, "reset", "on", ">" + password}, rules...)...)
	client := redis.NewClient(&redis.Options{Addr: s.Addr(), Username: name, Password: password})
	t.Cleanup(func() { assert.NoError(t, client.Close()) })
	return client
}

func TestNamesThatAUserMayNotTouchAreNobodyElsesTrouble(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s := redistest.Start(t)
	client := asUser(t, s, "~lock:ok:*", "~{lock:ok:*", "&*", "+@all")
	l := open(t, []*redis.Client{client}, patient)

	const forbidden = 10
	crowded := func(i int) bool { return i%(callers/forbidden) == 7 } // spread among the others
	handles := make([]*redlock.Handle, callers)
	errs := atOnce(callers, func(i int) (err error) {
		name := fmt.Sprint("ok:", i)
		if crowded(i) {
			name = fmt.Sprint("forbidden:", i)
		}
		handles[i], err = l.TryAcquire(ctx, name)
		return err
	})
	var mine []*redlock.Handle
	var allowed, refused []error
	for i, err := range errs {
		if crowded(i) {
			refused = append(refused, err)
		} else {
			allowed = append(allowed, err)
			mine = append(mine, handles[i])
		}
	}
	requireNoErrors(t, allowed, "acquire what is allowed")
	require.Len(t, refused, forbidden)
	for _, err := range refused {
		var short *redlock.QuorumError
		require.ErrorAs(t, err, &short)
		require.ErrorIs(t, err, redlock.ErrNoQuorum)
		require.NotErrorIs(t, err, redlock.ErrHeld)
		require.ErrorContains(t, err, "NOPERM")
	}
	require.Len(t, lockKeysOn(t, s), len(mine))
	requireNoErrors(t,
		atOnce(len(mine), func(i int) error { return mine[i].Extend(ctx, time.Minute) }), "extend")
	requireNoErrors(t, atOnce(len(mine), func(i int) error { return mine[i].Release(ctx) }),
		"release")
	requireEmpty(t, s)

	// What the refused attempts may have left is still being sought.
	requireNoErrors(t, atOnce(callers/2, func(i int) error {
		h, err := l.TryAcquire(ctx, fmt.Sprint("ok:later ", i))
		if err != nil {
			return err
		}
		return h.Release(ctx)
	}), "acquire and release later")
	requireEmpty(t, s)
}
