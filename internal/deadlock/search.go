package deadlock

import (
	"context"
	"slices"
	"time"

	"github.com/rediskit/redlock/internal/protocol"
)

// link is one member of a circle on the nodes: a wait, what it is for, and the label under which
// its task has what the member before waits for.
type link struct {
	wait   string
	beat   int
	waited time.Duration
	label  string
	queued bool // it has not: it is first in the queue
	target target
}

// circle begins with the wait that has found it.
type circle []link

// same reports whether two searches have found the same waits, for the same locks of the same
// owners.
func (c circle) same(d circle) bool {
	return slices.EqualFunc(c, d, func(a, b link) bool {
		return a.wait == b.wait && a.target.same(&b.target)
	})
}

// after reports whether every other member has published something since d was found.
func (c circle) after(d circle) bool {
	for i := 1; i < len(c); i++ {
		if c[i].beat <= d[i].beat {
			return false
		}
	}
	return true
}

// mostLooks is how many locks a search looks at.
const mostLooks = 64

// search looks for a way from a wait back to what its own task holds.
type search struct {
	w       *Watch
	ctx     context.Context
	mine    map[string]own  // what the task keeps, by owner
	visited map[string]bool // waits
	looks   int
}

// own is how a task keeps a lock.
type own struct {
	label  string
	queued bool
}

// search returns a circle of this wait and older ones, or nil. sights are of its own targets.
func (w *Watch) search(ctx context.Context, targets []target, sights []protocol.Sight) circle {
	s := &search{w: w, ctx: ctx, mine: make(map[string]own), visited: map[string]bool{w.wait: true}}
	for i := range w.Held {
		if l := &w.Held[i]; l.Alive() {
			s.mine[w.notices[i].Owner()] = own{l.label(), false}
		}
	}
	if w.stands() {
		s.mine[w.queued.Owner()] = own{w.Label, true}
	}
	for i, t := range targets {
		rest, end, found := s.from(t, sights[i])
		if found {
			self := link{wait: w.wait, waited: time.Since(w.Began), label: end.label,
				queued: end.queued, target: t}
			return append(circle{self}, rest...)
		}
	}
	return nil
}

// from returns the way from a lock to one of the task's own, and that one.
func (s *search) from(t target, sight protocol.Sight) (way circle, end own, found bool) {
	if end, found = s.mine[t.Owner]; found {
		return circle{}, end, true
	}
	for _, n := range read(t.Owner, sight.Notices) {
		if s.visited[n.Wait] || !n.age().olderThan(s.w.age) {
			continue
		}
		s.visited[n.Wait] = true
		for _, next := range n.For {
			rest, end, found := s.from(next, s.look(next))
			if found {
				me := link{n.Wait, n.Beat, n.Waited, string(n.Label), sight.Queued, next}
				return append(circle{me}, rest...), end, true
			}
		}
	}
	return nil, own{}, false
}

// look asks about a lock that another wait is for. If it has another owner by now, or is one of
// other nodes that has the same name, then nothing is published there for the owner that is meant.
func (s *search) look(t target) protocol.Sight {
	if _, mine := s.mine[t.Owner]; mine {
		return protocol.Sight{}
	}
	if s.looks++; s.looks > mostLooks {
		return protocol.Sight{}
	}
	l := s.w.Nodes.Follow(string(t.Prefix), string(t.Resource), s.w.keep())
	l.Send()
	return l.Wait(s.ctx)
}
