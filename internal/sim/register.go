package sim

import (
	"sync"
	"time"

	"github.com/rediskit/redlock/internal/history"
)

// register is what a resource guards: whoever has the lock reads it, works, and sets it if it still
// has the lock.
type register struct {
	world    *World
	resource string

	mu    sync.Mutex
	value int64
	next  int64
}

func (r *register) read() (int64, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.value, r.world.now()
}

// swap sets the register to a new value; old is what was read before, at the given time.
func (r *register) swap(c *client, old int64, read time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	r.value = r.next
	c.log(history.Event{
		Kind: history.Swapped, Began: read, At: r.world.now(), Resources: []string{r.resource},
		Old: old, New: r.value,
	})
}
