package otelredlock

import (
	"context"

	"github.com/rediskit/redlock"
)

const scope = "github.com/rediskit/redlock/otelredlock"

// Observer is an observer for [redlock.WithObserver]. It is safe for concurrent use. There is
// nothing to close: the providers are the caller's to shut down, after the Lockers.
type Observer struct {
	metrics *metrics
	spans   *spans
}

var _ redlock.Observer = (*Observer)(nil)

// New returns an observer of Lockers that use the same nodes. It fails where the meter provider
// refuses an instrument.
func New(opts ...Option) (*Observer, error) {
	c := newConfig(opts)
	m, err := newMetrics(c)
	if err != nil {
		return nil, err
	}
	return &Observer{metrics: m, spans: newSpans(c)}, nil
}

// Observe implements [redlock.Observer].
func (o *Observer) Observe(e redlock.Event) {
	switch e := e.(type) {
	case redlock.Waiting:
		o.metrics.waiting(orBackground(e.Context), e)
	case redlock.AcquireDone:
		o.metrics.acquireDone(o.spans.acquireDone(orBackground(e.Context), e), e)
	case redlock.ExtendDone:
		o.metrics.extendDone(o.spans.extendDone(orBackground(e.Context), e), e)
	case redlock.LeaseEnded:
		o.metrics.leaseEnded(o.spans.leaseEnded(orBackground(e.Context), e), e)
	case redlock.NodeCall:
		o.metrics.nodes.call(orBackground(e.Context), e)
	case redlock.NodeState:
		o.metrics.nodes.state(e)
	case redlock.LeaderChanged:
		o.metrics.leaderChanged(orBackground(e.Context), e)
	case redlock.DeadlockFound:
		o.metrics.deadlockFound(orBackground(e.Context), e)
	}
}

// orBackground returns the context of an event, which is nil where nobody called.
func orBackground(ctx context.Context) context.Context {
	if ctx == nil {
		return context.Background()
	}
	return ctx
}
