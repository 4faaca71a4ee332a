package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/otelredlock"
	"github.com/rediskit/redlock/promredlock"
)

// unobserved is this library without an observer.
var unobserved = kind{name: "none", open: openRedlock, commands: ours.commands}

// observed are this library with one observer each.
var observed = []kind{
	observedBy("one that does nothing", func() (redlock.Observer, func() error, error) {
		return idle{}, func() error { return nil }, nil
	}),
	observedBy("promredlock", func() (redlock.Observer, func() error, error) {
		metrics := promredlock.New(promredlock.WithGroup(promredlock.BeforeColon))
		return metrics, func() error { return nil }, prometheus.NewRegistry().Register(metrics)
	}),
	observedBy("otelredlock, metrics", func() (redlock.Observer, func() error, error) {
		meters := newMeters()
		o, err := otelredlock.New(otelredlock.WithMeterProvider(meters),
			otelredlock.WithTracerProvider(tracenoop.NewTracerProvider()),
			otelredlock.WithGroup(otelredlock.BeforeColon))
		return o, func() error { return meters.Shutdown(context.Background()) }, err
	}),
	observedBy("otelredlock, metrics and spans",
		func() (redlock.Observer, func() error, error) { return traced() }),
	observedBy("otelredlock, metrics, spans and hold spans",
		func() (redlock.Observer, func() error, error) {
			return traced(otelredlock.WithHoldSpans())
		}),
}

// idle is an observer that does nothing: what it costs is that there are events.
type idle struct{}

func (idle) Observe(redlock.Event) {}

// newMeters returns a provider that aggregates, and is never read.
func newMeters() *sdkmetric.MeterProvider {
	return sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
}

// traced returns an observer every span of which is sampled, batched and thrown away.
func traced(opts ...otelredlock.Option) (redlock.Observer, func() error, error) {
	meters, tracers := newMeters(), sdktrace.NewTracerProvider(sdktrace.WithBatcher(discard{}))
	opts = append(opts, otelredlock.WithMeterProvider(meters),
		otelredlock.WithTracerProvider(tracers),
		otelredlock.WithGroup(otelredlock.BeforeColon))
	o, err := otelredlock.New(opts...)
	return o, func() error {
		return errors.Join(meters.Shutdown(context.Background()),
			tracers.Shutdown(context.Background()))
	}, err
}

// discard is an exporter of spans that keeps none.
type discard struct{}

func (discard) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (discard) Shutdown(context.Context) error                             { return nil }

// observedBy is this library with an observer, which is shut down when the subject is closed.
func observedBy(name string, newObserver func() (redlock.Observer, func() error, error)) kind {
	return kind{name: name, commands: ours.commands, open: func(addrs []string) (subject, error) {
		o, shutdown, err := newObserver()
		if err != nil {
			return nil, err
		}
		s, err := newRedlock(addrs, redlock.WithObserver(o))
		return &observedSubject{s, shutdown}, err
	}}
}

type observedSubject struct {
	subject
	shutdown func() error
}

func (s *observedSubject) close() error { return errors.Join(s.subject.close(), s.shutdown()) }

// observers measures what observers cost.
func observers(ctx context.Context, f *field, s settings) ([]group, error) {
	var groups []group
	for _, n := range []int{1, 3} {
		for _, goroutines := range []int{1, 64} {
			c := &cell{ctx: ctx, f: f, s: s, calm: calm}
			rows, err := c.uncontended(append([]kind{unobserved}, observed...), f.addrs(n),
				goroutines, pairValues)
			if err != nil {
				return nil, err
			}
			g := group{
				Scenario: "observers", Case: fmt.Sprintf("N=%d, %s", n,
					plural(goroutines, "goroutine")),
				Metrics: pairMetrics, Rows: rows,
			}
			for _, k := range observed {
				g.Ratios = append(g.Ratios, [2]string{k.name, unobserved.name})
			}
			groups = append(groups, g)
		}
	}
	return groups, nil
}
