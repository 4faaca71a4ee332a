package promredlock

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rediskit/redlock"
)

// group has the metrics of one group, so that nothing is looked up by labels for each event. Those
// of functions are made when they are first needed: there is no series for what never happened.
type group struct {
	acquire   [outcomes][2]func() prometheus.Observer // by whether it waited
	waits     prometheus.Gauge
	holds     prometheus.Gauge
	hold      func() prometheus.Observer
	lost      map[redlock.Cause]prometheus.Counter
	renewal   [renewals][2]func() prometheus.Observer // by whether it was automatic
	remaining func() prometheus.Observer
	leads     func() prometheus.Gauge
	deadlocks prometheus.Counter
}

// losses are the causes that make a lock a lost one.
var losses = []redlock.Cause{redlock.CauseExpired, redlock.CauseTaken, redlock.CauseGone,
	redlock.CauseMaxHold}

// groupOf returns the group of an acquisition.
func (m *Metrics) groupOf(resources []string) *group {
	return m.groups.get(m.group(resources[0]), m.newGroup)
}

// newGroup makes the counters of a group at 0, and gauges. A counter that begins with its first
// event is at 1 when Prometheus first sees it: increase and rate would never show that event.
func (m *Metrics) newGroup(name string) *group {
	g := &group{
		waits: m.waits.WithLabelValues(name), holds: m.holds.WithLabelValues(name),
		lost:      make(map[redlock.Cause]prometheus.Counter),
		deadlocks: m.deadlocks.WithLabelValues(name),
		hold:      lazy(m.hold, name), remaining: lazy(m.remaining, name),
		leads: sync.OnceValue(func() prometheus.Gauge { return m.leads.WithLabelValues(name) }),
	}
	for _, cause := range losses {
		g.lost[cause] = m.lost.WithLabelValues(name, string(cause))
	}
	for yes, word := range flagNames {
		for o, outcome := range outcomeNames {
			g.acquire[o][yes] = lazy(m.acquire, name, outcome, word)
		}
		for o, outcome := range renewalNames {
			g.renewal[o][yes] = lazy(m.renewal, name, outcome, word)
		}
	}
	return g
}

// lazy returns what makes a series when it is first called.
func lazy(vec *prometheus.HistogramVec, labels ...string) func() prometheus.Observer {
	return sync.OnceValue(func() prometheus.Observer { return vec.WithLabelValues(labels...) })
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
