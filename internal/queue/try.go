package queue

import (
	"slices"
	"time"

	"github.com/rediskit/redlock/internal/protocol"
)

// Try is a first attempt at resources for which nobody here waits, or has just waited. It takes no
// place in line, so that a lock which can be had at once costs little more than the asking. Whoever
// comes while it lasts waits for its end.
type Try struct {
	line  *Line
	group *group
	keys  protocol.Keys
	came  time.Time
}

// Try begins a first attempt of somebody who came at that time, if nobody else is here; else Join
// is the way. The caller ends it with Won or Join.
func (l *Line) Try(k protocol.Keys, came time.Time) (t Try, alone bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g := l.groups[nameOf(k.Resources)]; g != nil {
		return Try{}, false
	}
	g := l.groupLocked(k)
	g.trying = true
	return Try{l, g, k, came}, true
}

// Won says that the attempt has got the lock: see Waiter.Won. It returns nil if nobody here waits
// for that.
func (t Try) Won(c *protocol.Claim, until time.Time) *Waiter {
	l, g := t.line, t.group
	l.mu.Lock()
	defer l.mu.Unlock()
	g.trying = false
	if len(g.waiters) == 0 {
		l.forgetLocked(g)
		return nil
	}
	w := l.newWaiter(g, t.keys, 0, t.came)
	w.holdsLocked(c, until)
	if _, known := l.clock.ticket(t.came); !known {
		// to learn the nodes' time: without, no release can put it into the queues
		g.waiters[0].activateLocked()
	}
	return w
}

// Join says that the attempt has failed, and takes a place in front of all who have come meanwhile.
func (t Try) Join(polls time.Duration) *Waiter {
	l, g := t.line, t.group
	l.mu.Lock()
	defer l.mu.Unlock()
	g.trying = false
	w := l.newWaiter(g, t.keys, polls, t.came)
	g.waiters = slices.Insert(g.waiters, 0, w)
	w.activateLocked()
	return w
}
