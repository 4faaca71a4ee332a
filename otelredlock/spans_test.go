package otelredlock_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/otelredlock"
)

// A request that takes a lock, extends it and gives it back.
func TestSpansBelongToTheCallersTrace(t *testing.T) {
	servers, clients := masters(t, 3)
	b := newBackend(t, otelredlock.WithHoldSpans())
	l := open(t, clients, redlock.WithObserver(b), redlock.WithTTL(3*time.Second),
		redlock.WithFencing())
	ctx, request := b.tracers.Tracer("test").Start(context.Background(), "request")
	before := time.Now()
	h, err := l.Acquire(ctx, "order:1", redlock.WithAutoRenewal(true))
	require.NoError(t, err)
	acquire := b.ended("redlock.acquire")[0]
	require.Equal(t, request.SpanContext().SpanID(), acquire.Parent().SpanID())
	require.Equal(t, codes.Unset, acquire.Status().Code)
	require.False(t, acquire.StartTime().Before(before))
	require.False(t, acquire.EndTime().After(time.Now()))
	all := attributesOf(acquire)
	require.GreaterOrEqual(t, all["redlock.nodes.granted"], int64(2))
	delete(all, "redlock.nodes.granted")
	require.Equal(t, map[string]any{
		"redlock.resources": []string{"order:1"}, "redlock.resources.count": int64(1),
		"redlock.outcome": "acquired",
		"redlock.wait":    false, "redlock.attempts": int64(1), "redlock.nodes.count": int64(3),
		"redlock.adopted": false,
		"redlock.fence":   int64(h.Fence()),
	}, all)

	extended := func(auto bool) (found sdktrace.ReadOnlySpan) {
		for _, s := range b.ended("redlock.extend") {
			if attributesOf(s)["redlock.auto"] == auto {
				found = s
			}
		}
		return found
	}
	for deadline := time.Now().Add(time.Minute); extended(true) == nil; <-time.After(
		time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "no renewal")
	}
	byHand, hand := b.tracers.Tracer("test").Start(context.Background(), "another request")
	require.NoError(t, h.Extend(byHand, 4*time.Second))
	require.NoError(t, h.Release(ctx))

	require.Equal(t, request.SpanContext().SpanID(), extended(true).Parent().SpanID())
	require.Equal(t, hand.SpanContext().SpanID(), extended(false).Parent().SpanID())
	require.Equal(t, 4.0, attributesOf(extended(false))["redlock.ttl"])
	hold := b.ended("redlock.hold")[0]
	require.Equal(t, request.SpanContext().SpanID(), hold.Parent().SpanID())
	require.Equal(t, "released", attributesOf(hold)["redlock.cause"])
	require.Equal(t, codes.Unset, hold.Status().Code)
	require.False(t, hold.StartTime().Before(before))
	for _, s := range []sdktrace.ReadOnlySpan{extended(true), extended(false), hold} {
		require.Equal(t, []sdktrace.Link{{SpanContext: acquire.SpanContext()}}, s.Links(), s.Name())
	}
	require.NoError(t, l.Close())
	for _, s := range b.spans.Ended() {
		require.NotContains(t, fmt.Sprint(s.Attributes(), s.Status()), h.Token())
	}
	for _, s := range servers {
		s.Do(t, "flushall")
	}
}

// Two Lockers number their locks alike.
func TestLocksOfSeveralLockersAreToldApart(t *testing.T) {
	_, clients := masters(t, 1)
	b := newBackend(t, otelredlock.WithHoldSpans())
	ctx := context.Background()
	first, err := open(t, clients, redlock.WithObserver(b)).TryAcquire(ctx, "a")
	require.NoError(t, err)
	second, err := open(t, clients, redlock.WithObserver(b)).TryAcquire(ctx, "b")
	require.NoError(t, err)
	require.NoError(t, first.Release(ctx))
	require.NoError(t, second.Release(ctx))
	acquired, held := b.ended("redlock.acquire"), b.ended("redlock.hold")
	require.Len(t, held, 2)
	for i := range held {
		require.Equal(t, attributesOf(acquired[i])["redlock.resources"],
			attributesOf(held[i])["redlock.resources"])
		require.Equal(t, acquired[i].SpanContext(), held[i].Links()[0].SpanContext)
	}
}

func TestHoldsHaveSpansOnlyIfAsked(t *testing.T) {
	b := newBackend(t)
	tellALife(b)
	require.Len(t, b.ended("redlock.acquire"), 1)
	require.Len(t, b.ended("redlock.extend"), 1, "that by hand")
	require.Empty(t, b.ended("redlock.hold"))
	require.Empty(t, b.ended("redlock.extend")[0].Links())
}

// holdsOnly is a sampler that takes everything but acquisitions.
type holdsOnly struct{}

func (holdsOnly) Description() string { return "holds only" }
func (holdsOnly) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if p.Name == "redlock.acquire" {
		return sdktrace.SamplingResult{Decision: sdktrace.Drop}
	}
	return sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample}
}

func TestHoldOfAnAcquisitionThatWasNotSampledHasNoSpan(t *testing.T) {
	b := newBackend(t)
	some := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(b.spans),
		sdktrace.WithSampler(holdsOnly{}))
	observer, err := otelredlock.New(otelredlock.WithTracerProvider(some),
		otelredlock.WithHoldSpans())
	require.NoError(t, err)
	tellALife(observer)
	require.Len(t, b.spans.Ended(), 1)
	require.Equal(t, "redlock.extend", b.spans.Ended()[0].Name(), "that by hand")
}

func TestSpansHaveTheTimesOfWhatTheyStandFor(t *testing.T) {
	b := newBackend(t, otelredlock.WithHoldSpans())
	start, name := time.Now().Add(-time.Hour), []string{"a"}
	b.Observe(redlock.AcquireDone{Resources: name, Start: start, Duration: time.Second})
	b.Observe(redlock.ExtendDone{Resources: name, Start: start.Add(time.Minute),
		Duration: time.Second, TTL: time.Minute})
	b.Observe(redlock.LeaseEnded{Resources: name, Start: start.Add(time.Second),
		Held: 10 * time.Minute})
	for span, times := range map[string][]time.Time{
		"redlock.acquire": {start, start.Add(time.Second)},
		"redlock.extend":  {start.Add(time.Minute), start.Add(time.Minute + time.Second)},
		"redlock.hold":    {start.Add(time.Second), start.Add(time.Second + 10*time.Minute)},
	} {
		s := b.ended(span)[0]
		require.Equal(t, times, []time.Time{s.StartTime(), s.EndTime()}, span)
	}
}

func TestNothingIsKeptOfALockThatHasEnded(t *testing.T) {
	b := newBackend(t, otelredlock.WithHoldSpans())
	tellALife(b)
	before := len(b.spans.Ended())
	require.Equal(t, 4, before)
	b.Observe(redlock.ExtendDone{Resources: []string{"a"}, Renewal: true, TTL: time.Second,
		Locker: 1, Lock: 1})
	require.Len(t, b.spans.Ended(), before, "no acquisition to link to is known any more")
}

// tellALife tells of a lock from its acquisition to its end, with a renewal and an extension by
// hand.
func tellALife(o redlock.Observer) {
	name := []string{"a"}
	o.Observe(redlock.AcquireDone{Context: context.Background(), Resources: name, Start: time.Now(),
		Locker: 1, Lock: 1})
	o.Observe(redlock.ExtendDone{Resources: name, Start: time.Now(), Renewal: true,
		TTL: time.Second, Locker: 1, Lock: 1})
	o.Observe(redlock.ExtendDone{Context: context.Background(), Resources: name, Start: time.Now(),
		TTL: time.Second, Locker: 1, Lock: 1})
	o.Observe(redlock.LeaseEnded{Context: context.Background(), Resources: name, Start: time.Now(),
		Locker: 1, Lock: 1})
}

// What is an error in a trace: an outage and a loss are, that somebody else has the lock is not.
func TestStatusOfSpans(t *testing.T) {
	for _, c := range []struct {
		name  string
		span  string
		event redlock.Event
		want  codes.Code
	}{
		{"held", "redlock.acquire", redlock.AcquireDone{Resources: []string{"a"},
			Err: redlock.ErrHeld}, codes.Unset},
		{"canceled", "redlock.acquire", redlock.AcquireDone{Resources: []string{"a"},
			Err: context.Canceled}, codes.Unset},
		{"outage", "redlock.acquire", redlock.AcquireDone{Resources: []string{"a"},
			Err: redlock.ErrNoQuorum}, codes.Error},
		{"deadlock", "redlock.acquire", redlock.AcquireDone{Resources: []string{"a"},
			Err: redlock.ErrDeadlock}, codes.Error},
		{"lost", "redlock.extend", redlock.ExtendDone{Resources: []string{"a"}, TTL: 1,
			Err: redlock.ErrLost}, codes.Error},
		{"hold lost", "redlock.hold", redlock.LeaseEnded{Resources: []string{"a"},
			Cause: redlock.CauseGone, Err: redlock.ErrLost}, codes.Error},
		{"hold closed", "redlock.hold", redlock.LeaseEnded{Resources: []string{"a"},
			Cause: redlock.CauseClosed, Err: redlock.ErrClosed}, codes.Unset},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBackend(t, otelredlock.WithHoldSpans())
			if _, ended := c.event.(redlock.LeaseEnded); ended {
				b.Observe(redlock.AcquireDone{Resources: []string{"a"}})
			}
			b.Observe(c.event)
			s := b.ended(c.span)[0]
			require.Equal(t, c.want, s.Status().Code)
			require.False(t, s.Parent().IsValid())
		})
	}
}

func TestSpansNameFewResources(t *testing.T) {
	b := newBackend(t)
	names := make([]string, 100)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	b.Observe(redlock.AcquireDone{Context: trace.ContextWithSpan(context.Background(), nil),
		Resources: names})
	all := attributesOf(b.ended("redlock.acquire")[0])
	require.Len(t, all["redlock.resources"], 16)
	require.Equal(t, int64(100), all["redlock.resources.count"])
}
