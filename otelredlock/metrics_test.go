package otelredlock_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/otelredlock"
)

// That values and labels are those of promredlock is tested in the module monitoring.

func TestInstrumentsAndTheirUnits(t *testing.T) {
	b := newBackend(t)
	all := []string{"a"}
	for _, e := range []redlock.Event{
		redlock.AcquireDone{Resources: all, Nodes: 3},
		redlock.ExtendDone{Resources: all, Renewal: true, TTL: time.Second},
		redlock.LeaseEnded{Resources: all},
		redlock.LeaderChanged{Resources: all, Leading: true},
		redlock.NodeCall{Addr: "a:1", Op: "acquire"},
	} {
		b.Observe(e)
	}
	units := make(map[string]string)
	for name, m := range b.instruments(t) {
		units[name] = m.Unit
		require.NotEmpty(t, m.Description, name)
	}
	require.Equal(t, map[string]string{
		"redlock.acquire.duration": "s", "redlock.hold.duration": "s",
		"redlock.renewal.duration": "s", "redlock.node.duration": "s",
		"redlock.lease.remaining": "1", "redlock.wait.active": "{acquisition}",
		"redlock.hold.active": "{lock}",
		"redlock.hold.lost":   "{lock}", "redlock.node.up": "{node}",
		"redlock.quorum.margin": "{node}",
		"redlock.leader.active": "{leadership}", "redlock.deadlocks": "{deadlock}",
	}, units)
	durations := b.instruments(t)["redlock.acquire.duration"].Data.(metricdata.Histogram[float64])
	bounds := durations.DataPoints[0].Bounds
	require.Less(t, bounds[0], .001, "seconds, not milliseconds")
}

// A counter that is not there before its first event shows no increase when that comes.
func TestCountersOfAGroupAreThereFromItsFirstAcquireOn(t *testing.T) {
	b := newBackend(t, otelredlock.WithGroup(otelredlock.BeforeColon))
	require.Empty(t, b.instruments(t))
	b.Observe(redlock.Waiting{Resources: []string{"order:1"}})
	order := attribute.String("group", "order")
	lost := make(map[attribute.Set]float64)
	for _, cause := range []redlock.Cause{
		redlock.CauseExpired, redlock.CauseTaken, redlock.CauseGone, redlock.CauseMaxHold,
	} {
		lost[attribute.NewSet(order, attribute.String("cause", string(cause)))] = 0
	}
	require.Equal(t, lost, b.values(t, "redlock.hold.lost"))
	require.Equal(t, map[attribute.Set]float64{attribute.NewSet(order): 0},
		b.values(t, "redlock.deadlocks"))
	require.Equal(t, map[attribute.Set]float64{attribute.NewSet(order): 1},
		b.values(t, "redlock.wait.active"))
}

func TestAttributesOfTheUserAreOnAllMetrics(t *testing.T) {
	eu := attribute.String("nodes", "eu")
	b := newBackend(t, otelredlock.WithAttributes(eu))
	b.Observe(redlock.AcquireDone{Resources: []string{"a"}, Nodes: 3})
	b.Observe(redlock.NodeCall{Addr: "a:1", Op: "acquire"})
	for name := range b.instruments(t) {
		for set := range b.values(t, name) {
			value, ok := set.Value("nodes")
			require.True(t, ok && value.AsString() == "eu", "%s%v", name, set)
		}
	}
	require.Equal(t, map[attribute.Set]float64{attribute.NewSet(eu): 1},
		b.values(t, "redlock.quorum.margin"))
	require.Equal(t, "eu", attributesOf(b.ended("redlock.acquire")[0])["nodes"])
}

func TestProvidersAreTheGlobalOnesByDefault(t *testing.T) {
	before := otel.GetMeterProvider()
	defer otel.SetMeterProvider(before)
	reader := sdkmetric.NewManualReader()
	otel.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
	observer, err := otelredlock.New(otelredlock.WithMeterProvider(nil),
		otelredlock.WithTracerProvider(nil), otelredlock.WithGroup(nil))
	require.NoError(t, err)
	observer.Observe(redlock.Waiting{Resources: []string{"a"}})
	var all metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(context.Background(), &all))
	require.NotEmpty(t, all.ScopeMetrics)
}

// refusing is a provider that cannot make histograms.
type refusing struct{ metricnoop.MeterProvider }
type refusingMeter struct{ metricnoop.Meter }

func (refusing) Meter(string, ...metric.MeterOption) metric.Meter { return refusingMeter{} }
func (refusingMeter) Float64Histogram(string,
	...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	return nil, context.Canceled
}

func TestRefusedInstrumentIsAnError(t *testing.T) {
	_, err := otelredlock.New(otelredlock.WithMeterProvider(refusing{}))
	require.ErrorIs(t, err, context.Canceled)
}

// The attribute sets are made once, and without spans nothing is made for an event.
func TestMeasuringAllocatesNothing(t *testing.T) {
	for name, provider := range map[string]metric.MeterProvider{
		"switched off": metricnoop.NewMeterProvider(),
		"SDK": sdkmetric.NewMeterProvider(
			sdkmetric.WithReader(sdkmetric.NewManualReader())),
	} {
		observer, err := otelredlock.New(otelredlock.WithMeterProvider(provider),
			otelredlock.WithTracerProvider(tracenoop.NewTracerProvider()),
			otelredlock.WithGroup(otelredlock.BeforeColon), otelredlock.WithHoldSpans())
		require.NoError(t, err)
		for _, e := range []redlock.Event{
			redlock.Waiting{Resources: []string{"order:1"}},
			redlock.AcquireDone{Resources: []string{"order:1"}, Waited: true, Nodes: 3},
			redlock.ExtendDone{Resources: []string{"order:1"}, Renewal: true, TTL: time.Second},
			redlock.LeaseEnded{Resources: []string{"order:1"}, Cause: redlock.CauseReleased},
			redlock.LeaderChanged{Resources: []string{"order:1"}},
			redlock.NodeCall{Resources: []string{"order:1"}, Addr: "a:1", Op: "acquire"},
		} {
			observer.Observe(e)
			require.Zero(t, testing.AllocsPerRun(100, func() { observer.Observe(e) }), "%s: %T",
				name, e)
		}
	}
}
