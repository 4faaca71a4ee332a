package redlock

import (
	"context"
	"math"
	"time"

	"github.com/rediskit/redlock/internal/protocol"
	"github.com/rediskit/redlock/internal/queue"
	"github.com/rediskit/redlock/internal/quorum"
)

// Status is what the nodes say about a resource.
type Status struct {
	Resource string
	Locked   bool          // some owner has, or may have, a quorum
	Owner    string        // the owner's label; "" if free, "unknown" if it is not this library's
	TTL      time.Duration // what is left of the lock at most; negative: it never expires
	Fence    uint64        // its fencing token, as most nodes have it; 0 without [WithFencing]
	Waiters  int           // registered on the nodes: at least one for each Locker that waits
}

// IsLocked reports whether some owner has the resource, or may have it as far as the nodes that
// answer can tell. It is false only when no owner can have a quorum. What it says may be over by
// the time it is read: to do something under the lock, acquire it. It fails with a [QuorumError]
// that matches [ErrNoQuorum] when too few nodes answer to tell, with [ErrClosed], and with ctx's
// error and cause.
func (l *Locker) IsLocked(ctx context.Context, resource string) (bool, error) {
	s, err := l.Inspect(ctx, resource)
	return s.Locked, err
}

// Inspect tells what the nodes say about the resource. It fails as IsLocked does.
func (l *Locker) Inspect(ctx context.Context, resource string) (Status, error) {
	s := Status{Resource: resource}
	p, err := l.plan([]string{resource}, nil)
	if err != nil {
		return s, err
	}
	if err := l.enter(ctx, "inspect", p.keys.Resources); err != nil {
		return s, err
	}
	defer l.leave()
	r := l.nodes.Inspect(p.keys, p.ttl)
	r.For(ctx)
	r.Send()
	cause := r.Wait(ctx)
	s.Waiters = r.Waiting()
	switch r.Outcome() {
	case quorum.Unreachable:
		err := l.quorumError(r, p.keys.Resources)
		if cause != nil {
			return s, interrupt(ctx, cause, err)
		}
		return s, err
	case quorum.Won:
		var value string
		value, s.Fence, s.TTL = r.Holder()
		s.Locked, s.Owner = true, "unknown"
		if label, ours := protocol.Label(value); ours {
			s.Owner = label
		}
	}
	return s, nil
}

// WaitForUnlock returns nil as soon as it has seen the resource free, in the sense of
// [Locker.IsLocked]; somebody else may have taken it by then. It waits as long as ctx lasts, also
// through outages, but not where waiting does not help ([ErrMisconfigured]). Its error matches the
// last thing seen ([ErrHeld] or [ErrNoQuorum]) and ctx's error and cause; or it is [ErrClosed].
func (l *Locker) WaitForUnlock(ctx context.Context, resource string) error {
	p, err := l.plan([]string{resource}, nil)
	if err != nil {
		return err
	}
	p.maxWait, p.maxOutage = 0, 0
	if err := l.enter(ctx, "wait for", p.keys.Resources); err != nil {
		return err
	}
	defer l.leave()
	q := l.line.Watch(p.keys)
	defer q.Leave()
	w := l.newWait(ctx, "wait for", p, time.Now(), q)
	free, cause := q.Turn(ctx)
	if cause != nil {
		return w.gaveUp(cause, w.behind(cause))
	}
	for !free {
		var hint time.Duration
		free, hint, err = l.look(w.attemptContext(), p, q)
		if free {
			break
		}
		if err := w.pause(hint, err); err != nil {
			return err
		}
	}
	w.outageOver()
	return nil
}

// look looks whether the resource is free, and has the nodes tell us when it is. hint is when it is
// at the latest, by what they say.
func (l *Locker) look(ctx context.Context, p *plan,
	q *queue.Watcher) (free bool, hint time.Duration, err error) {
	r := l.nodes.Watch(p.keys, p.ttl, q.Look())
	r.Send()
	cause := r.Wait(ctx)
	hint = math.MaxInt64
	switch r.Outcome() {
	case quorum.Refused:
		q.Free()
		return true, 0, nil
	case quorum.Won:
		err = stateError("wait for", p.keys.Resources, ErrHeld)
		q.Held(err)
		if _, _, left := r.Holder(); left >= 0 {
			hint = left + time.Millisecond
		}
		return false, hint, err
	default:
		err = l.quorumError(r, p.keys.Resources)
		if cause != nil {
			return false, hint, cutAttempt(ctx, cause, err)
		}
		q.Saw(err)
		return false, hint, err
	}
}
