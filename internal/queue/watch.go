package queue

import (
	"context"
	"slices"
	"time"

	"github.com/rediskit/redlock/internal/protocol"
)

// watch is everybody in a Locker who waits until a resource is free without wanting it. One of them
// asks the nodes for all; all of them are done when it is free.
type watch struct {
	watchers []*Watcher
	place    *protocol.Place // where the nodes find us
	number   uint64
	// called is when the first node said after the latest look that it is free; zero: none has.
	called time.Time
	free   []bool // by node
	looks  int    // begun so far
	seen   error  // what the latest look that came to its end has shown; nil: there was none
}

// Watcher is a call that waits until a resource is free.
type Watcher struct {
	line  *Line
	group *group
	keys  protocol.Keys
	looks int           // that were begun before it came
	turn  chan struct{} // closed when it is this one who asks the nodes
	done  chan struct{} // closed when it was seen to be free
	news  chan struct{}
	first bool // turn is closed
	seen  bool // done is closed
}

// Watch begins to wait until a resource is free. The caller must end it with Leave.
func (l *Line) Watch(k protocol.Keys) *Watcher {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.groupLocked(k)
	if g.watch == nil {
		g.watch = &watch{free: make([]bool, l.nodes.Len())}
		number, name := l.nameLocked()
		g.watch.number, g.watch.place = number, protocol.NewPlace(l.nodes, k, name)
		g.watch.place.Sure = l.sure
		g.watch.place.Patience, g.watch.place.Unsure = patience, patience
	}
	w := &Watcher{
		line: l, group: g, keys: k, looks: g.watch.looks,
		turn: make(chan struct{}), done: make(chan struct{}), news: make(chan struct{}, 1),
	}
	g.watch.watchers = append(g.watch.watchers, w)
	g.watch.nextLocked()
	return w
}

// nextLocked has the first one ask the nodes.
func (v *watch) nextLocked() {
	if len(v.watchers) > 0 && !v.watchers[0].first {
		v.watchers[0].first = true
		close(v.watchers[0].turn)
	}
}

// Turn waits until it is this one who asks the nodes, or the resource was seen to be free.
func (w *Watcher) Turn(ctx context.Context) (free bool, err error) {
	select {
	case <-w.done:
		return true, nil
	case <-w.turn:
		return w.wasSeen(), nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case <-w.line.life.Done():
		return false, context.Cause(w.line.life)
	}
}

func (w *Watcher) wasSeen() bool {
	w.line.mu.Lock()
	defer w.line.mu.Unlock()
	return w.seen
}

// Look begins a look. It returns where the nodes are to find us: they may say that the resource is
// free before the look is over.
func (w *Watcher) Look() *protocol.Place {
	w.line.mu.Lock()
	defer w.line.mu.Unlock()
	v := w.group.watch
	v.looks++
	v.called = time.Time{}
	clear(v.free)
	w.line.members[v.number] = w
	return v.place
}

// Saw says what a look has come to that too few nodes have answered.
func (w *Watcher) Saw(err error) {
	w.line.mu.Lock()
	defer w.line.mu.Unlock()
	w.group.watch.seen = err
}

// Seen returns what the latest look of those who watch here has shown: see Waiter.Seen.
func (w *Watcher) Seen() (held bool, err error) {
	w.line.mu.Lock()
	defer w.line.mu.Unlock()
	return false, w.group.watch.seen
}

// Held says that the resource was not free, as err tells: the nodes will say when it is.
func (w *Watcher) Held(err error) {
	w.line.mu.Lock()
	defer w.line.mu.Unlock()
	w.group.watch.seen = err
	w.line.enlistLocked(w.group.watch.number, w)
}

// Free says that the resource was seen to be free, by the latest look: to those who had come before
// it was begun.
func (w *Watcher) Free() {
	w.line.mu.Lock()
	defer w.line.mu.Unlock()
	for _, other := range w.group.watch.watchers {
		if other.looks < w.group.watch.looks && !other.seen {
			other.seen = true
			close(other.done)
		}
	}
}

// Leave ends the wait.
func (w *Watcher) Leave() {
	if v, last := w.leave(); last {
		v.place.Leave(w.line.nodes, w.keys, nil)
	}
}

func (w *Watcher) leave() (v *watch, last bool) {
	w.line.mu.Lock()
	defer w.line.mu.Unlock()
	g := w.group
	v = g.watch
	v.watchers = slices.DeleteFunc(v.watchers, func(other *Watcher) bool { return other == w })
	if len(v.watchers) > 0 {
		v.nextLocked()
		return v, false
	}
	delete(w.line.members, v.number)
	g.watch = nil
	return v, true
}

func (w *Watcher) hearLocked(node int, word string, _ int64) (then func()) {
	v := w.group.watch
	if v == nil || word != wordFree && word != wordUp {
		return nil
	}
	v.free[node] = v.free[node] || word == wordFree
	if v.called.IsZero() {
		v.called = time.Now()
	}
	wake(v.watchers[0].news)
	return nil
}

func (w *Watcher) expiredLocked(time.Time) bool { return false }

// Wait waits until the next look is due, for d at most: when a quorum of nodes has said that the
// resource is free, or a little after the first of them.
func (w *Watcher) Wait(ctx context.Context, d time.Duration) error {
	return w.line.wait(ctx, min(d, mostPolls), w.news, w.dueLocked)
}

func (w *Watcher) dueLocked(poll time.Time) time.Time {
	v := w.group.watch
	if v.called.IsZero() {
		return poll
	}
	free := 0
	for _, said := range v.free {
		if said {
			free++
		}
	}
	if free >= w.line.nodes.Need() {
		return v.called
	}
	return earlier(poll, v.called.Add(leastLate))
}
