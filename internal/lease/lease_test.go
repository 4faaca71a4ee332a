package lease_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/lease"
)

const ms = time.Millisecond

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestLeaseEndsBeforeItsTTLByTheDriftAndTheRounding(t *testing.T) {
	for _, c := range []struct {
		ttl    time.Duration
		drift  float64
		length time.Duration
	}{
		{30 * time.Second, 0.01, 29698 * ms},
		{10 * ms, 0.01, 7900 * time.Microsecond},
		{time.Second, 0, 998 * ms},
		{time.Second, 0.5, 498 * ms},
		{10 * ms, 0.9, -1 * ms}, // nothing is left
		{10 * 365 * 24 * time.Hour, 0.01, 10*365*24*time.Hour - 876*time.Hour - 2*ms},
	} {
		l := lease.Lease{Start: start, TTL: c.ttl, Drift: c.drift}
		require.Equal(t, c.length, l.Length(), "%v with a drift of %v", c.ttl, c.drift)
		require.Equal(t, start.Add(c.length), l.End())
		require.False(t, l.Holds(l.End()), "not a nanosecond longer")
		require.True(t, l.Holds(l.End().Add(-1)))
	}
}

func TestMillisecondsAreRoundedUp(t *testing.T) {
	for d, want := range map[time.Duration]int64{
		0: 0, 1: 1, ms: 1, ms + 1: 2, 30 * time.Second: 30000,
	} {
		require.Equal(t, want, lease.Milliseconds(d), "%v", d)
	}
}

func TestRenewalIsDue(t *testing.T) {
	full := lease.Lease{Start: start, TTL: 30 * time.Second, Drift: 0.01}
	usual := lease.Renewal{On: true, Full: full.TTL, TTL: full.TTL}
	for _, c := range []struct {
		name  string
		lease lease.Lease
		edit  func(r *lease.Renewal)
		due   time.Duration // after the start
	}{
		{"after a third of the TTL", full, nil, 10 * time.Second},
		{"after half of the lease where a large drift makes that sooner",
			lease.Lease{Start: start, TTL: 30 * time.Second, Drift: 0.5}, nil, 7499 * ms},
		{"after an extension to more, when as much is left as usual",
			lease.Lease{Start: start, TTL: 60 * time.Second, Drift: 0.01}, nil, 39700 * ms},
		{"after an extension to less, after a third of that",
			lease.Lease{Start: start, TTL: 9 * time.Second, Drift: 0.01},
			func(r *lease.Renewal) { r.TTL = 9 * time.Second }, 3 * time.Second},
		{"a little after a failure", full,
			func(r *lease.Renewal) { r.Failed = start.Add(20 * time.Second) }, 21 * time.Second},
		{"5 ms after a failure at least", lease.Lease{Start: start, TTL: 90 * ms, Drift: 0.01},
			func(r *lease.Renewal) { r.TTL, r.Failed = 90*ms, start.Add(60*ms) }, 65 * ms},
		{"not sooner because of a failure", full,
			func(r *lease.Renewal) { r.Failed = start }, 10 * time.Second},
	} {
		r := usual
		if c.edit != nil {
			c.edit(&r)
		}
		require.Equal(t, c.due, r.Due(c.lease).Sub(start), c.name)
	}
}

func TestRenewalNeverCarriesTheLeasePastItsBound(t *testing.T) {
	r := lease.Renewal{On: true, Full: 30 * time.Second, TTL: 30 * time.Second,
		Until: start.Add(50 * time.Second)}
	l := lease.Lease{Start: start, TTL: 30 * time.Second, Drift: 0.01}

	require.Equal(t, 30*time.Second, r.Next(start.Add(10*time.Second)))
	require.Equal(t, 20*time.Second, r.Next(start.Add(30*time.Second)))
	require.True(t, r.Useful(l, start.Add(29*time.Second)))
	require.Equal(t, start.Add(10*time.Second), r.Wake(l, start))

	last := lease.Lease{Start: start.Add(30 * time.Second),
		TTL: r.Next(start.Add(30 * time.Second)), Drift: 0.01}
	require.False(t, r.Useful(last, start.Add(31*time.Second)), "the bound is reached")
	require.Equal(t, last.End(), r.Wake(last, start.Add(31*time.Second)),
		"and nothing to do but to end")

	r.On = false
	require.False(t, r.Useful(l, start.Add(10*time.Second)))
	require.Equal(t, l.End(), r.Wake(l, start))
}

func TestRenewalThatGivesLessThanWhatIsLeftIsNotUseful(t *testing.T) {
	r := lease.Renewal{On: true, Full: 30 * time.Second, TTL: 9 * time.Second}
	l := lease.Lease{Start: start, TTL: 30 * time.Second, Drift: 0.01}
	require.False(t, r.Useful(l, start.Add(20*time.Second)))
	require.True(t, r.Useful(l, start.Add(21*time.Second)))
}

func TestRenewalThatFailedWakesAgainAndNotInThePast(t *testing.T) {
	r := lease.Renewal{On: true, Full: 30 * time.Second, TTL: 30 * time.Second,
		Failed: start.Add(29600 * ms)}
	l := lease.Lease{Start: start, TTL: 30 * time.Second, Drift: 0.01}
	require.Equal(t, l.End(), r.Wake(l, start.Add(29600*ms)), "the next try would come too late")
}
