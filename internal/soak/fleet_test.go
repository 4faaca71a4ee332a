//go:build linux

package main

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/history"
	"github.com/rediskit/redlock/internal/redistest"
)

// newFleet returns one client of one server, and the registers that it will use.
func newFleet(t *testing.T) (*fleet, *registers) {
	t.Helper()
	server := redistest.Start(t)
	s, err := newSettings(safe, 1, time.Second)
	require.NoError(t, err)
	s.Clients = 1
	r, _, log := openTestRegisters(t)
	f := &fleet{
		settings: s, clock: r.clock, log: log, registry: r.addr(), origin: monotonic(),
		errors: &troubles{},
		brief:  func(int) masters { return masters{Addrs: []string{server.Addr()}} },
	}
	t.Cleanup(f.kill)
	return f, r
}

func count(log *history.Log, kind history.Kind) (n int) {
	for _, e := range log.Events() {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func TestClientThatIsKilledIsReplacedAndStopsWhenAsked(t *testing.T) {
	f, _ := newFleet(t)
	require.NoError(t, f.launch())
	grants := func(n int) func() bool {
		return func() bool { return count(f.log, history.Acquired) >= n }
	}
	require.Eventually(t, grants(1), 20*time.Second, 5*time.Millisecond)
	m := f.members[0]
	first := m.process()
	require.NoError(t, first.Kill())
	require.Eventually(t, func() bool { return m.process() != first }, 20*time.Second,
		5*time.Millisecond)
	require.Eventually(t, grants(count(f.log, history.Acquired)+1), 20*time.Second,
		5*time.Millisecond)

	f.stop(20 * time.Second)
	require.Empty(t, f.errors.list())
	byThemselves := 0 // as clients do now and then
	for _, e := range f.log.Events() {
		if e.Kind == history.Fault && e.Token == clientDies {
			byThemselves++
		}
	}
	require.Equal(t, 1+byThemselves, count(f.log, history.Crashed))
	require.Empty(t, history.Check(f.log.Events()))
}

func TestClientThatFailsIsTrouble(t *testing.T) {
	f, _ := newFleet(t)
	f.registry = "/nowhere"
	require.NoError(t, f.launch())
	<-f.members[0].done
	list := f.errors.list()
	require.Len(t, list, 1)
	require.ErrorContains(t, list[0], "/nowhere")
}

func TestClientThatDoesNotStopIsTrouble(t *testing.T) {
	f, _ := newFleet(t)
	require.NoError(t, f.launch())
	require.NoError(t, f.members[0].process().Pause())
	f.stop(50 * time.Millisecond)
	require.True(t, slices.ContainsFunc(f.errors.list(),
		func(err error) bool { return err.Error() == "c0 does not stop" }))
}
