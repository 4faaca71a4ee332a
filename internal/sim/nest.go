package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/history"
)

// nested is a wait that can be in a deadlock: of a task that holds a lock, or that wants several
// and keeps those that are free from whoever comes later.
type nested struct {
	client *client
	holds  string // "" if it holds nothing
	wants  []string
	began  time.Duration
	ended  time.Duration // while it lasts: for ever
}

// lasts stands for the end of a wait that has none yet.
const lasts = time.Duration(1<<63 - 1)

// nest takes a lock, and under it others, in any order: so do its rivals, and deadlocks come of
// that. Nothing but the library ends such a wait.
func (t *task) nest() {
	order := t.random.Perm(len(t.world.resources))
	first, others := t.world.resources[order[0]], []string{t.world.resources[order[1]]}
	if len(order) > 2 && t.chance(30) {
		others = append(others, t.world.resources[order[2]])
	}
	began := t.world.now()
	h, err := t.locker.TryAcquire(t.ctx, first, redlock.WithTTL(t.ttl()),
		redlock.WithAutoRenewal(true))
	if err != nil || t.dead.Load() {
		return
	}
	token := h.Token()
	t.granted(h, token, began)
	t.sleep(t.upTo(t.world.TTL / 2))
	if t.alive(h, token) {
		t.waitUnder(h, first, others)
	}
	t.leave(h, token)
}

// waitUnder waits for more while it holds a lock.
func (t *task) waitUnder(h *redlock.Handle, first string, others []string) {
	w := t.world
	began := w.now()
	second, err := t.acquire(h.Context(t.ctx), others, first, redlock.WithTTL(t.ttl()))
	if errors.Is(err, redlock.ErrDeadlock) && !t.dead.Load() {
		t.log(history.Event{Kind: history.Refused, Began: began, At: w.now(), Resources: others,
			Note: err.Error()})
	}
	if second == nil || t.dead.Load() {
		return
	}
	token := second.Token()
	t.granted(second, token, began)
	t.thaw()
	if t.alive(second, token) {
		t.work(second, token, t.upTo(w.TTL/4))
	}
	t.leave(second, token)
}

// acquire waits for locks. If it is told of a deadlock, that is checked.
func (t *task) acquire(ctx context.Context, resources []string, holds string,
	opts ...redlock.AcquireOption) (*redlock.Handle, error) {
	w := t.world
	wait := w.waitBegins(t.client, holds, resources, w.now())
	h, err := t.locker.AcquireMulti(ctx, resources, opts...)
	var found *redlock.DeadlockError
	if errors.As(err, &found) && !t.dead.Load() {
		w.deadlocked(wait, found)
	}
	w.waitEnds(wait)
	return h, err
}

func (w *World) waitBegins(c *client, holds string, wants []string, at time.Duration) *nested {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := &nested{c, holds, wants, at, lasts}
	w.nests = append(w.nests, n)
	return n
}

// waitEnds notes the end of a wait. Those of the dead have ended with them.
func (w *World) waitEnds(n *nested) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n.ended = min(n.ended, w.now())
}

// diesWaiting notes the end of a client's waits.
func (w *World) diesWaiting(c *client) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.nests {
		if n.client == c {
			n.ended = min(n.ended, w.now())
		}
	}
}

// deadlocked checks that those of whom a deadlock is told have all waited at the same moment, each
// for what the next one had, and that nobody else of them has been told.
func (w *World) deadlocked(told *nested, found *redlock.DeadlockError) {
	w.totals.deadlocks.Add(1)
	w.mu.Lock()
	all := slices.Clone(w.nests)
	w.mu.Unlock()
	from, to := told.began, w.now()
	circle := []*nested{told}
	for i, member := range found.Cycle {
		next := found.Cycle[(i+1)%len(found.Cycle)]
		if i == 0 && (member.Owner != told.client.name ||
			!slices.Contains(told.wants, member.Resource)) {
			w.breach("deadlock", "%s, which holds %s and waits for %v, was told: %v",
				told.client.name, told.holds, told.wants, found)
			return
		}
		if i == len(found.Cycle)-1 {
			break
		}
		n := waitOf(all, next.Owner, member.Resource, next.Resource, from, to, told.began)
		if n == nil {
			w.breach("deadlock", "%s was told of a wait of %s, which has %s, for %s, but there "+
				"was none between %v and %v: %v",
				told.client.name, next.Owner, member.Resource, next.Resource, from, to, found)
			return
		}
		if n.began > told.began {
			w.breach("deadlock", "%s was told, whose wait began at %v, and not %s, whose wait "+
				"began at %v", told.client.name, told.began, next.Owner, n.began)
		}
		from, to = max(from, n.began), min(to, n.ended)
		circle = append(circle, n)
	}
	w.toldOnce(circle)
}

// keeps reports whether others may have to wait for the resource until the wait ends.
func (n *nested) keeps(resource string) bool {
	return n.holds == resource || len(n.wants) > 1 && slices.Contains(n.wants, resource)
}

// waitOf returns a wait that lasted at some time in between, if there is one: a client has several
// tasks. It is one that had begun before the given moment if there is such a one.
func waitOf(all []*nested, owner, holds, wants string, from, to,
	before time.Duration) (found *nested) {
	for _, n := range slices.Backward(all) {
		if found != nil && found.began <= before {
			break
		}
		if n.client.name == owner && n.keeps(holds) && slices.Contains(n.wants, wants) &&
			n.began <= to && n.ended >= from {
			found = n
		}
	}
	return found
}

// toldOnce checks that none of a circle was told of the same circle before.
func (w *World) toldOnce(circle []*nested) {
	name := ""
	sorted := slices.Clone(circle)
	slices.SortFunc(sorted, func(a, b *nested) int { return int(a.began - b.began) })
	for _, n := range sorted {
		name += fmt.Sprintf("%p ", n)
	}
	w.mu.Lock()
	before := w.circles[name]
	w.circles[name] = circle[0]
	w.mu.Unlock()
	if before != nil && before != circle[0] {
		w.breach("deadlock", "%s and %s were both told of one deadlock", before.client.name,
			circle[0].client.name)
	}
}

// unlocking is how long it may take until all deadlocks are over that there are when everything is
// healed.
func (o Options) unlocking() time.Duration {
	pause := min(max(o.Deadlock/2, 50*time.Millisecond), time.Second)
	return time.Duration(o.Clients*o.Tasks) * (o.Deadlock + 8*pause)
}
