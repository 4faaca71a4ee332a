package sim

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// stream is one direction of a connection, as TCP gives it: what is sent arrives in order or not at
// all, each chunk not before its time, and also when its sender has closed the connection
// meanwhile.
type stream struct {
	bell chan struct{} // tells the reader of a change

	mu       sync.Mutex
	chunks   []chunk
	last     time.Time // when the latest chunk arrives
	silent   bool      // what is sent from now on gets lost, and nobody is told
	ended    bool      // the end is among the chunks
	deaf     bool      // the reader has closed
	deadline time.Time // of the reader
	timer    *time.Timer
}

// chunk is what one write sent. The end has no data.
type chunk struct {
	stamp
	data []byte
	end  bool
}

// stamp tells when something was sent and when it reached the other side, whether or not that was
// able to read it.
type stamp struct{ sent, arrived time.Time }

func newStream() *stream { return &stream{bell: make(chan struct{}, 1)} }

func (s *stream) ring() {
	select {
	case s.bell <- struct{}{}:
	default:
	}
}

// send adds data, or the end if data is nil, to arrive at the given time or behind what was sent
// before.
func (s *stream) send(data []byte, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.silent || s.deaf || s.ended {
		return
	}
	if at.Before(s.last) {
		at = s.last
	}
	s.last, s.ended = at, data == nil
	s.chunks = append(s.chunks, chunk{stamp{time.Now(), at}, data, data == nil})
	s.ring()
}

// silence lets everything get lost that is sent from now on.
func (s *stream) silence() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = true
}

// deafen is the reader's close.
func (s *stream) deafen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaf, s.chunks = true, nil
	s.ring()
}

func (s *stream) setDeadline(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	s.ring()
}

// read waits for the next chunk. A reader that is held reads nothing before the time that held
// returns.
func (s *stream) read(p []byte, held func() time.Time) (int, stamp, error) {
	for {
		n, from, wait, err := s.take(p, held())
		if n > 0 || err != nil {
			return n, from, err
		}
		s.await(wait)
	}
}

// take returns what can be read now, or else until when there is nothing to do but to wait.
func (s *stream) take(p []byte, held time.Time) (int, stamp, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	var wait time.Time
	switch {
	case s.deaf:
		return 0, stamp{}, wait, net.ErrClosed
	case !s.deadline.IsZero() && !now.Before(s.deadline):
		return 0, stamp{}, wait, os.ErrDeadlineExceeded
	case len(s.chunks) > 0:
		first := &s.chunks[0]
		if wait = later(first.arrived, held); wait.After(now) {
			break
		}
		if first.end {
			return 0, first.stamp, wait, io.EOF
		}
		n, from := copy(p, first.data), first.stamp
		if first.data = first.data[n:]; len(first.data) == 0 {
			s.chunks = s.chunks[1:]
		}
		return n, from, wait, nil
	}
	if wait.IsZero() || !s.deadline.IsZero() && s.deadline.Before(wait) {
		wait = s.deadline
	}
	return 0, stamp{}, wait, nil
}

// await waits for a change, or for the given time if that is not zero. Only the reader calls it.
func (s *stream) await(until time.Time) {
	if until.IsZero() {
		<-s.bell
		return
	}
	if s.timer == nil {
		s.timer = time.NewTimer(time.Until(until))
	} else {
		s.timer.Reset(time.Until(until))
	}
	select {
	case <-s.bell:
	case <-s.timer.C:
	}
	s.timer.Stop()
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
