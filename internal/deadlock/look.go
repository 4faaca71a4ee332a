package deadlock

import (
	"context"
	"slices"
	"time"

	"github.com/rediskit/redlock/internal/protocol"
)

// patience is how many looks a wait takes before it is called merely long, if its task holds
// something: a circle has been found by then.
const patience = 3

// look finds out who has what this wait is for, says so to others, and follows.
func (w *Watch) look() {
	ctx, cancel := context.WithTimeout(w.ctx, 2*w.pause())
	defer cancel()
	targets, sights := w.targets(ctx)
	if w.ctx.Err() != nil { // the wait is over
		return
	}
	w.publish(targets)
	var found circle
	if w.keeps() {
		found = w.search(ctx, targets, sights)
	}
	confirmed := w.confirmed(found)
	switch {
	case w.ctx.Err() != nil:
	case confirmed:
		if here.remove(w) { // else it has been told of another circle
			w.Found(found.members())
		}
	case found == nil && len(targets) > 0 && !w.told && (w.beat > patience || !w.keeps()):
		w.told = true
		w.Long(w.blockers(targets, sights))
	}
}

// targets returns the locks that this wait is for and somebody keeps, with what the nodes say of
// them.
func (w *Watch) targets(ctx context.Context) (targets []target, sights []protocol.Sight) {
	prefix := w.Keys.Prefix()
	for some := range slices.Chunk(w.Keys.Resources, mostTargets) {
		looks := make([]*protocol.Look, len(some))
		for i, r := range some {
			looks[i] = w.Nodes.Follow(prefix, r, w.keep())
			looks[i].Send()
		}
		for i, r := range some {
			sight := looks[i].Wait(ctx)
			if sight.Owner == "" || sight.Queued && sight.Owner == w.Place() ||
				len(targets) == mostTargets {
				continue
			}
			targets = append(targets, target{[]byte(prefix), []byte(r),
				protocol.OwnerName(sight.Owner)})
			sights = append(sights, sight)
		}
		if len(targets) == mostTargets {
			break
		}
	}
	w.note(targets)
	return targets, sights
}

// note remembers since when the owners have been seen.
func (w *Watch) note(targets []target) {
	seen := make(map[string]time.Time, len(targets))
	for _, t := range targets {
		seen[t.Owner] = time.Now()
		if since, known := w.seen[t.Owner]; known {
			seen[t.Owner] = since
		}
	}
	if len(seen) > 0 { // else the nodes are out of reach, or the wait about to end
		w.seen = seen
	}
}

// publish lets others read what this wait is for, under each lock that its task keeps from them.
func (w *Watch) publish(targets []target) {
	w.beat++
	text := func(n *protocol.Notice, label string, since time.Time) string {
		return (&notice{
			Owner: n.Owner(), Label: []byte(label), Wait: w.wait, Began: w.age.began, Beat: w.beat,
			Waited: time.Since(w.Began), Held: time.Since(since), For: targets,
		}).text()
	}
	for i, n := range w.notices {
		if lock := &w.Held[i]; lock.Alive() {
			n.Publish(text(n, lock.label(), lock.Since), w.keep())
		}
	}
	if w.stands() {
		w.queued.Publish(text(w.queued, w.Label, w.Began), w.keep())
	}
}

// stands reports whether the wait is in the nodes' queues and may be first there without taking
// the lock. A place is kept until the wait ends.
func (w *Watch) stands() bool {
	if name := w.Place(); w.queued == nil && name != "" && len(w.Keys.Resources) > 1 {
		w.queued = w.Nodes.Notice(name, w.Keys, w.wait)
	}
	return w.queued != nil
}

// withdraw takes back what was published.
func (w *Watch) withdraw() {
	for _, n := range w.notices {
		n.Withdraw()
	}
	if w.queued != nil {
		w.queued.Withdraw()
	}
}

// confirmed reports whether the search before has found the same circle, and all its members have
// gone on to wait since.
func (w *Watch) confirmed(found circle) bool {
	if found == nil || !found.same(w.suspect) {
		w.suspect = found
		return false
	}
	return found.after(w.suspect)
}

func (c circle) members() []Member {
	all := make([]Member, len(c))
	for i, l := range c {
		all[i] = Member{l.label, string(l.target.Resource), l.waited, l.queued}
	}
	return all
}

// blockers tells who has the targets, for how long at least, and what those wait for themselves.
func (w *Watch) blockers(targets []target, sights []protocol.Sight) []Blocker {
	all := make([]Blocker, len(targets))
	for i, t := range targets {
		b := &all[i]
		b.Resource, b.Held = string(t.Resource), time.Since(w.seen[t.Owner])
		b.Owner, _ = protocol.Label(sights[i].Owner)
		b.Queued = sights[i].Queued
		for _, n := range read(t.Owner, sights[i].Notices) {
			b.Owner = string(n.Label)
			b.Held = max(b.Held, n.Held)
			if len(n.For) > 0 {
				b.For = string(n.For[0].Resource)
			}
		}
	}
	return all
}
