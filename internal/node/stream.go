package node

import (
	"slices"
	"time"
)

// stream is the traffic to one master: the calls that wait, the workers that send them, and what
// they have seen of the master. Its fields are guarded by the node's mutex.
type stream struct {
	node    *Node
	worker  func(t *trip, distant bool) // what a worker does
	base    int                         // workers that start at once
	batch   int                         // calls in one round trip at most
	queue   queue
	sweepAt int // look for calls past their SendBy when the queue is that long
	pace    pace
	trips   []*trip // under way
	workers int     // that are not stuck
	stuck   int     // workers whose round trips take longer than anybody waits for them
	spares  []*trip // of workers that have signed off, for the next ones
	health  health

	alarm  *time.Timer // runs look; nil before the first time
	lookAt time.Time   // when it does; zero: it is not set
}

// trip is one round trip of a worker.
type trip struct {
	batch    []*Call
	commands []command // of the batch
	counts   bool      // Close waits for one of them
	began    time.Time
	patience time.Duration // the longest of its calls
	stuck    bool
	probed   bool   // the master was dialled because of it
	cancel   func() // keeps go-redis from trying again; nil unless the node is being closed
}

// newStream returns the stream to the master, or masters, behind client.
func newStream(n *Node, client any) *stream {
	s := &stream{node: n, base: baseWorkers, batch: maxBatch, sweepAt: minSweep,
		pace: newPace(client)}
	s.worker = s.work
	s.health.options = optionsOf(client)
	return s
}

// pushLocked queues a call.
func (s *stream) pushLocked(c *Call) {
	s.queue.push(c)
	c.stream = s
	if s.queue.length >= s.sweepAt {
		s.sweepLocked()
	}
	s.callWorkerLocked()
}

// callWorkerLocked starts a worker for what is queued, or plans one, if one is due.
func (s *stream) callWorkerLocked() {
	switch {
	case s.queue.length == 0:
	case s.workers < s.base:
		s.startLocked()
	case s.pace.distantLocked() && s.workers+s.stuck < s.pace.most:
		// else there is no need to look at the clock
		now := time.Now()
		due, ok := s.pace.dueLocked(now, s.workers+s.stuck)
		switch {
		case !ok:
		case due.After(now):
			s.lookByLocked(now, due)
		default:
			s.startLocked()
		}
	}
}

func (s *stream) startLocked() {
	s.workers++
	s.node.workers++
	var t *trip
	if last := len(s.spares) - 1; last >= 0 {
		t, s.spares = s.spares[last], s.spares[:last]
	} else {
		t = &trip{batch: make([]*Call, 0, 8)}
	}
	go s.worker(t, s.pace.distantLocked())
}

// signOffLocked ends a worker.
func (s *stream) signOffLocked(t *trip) {
	if !t.stuck { // else its place has been taken
		s.workers--
		if len(s.spares) < s.base {
			s.spares = append(s.spares, t)
		}
	}
	s.node.workers--
	s.node.checkIdleLocked()
}

// beginLocked notes that a round trip begins.
func (s *stream) beginLocked(t *trip, now time.Time) {
	t.began, t.probed = now, false
	s.trips = append(s.trips, t)
	s.pace.startLocked(now, s.workers)
	s.lookByLocked(now, now.Add(s.suspectAfter(t)))
}

// finishLocked notes that a round trip has ended.
func (s *stream) finishLocked(t *trip) {
	s.trips = slices.DeleteFunc(s.trips, func(other *trip) bool { return other == t })
	if t.cancel != nil {
		t.cancel()
		t.cancel = nil
	}
	if t.stuck {
		s.stuck--
		s.lookLocked(time.Now()) // another one may count as stuck in its place
	}
}

// lookByLocked sees to it that look runs then, or earlier. Under load it hardly ever has to set the
// alarm, which goes on when the round trip that it was set for is over: to set and stop one for
// each round trip would cost more than all the rest here.
func (s *stream) lookByLocked(now, at time.Time) {
	if s.node.phase == closed || !s.lookAt.IsZero() && !at.Before(s.lookAt) {
		return
	}
	s.lookAt = at
	if s.alarm == nil {
		s.alarm = time.AfterFunc(at.Sub(now), s.look)
		s.node.helpers++
	} else if !s.alarm.Reset(at.Sub(now)) { // else there is one look instead of another
		s.node.helpers++
	}
}

// stopAlarmLocked takes back the alarm, unless it has rung.
func (s *stream) stopAlarmLocked() {
	if s.alarm != nil && s.alarm.Stop() {
		s.node.helpers--
		s.lookAt = time.Time{}
	}
}

// look is what the alarm does.
func (s *stream) look() {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	s.node.helpers--
	s.lookAt = time.Time{}
	s.lookLocked(time.Now())
	s.node.checkIdleLocked()
}

// lookLocked sets workers aside that are stuck, has the master dialled if it takes long to answer,
// and starts the workers that have become due.
func (s *stream) lookLocked(now time.Time) {
	for _, t := range s.trips {
		if overdue := t.began.Add(t.patience); now.Before(overdue) {
			s.lookByLocked(now, overdue)
		} else {
			s.setAsideLocked(t)
		}
		s.suspectLocked(t, now)
	}
	s.callWorkerLocked()
}

// setAsideLocked counts a worker as stuck whose round trip takes longer than anybody waits for it.
// That makes room for another one, which gets another connection.
func (s *stream) setAsideLocked(t *trip) {
	if t.cancel != nil {
		t.cancel()
	}
	if !t.stuck && s.stuck < s.pace.stuck {
		t.stuck = true
		s.stuck++
		s.workers--
	}
}
