package redlock

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rediskit/redlock/internal/deadlock"
	"github.com/rediskit/redlock/internal/protocol"
)

// ErrDeadlock means that waiting would never end. The error is a [DeadlockError] that names the
// cycle.
var ErrDeadlock = errors.New("redlock: deadlock")

// DeadlockError says that a wait was one of several that would have waited for each other. It is
// returned to the one that began last, so that the others can go on as soon as its caller releases
// what it holds. It matches [ErrDeadlock].
type DeadlockError struct {
	Cycle []Wait // begins with the wait that this error ends

	op        string
	resources []string
	waited    []time.Duration
	queued    []bool // the owner does not hold it, but is first in line for it
}

// Wait is one wait of a cycle: Owner waits for Resource, which the next entry's Owner holds, and
// behind the last entry the first one's. Or nobody holds it, but the next entry's Owner is first in
// line for it, and waits for others that it wants to have at the same time.
type Wait struct {
	Owner    string // the label under which it has, or is to have, what the entry before waits for
	Resource string
}

// Error names every owner and resource of the cycle.
func (e *DeadlockError) Error() string {
	msg := ErrDeadlock.Error()
	if e.op != "" {
		msg = stateError(e.op, e.resources, ErrDeadlock).Error()
	}
	if len(e.Cycle) == 1 {
		w := e.Cycle[0]
		return msg + fmt.Sprintf(": %s waits for %s, which it holds itself",
			protocol.Quote(w.Owner), protocol.Quote(w.Resource))
	}
	for i, w := range e.Cycle {
		who := ": " + protocol.Quote(w.Owner)
		if i > 0 {
			who = ", which"
		}
		next, how := (i+1)%len(e.Cycle), "held by"
		if len(e.queued) > 0 && e.queued[next] {
			how = "kept for"
		}
		msg += fmt.Sprintf("%s waits for %s, %s %s", who, protocol.Quote(w.Resource), how,
			protocol.Quote(e.Cycle[next].Owner))
	}
	return msg
}

// Unwrap returns ErrDeadlock.
func (e *DeadlockError) Unwrap() error { return ErrDeadlock }

// waits tells who has waited for what, and how long.
func (e *DeadlockError) waits() string {
	waits := make([]string, len(e.Cycle))
	for i, w := range e.Cycle {
		waits[i] = fmt.Sprintf("%s has waited at least %v for %s",
			protocol.Quote(w.Owner), e.waited[i].Round(time.Millisecond),
			protocol.Quote(w.Resource))
	}
	return strings.Join(waits, ", ")
}

// WithDeadlockDetection looks for deadlocks where a call has waited for longer than d, 10 ms to 10
// years: tasks, of this and of other processes, each of which holds a lock that the next one waits
// for, or for which it is first in line while it waits for others that it wants to have at the same
// time. The one that began to wait last gets a [DeadlockError] from its [Locker.Acquire],
// AcquireMulti or Do, and the logger a warning that names every owner, resource and waiting time;
// the others go on when it has released what it holds. Within one process this takes no Redis. A
// wait that is merely long is logged once, with who has the lock and for how long. By default there
// is no detection.
//
// What a task holds is known from its context: a wait under [Handle.Context], and so inside
// [Locker.Do], is taken for one that ends before that lock is released. Locks that were taken
// without passing such a context on are not seen. All processes that share locks should use the
// option.
//
// It costs nothing until a wait lasts for d. From then on the wait looks at the nodes every d/2, 50
// ms to 1 s, and publishes what it waits for under keys that belong to the locks that its task
// holds, or is first in line for: for the lock key lock:a it is {lock:a}:waits. Nothing that is
// published releases a lock, and it is deleted when the wait ends. A Redis user needs the
// permissions for HSET, HGET, HDEL and HGETALL as well.
func WithDeadlockDetection(d time.Duration) Option {
	return lockerOption(func(c *config) {
		c.deadlocks = d
		if d < minTTL || d > maxTTL {
			c.reject("deadlock detection must begin after %v to 10 years, not %v", minTTL, d)
		}
	})
}

// heldKey asks a context for the innermost lockContext that it is derived from.
type heldKey struct{}

// heldUnder returns the handles that the task holds to which a context belongs.
func heldUnder(ctx context.Context) (held []*Handle) {
	for {
		c, ok := ctx.Value(heldKey{}).(*lockContext)
		if !ok {
			return held
		}
		held = append(held, c.h)
		ctx = c.Context
	}
}

// watch begins to look for deadlocks, unless that has begun before. If one is found, the wait's
// context ends with it. refused is the latest attempt, which has failed; nil: there was none.
func (w *wait) watch(p *plan, refused *protocol.Round) {
	if w.l.deadlocks == 0 {
		return
	}
	if w.watching == nil {
		w.startWatch(p)
	}
	if refused != nil {
		w.watching.Refused(refused)
	}
}

func (w *wait) startWatch(p *plan) {
	ctx, end := context.WithCancelCause(w.ctx)
	w.ctx = ctx
	d := deadlock.Wait{
		Began: w.began, After: w.l.deadlocks, Nodes: w.l.nodes, Keys: p.keys, Enter: w.l.staysOpen,
		Leave: w.l.leave,
		Label: p.owner, Place: w.place,
		Found: func(cycle []deadlock.Member) { end(w.deadlock(cycle)) },
		Long:  w.long,
	}
	known := make(map[*Handle]bool)
	for _, h := range heldUnder(w.outer) {
		if known[h] || h.Err() != nil {
			continue
		}
		known[h] = true
		d.Held = append(d.Held, deadlock.Lock{
			Nodes: h.l.nodes, Claim: &h.claim, Since: h.acquired,
			Alive: func() bool { return h.Err() == nil }, Enter: h.l.staysOpen, Leave: h.l.leave,
		})
	}
	w.watching = deadlock.Start(ctx, d)
	cancel := w.cancel
	w.cancel = func() {
		cancel()
		end(nil)
		w.watching.Stop()
	}
}

// staysOpen is enter for what nobody waits for.
func (l *Locker) staysOpen() bool { return l.enter(context.Background(), "watch", nil) == nil }

// deadlock is the error of a wait in vain.
func (w *wait) deadlock(cycle []deadlock.Member) *DeadlockError {
	e := &DeadlockError{op: w.op, resources: w.resources}
	for _, m := range cycle {
		e.Cycle = append(e.Cycle, Wait{m.Owner, m.Resource})
		e.waited, e.queued = append(e.waited, m.Waited), append(e.queued, m.Queued)
	}
	return e
}

// inVain returns the deadlock that has ended the wait, if one has, and tells the logger.
func (w *wait) inVain(cause error) error {
	e, ok := cause.(*DeadlockError)
	if !ok || context.Cause(w.outer) == cause { // then it is another wait's
		return nil
	}
	w.l.tell(DeadlockFound{Context: w.outer, Resources: w.resources, Cycle: e.Cycle, Victim: true})
	w.l.log.warn("deadlock: this wait ends so that the others can go on",
		"op", w.op, "resources", w.resources, "cycle", e.waits())
	return e
}

// long tells the logger of a wait that is merely long.
func (w *wait) long(blockers []deadlock.Blocker) {
	const most = 3
	var by []string
	for i, b := range blockers {
		if i == most {
			by = append(by, fmt.Sprintf("%d more", len(blockers)-most))
			break
		}
		text := fmt.Sprintf("%s has held %s for at least %v",
			protocol.Quote(b.Owner), protocol.Quote(b.Resource), b.Held.Round(time.Millisecond))
		if b.Queued {
			text = fmt.Sprintf("%s is first in line for %s", protocol.Quote(b.Owner),
				protocol.Quote(b.Resource))
		}
		if b.For != "" {
			text += " and waits for " + protocol.Quote(b.For)
		}
		by = append(by, text)
	}
	w.l.log.info("a wait is long", "op", w.op, "resources", w.resources,
		"waited", time.Since(w.began).Round(time.Millisecond), "owners", strings.Join(by, ", "))
}
