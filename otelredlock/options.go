package otelredlock

import (
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Option changes what [New] returns.
type Option func(*config)

type config struct {
	meters     metric.MeterProvider
	tracers    trace.TracerProvider
	group      func(resource string) string
	attributes []attribute.KeyValue
	holdSpans  bool
}

func newConfig(opts []Option) config {
	c := config{
		meters:  otel.GetMeterProvider(),
		tracers: otel.GetTracerProvider(),
		group:   func(string) string { return "" },
	}
	for _, o := range opts {
		o(&c)
	}
	return c
}

// WithMeterProvider sets where metrics go. By default, and with nil, that is
// [otel.GetMeterProvider]. The provider of package metric/noop switches them off.
func WithMeterProvider(p metric.MeterProvider) Option {
	return func(c *config) {
		if p != nil {
			c.meters = p
		}
	}
}

// WithTracerProvider sets where spans go. By default, and with nil, that is
// [otel.GetTracerProvider]. The provider of package trace/noop switches them off.
func WithTracerProvider(p trace.TracerProvider) Option {
	return func(c *config) {
		if p != nil {
			c.tracers = p
		}
	}
}

// WithGroup sets what makes the attribute group of a resource's name. It is called for each event,
// from many goroutines at the same time, and should return few different values: each has metrics
// of its own, which stay for as long as the process lives. By default, and with nil, there is one
// group, "".
//
// [BeforeColon] is such a function.
func WithGroup(group func(resource string) string) Option {
	return func(c *config) {
		if group != nil {
			c.group = group
		}
	}
}

// BeforeColon returns what stands before the first colon of a name: "order" for "order:42", and ""
// for a name without one.
func BeforeColon(resource string) string {
	before, _, found := strings.Cut(resource, ":")
	if !found {
		return ""
	}
	return before
}

// WithAttributes adds attributes to all metrics and spans, for instance to tell two sets of nodes
// apart.
func WithAttributes(attributes ...attribute.KeyValue) Option {
	return func(c *config) { c.attributes = append(c.attributes, attributes...) }
}

// WithHoldSpans adds a span for each lock, from its acquisition to its end, and one for each
// automatic renewal. A process that holds locks for long gets long spans, and many renewals. By
// default there are none.
func WithHoldSpans() Option {
	return func(c *config) { c.holdSpans = true }
}
