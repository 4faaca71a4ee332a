package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/otelredlock"
	"github.com/rediskit/redlock/promredlock"
)

// both tells two observers the same.
type both [2]redlock.Observer

func (b both) Observe(e redlock.Event) {
	b[0].Observe(e)
	b[1].Observe(e)
}

// What is scraped from promredlock and, through OpenTelemetry's exporter for Prometheus, from
// otelredlock is the same: names, types, help, labels, buckets and values.
func TestBothExportersSayTheSame(t *testing.T) {
	observers, scrape := newExporters(t)
	for _, e := range everyEvent() {
		observers.Observe(e)
	}
	oneRealLife(t, observers)

	prom, otel := scrape()
	require.Len(t, prom, 12, "metrics")
	for name, family := range prom {
		require.Contains(t, otel, name)
		require.Equal(t, family, otel[name])
	}
	require.Len(t, otel, len(prom))
}

func newExporters(t *testing.T) (observers both, scrape func() (prom, otel map[string]family)) {
	direct, through := prometheus.NewPedanticRegistry(), prometheus.NewPedanticRegistry()
	metrics := promredlock.New(promredlock.WithGroup(promredlock.BeforeColon))
	require.NoError(t, direct.Register(metrics))
	reader, err := otelprometheus.New(otelprometheus.WithRegisterer(through))
	require.NoError(t, err)
	observer, err := otelredlock.New(otelredlock.WithGroup(otelredlock.BeforeColon),
		otelredlock.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))))
	require.NoError(t, err)
	return both{metrics, observer}, func() (prom,
		otel map[string]family) {
		return gather(t, direct), gather(t, through)
	}
}

// everyEvent has an event for each value of each label.
func everyEvent() (events []redlock.Event) {
	tell := func(e ...redlock.Event) { events = append(events, e...) }
	order, plain := []string{"order:1"}, []string{"plain"}
	long := 90 * time.Minute
	for i, err := range []error{
		nil, redlock.ErrHeld, redlock.ErrNoQuorum, redlock.ErrDeadlock, redlock.ErrClosed,
		redlock.ErrLost, redlock.ErrMisconfigured,
		context.Canceled, context.DeadlineExceeded, errors.Join(redlock.ErrHeld, context.Canceled),
		errors.Join(redlock.ErrHeld, context.DeadlineExceeded),
		errors.Join(redlock.ErrNoQuorum, context.Canceled),
	} {
		took := time.Millisecond << i
		tell(
			redlock.Waiting{Resources: order},
			redlock.AcquireDone{Resources: order, Duration: took, Waited: true, Nodes: 5, Err: err},
			redlock.AcquireDone{Resources: plain, Duration: took, Nodes: 5, Err: err},
			redlock.ExtendDone{Resources: order, Duration: took, TTL: time.Second,
				Left: time.Second, Err: err},
			redlock.ExtendDone{Resources: order, Duration: took, TTL: time.Second, Left: took / 3,
				Renewal: true, Err: err},
		)
	}
	for _, cause := range []redlock.Cause{
		redlock.CauseReleased, redlock.CauseExpired, redlock.CauseTaken, redlock.CauseGone,
		redlock.CauseMaxHold, redlock.CauseClosed,
	} {
		tell(redlock.LeaseEnded{Resources: order, Held: long, Cause: cause})
	}
	tell(
		redlock.Waiting{Resources: plain},
		redlock.LeaderChanged{Resources: plain, Leading: true},
		redlock.LeaderChanged{Resources: order, Leading: true},
		redlock.LeaderChanged{Resources: order},
		redlock.DeadlockFound{Resources: order, Victim: true},
		redlock.DeadlockFound{Resources: order},
	)
	for i, op := range []string{
		"acquire", "extend", "release", "inspect", "adopt", "of another version",
	} {
		took := time.Millisecond << i
		tell(
			redlock.NodeCall{Addr: "a:1", Op: op, Duration: took},
			redlock.NodeCall{Addr: "a:1", Op: op, Duration: took, Refused: true,
				Err: &redlock.HeldError{}},
			redlock.NodeCall{Node: 1, Op: op, Duration: took, Late: true},
			redlock.NodeCall{Node: 1, Op: op, Duration: took, Err: errors.New("broken")},
		)
	}
	tell(
		redlock.NodeState{Addr: "a:1"}, redlock.NodeState{Addr: "b:1"},
		redlock.NodeState{Addr: "b:1", Up: true},
		redlock.NodeState{Addr: "c:1"}, redlock.NodeCall{Addr: "c:1", Op: "extend",
			Start: time.Now().Add(time.Hour)},
	)
	return events
}

// oneRealLife has a Locker tell of itself.
func oneRealLife(t *testing.T, observer redlock.Observer) {
	ctx := context.Background()
	_, clients := masters(t, 3)
	l := open(t, clients, redlock.WithObserver(observer))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 20 {
				if err := l.Do(ctx, fmt.Sprintf("real:%d", i%2),
					func(context.Context) error { return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, l.Close())
}

// family is a metric as Prometheus sees it.
type family struct {
	kind   dto.MetricType
	help   string
	series map[string]any // value, or buckets with count and sum, by labels
}

// gather returns what a registry has, but for what OpenTelemetry says of itself: labels and metrics
// that name the library that measures.
func gather(t *testing.T, registry *prometheus.Registry) map[string]family {
	t.Helper()
	gathered, err := registry.Gather()
	require.NoError(t, err)
	found := make(map[string]family)
	for _, f := range gathered {
		if f.GetName() == "target_info" {
			continue
		}
		series := make(map[string]any)
		for _, m := range f.Metric {
			labels := ""
			for _, l := range m.Label {
				switch l.GetName() {
				case "otel_scope_name", "otel_scope_version", "otel_scope_schema_url":
				default:
					labels += fmt.Sprintf("%s=%q ", l.GetName(), l.GetValue())
				}
			}
			series[labels] = valueOf(m)
		}
		found[f.GetName()] = family{f.GetType(), f.GetHelp(), series}
	}
	return found
}

func valueOf(m *dto.Metric) any {
	switch {
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	}
	h := m.Histogram
	value := []string{fmt.Sprint("count ", h.GetSampleCount()),
		fmt.Sprintf("sum %.6f", h.GetSampleSum())}
	for _, b := range h.Bucket {
		value = append(value, fmt.Sprint(b.GetUpperBound(), ": ", b.GetCumulativeCount()))
	}
	return value
}

// The tables of both modules name each metric as it is, and each value that a label can have.
func TestTablesOfTheModulesAreTrue(t *testing.T) {
	observers, scrape := newExporters(t)
	for _, e := range everyEvent() {
		observers.Observe(e)
	}
	metrics, _ := scrape()
	for _, module := range []string{"promredlock", "otelredlock"} {
		text, err := os.ReadFile("../" + module + "/README.md")
		require.NoError(t, err)
		rows := regexp.MustCompile("(?m)^\\| `(redlock\\.[a-z.]+)` \\| `(\\w+)` \\| (\\w+) \\| "+
			"(\\w*) ?\\| ([^|]*)\\|").FindAllStringSubmatch(string(text), -1)
		require.Len(t, rows, len(metrics), module)
		for _, row := range rows {
			name := strings.ReplaceAll(row[1], ".", "_")
			if row[4] == "s" {
				name += "_seconds"
			}
			if row[3] == "counter" {
				name += "_total"
			}
			require.Equal(t, name, row[2])
			require.Contains(t, metrics, name)
			require.Equal(t, strings.ToUpper(row[3]), metrics[name].kind.String(), name)
			labels := regexp.MustCompile(`\w+`).FindAllString(row[5], -1)
			for series := range metrics[name].series {
				var found []string
				for _, pair := range strings.Fields(series) {
					label, value, _ := strings.Cut(pair, "=")
					found = append(found, label)
					if label != "group" && label != "node" {
						require.Contains(t, string(text), "`"+strings.Trim(value, `"`)+"`",
							"%s of %s", label, name)
					}
				}
				require.ElementsMatch(t, labels, found, name)
			}
		}
	}
}
