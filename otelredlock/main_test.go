package otelredlock_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/rediskit/redlock/internal/locktest"
	"github.com/rediskit/redlock/otelredlock"
)

func TestMain(m *testing.M) { locktest.Main(m) }

var (
	masters = locktest.Masters
	open    = locktest.Open[*redis.Client]
)

// backend collects what an observer makes.
type backend struct {
	*otelredlock.Observer
	reader  *sdkmetric.ManualReader
	spans   *tracetest.SpanRecorder
	tracers *sdktrace.TracerProvider
}

func newBackend(t *testing.T, opts ...otelredlock.Option) *backend {
	t.Helper()
	b := &backend{reader: sdkmetric.NewManualReader(), spans: tracetest.NewSpanRecorder()}
	b.tracers = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(b.spans))
	providers := []otelredlock.Option{
		otelredlock.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(b.reader))),
		otelredlock.WithTracerProvider(b.tracers),
	}
	observer, err := otelredlock.New(append(providers, opts...)...)
	require.NoError(t, err)
	b.Observer = observer
	return b
}

// instruments returns what was measured, by the instrument's name.
func (b *backend) instruments(t *testing.T) map[string]metricdata.Metrics {
	t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(t, b.reader.Collect(context.Background(), &all))
	found := make(map[string]metricdata.Metrics)
	for _, scope := range all.ScopeMetrics {
		require.Equal(t, "github.com/rediskit/redlock/otelredlock", scope.Scope.Name)
		for _, m := range scope.Metrics {
			found[m.Name] = m
		}
	}
	return found
}

// values returns the value of each series of an instrument, of a histogram its count.
func (b *backend) values(t *testing.T, name string) map[attribute.Set]float64 {
	t.Helper()
	values := make(map[attribute.Set]float64)
	switch data := b.instruments(t)[name].Data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			values[p.Attributes] = float64(p.Value)
		}
	case metricdata.Gauge[int64]:
		for _, p := range data.DataPoints {
			values[p.Attributes] = float64(p.Value)
		}
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			values[p.Attributes] = float64(p.Count)
		}
	}
	return values
}

// ended returns the spans of a name.
func (b *backend) ended(name string) (found []sdktrace.ReadOnlySpan) {
	for _, s := range b.spans.Ended() {
		if s.Name() == name {
			found = append(found, s)
		}
	}
	return found
}

// attributesOf returns a span's attributes.
func attributesOf(s sdktrace.ReadOnlySpan) map[string]any {
	all := make(map[string]any)
	for _, a := range s.Attributes() {
		all[string(a.Key)] = a.Value.AsInterface()
	}
	return all
}
