// Package promredlock makes Prometheus metrics of what [redlock] does: how long acquisitions take
// and how they end, who waits and holds now, which locks are lost, how close renewals come to being
// too late, and how the nodes are.
//
//	metrics := promredlock.New(promredlock.WithGroup(promredlock.BeforeColon))
//	prometheus.MustRegister(metrics)
//	locker, err := redlock.New(clients, redlock.WithObserver(metrics))
//
// Package otelredlock has the same metrics, under the same names, for OpenTelemetry.
//
// # Labels
//
// The names of resources are never labels: there may be any number of them. The label group is what
// a function of yours makes of a name ([WithGroup]), and "" by default. An acquisition of several
// resources counts once, in the group of the first one in sorted order.
//
// # Several Lockers
//
// One [Metrics] may serve all Lockers of a process that use the same nodes: their figures add up.
// For Lockers over other nodes make another one, and tell the two apart when you register them:
//
//	prometheus.WrapRegistererWith(prometheus.Labels{"nodes": "eu"}, registry).MustRegister(eu)
//
// A Locker that is closed leaves nothing in the gauges for waits, locks and leaderships: its calls
// and locks have ended. What was last known of the nodes stays.
package promredlock
