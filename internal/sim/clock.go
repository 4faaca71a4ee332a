package sim

import "time"

// clock is a node's: it starts anywhere, runs at its own rate and counts milliseconds.
type clock struct {
	origin time.Time // of ours
	start  time.Time // of its own, at origin
	rate   float64
}

func newClock(skew time.Duration, rate float64) clock {
	now := time.Now()
	return clock{origin: now, start: now.Add(skew), rate: rate}
}

func (c *clock) now() time.Time {
	elapsed := time.Duration(float64(time.Since(c.origin)) * c.rate)
	return c.start.Add(elapsed).Truncate(time.Millisecond)
}

// ours returns how long a time of the node's is on our clock.
func (c *clock) ours(d time.Duration) time.Duration { return time.Duration(float64(d) / c.rate) }

func (c *clock) jump(d time.Duration) { c.start = c.start.Add(d) }
