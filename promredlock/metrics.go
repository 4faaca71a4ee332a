package promredlock

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rediskit/redlock"
)

// Metrics is an observer for [redlock.WithObserver], and a collector to be registered with
// Prometheus. It is safe for concurrent use.
type Metrics struct {
	group func(resource string) string

	acquire   *prometheus.HistogramVec
	waits     *prometheus.GaugeVec
	holds     *prometheus.GaugeVec
	hold      *prometheus.HistogramVec
	lost      *prometheus.CounterVec
	renewal   *prometheus.HistogramVec
	remaining *prometheus.HistogramVec
	call      *prometheus.HistogramVec
	up        *prometheus.GaugeVec
	// without labels; a vector, so that there is none before it is known
	margin    *prometheus.GaugeVec
	leads     *prometheus.GaugeVec
	deadlocks *prometheus.CounterVec

	groups cache[string, *group]
	nodes  nodes
}

var (
	_ redlock.Observer     = (*Metrics)(nil)
	_ prometheus.Collector = (*Metrics)(nil)
)

// New returns the metrics of Lockers that use the same nodes. It panics where [WithHistograms]
// makes what Prometheus refuses.
func New(opts ...Option) *Metrics {
	c := newConfig(opts)
	histogram := func(name, help string, buckets []float64,
		labels ...string) *prometheus.HistogramVec {
		o := prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}
		c.histogram(&o)
		return prometheus.NewHistogramVec(o, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &Metrics{
		group: c.group,
		acquire: histogram("redlock_acquire_duration_seconds",
			"How long acquisitions took, waiting included.",
			waitBuckets, "group", "outcome", "wait"),
		waits: gauge("redlock_wait_active", "Acquisitions that wait now.", "group"),
		holds: gauge("redlock_hold_active", "Locks that are held now.", "group"),
		hold: histogram("redlock_hold_duration_seconds", "How long locks were held.", holdBuckets,
			"group"),
		lost: counter("redlock_hold_lost_total", "Locks that were lost while they were held.",
			"group", "cause"),
		renewal: histogram("redlock_renewal_duration_seconds",
			"How long renewals took, and extensions by hand.",
			callBuckets, "group", "outcome", "auto"),
		remaining: histogram("redlock_lease_remaining",
			"What was left of the lease at the end of a renewal, as a fraction of the TTL.",
			fractionBuckets, "group"),
		call: histogram("redlock_node_duration_seconds",
			"How long calls to a node took, the time in its queue included.",
			callBuckets, "node", "op", "outcome"),
		up: gauge("redlock_node_up", "Whether a node answers: 1 or 0.", "node"),
		margin: gauge("redlock_quorum_margin",
			"Nodes that can fail until there is no quorum; negative: there is none."),
		leads: gauge("redlock_leader_active", "Leaderships that this process has now.",
			"group"),
		deadlocks: counter("redlock_deadlocks_total",
			"Acquisitions that gave up because of a deadlock.", "group"),
	}
	m.nodes.m = m
	return m
}

// In seconds.
var (
	waitBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10,
		30, 60, 300}
	holdBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900,
		3600, 14400, 86400}
	callBuckets = []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5,
		5}
)

var fractionBuckets = []float64{0, .1, .2, .3, .4, .5, .6, .7, .8, .9}

func (m *Metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.acquire, m.waits, m.holds, m.hold, m.lost, m.renewal, m.remaining, m.call, m.up, m.margin,
		m.leads, m.deadlocks,
	}
}

// Describe implements [prometheus.Collector].
func (m *Metrics) Describe(to chan<- *prometheus.Desc) {
	for _, c := range m.collectors() {
		c.Describe(to)
	}
}

// Collect implements [prometheus.Collector].
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	for _, c := range m.collectors() {
		c.Collect(to)
	}
}

// Observe implements [redlock.Observer].
func (m *Metrics) Observe(e redlock.Event) {
	switch e := e.(type) {
	case redlock.Waiting:
		m.groupOf(e.Resources).waits.Inc()
	case redlock.AcquireDone:
		m.acquireDone(e)
	case redlock.ExtendDone:
		m.extendDone(e)
	case redlock.LeaseEnded:
		g := m.groupOf(e.Resources)
		g.holds.Dec()
		g.hold().Observe(e.Held.Seconds())
		if c, ok := g.lost[e.Cause]; ok {
			c.Inc()
		}
	case redlock.NodeCall:
		m.nodes.call(e)
	case redlock.NodeState:
		m.nodes.state(e)
	case redlock.LeaderChanged:
		if g := m.groupOf(e.Resources); e.Leading {
			g.leads().Inc()
		} else {
			g.leads().Dec()
		}
	case redlock.DeadlockFound:
		if e.Victim {
			m.groupOf(e.Resources).deadlocks.Inc()
		}
	}
}

func (m *Metrics) acquireDone(e redlock.AcquireDone) {
	m.nodes.number(e.Nodes)
	g := m.groupOf(e.Resources)
	if e.Waited {
		g.waits.Dec()
	}
	if e.Err == nil {
		g.holds.Inc()
	}
	g.acquire[outcomeOf(e.Err)][flag(e.Waited)]().Observe(e.Duration.Seconds())
}

func (m *Metrics) extendDone(e redlock.ExtendDone) {
	g := m.groupOf(e.Resources)
	g.renewal[renewalOf(e.Err)][flag(e.Renewal)]().Observe(e.Duration.Seconds())
	if e.Renewal {
		g.remaining().Observe(min(1, e.Left.Seconds()/e.TTL.Seconds()))
	}
}
