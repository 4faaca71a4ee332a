package sim

import (
	"sync/atomic"
	"time"
)

// moment is a time that is read without a lock; it only ever moves on.
type moment struct{ nanos atomic.Int64 }

func (m *moment) get() time.Time { return time.Unix(0, m.nanos.Load()) }

// extend moves the moment to t, if that is later.
func (m *moment) extend(t time.Time) {
	for {
		old := m.nanos.Load()
		if t.UnixNano() <= old || m.nanos.CompareAndSwap(old, t.UnixNano()) {
			return
		}
	}
}
