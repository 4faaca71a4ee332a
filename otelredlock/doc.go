// Package otelredlock makes OpenTelemetry metrics and traces of what [redlock] does: how long
// acquisitions take and how they end, who waits and holds now, which locks are lost, how close
// renewals come to being too late, and how the nodes are.
//
//	observer, err := otelredlock.New(otelredlock.WithGroup(otelredlock.BeforeColon))
//	if err != nil {
//		return err
//	}
//	locker, err := redlock.New(clients, redlock.WithObserver(observer))
//
// Package promredlock has the same metrics, under the same names, for Prometheus alone.
//
// # Attributes of metrics
//
// The names of resources are never attributes of metrics: there may be any number of them. The
// attribute group is what a function of yours makes of a name ([WithGroup]), and "" by default. An
// acquisition of several resources counts once, in the group of the first one in sorted order.
//
// # Spans
//
// Spans are made when what they stand for is over, with the times that it had. They belong to the
// trace of the context that was given to the call.
//
//	redlock.acquire   an acquisition, waiting included
//	redlock.extend    Handle.Extend, and with WithHoldSpans each automatic renewal
//	redlock.hold      with WithHoldSpans: from the acquisition to the end of the lock
//
// Those of a hold and of a renewal are siblings of the span of their acquisition, to which they
// link. Where the acquisition was not sampled there are none. Spans have the names of resources,
// the first 16 of them, and the texts of errors, in which the labels of owners can be
// (redlock.WithOwner). They never have a token.
//
// # Several Lockers
//
// One [Observer] may serve all Lockers of a process that use the same nodes: their figures add up.
// For Lockers over other nodes make another one, and tell the two apart with [WithAttributes].
//
// A Locker that is closed leaves nothing in the figures for active waits, holds and leaderships:
// its calls and locks have ended. What was last known of the nodes stays.
package otelredlock
