package otelredlock

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/rediskit/redlock"
)

// mostNames is how many resources a span names.
const mostNames = 16

// spans makes the spans. Its methods return the context of the span that they have made, so that
// what is measured can be found with its trace (exemplars). It is nil where spans are switched off:
// then even the arguments of a span are not made.
type spans struct {
	tracer trace.Tracer
	always []attribute.KeyValue
	holds  bool

	alive sync.Map // *lock by lockKey, of locks with spans
}

// lockKey names a lock of this process.
type lockKey struct{ locker, lock uint64 }

// lock is what the spans of a lock need that come after its acquisition.
type lock struct {
	caller context.Context // of the acquisition
	link   trace.Link      // to its span
}

func newSpans(c config) *spans {
	if _, off := c.tracers.(noop.TracerProvider); off {
		return nil
	}
	return &spans{tracer: c.tracers.Tracer(scope), always: slices.Clone(c.attributes),
		holds: c.holdSpans}
}

// span is what a span is made of.
type span struct {
	name       string
	resources  []string
	start, end time.Time
	attributes func() []attribute.KeyValue // asked only if somebody records the span
	links      []trace.Link
	err        error // nil: nothing went wrong
}

// record makes a span that is over.
func (s *spans) record(ctx context.Context, made span) context.Context {
	ctx, sp := s.tracer.Start(ctx, made.name, trace.WithTimestamp(made.start),
		trace.WithLinks(made.links...))
	if sp.IsRecording() {
		names := made.resources[:min(mostNames, len(made.resources))]
		sp.SetAttributes(s.always...)
		sp.SetAttributes(attribute.StringSlice("redlock.resources", names),
			attribute.Int("redlock.resources.count", len(made.resources)))
		sp.SetAttributes(made.attributes()...)
		if made.err != nil {
			sp.SetStatus(codes.Error, made.err.Error())
		}
	}
	sp.End(trace.WithTimestamp(made.end))
	return ctx
}

func (s *spans) acquireDone(ctx context.Context, e redlock.AcquireDone) context.Context {
	if s == nil {
		return ctx
	}
	return s.acquire(ctx, e)
}

func (s *spans) acquire(ctx context.Context, e redlock.AcquireDone) context.Context {
	outcome := outcomeOf(e.Err)
	made := span{
		name: "redlock.acquire", resources: e.Resources, start: e.Start,
		end: e.Start.Add(e.Duration),
		attributes: func() []attribute.KeyValue {
			attributes := []attribute.KeyValue{
				attribute.String("redlock.outcome", outcomeNames[outcome]),
				attribute.Bool("redlock.wait", e.Waited),
				attribute.Int("redlock.attempts", e.Attempts),
				attribute.Int("redlock.nodes.granted", e.Granted),
				attribute.Int("redlock.nodes.count", e.Nodes),
				attribute.Bool("redlock.adopted", e.Adopted),
			}
			if e.Fence > 0 {
				attributes = append(attributes, attribute.Int64("redlock.fence", int64(e.Fence)))
			}
			return attributes
		},
	}
	if outcome != held && outcome != canceled { // which are ordinary ends
		made.err = e.Err
	}
	acquired := s.record(ctx, made)
	if at := trace.SpanContextFromContext(acquired); s.holds && e.Err == nil && at.IsSampled() {
		s.alive.Store(lockKey{e.Locker, e.Lock},
			&lock{caller: ctx, link: trace.Link{SpanContext: at}})
	}
	return acquired
}

func (s *spans) extendDone(ctx context.Context, e redlock.ExtendDone) context.Context {
	if s == nil {
		return ctx
	}
	l := s.of(e.Locker, e.Lock)
	if e.Renewal && l == nil {
		return ctx
	}
	return s.extend(ctx, l, e)
}

// extend makes the span of an extension. Without hold spans l is nil.
func (s *spans) extend(ctx context.Context, l *lock, e redlock.ExtendDone) context.Context {
	made := span{
		name: "redlock.extend", resources: e.Resources, start: e.Start,
		end: e.Start.Add(e.Duration),
		attributes: func() []attribute.KeyValue {
			return []attribute.KeyValue{
				attribute.String("redlock.outcome", renewalNames[renewalOf(e.Err)]),
				attribute.Bool("redlock.auto", e.Renewal),
				attribute.Float64("redlock.ttl", e.TTL.Seconds()),
				attribute.Float64("redlock.left", e.Left.Seconds()),
				attribute.Int("redlock.nodes.healed", e.Healed),
			}
		},
		err: e.Err,
	}
	if l != nil {
		made.links = []trace.Link{l.link}
		if e.Renewal {
			ctx = l.caller
		}
	}
	return s.record(ctx, made)
}

func (s *spans) leaseEnded(ctx context.Context, e redlock.LeaseEnded) context.Context {
	l := s.of(e.Locker, e.Lock)
	if l == nil {
		return ctx
	}
	s.alive.Delete(lockKey{e.Locker, e.Lock})
	return s.hold(ctx, l, e)
}

func (s *spans) hold(ctx context.Context, l *lock, e redlock.LeaseEnded) context.Context {
	made := span{
		name: "redlock.hold", resources: e.Resources, start: e.Start, end: e.Start.Add(e.Held),
		attributes: func() []attribute.KeyValue {
			return []attribute.KeyValue{attribute.String("redlock.cause", string(e.Cause))}
		},
		links: []trace.Link{l.link},
	}
	if slices.Contains(losses, e.Cause) {
		made.err = e.Err
	}
	return s.record(ctx, made)
}

// of returns a lock that has spans, or nil.
func (s *spans) of(locker, number uint64) *lock {
	if s == nil || !s.holds {
		return nil
	}
	l, _ := s.alive.Load(lockKey{locker, number})
	found, _ := l.(*lock)
	return found
}
