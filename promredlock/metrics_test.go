package promredlock_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/promredlock"
)

// An hour in the life of a Locker, as events.
func TestEventsBecomeMetrics(t *testing.T) {
	m := promredlock.New(promredlock.WithGroup(promredlock.BeforeColon))
	order, start := []string{"order:1"}, time.Now()
	tell := func(events ...redlock.Event) {
		for _, e := range events {
			m.Observe(e)
		}
	}
	tell(
		redlock.Waiting{Resources: order, Start: start},
		redlock.Waiting{Resources: order, Start: start},
		redlock.AcquireDone{Resources: order, Duration: 2 * time.Second, Waited: true, Nodes: 5},
	)
	now := scrape(t, m)
	require.EqualValues(t, 1, now[`redlock_wait_active{group="order"}`])
	require.EqualValues(t, 1, now[`redlock_hold_active{group="order"}`])
	require.EqualValues(t, 2, now["redlock_quorum_margin"])

	tell(
		redlock.AcquireDone{Resources: order, Duration: time.Second, Waited: true, Nodes: 5,
			Err: redlock.ErrHeld},
		redlock.ExtendDone{Resources: order, Renewal: true, Duration: time.Second,
			TTL: 10 * time.Second, Left: 7 * time.Second},
		redlock.ExtendDone{Resources: order, Renewal: true, Duration: time.Second,
			TTL: 10 * time.Second, Err: redlock.ErrNoQuorum},
		redlock.ExtendDone{Resources: order, Duration: time.Second, TTL: time.Second,
			Left: time.Second, Err: redlock.ErrLost},
		redlock.LeaseEnded{Resources: order, Held: time.Minute, Cause: redlock.CauseTaken,
			Err: redlock.ErrLost},
		redlock.LeaderChanged{Resources: []string{"leader:cron"}, Leading: true},
		redlock.DeadlockFound{Resources: order, Victim: true},
		redlock.DeadlockFound{Resources: order},
		redlock.NodeCall{Resources: order, Addr: "a:1", Op: "acquire", Duration: time.Millisecond},
		redlock.NodeCall{Resources: order, Addr: "a:1", Op: "acquire", Duration: time.Millisecond,
			Refused: true, Err: &redlock.HeldError{}},
		redlock.NodeCall{Resources: order, Addr: "a:1", Op: "release", Duration: time.Second,
			Late: true},
		redlock.NodeCall{Resources: order, Node: 1, Op: "of another version", Duration: time.Second,
			Late: true, Err: errors.New("broken")},
		redlock.NodeState{Addr: "b:1", Node: 1},
	)
	require.Equal(t, map[string]float64{
		`redlock_acquire_duration_seconds_count{group="order",outcome="acquired",wait="true"}`:  1,
		`redlock_acquire_duration_seconds_sum{group="order",outcome="acquired",wait="true"}`:    2,
		`redlock_acquire_duration_seconds_count{group="order",outcome="held",wait="true"}`:      1,
		`redlock_acquire_duration_seconds_sum{group="order",outcome="held",wait="true"}`:        1,
		`redlock_wait_active{group="order"}`:                                                    0,
		`redlock_wait_active{group="leader"}`:                                                   0,
		`redlock_hold_active{group="order"}`:                                                    0,
		`redlock_hold_active{group="leader"}`:                                                   0,
		`redlock_hold_duration_seconds_count{group="order"}`:                                    1,
		`redlock_hold_duration_seconds_sum{group="order"}`:                                      60,
		`redlock_hold_lost_total{cause="expired",group="order"}`:                                0,
		`redlock_hold_lost_total{cause="gone",group="order"}`:                                   0,
		`redlock_hold_lost_total{cause="max_hold",group="order"}`:                               0,
		`redlock_hold_lost_total{cause="taken",group="order"}`:                                  1,
		`redlock_hold_lost_total{cause="expired",group="leader"}`:                               0,
		`redlock_hold_lost_total{cause="gone",group="leader"}`:                                  0,
		`redlock_hold_lost_total{cause="max_hold",group="leader"}`:                              0,
		`redlock_hold_lost_total{cause="taken",group="leader"}`:                                 0,
		`redlock_renewal_duration_seconds_count{auto="true",group="order",outcome="extended"}`:  1,
		`redlock_renewal_duration_seconds_sum{auto="true",group="order",outcome="extended"}`:    1,
		`redlock_renewal_duration_seconds_count{auto="true",group="order",outcome="no_quorum"}`: 1,
		`redlock_renewal_duration_seconds_sum{auto="true",group="order",outcome="no_quorum"}`:   1,
		`redlock_renewal_duration_seconds_count{auto="false",group="order",outcome="lost"}`:     1,
		`redlock_renewal_duration_seconds_sum{auto="false",group="order",outcome="lost"}`:       1,
		`redlock_lease_remaining_count{group="order"}`:                                          2,
		`redlock_lease_remaining_sum{group="order"}`:                                            .7,
		`redlock_node_duration_seconds_count{node="a:1",op="acquire",outcome="ok"}`:             1,
		`redlock_node_duration_seconds_sum{node="a:1",op="acquire",outcome="ok"}`:               .001,
		`redlock_node_duration_seconds_count{node="a:1",op="acquire",outcome="refused"}`:        1,
		`redlock_node_duration_seconds_sum{node="a:1",op="acquire",outcome="refused"}`:          .001,
		`redlock_node_duration_seconds_count{node="a:1",op="release",outcome="late"}`:           1,
		`redlock_node_duration_seconds_sum{node="a:1",op="release",outcome="late"}`:             1,
		`redlock_node_duration_seconds_count{node="1",op="other",outcome="error"}`:              1,
		`redlock_node_duration_seconds_sum{node="1",op="other",outcome="error"}`:                1,
		`redlock_node_up{node="a:1"}`:                                                           1,
		`redlock_node_up{node="b:1"}`:                                                           0,
		`redlock_node_up{node="1"}`:                                                             1,
		`redlock_quorum_margin`:                                                                 1,
		`redlock_leader_active{group="leader"}`:                                                 1,
		`redlock_deadlocks_total{group="order"}`:                                                1,
		`redlock_deadlocks_total{group="leader"}`:                                               0,
	}, scrape(t, m))
	tell(redlock.LeaderChanged{Resources: []string{"leader:cron"}})
	require.EqualValues(t, 0, scrape(t, m)[`redlock_leader_active{group="leader"}`])
}

// A counter that is not there before its first event shows no increase when that comes.
func TestCountersOfAGroupAreThereFromItsFirstAcquireOn(t *testing.T) {
	for name, first := range map[string]redlock.Event{
		"one that waits":   redlock.Waiting{Resources: []string{"a"}},
		"one that is done": redlock.AcquireDone{Resources: []string{"a"}, Err: redlock.ErrHeld},
	} {
		t.Run(name, func(t *testing.T) {
			m := promredlock.New()
			require.Empty(t, scrape(t, m))
			m.Observe(first)
			values := scrape(t, m)
			for _, cause := range []redlock.Cause{
				redlock.CauseExpired, redlock.CauseTaken, redlock.CauseGone, redlock.CauseMaxHold,
			} {
				require.Contains(t, values, fmt.Sprintf(
					`redlock_hold_lost_total{cause="%s",group=""}`, cause))
			}
			require.Contains(t, values, `redlock_deadlocks_total{group=""}`)
		})
	}
}

// The outcome of each error that an acquisition can end with.
func TestOutcomes(t *testing.T) {
	gone, stop := context.WithCancel(context.Background())
	stop()
	late, stop := context.WithTimeout(context.Background(), 0)
	defer stop()
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"none", nil, "acquired"},
		{"somebody else has it", redlock.ErrHeld, "held"},
		{"until the deadline", errors.Join(redlock.ErrHeld, late.Err()), "held"},
		{"until the caller left", errors.Join(redlock.ErrHeld, gone.Err()), "canceled"},
		{"the caller left at once", gone.Err(), "canceled"},
		{"the deadline was over before an answer", late.Err(), "canceled"},
		{"an outage", redlock.ErrNoQuorum, "no_quorum"},
		{"an outage until the caller left", errors.Join(redlock.ErrNoQuorum, gone.Err()),
			"no_quorum"},
		{"a mistake in the setup", errors.Join(redlock.ErrNoQuorum, redlock.ErrMisconfigured),
			"no_quorum"},
		{"a deadlock", &redlock.DeadlockError{}, "deadlock"},
		{"closed", redlock.ErrClosed, "closed"},
		{"nothing to adopt", redlock.ErrLost, "error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := promredlock.New()
			m.Observe(redlock.AcquireDone{Resources: []string{"a"}, Err: c.err})
			require.Contains(t, scrape(t, m),
				fmt.Sprintf(
					`redlock_acquire_duration_seconds_count{group="",outcome="%s",wait="false"}`,
					c.want))
		})
	}
}

func TestGroups(t *testing.T) {
	for name, want := range map[string]string{
		"order:42": "order", "a:b:c": "a", ":a": "", "order": "", "": "",
	} {
		require.Equal(t, want, promredlock.BeforeColon(name), name)
	}
	m := promredlock.New(promredlock.WithGroup(nil))
	m.Observe(redlock.Waiting{Resources: []string{"order:1"}})
	require.Contains(t, scrape(t, m), `redlock_wait_active{group=""}`)
	m = promredlock.New(promredlock.WithGroup(promredlock.BeforeColon))
	m.Observe(redlock.Waiting{Resources: []string{"a:1", "b:1"}})
	require.Contains(t, scrape(t, m), `redlock_wait_active{group="a"}`)
	require.NotContains(t, scrape(t, m), `redlock_wait_active{group="b"}`)
}

// What a Locker knew of a node when it was closed does not stand for ever.
func TestNodeThatAnswersAnotherLockerIsUp(t *testing.T) {
	m := promredlock.New()
	state := func() []float64 {
		values := scrape(t, m)
		return []float64{values[`redlock_node_up{node="a:1"}`], values["redlock_quorum_margin"]}
	}
	call := redlock.NodeCall{Addr: "a:1", Op: "acquire", Start: time.Now()}
	m.Observe(redlock.AcquireDone{Resources: []string{"a"}, Nodes: 3})
	m.Observe(redlock.NodeCall{Addr: "a:1", Op: "acquire"})
	require.Equal(t, []float64{1, 1}, state())
	m.Observe(redlock.NodeState{Addr: "a:1", Reachable: 2, Needed: 2})
	require.Equal(t, []float64{0, 0}, state())
	// another Locker, another order
	m.Observe(redlock.NodeState{Addr: "a:1", Node: 2, Reachable: 2, Needed: 2})
	require.Equal(t, []float64{0, 0}, state(), "it is the same node")
	m.Observe(call)
	require.Equal(t, []float64{0, 0}, state(), "that was sent before the outage")
	call.Start = time.Now()
	call.Err = errors.New("broken")
	m.Observe(call)
	require.Equal(t, []float64{0, 0}, state(), "that has failed too")
	call.Err = nil
	m.Observe(call)
	require.Equal(t, []float64{1, 1}, state())
	m.Observe(redlock.NodeState{Addr: "a:1", Up: true, Reachable: 3, Needed: 2})
	require.Equal(t, []float64{1, 1}, state(), "told twice")
}

func TestHistogramsCanBeChanged(t *testing.T) {
	var names []string
	require.NotPanics(t, func() { promredlock.New(promredlock.WithHistograms(nil)) })
	m := promredlock.New(promredlock.WithHistograms(func(o *prometheus.HistogramOpts) {
		names = append(names, o.Name)
		o.Buckets = []float64{1}
	}))
	require.ElementsMatch(t, []string{
		"redlock_acquire_duration_seconds", "redlock_hold_duration_seconds",
		"redlock_renewal_duration_seconds",
		"redlock_lease_remaining", "redlock_node_duration_seconds",
	}, names)
	m.Observe(redlock.LeaseEnded{Resources: []string{"a"}, Held: time.Second})
	registry := prometheus.NewRegistry()
	registry.MustRegister(m)
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == "redlock_hold_duration_seconds" {
			require.Len(t, f.Metric[0].GetHistogram().Bucket, 1)
			return
		}
	}
	require.Fail(t, "no histogram")
}

// Real Lockers, two of which share the metrics: nothing of them is left in the gauges when they are
// closed.
func TestGaugesReturnToZeroWhenLockersAreClosed(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	m := promredlock.New(promredlock.WithGroup(promredlock.BeforeColon))
	one := open(t, clients, redlock.WithObserver(m), redlock.WithTTL(3*time.Second))
	two := open(t, clients, redlock.WithObserver(m), redlock.WithTTL(3*time.Second),
		redlock.WithAutoRenewal(true))
	_, err := two.Acquire(ctx, "order:1")
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 3 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := one.Acquire(ctx, "order:1"); !errors.Is(err, redlock.ErrClosed) {
				t.Error(err)
			}
		}()
	}
	wg.Add(1)
	go func() {
		defer wg.Done()
		_ = two.Lead(ctx, "leader:a", func(ctx context.Context) error { <-ctx.Done(); return nil })
	}()
	eventually(t, func() bool {
		v := scrape(t, m)
		return v[`redlock_wait_active{group="order"}`] == 3 &&
			v[`redlock_hold_active{group="order"}`] == 1 &&
			v[`redlock_leader_active{group="leader"}`] == 1 &&
			v[`redlock_renewal_duration_seconds_count{auto="true",group="order",outcome="extended"}`] > 0
	}, "three wait, one holds and renews, one leads")
	v := scrape(t, m)
	require.EqualValues(t, 1, v["redlock_quorum_margin"])
	for _, s := range servers {
		require.EqualValues(t, 1, v[fmt.Sprintf(`redlock_node_up{node="%s"}`, s.Addr())])
	}
	require.Greater(t, v[`redlock_lease_remaining_sum{group="order"}`], .0)

	require.NoError(t, one.Close())
	require.NoError(t, two.Close())
	wg.Wait()
	v = scrape(t, m)
	for name, value := range v {
		if strings.Contains(name, "_active{") {
			require.Zero(t, value, name)
		}
	}
	require.EqualValues(t, 3,
		v[`redlock_acquire_duration_seconds_count{group="order",outcome="closed",wait="true"}`])
	for _, s := range servers {
		s.Do(t, "flushall")
	}
}

// Nothing is made for an event but what the group's function makes.
func TestEventsAllocateNothing(t *testing.T) {
	m := promredlock.New(promredlock.WithGroup(promredlock.BeforeColon))
	for _, e := range []redlock.Event{
		redlock.Waiting{Resources: []string{"order:1"}},
		redlock.AcquireDone{Resources: []string{"order:1"}, Waited: true, Nodes: 3},
		redlock.ExtendDone{Resources: []string{"order:1"}, Renewal: true, TTL: time.Second},
		redlock.LeaseEnded{Resources: []string{"order:1"}, Cause: redlock.CauseReleased},
		redlock.NodeCall{Resources: []string{"order:1"}, Addr: "a:1", Op: "acquire"},
	} {
		m.Observe(e)
		require.Zero(t, testing.AllocsPerRun(100, func() { m.Observe(e) }), "%T", e)
	}
}
