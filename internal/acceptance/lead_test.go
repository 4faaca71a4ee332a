package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

var errStop = errors.New("the operator wants to stop")

// lead campaigns in the background. Each term is told on a channel, by its context.
func lead(l *redlock.Locker,
	opts ...redlock.AcquireOption) (terms <-chan context.Context, stop context.CancelCauseFunc,
	result <-chan error) {
	ctx, stop := context.WithCancelCause(context.Background())
	told := make(chan context.Context, 100)
	return told, stop, inBackground(func() error {
		return l.Lead(ctx, "leader", func(ctx context.Context) error {
			told <- ctx
			<-ctx.Done()
			return ctx.Err()
		}, opts...)
	})
}

func TestLeaderThatStopsHandsOverAtOnce(t *testing.T) {
	servers, clients := masters(t, 3)
	long := []redlock.Option{redlock.WithTTL(10 * time.Minute),
		redlock.WithRetryInterval(10 * time.Millisecond)}
	first, stopFirst, firstResult := lead(open(t, clients, long...))
	outcome(t, first, "the first leader")
	second, stopSecond, secondResult := lead(open(t, clients, long...))
	never(t, 200*time.Millisecond, func() bool { return len(second) > 0 }, "two leaders")
	stopFirst(errStop)
	require.Equal(t, errStop, outcome(t, firstResult, "the first leader's end"))
	require.NoError(t, outcome(t, second, "the second leader").Err()) // not after ten minutes
	stopSecond(errStop)
	require.Equal(t, errStop, outcome(t, secondResult, "the second leader's end"))
	noKeys(t, servers)
}

func TestLeaderThatLosesTheLeadershipStepsDownAndCampaignsAgain(t *testing.T) {
	servers, clients := masters(t, 3)
	l := open(t, clients, redlock.WithTTL(time.Second))
	terms, stop, result := lead(l)
	term := outcome(t, terms, "the first term")
	uproot(t, "leader", servers...)
	await(t, term.Done(), "the end of the term")
	require.ErrorIs(t, context.Cause(term), redlock.ErrLost)
	term = outcome(t, terms, "the second term")
	require.NoError(t, term.Err())
	stop(errStop)
	require.Equal(t, errStop, outcome(t, result, "the end"))

	terms, stop, result = lead(l, redlock.WithAutoRenewal(false),
		redlock.WithTTL(200*time.Millisecond))
	term = outcome(t, terms, "a term without renewal")
	await(t, term.Done(), "its end")
	outcome(t, terms, "another one")
	stop(errStop)
	require.Equal(t, errStop, outcome(t, result, "the end"))
	noKeys(t, servers)
}

func TestLeadersNeverOverlap(t *testing.T) {
	_, clients := masters(t, 3)
	ctx, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	var leading, terms, resigned atomic.Int32
	var candidates []func() error
	for i := range 5 {
		l := open(t, clients, redlock.WithTTL(time.Second),
			redlock.WithRetryInterval(5*time.Millisecond))
		candidates = append(candidates, func() error {
			err := l.Lead(ctx, "leader", func(ctx context.Context) error {
				defer leading.Add(-1)
				if n := leading.Add(1); n != 1 {
					return fmt.Errorf("%d leaders", n)
				}
				if terms.Add(1) >= 30 {
					stop(errStop)
				}
				if i%2 == 0 {
					resigned.Add(1)
					return nil
				}
				return l.Do(ctx, "work", func(context.Context) error { return nil })
			})
			if !errors.Is(err, errStop) || errors.Is(err, redlock.ErrHeld) {
				return fmt.Errorf("candidate %d: %w", i, err)
			}
			return nil
		})
	}
	require.NoError(t, together(candidates...))
	require.Positive(t, resigned.Load())
}

func TestLeadReturnsWhatIsTheFunctionsOwn(t *testing.T) {
	servers, clients := masters(t, 3)
	l := open(t, clients)
	ctx, stop := context.WithCancelCause(context.Background())
	own := errors.New("own")
	require.Equal(t, own, l.Lead(ctx, "leader", func(context.Context) error { return own }))
	require.Equal(t, context.Canceled, l.Lead(ctx, "leader",
		func(context.Context) error { return context.Canceled }),
		"not what the end of its context told it")
	terms := 0
	require.Equal(t, own, l.Lead(ctx, "leader", func(ctx context.Context) error {
		if terms++; terms > 1 {
			return own
		}
		uproot(t, "leader", servers...)
		takeFor(t, 100*time.Millisecond, "leader", servers...)
		<-ctx.Done()
		return fmt.Errorf("work: %w", context.Cause(ctx))
	}, redlock.WithTTL(300*time.Millisecond)))
	require.Equal(t, 2, terms, "an error that the loss caused is not its own")

	require.PanicsWithValue(t, "fn", func() {
		_ = l.Lead(ctx, "leader", func(context.Context) error { panic("fn") })
	})
	noKeys(t, servers)

	err := l.Lead(ctx, "leader", func(context.Context) error { stop(errStop); return own })
	require.ErrorIs(t, err, own)
	require.ErrorIs(t, err, errStop)
	require.Equal(t, errStop, l.Lead(ctx, "leader", func(context.Context) error { panic("never") }))

	require.Error(t, l.Lead(context.Background(), "", nil))
	require.NoError(t, l.Close())
	require.ErrorIs(t, l.Lead(context.Background(), "leader", nil), redlock.ErrClosed)
}

// A maximum wait and a maximum outage are for calls that give up. A candidate does not.
func TestCandidateGoesOnThroughAnOutage(t *testing.T) {
	servers, clients := masters(t, 3)
	for _, s := range servers[:2] {
		orphan(t, s)
	}
	l := open(t, clients, redlock.WithMaxWait(time.Millisecond),
		redlock.WithMaxOutage(time.Millisecond))
	terms, stop, result := lead(l)
	never(t, 300*time.Millisecond, func() bool { return len(terms)+len(result) > 0 },
		"led, or gave up")
	for _, s := range servers[:2] {
		s.Do(t, "replicaof", "no", "one")
	}
	outcome(t, terms, "the end of the outage")
	stop(errStop)
	require.Equal(t, errStop, outcome(t, result, "the end"))

	for _, s := range servers {
		denyAllScripts(t, s)
	}
	_, stop, result = lead(l)
	defer stop(nil)
	require.ErrorIs(t, outcome(t, result, "an error"), redlock.ErrMisconfigured)
}

func TestObserverIsToldWhoLeads(t *testing.T) {
	servers, clients := masters(t, 3)
	var r recorder
	l := open(t, clients, redlock.WithTTL(time.Second), redlock.WithObserver(&r),
		redlock.WithRetryInterval(10*time.Millisecond))
	h, err := open(t, clients).TryAcquire(context.Background(), "leader",
		redlock.WithTTL(time.Minute))
	require.NoError(t, err)
	terms, stop, result := lead(l)
	latest[redlock.Waiting](t, &r, 1)
	require.Empty(t, told[redlock.LeaderChanged](&r))
	require.NoError(t, h.Release(context.Background()))
	term := outcome(t, terms, "a term")
	e := latest[redlock.LeaderChanged](t, &r, 1)
	require.True(t, e.Leading)
	require.Equal(t, []string{"leader"}, e.Resources)
	require.Positive(t, e.Gap)
	require.Empty(t, e.Cause)
	takenFrom := time.Now()
	uproot(t, "leader", servers...)
	await(t, term.Done(), "the loss")
	outcome(t, terms, "another term")
	all := told[redlock.LeaderChanged](&r)
	require.Len(t, all, 3)
	require.Equal(t, []any{false, redlock.CauseGone, time.Duration(0)},
		[]any{all[1].Leading, all[1].Cause, all[1].Gap})
	require.True(t, all[2].Leading)
	require.Positive(t, all[2].Gap)
	require.Less(t, all[2].Gap, time.Since(takenFrom))
	stop(errStop)
	require.Equal(t, errStop, outcome(t, result, "the end"))
	e = latest[redlock.LeaderChanged](t, &r, 4)
	require.Equal(t, []any{false, redlock.CauseReleased}, []any{e.Leading, e.Cause})
}
