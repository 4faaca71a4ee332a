package queue

import (
	"slices"
	"time"
)

// clock tells what the nodes' clocks show, without asking them: tickets are in their time, so that
// it does not matter what the clients' clocks show.
type clock struct {
	base  time.Time // of local monotonic time
	nodes []sample
	wall  bool // nothing is known of the nodes' clocks: the client's own stands for them
}

// sample is how far a node's clock was ahead of the local one when somebody looked.
type sample struct {
	ahead int64         // microseconds, of the time since base
	trip  time.Duration // how long it took to look: half of it may be the error
	at    time.Time     // zero: nobody has looked
}

// sampleLasts is for how long a good look is better than a later one that took longer.
const sampleLasts = time.Minute

func newClock(nodes int) *clock { return &clock{base: time.Now(), nodes: make([]sample, nodes)} }

// look takes a node's answer with its time, in microseconds. A look that contradicts the one before
// shows that a clock was set.
func (c *clock) look(node int, shown int64, asked, heard time.Time) {
	s, trip := &c.nodes[node], heard.Sub(asked)
	next := sample{ahead: shown - c.local(asked.Add(trip/2)), trip: trip, at: heard}
	if s.at.IsZero() || trip <= s.trip || heard.Sub(s.at) >= sampleLasts || s.contradicts(next) {
		*s = next
	}
}

func (s sample) contradicts(other sample) bool {
	apart := max(s.ahead-other.ahead, other.ahead-s.ahead)
	return apart > (s.trip+other.trip).Microseconds()/2+1
}

func (c *clock) local(t time.Time) int64 { return t.Sub(c.base).Microseconds() }

// guess takes the client's own clock for the nodes', if nothing is known of theirs: there are
// servers on which scripts may not ask for the time.
func (c *clock) guess() { c.wall = true }

// ticket returns what the nodes' clocks showed at a local time: the median of them. It is not ok if
// no node's time is known.
func (c *clock) ticket(t time.Time) (ticket int64, ok bool) {
	var ahead []int64
	for _, s := range c.nodes {
		if !s.at.IsZero() {
			ahead = append(ahead, s.ahead)
		}
	}
	if len(ahead) == 0 {
		return c.base.UnixMicro() + c.local(t), c.wall
	}
	slices.Sort(ahead)
	return c.local(t) + ahead[len(ahead)/2], true
}
