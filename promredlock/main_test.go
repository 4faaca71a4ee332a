package promredlock_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/locktest"
)

func TestMain(m *testing.M) { locktest.Main(m) }

var (
	masters = locktest.Masters
	open    = locktest.Open[*redis.Client]
)

// scrape returns the value of each series by its name and labels, as Prometheus writes them; of a
// histogram its count, its sum and its buckets.
func scrape(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(c))
	families, err := registry.Gather()
	require.NoError(t, err)
	values := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.Metric {
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				values[series(f.GetName(), m)] = m.GetCounter().GetValue()
			case dto.MetricType_GAUGE:
				values[series(f.GetName(), m)] = m.GetGauge().GetValue()
			case dto.MetricType_HISTOGRAM:
				values[series(f.GetName()+"_count", m)] = float64(m.GetHistogram().GetSampleCount())
				values[series(f.GetName()+"_sum", m)] = m.GetHistogram().GetSampleSum()
			}
		}
	}
	return values
}

func series(name string, m *dto.Metric) string {
	var labels []string
	for _, l := range m.Label {
		labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
	}
	if len(labels) == 0 {
		return name
	}
	return name + "{" + strings.Join(labels, ",") + "}"
}

// eventually waits for a condition in the test's own goroutine.
func eventually(t *testing.T, condition func() bool, what string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); {
		if time.Now().After(deadline) {
			require.FailNow(t, "waited in vain: "+what)
		}
		<-time.After(2 * time.Millisecond)
	}
}
