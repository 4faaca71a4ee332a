package queue

import (
	"context"
	"slices"
	"time"

	"github.com/rediskit/redlock/internal/protocol"
)

const (
	grace      = 250 * time.Millisecond // what scripts/queue.lua gives whoever was called
	graceSlack = 5 * time.Millisecond
	leastLate  = 10 * time.Millisecond // see Waiter.late
	mostLate   = 2 * time.Second

	// mostPolls is how long somebody stands in the queues without another attempt, so that the
	// nodes do not forget them.
	mostPolls = patience / 2

	// MostPause is how long the pauses between attempts may be, on average.
	MostPause = patience / 3
)

// Waiter is a call that waits for a lock.
type Waiter struct {
	line  *Line
	group *group
	keys  protocol.Keys
	polls time.Duration // the longest time between two attempts
	came  time.Time
	turn  chan struct{} // closed when it is the first of its group, and may ask the nodes
	news  chan struct{} // something has changed

	// Guarded by Line.mu.
	number   uint64
	place    *protocol.Place // nil until it stands in the nodes' queues
	claim    *protocol.Claim // the one that has the lock
	active   bool            // turn is closed
	handed   bool            // a release of this Locker has put it into the queues
	waited   bool            // it was refused, or handed its place: others had the lock
	nodes    []standing
	called   time.Time // when the first node called it after the latest attempt; zero: none has
	standBy  time.Time // when to try since whoever was called may not come; zero: nobody was
	attempts int
	late     time.Duration // how long after the first call it does without the others
	before   int           // so many stand before it,
	all      int           // and so many in all
	won      time.Time     // zero: not yet
}

// standing is what a waiter knows of a node.
type standing struct {
	open   bool  // as far as is known, the node would grant the lock
	closed int64 // when the node last refused it, by its clock
	called int64 // when the node last called it since the latest attempt began, by its clock
}

// Join takes a place at the end of this Locker's line. The caller tries again after the given time
// at most, and ends the wait with Won or Leave.
func (l *Line) Join(k protocol.Keys, polls time.Duration) *Waiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.groupLocked(k)
	w := l.newWaiter(g, k, polls, time.Now())
	first := !g.trying && len(g.waiters) == 0 && g.holder == nil
	likely := len(g.waiters) > 0 || time.Since(g.used) < freshness
	g.waiters = append(g.waiters, w)
	if first {
		w.activateLocked()
		if likely {
			w.standLocked()
		}
	}
	return w
}

func (l *Line) newWaiter(g *group, k protocol.Keys, polls time.Duration, came time.Time) *Waiter {
	return &Waiter{
		line: l, group: g, keys: k, polls: min(polls, MostPause), came: came,
		turn: make(chan struct{}), news: make(chan struct{}, 1),
		nodes: make([]standing, l.nodes.Len()), late: leastLate,
	}
}

func (w *Waiter) activateLocked() {
	if !w.active {
		w.active = true
		close(w.turn)
	}
}

// Behind reports whether others of this Locker stand before the waiter, or have the lock: then Turn
// waits.
func (w *Waiter) Behind() bool {
	select {
	case <-w.turn:
		return false
	default:
		return true
	}
}

// Turn waits until it is this waiter who asks the nodes. It is not to ask at once if it was handed
// its place in their queues by a release: then they call it.
func (w *Waiter) Turn(ctx context.Context) (handed bool, err error) {
	for {
		cover := time.NewTimer(w.uncoveredIn())
		select {
		case <-w.turn:
			cover.Stop()
			w.line.mu.Lock()
			defer w.line.mu.Unlock()
			handed, w.handed = w.handed, false
			return handed, nil
		case <-cover.C:
			w.takeTurn()
		case <-ctx.Done():
			cover.Stop()
			return false, context.Cause(ctx)
		case <-w.line.life.Done():
			cover.Stop()
			return false, context.Cause(w.line.life)
		}
	}
}

// uncoveredIn returns when the waiter should look whether it is its turn all the same.
func (w *Waiter) uncoveredIn() time.Duration {
	w.line.mu.Lock()
	defer w.line.mu.Unlock()
	if w.group.holder == nil {
		return coverTime
	}
	return max(0, time.Until(w.group.covered))
}

// takeTurn lets the first of a group ask the nodes although somebody here has the lock: for all we
// know it is never released. An attempt that is being made ends by itself.
func (w *Waiter) takeTurn() {
	w.line.mu.Lock()
	defer w.line.mu.Unlock()
	g := w.group
	if g.holder != nil && !time.Now().Before(g.covered) {
		g.holder = nil
	}
	g.nextLocked()
}

// nextLocked has the first of the group ask the nodes, and returns it; nil: nobody waits, or
// somebody here has the lock, or tries.
func (g *group) nextLocked() *Waiter {
	if g.trying || len(g.waiters) == 0 || g.holder != nil {
		return nil
	}
	next := g.waiters[0]
	next.standLocked()
	next.activateLocked()
	return next
}

// Place returns where the waiter stands in the nodes' queues, or nil: then it is to try without.
func (w *Waiter) Place() *protocol.Place {
	w.line.mu.Lock()
	defer w.line.mu.Unlock()
	w.called, w.standBy = time.Time{}, time.Time{}
	for i := range w.nodes {
		w.nodes[i].called = 0
	}
	w.correctLocked()
	return w.place
}

// correctLocked draws the ticket anew where it is far off what the nodes' clocks are known to show
// by now. They may differ, and others may have answered when it was drawn; or one was set since.
// Whoever kept such a ticket would stand behind all who come, for hours.
func (w *Waiter) correctLocked() {
	const off = time.Second
	if w.place == nil {
		return
	}
	ticket, known := w.line.clock.ticket(w.came)
	if apart := time.Duration(ticket-w.place.Ticket.Load()) * time.Microsecond; known &&
		apart.Abs() > off {
		w.place.Ticket.Store(ticket)
	}
}

// Name returns the waiter's name in the nodes' queues, or "" if it has not stood there yet.
func (w *Waiter) Name() string {
	w.line.mu.Lock()
	defer w.line.mu.Unlock()
	if w.place == nil {
		return ""
	}
	return w.place.Name
}

// standLocked takes a place in the nodes' queues, if it is known what their clocks show.
func (w *Waiter) standLocked() {
	l := w.line
	if w.place != nil || l.closed {
		return
	}
	ticket, ok := l.clock.ticket(w.came)
	if !ok {
		return
	}
	number, name := l.nameLocked()
	w.number, w.place = number, protocol.NewPlace(l.nodes, w.keys, name)
	w.place.Ticket.Store(ticket)
	w.place.Sure, w.place.Heard = l.sure, w.heard
	w.place.Patience, w.place.Unsure = patience, min(3*w.polls+2*grace, patience)
	l.enlistLocked(number, w)
}

// Seen returns what those who wait here last saw of the resources: whether somebody here has or had
// them, or else what the latest attempt has come to. (false, nil): nothing is known yet.
func (w *Waiter) Seen() (held bool, err error) {
	w.line.mu.Lock()
	defer w.line.mu.Unlock()
	return w.group.seen.held || w.group.holder != nil, w.group.seen.err
}

// Refused says that an attempt did not get the lock, how long it took, and what it has come to.
func (w *Waiter) Refused(r *protocol.Round, err error) {
	took := r.Took() // before: see Line.Look
	w.line.mu.Lock()
	defer w.line.mu.Unlock()
	w.group.used, w.group.seen = time.Now(), seen{err: err}
	w.line.clock.guess()
	w.standLocked()
	w.attempts++
	w.waited = true
	w.late = min(max(4*took, leastLate)<<min(w.attempts, 8), mostLate)
}

// Unanswered says that an attempt found no quorum of nodes. Nobody is told of the end of that, so
// all who wait here are to see for themselves, each as long as they care to. err is what the
// attempt has come to.
func (w *Waiter) Unanswered(err error) {
	w.line.mu.Lock()
	defer w.line.mu.Unlock()
	w.group.seen = seen{err: err}
	for _, other := range w.group.waiters {
		other.activateLocked()
	}
}

// BackInLine has a waiter that asks the nodes since an outage wait for its turn again, unless it is
// the first here. It reports whether the waiter is to.
func (w *Waiter) BackInLine() bool {
	l := w.line
	l.mu.Lock()
	if w.group.waiters[0] == w {
		l.mu.Unlock()
		return false
	}
	place := w.place
	w.place, w.active, w.turn = nil, false, make(chan struct{})
	clear(w.nodes)
	delete(l.members, w.number)
	l.mu.Unlock()
	if place != nil {
		place.Leave(l.nodes, w.keys, nil)
	}
	return true
}

// Hint returns when to try at the latest, where the keys that are in the way expire after d.
// Whoever does not stand first lets the first one try before.
func (w *Waiter) Hint(d time.Duration) time.Duration {
	if before := w.Before(); before > 0 && d < longest {
		return d + grace + time.Duration(min(before, 100))*leastLate
	}
	return d
}

// Before returns how many stand before the waiter, as far as is known.
func (w *Waiter) Before() int {
	w.line.mu.Lock()
	defer w.line.mu.Unlock()
	return w.before
}

// Asks returns for how many waiters this one asks the nodes, itself included: for the others here,
// or for those who stand behind it in the nodes' queues. 0: it is not the first there.
func (w *Waiter) Asks() int {
	w.line.mu.Lock()
	defer w.line.mu.Unlock()
	if w.before > 0 {
		return 0
	}
	return max(len(w.group.waiters), w.all)
}

// heard takes what a node says to an attempt: see protocol.Place.
func (w *Waiter) heard(node int, r *protocol.Refusal) {
	w.line.mu.Lock()
	calls := w.heardLocked(node, r)
	claim := w.claim
	w.line.mu.Unlock()
	if calls && claim != nil {
		claim.Join(node)
	}
}

// heardLocked takes what a node says to an attempt, nil for yes. It reports whether the node has
// called since it said no: it comes over another connection, and may be here before the no.
func (w *Waiter) heardLocked(node int, r *protocol.Refusal) (calls bool) {
	s := &w.nodes[node]
	if r == nil {
		s.open = true
		return false
	}
	s.closed, s.open = r.Time, s.called > r.Time
	w.before, w.all = r.Before, r.All
	if r.Waited && r.Before <= 1 && w.standBy.IsZero() {
		// whoever is first was called by now, and may not come
		w.standByLocked()
		wake(w.news)
	}
	return s.open
}

// standByLocked has the waiter try when whoever was called has had time to come.
func (w *Waiter) standByLocked() { w.standBy = time.Now().Add(grace + graceSlack) }

func (w *Waiter) hearLocked(node int, word string, shown int64) (then func()) {
	s := &w.nodes[node]
	switch {
	case !w.won.IsZero():
		if claim := w.claim; word == wordCome {
			return func() { claim.Join(node) }
		}
		return nil
	case word == wordUp:
	case shown != 0 && shown <= s.closed:
		return nil // from before it said no
	case word == wordCome:
		s.open, s.called = true, shown
	case word == wordStandBy:
		w.standByLocked()
	}
	if word != wordStandBy && w.called.IsZero() {
		w.called = time.Now()
	}
	wake(w.news)
	return nil
}

// dueLocked returns when the next attempt is due: when a quorum of nodes would grant the lock, a
// little after the first of them has called, when somebody who was called has not come, or at a
// time that the caller gives.
func (w *Waiter) dueLocked(poll time.Time) time.Time {
	due := poll
	if !w.called.IsZero() {
		open := 0
		for _, s := range w.nodes {
			if s.open {
				open++
			}
		}
		if open >= w.line.nodes.Need() {
			return w.called
		}
		due = earlier(due, w.called.Add(w.late))
	}
	if !w.standBy.IsZero() {
		due = earlier(due, w.standBy)
	}
	return due
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// Wait waits until the next attempt is due, for d at most.
func (w *Waiter) Wait(ctx context.Context, d time.Duration) error {
	return w.line.wait(ctx, min(d, mostPolls), w.news, w.dueLocked)
}

// wait waits until a time that depends on the news, for d at most.
func (l *Line) wait(ctx context.Context, d time.Duration, news <-chan struct{},
	dueLocked func(poll time.Time) time.Time) error {
	poll := time.Now().Add(min(d, longest))
	for {
		l.mu.Lock()
		left := time.Until(dueLocked(poll))
		l.mu.Unlock()
		if left <= 0 {
			return nil
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-news:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-l.life.Done():
			timer.Stop()
			return context.Cause(l.life)
		}
		timer.Stop()
	}
}

// wake has a wait look again when the next attempt is due.
func wake(news chan<- struct{}) {
	select {
	case news <- struct{}{}:
	default: // it has not yet seen that it is to
	}
}

// longest keeps what is added to the clock from being too much for it.
const longest = 10 * 365 * 24 * time.Hour

// Won says that the waiter has the lock, by the claim, until the given time at least. It returns
// whether others here wait for it: then Release or Lost must be told of its end. They ask the nodes
// by themselves when the lock is held for long, or may be over without a word.
func (w *Waiter) Won(c *protocol.Claim, until time.Time) (awaited bool) {
	l, at := w.line, c.Place() // before: see Line.Look
	l.mu.Lock()
	w.removeLocked()
	g := w.group
	awaited = w.holdsLocked(c, until)
	if w.waited {
		g.used = w.won
	}
	place := w.place
	if place != nil && place != at {
		delete(l.members, w.number)
	}
	calling := w.callingLocked()
	l.forgetLocked(g)
	l.mu.Unlock()
	switch {
	case place == nil:
	case place == at:
		place.Holds()
		for _, node := range calling {
			c.Join(node)
		}
	default:
		place.Leave(l.nodes, w.keys, nil) // the lock's release knows nothing of it
	}
	return awaited
}

// callingLocked returns the nodes that have called while the attempt lasted that has got the lock:
// those that had refused it before are to be asked again.
func (w *Waiter) callingLocked() (nodes []int) {
	for node, s := range w.nodes {
		if s.called > s.closed {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// holdsLocked notes that the waiter has the lock, and returns whether others here wait for it.
func (w *Waiter) holdsLocked(c *protocol.Claim, until time.Time) (awaited bool) {
	g := w.group
	w.won, w.claim = time.Now(), c
	if len(g.waiters) == 0 {
		return false
	}
	g.used, g.holder, g.covered = w.won, w, earlier(until, w.won.Add(coverTime))
	g.seen = seen{held: true}
	return true
}

// removeLocked takes the waiter out of its group.
func (w *Waiter) removeLocked() {
	g := w.group
	g.waiters = slices.DeleteFunc(g.waiters, func(other *Waiter) bool { return other == w })
	if len(g.waiters) == 0 {
		g.seen = seen{} // whoever comes later sees for themselves
	}
}

// Release hands the lock over: it returns the place of whoever is next here, which the release of
// the lock is to put into the nodes' queues, or nil.
func (w *Waiter) Release() *protocol.Place {
	w.line.mu.Lock()
	defer w.line.mu.Unlock()
	g := w.group
	delete(w.line.members, w.number)
	w.claim = nil // its release holds on to the next place, and that to the next waiter
	if g.holder != w {
		return nil
	}
	g.holder = nil
	next := g.nextLocked()
	if next == nil {
		return nil
	}
	next.handed, next.waited = next.place != nil, true
	return next.place
}

// Lost says that the lock has ended without a release. It still hears the nodes for a while: one
// that has refused it, while the others granted the lock, may have it in its queue and call it.
func (w *Waiter) Lost() {
	w.line.mu.Lock()
	defer w.line.mu.Unlock()
	if w.group.holder == w {
		w.group.holder = nil
		w.group.nextLocked()
	}
}

// Leave gives up. The next one here takes over on the nodes at the same moment: they may call
// whoever is first then, and this one came before others who stand there.
func (w *Waiter) Leave() {
	l := w.line
	l.mu.Lock()
	g := w.group
	w.removeLocked()
	g.used = time.Now()
	delete(l.members, w.number)
	place := w.place
	var next *protocol.Place
	if w := g.nextLocked(); w != nil {
		next = w.place
	}
	l.mu.Unlock()
	if place != nil {
		place.Leave(l.nodes, w.keys, next)
	}
}

// expiredLocked forgets who has the lock when the nodes have forgotten them too.
func (w *Waiter) expiredLocked(now time.Time) bool {
	return !w.won.IsZero() && now.Sub(w.won) > patience
}
