package deadlock

import (
	"slices"
	"sync"
	"time"

	"github.com/rediskit/redlock/internal/protocol"
)

// here has the waits of this process that have lasted for their while, of all Lockers: a task may
// hold a lock of one and wait for a lock of another.
var here = registry{holders: make(map[place][]holder)}

// registry knows who holds what others wait for.
type registry struct {
	mu      sync.Mutex
	holders map[place][]holder
}

// place is where a lock is: Lockers have nodes of their own, even if their servers are the same.
type place struct {
	nodes *protocol.Nodes
	key   string
}

// holder is a wait whose task holds a lock.
type holder struct {
	watch *Watch
	lock  *Lock
}

// step is one member of a circle in this process: a wait, the key that it is for, and who has that.
type step struct {
	watch    *Watch
	resource string
	holder   holder
}

// add lists a wait, and tells the youngest member of each circle that it closes.
func (r *registry) add(w *Watch) {
	r.list(w)
	for {
		steps := r.circle(w)
		if steps == nil {
			return
		}
		// Without the mutex: to look at a handle may end it.
		if i := slices.IndexFunc(steps,
			func(s step) bool { return !s.holder.lock.Alive() }); i >= 0 {
			r.forget(steps[i].holder)
			continue
		}
		youngest := slices.MaxFunc(steps, func(a, b step) int {
			if a.watch.age.olderThan(b.watch.age) {
				return -1
			}
			return 1
		}).watch
		if r.take(youngest, steps) {
			youngest.Found(members(youngest, steps))
		}
		if youngest == w {
			return
		}
	}
}

// list adds a wait.
func (r *registry) list(w *Watch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w.listed = true
	for i := range w.Held {
		lock := &w.Held[i]
		for _, p := range lock.places() {
			r.holders[p] = append(r.holders[p], holder{w, lock})
		}
	}
}

// remove takes a wait off the list, and reports whether it was there.
func (r *registry) remove(w *Watch) (was bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was = w.listed
	r.removeLocked(w)
	return was
}

func (r *registry) removeLocked(w *Watch) {
	w.listed = false
	for i := range w.Held {
		r.forgetLocked(holder{w, &w.Held[i]})
	}
}

// forget takes off a lock that a task has lost.
func (r *registry) forget(h holder) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetLocked(h)
}

func (r *registry) forgetLocked(h holder) {
	for _, p := range h.lock.places() {
		left := slices.DeleteFunc(r.holders[p], func(o holder) bool { return o == h })
		if r.holders[p] = left; len(left) == 0 {
			delete(r.holders, p)
		}
	}
}

// take removes the youngest if all members of a circle still wait, and reports whether they do.
func (r *registry) take(youngest *Watch, steps []step) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range steps {
		if !s.watch.listed {
			return false
		}
	}
	r.removeLocked(youngest)
	return true
}

// circle returns a way from w back to w, or nil.
func (r *registry) circle(w *Watch) []step {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !w.listed {
		return nil
	}
	return r.wayLocked(w, w, make(map[*Watch]bool))
}

// wayLocked returns a way from one wait to what another one's task holds.
func (r *registry) wayLocked(from, to *Watch, visited map[*Watch]bool) []step {
	visited[from] = true
	for _, resource := range from.Keys.Resources {
		key := protocol.KeyName(from.Keys.Prefix(), resource)
		for _, h := range r.holders[place{from.Nodes, key}] {
			if h.watch == to {
				return []step{{from, resource, h}}
			}
			if visited[h.watch] {
				continue
			}
			if rest := r.wayLocked(h.watch, to, visited); rest != nil {
				return append([]step{{from, resource, h}}, rest...)
			}
		}
	}
	return nil
}

// members tells of a circle from the view of one of its members.
func members(first *Watch, steps []step) []Member {
	n := len(steps)
	begin := slices.IndexFunc(steps, func(s step) bool { return s.watch == first })
	all := make([]Member, n)
	for i := range all {
		s, before := steps[(begin+i)%n], steps[(begin+i+n-1)%n]
		all[i] = Member{before.holder.lock.label(), s.resource, time.Since(s.watch.Began), false}
	}
	return all
}
