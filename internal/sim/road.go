package sim

import (
	"math/rand/v2"
	"sync"
	"time"
)

// road is the network between a client and a node in one direction.
type road struct {
	latency time.Duration // about

	mu      sync.Mutex
	weather weather
}

// weather is what a road does to what is sent on it, for a while.
type weather struct {
	until  time.Time
	held   bool          // nothing arrives before the weather changes; then everything does
	slower time.Duration // each chunk
	lose   float64       // how likely a chunk and all that follows on its connection gets lost
	tear   float64       // how likely a connection breaks in the middle of a chunk
	late   float64       // how likely a chunk, and what follows on its connection, is late
	delay  time.Duration // how late at most
}

func (r *road) set(w weather) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.weather = w
}

// now returns the weather as it is.
func (r *road) now() weather {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !time.Now().Before(r.weather.until) {
		return weather{}
	}
	return r.weather
}

// passage is what becomes of a chunk.
type passage uint8

const (
	passes passage = iota
	lost
	torn
)

// travel decides the fate of a chunk: how long it is under way, if it arrives.
func (r *road) travel(random *rand.Rand) (passage, time.Time) {
	w, dice := r.now(), random.Float64()
	at := time.Now().Add(r.latency/2 + time.Duration(random.Int64N(int64(r.latency))) + w.slower)
	switch {
	case dice < w.lose:
		return lost, at
	case dice < w.lose+w.tear:
		return torn, at
	case dice < w.lose+w.tear+w.late:
		at = at.Add(w.delay/2 + time.Duration(random.Int64N(int64(w.delay/2+1))))
	}
	if w.held {
		at = later(at, w.until.Add(time.Duration(random.Int64N(int64(r.latency)))))
	}
	return passes, at
}
