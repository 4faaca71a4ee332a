package redlock

import (
	"container/heap"
	"sync"
	"time"
)

// schedule wakes the handles that are watched or renewed, each when its next moment comes. One timer and one goroutine at a
// time serve them all, however many are due at once, and nothing runs in between.
type schedule struct {
	mu     sync.Mutex
	due    dueHeap
	timer  *time.Timer
	awake  bool // a goroutine is at work
	closed bool
	idle   sync.Cond
}

func newSchedule() *schedule {
	s := &schedule{}
	s.idle.L = &s.mu
	return s
}

// set has the handle's tick called at the given time, and at no other. It returns false if the schedule is closed.
func (s *schedule) set(h *Handle, at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	h.at = at
	if h.place == 0 {
		heap.Push(&s.due, h)
	} else {
		heap.Fix(&s.due, h.place-1)
	}
	if h.place == 1 {
		s.arm()
	}
	return true
}

// remove forgets the handle.
func (s *schedule) remove(h *Handle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.place > 0 {
		heap.Remove(&s.due, h.place-1)
	}
}

// arm sets the timer to the first handle's time. Called with the mutex held.
func (s *schedule) arm() {
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

// run wakes the handles that are due.
func (s *schedule) run() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.awake {
		return
	}
	s.awake = true
	for len(s.due) > 0 && !s.closed && !time.Now().Before(s.due[0].at) {
		h := heap.Pop(&s.due).(*Handle)
		s.mu.Unlock()
		h.tick() // sets its next time itself
		s.mu.Lock()
	}
	s.awake = false
	s.idle.Broadcast()
	if !s.closed {
		s.arm()
	}
}

// close ends the schedule, waits for the goroutine that may be at work, and returns the handles that were in it.
func (s *schedule) close() []*Handle {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	for s.awake {
		s.idle.Wait()
	}
	handles := s.due
	s.due = nil
	for _, h := range handles {
		h.place = 0
	}
	return handles
}

// dueHeap is ordered by the time at which a handle is due.
type dueHeap []*Handle

func (d dueHeap) Len() int           { return len(d) }
func (d dueHeap) Less(i, j int) bool { return d[i].at.Before(d[j].at) }

func (d dueHeap) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i+1, j+1
}

func (d *dueHeap) Push(x any) {
	h := x.(*Handle)
	*d = append(*d, h)
	h.place = len(*d)
}

func (d *dueHeap) Pop() any {
	old := *d
	h := old[len(old)-1]
	old[len(old)-1] = nil
	*d = old[:len(old)-1]
	h.place = 0
	return h
}
