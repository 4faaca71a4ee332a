package queue

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// looked is a clock that has been told what nodes showed.
func looked(nodes int) (c *clock, look func(node int, ahead, trip, at time.Duration)) {
	c = newClock(nodes)
	return c, func(node int, ahead, trip, at time.Duration) {
		heard := c.base.Add(at)
		c.look(node, (at - trip/2 + ahead).Microseconds(), heard.Add(-trip), heard)
	}
}

func (c *clock) ahead(t *testing.T) time.Duration {
	t.Helper()
	ticket, ok := c.ticket(c.base)
	require.True(t, ok)
	return time.Duration(ticket) * time.Microsecond
}

func TestTicketIsTheMedianOfTheNodesClocks(t *testing.T) {
	c, look := looked(3)
	_, ok := c.ticket(time.Now())
	require.False(t, ok, "nothing is known")
	look(2, 5*time.Second, time.Millisecond, time.Second)
	require.Equal(t, 5*time.Second, c.ahead(t))
	look(0, -time.Hour, time.Millisecond, time.Second)
	look(1, 6*time.Second, time.Millisecond, time.Second)
	require.Equal(t, 5*time.Second, c.ahead(t))
	ticket, _ := c.ticket(c.base.Add(time.Minute))
	require.Equal(t, (65 * time.Second).Microseconds(), ticket)
}

func TestShortestLookCounts(t *testing.T) {
	c, look := looked(1)
	look(0, 1040*time.Millisecond, 100*time.Millisecond, time.Second) // one that dialled
	look(0, 1000*time.Millisecond, time.Millisecond, 2*time.Second)
	require.Equal(t, time.Second, c.ahead(t))
	look(0, 1010*time.Millisecond, 50*time.Millisecond, 3*time.Second)
	require.Equal(t, time.Second, c.ahead(t), "a longer one says less")
	look(0, 1010*time.Millisecond, 50*time.Millisecond, 2*time.Second+sampleLasts)
	require.Equal(t, 1010*time.Millisecond, c.ahead(t), "until the good one is old")
}

func TestClockThatWasSetIsSeenAtTheNextLook(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour, 40 * time.Millisecond} {
		c, look := looked(1)
		look(0, time.Second, time.Millisecond, time.Second)
		look(0, time.Second+jump, 10*time.Millisecond, 2*time.Second)
		require.Equal(t, time.Second+jump, c.ahead(t))
	}
}

// The guess is for as long as nothing better is known, and no longer.
func TestGuessOfAClock(t *testing.T) {
	c, look := looked(3)
	c.guess()
	require.Equal(t, c.base.UnixMicro(), c.ahead(t).Microseconds())
	look(1, time.Second, time.Millisecond, time.Second)
	require.Equal(t, time.Second, c.ahead(t))
	look(2, 2*time.Second, time.Millisecond, time.Second)
	require.Equal(t, 2*time.Second, c.ahead(t), "not the median of three")
}
