//go:build linux

package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/history"
)

// openTestRegisters returns registers, a connection to them and their log.
func openTestRegisters(t *testing.T) (*registers, *visitor, *history.Log) {
	t.Helper()
	log := &history.Log{}
	r, err := openRegisters(t.TempDir(), newClock(monotonic()), log)
	require.NoError(t, err)
	t.Cleanup(r.close)
	v, err := visit(r.addr())
	require.NoError(t, err)
	t.Cleanup(v.close)
	return r, v, log
}

func (v *visitor) must(t *testing.T, a access) accessed {
	t.Helper()
	reply, err := v.do(a)
	require.NoError(t, err)
	return reply
}

func TestRegisterIsReadAndWrittenWhileTheLeaseLasts(t *testing.T) {
	r, v, log := openTestRegisters(t)
	was := v.must(t, access{Resource: "a"})
	require.Zero(t, was.Value)
	until := r.clock.now() + time.Minute
	require.False(t,
		v.must(t, access{Resource: "a", Write: true, Old: 0, New: 1, Began: was.Began,
			Until: until}).Refused)
	require.Equal(t, int64(1), v.must(t, access{Resource: "a"}).Value)
	require.Zero(t, v.must(t, access{Resource: "b"}).Value)

	late := v.must(t, access{Resource: "a", Write: true, Old: 1, New: 2, Until: r.clock.now()})
	require.True(t, late.Refused)
	require.Equal(t, int64(1), v.must(t, access{Resource: "a"}).Value)
	require.Equal(t, 1, r.refused())
	require.Empty(t, history.Check(log.Events()))
}

func TestRegisterShowsTwoWhoWriteAtTheSameTime(t *testing.T) {
	r, v, log := openTestRegisters(t)
	first, second := v.must(t, access{Resource: "a"}), v.must(t, access{Resource: "a"})
	for _, was := range []accessed{first, second} {
		v.must(t, access{Resource: "a", Write: true, Old: was.Value, New: was.Value + 1,
			Began: was.Began, Until: r.clock.now() + time.Minute})
	}
	violations := history.Check(log.Events())
	require.Len(t, violations, 1)
	require.Equal(t, "register", violations[0].Promise)
}

func TestRegisterRefusesAnOlderFence(t *testing.T) {
	r, v, _ := openTestRegisters(t)
	require.False(t, v.must(t, access{Resource: "a", Fence: 7}).Refused)
	require.True(t, v.must(t, access{Resource: "a", Fence: 6}).Refused)
	require.True(t,
		v.must(t, access{Resource: "a", Fence: 6, Write: true,
			Until: r.clock.now() + time.Minute}).Refused)
	require.False(t, v.must(t, access{Resource: "a", Fence: 7}).Refused)
}

func TestClockIsTheSameInAllProcesses(t *testing.T) {
	origin := monotonic()
	one, other := newClock(origin), newClock(origin)
	for range 100 {
		a, b, c := one.now(), other.now(), one.now()
		require.Less(t, a-b, time.Millisecond)
		require.Less(t, b-c, time.Millisecond)
	}
	require.InDelta(t, float64(time.Hour), float64(one.at(time.Now().Add(time.Hour))-one.now()),
		float64(time.Second))
}
