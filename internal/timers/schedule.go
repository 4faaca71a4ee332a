package timers

import (
	"container/heap"
	"sync"
	"time"
)

// Alarm is something that a [Schedule] rings at a time.
type Alarm struct {
	Ring func() // called without any lock of the schedule's held; sets the next time itself

	// Guarded by the schedule's mutex.
	at    time.Time
	place int // in the heap, from 1 on; 0: not there
}

// Schedule rings alarms, each when its moment comes. One timer and one goroutine at a time serve
// them all, however many are due at once, and nothing runs in between.
type Schedule struct {
	mu     sync.Mutex
	due    dueHeap
	timer  *time.Timer
	awake  bool // a goroutine is at work
	closed bool
	idle   sync.Cond
}

// NewSchedule returns an empty schedule.
func NewSchedule() *Schedule {
	s := &Schedule{}
	s.idle.L = &s.mu
	return s
}

// Set has the alarm ring at the given time, and at no other. It returns false if the schedule is
// closed.
func (s *Schedule) Set(a *Alarm, at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	a.at = at
	if a.place == 0 {
		heap.Push(&s.due, a)
	} else {
		heap.Fix(&s.due, a.place-1)
	}
	if a.place == 1 {
		s.armLocked()
	}
	return true
}

// Remove forgets the alarm. It does not wait for one that is ringing.
func (s *Schedule) Remove(a *Alarm) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.place > 0 {
		heap.Remove(&s.due, a.place-1)
	}
}

// armLocked sets the timer to the first alarm's time.
func (s *Schedule) armLocked() {
	if s.awake || len(s.due) == 0 {
		return
	}
	wait := time.Until(s.due[0].at)
	if s.timer == nil {
		s.timer = time.AfterFunc(wait, s.run)
		return
	}
	s.timer.Reset(wait)
}

// run rings the alarms that are due.
func (s *Schedule) run() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.awake {
		return
	}
	s.awake = true
	for len(s.due) > 0 && !s.closed && !time.Now().Before(s.due[0].at) {
		a := heap.Pop(&s.due).(*Alarm)
		// Unlocked: what the alarm rings takes locks under which others call Set and Remove.
		s.mu.Unlock()
		a.Ring()
		s.mu.Lock()
	}
	s.awake = false
	s.idle.Broadcast()
	if !s.closed {
		s.armLocked()
	}
}

// Close ends the schedule, waits for the goroutine that may be at work, and returns the alarms that
// have not rung.
func (s *Schedule) Close() []*Alarm {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	for s.awake {
		s.idle.Wait()
	}
	alarms := s.due
	s.due = nil
	for _, a := range alarms {
		a.place = 0
	}
	return alarms
}

// dueHeap is ordered by the time at which an alarm is due.
type dueHeap []*Alarm

func (d dueHeap) Len() int           { return len(d) }
func (d dueHeap) Less(i, j int) bool { return d[i].at.Before(d[j].at) }

func (d dueHeap) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i+1, j+1
}

func (d *dueHeap) Push(x any) {
	a := x.(*Alarm)
	*d = append(*d, a)
	a.place = len(*d)
}

func (d *dueHeap) Pop() any {
	old := *d
	a := old[len(old)-1]
	old[len(old)-1] = nil
	*d = old[:len(old)-1]
	a.place = 0
	return a
}
