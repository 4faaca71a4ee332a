package otelredlock

import (
	"context"
	"errors"
	"slices"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/rediskit/redlock"
)

// metrics has the instruments.
type metrics struct {
	name   func(resource string) string // of a group
	always []attribute.KeyValue
	bare   []metric.RecordOption // with no other attributes

	acquire   metric.Float64Histogram
	waits     metric.Int64UpDownCounter
	holds     metric.Int64UpDownCounter
	hold      metric.Float64Histogram
	lost      metric.Int64Counter
	renewal   metric.Float64Histogram
	remaining metric.Float64Histogram
	took      metric.Float64Histogram
	up        metric.Int64Gauge
	margin    metric.Int64Gauge
	leads     metric.Int64UpDownCounter
	deadlocks metric.Int64Counter

	groups cache[string, *group]
	nodes  nodes
}

// In seconds. The SDK's own are made for milliseconds.
var (
	waitBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10,
		30, 60, 300}
	holdBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900,
		3600, 14400, 86400}
	callBuckets = []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5,
		5}
)

var fractionBuckets = []float64{0, .1, .2, .3, .4, .5, .6, .7, .8, .9}

func newMetrics(c config) (*metrics, error) {
	meter := c.meters.Meter(scope)
	var errs []error
	histogram := func(name, unit, help string, buckets []float64) metric.Float64Histogram {
		i, err := meter.Float64Histogram(name, metric.WithUnit(unit), metric.WithDescription(help),
			metric.WithExplicitBucketBoundaries(buckets...))
		errs = append(errs, err)
		return i
	}
	upDown := func(name, unit, help string) metric.Int64UpDownCounter {
		i, err := meter.Int64UpDownCounter(name, metric.WithUnit(unit),
			metric.WithDescription(help))
		errs = append(errs, err)
		return i
	}
	counter := func(name, unit, help string) metric.Int64Counter {
		i, err := meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(help))
		errs = append(errs, err)
		return i
	}
	gauge := func(name, unit, help string) metric.Int64Gauge {
		i, err := meter.Int64Gauge(name, metric.WithUnit(unit), metric.WithDescription(help))
		errs = append(errs, err)
		return i
	}
	m := &metrics{
		name: c.group, always: slices.Clone(c.attributes),
		acquire: histogram("redlock.acquire.duration", "s",
			"How long acquisitions took, waiting included.", waitBuckets),
		waits: upDown("redlock.wait.active", "{acquisition}", "Acquisitions that wait now."),
		holds: upDown("redlock.hold.active", "{lock}", "Locks that are held now."),
		hold:  histogram("redlock.hold.duration", "s", "How long locks were held.", holdBuckets),
		lost: counter("redlock.hold.lost", "{lock}",
			"Locks that were lost while they were held."),
		renewal: histogram("redlock.renewal.duration", "s",
			"How long renewals took, and extensions by hand.", callBuckets),
		remaining: histogram("redlock.lease.remaining", "1",
			"What was left of the lease at the end of a renewal, as a fraction of the TTL.",
			fractionBuckets),
		took: histogram("redlock.node.duration", "s",
			"How long calls to a node took, the time in its queue included.", callBuckets),
		up: gauge("redlock.node.up", "{node}", "Whether a node answers: 1 or 0."),
		margin: gauge("redlock.quorum.margin", "{node}",
			"Nodes that can fail until there is no quorum; negative: there is none."),
		leads: upDown("redlock.leader.active", "{leadership}",
			"Leaderships that this process has now."),
		deadlocks: counter("redlock.deadlocks", "{deadlock}",
			"Acquisitions that gave up because of a deadlock."),
	}
	m.bare = records(m.with())
	m.nodes.m = m
	return m, errors.Join(errs...)
}

func (m *metrics) waiting(ctx context.Context, e redlock.Waiting) {
	g := m.groupOf(e.Resources)
	m.waits.Add(ctx, 1, g.add...)
}

func (m *metrics) acquireDone(ctx context.Context, e redlock.AcquireDone) {
	m.nodes.number(e.Nodes)
	g := m.groupOf(e.Resources)
	if e.Waited {
		m.waits.Add(ctx, -1, g.add...)
	}
	if e.Err == nil {
		m.holds.Add(ctx, 1, g.add...)
	}
	m.acquire.Record(ctx, e.Duration.Seconds(), g.acquire[outcomeOf(e.Err)][flag(e.Waited)]...)
}

func (m *metrics) extendDone(ctx context.Context, e redlock.ExtendDone) {
	g := m.groupOf(e.Resources)
	m.renewal.Record(ctx, e.Duration.Seconds(), g.renewal[renewalOf(e.Err)][flag(e.Renewal)]...)
	if e.Renewal {
		m.remaining.Record(ctx, min(1, e.Left.Seconds()/e.TTL.Seconds()), g.record...)
	}
}

func (m *metrics) leaseEnded(ctx context.Context, e redlock.LeaseEnded) {
	g := m.groupOf(e.Resources)
	m.holds.Add(ctx, -1, g.add...)
	m.hold.Record(ctx, e.Held.Seconds(), g.record...)
	if attributes, ok := g.lost[e.Cause]; ok {
		m.lost.Add(ctx, 1, attributes...)
	}
}

func (m *metrics) leaderChanged(ctx context.Context, e redlock.LeaderChanged) {
	by := int64(-1)
	if e.Leading {
		by = 1
	}
	m.leads.Add(ctx, by, m.groupOf(e.Resources).add...)
}

func (m *metrics) deadlockFound(ctx context.Context, e redlock.DeadlockFound) {
	if e.Victim {
		m.deadlocks.Add(ctx, 1, m.groupOf(e.Resources).add...)
	}
}

// group has the attribute sets of one group, so that none is made for each event. They are slices
// since a call with single options would make one.
type group struct {
	add     []metric.AddOption
	record  []metric.RecordOption
	acquire [outcomes][2][]metric.RecordOption // by whether it waited
	renewal [renewals][2][]metric.RecordOption // by whether it was automatic
	lost    map[redlock.Cause][]metric.AddOption
}

// losses are the causes that make a lock a lost one.
var losses = []redlock.Cause{redlock.CauseExpired, redlock.CauseTaken, redlock.CauseGone,
	redlock.CauseMaxHold}

// groupOf returns the group of an acquisition.
func (m *metrics) groupOf(resources []string) *group {
	return m.groups.get(m.name(resources[0]), m.newGroup)
}

// newGroup makes the attributes of a group, and its counters at 0. A counter that begins with its
// first event is at 1 when a backend first sees it: an increase would never show that event.
func (m *metrics) newGroup(name string) *group {
	of := attribute.String("group", name)
	g := &group{
		add: adds(m.with(of)), record: records(m.with(of)),
		lost: make(map[redlock.Cause][]metric.AddOption),
	}
	ctx := context.Background()
	m.waits.Add(ctx, 0, g.add...)
	m.holds.Add(ctx, 0, g.add...)
	m.deadlocks.Add(ctx, 0, g.add...)
	for _, cause := range losses {
		g.lost[cause] = adds(m.with(of, attribute.String("cause", string(cause))))
		m.lost.Add(ctx, 0, g.lost[cause]...)
	}
	for yes := range 2 {
		for o, outcome := range outcomeNames {
			g.acquire[o][yes] = records(m.with(of, attribute.String("outcome", outcome),
				attribute.Bool("wait", yes == 1)))
		}
		for o, outcome := range renewalNames {
			g.renewal[o][yes] = records(m.with(of, attribute.String("outcome", outcome),
				attribute.Bool("auto", yes == 1)))
		}
	}
	return g
}

// with returns a set of attributes, those of all metrics included.
func (m *metrics) with(attributes ...attribute.KeyValue) attribute.Set {
	return attribute.NewSet(slices.Concat(m.always, attributes)...)
}

func adds(s attribute.Set) []metric.AddOption {
	return []metric.AddOption{metric.WithAttributeSet(s)}
}

func records(s attribute.Set) []metric.RecordOption {
	return []metric.RecordOption{metric.WithAttributeSet(s)}
}

// cache keeps what is made once for each key.
type cache[K comparable, V any] struct {
	mu  sync.RWMutex
	all map[K]V
}

func (c *cache[K, V]) get(key K, create func(K) V) V {
	c.mu.RLock()
	v, ok := c.all[key]
	c.mu.RUnlock()
	if ok {
		return v
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.all[key]; ok {
		return v
	}
	if c.all == nil {
		c.all = make(map[K]V)
	}
	v = create(key)
	c.all[key] = v
	return v
}
