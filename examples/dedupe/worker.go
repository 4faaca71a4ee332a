package main

import (
	"context"
	"errors"
	"time"

	"github.com/rediskit/redlock"
)

const (
	remember = 24 * time.Hour         // for how long a message counts as sent
	settled  = 150 * time.Millisecond // longer than sending takes; a minute or two in real life
)

// errBusy says that it is not known yet whether the message was sent.
var errBusy = errors.New("somebody may be at it")

// worker is one process that receives messages.
type worker struct {
	name   string
	locker *redlock.Locker
	outbox *outbox
	say    func(who, format string, args ...any)
}

// consume handles deliveries until the broker has no more. What fails goes back to the broker and
// comes again.
func (w *worker) consume(ctx context.Context, b *broker) error {
	for {
		id, err := b.next(ctx)
		if errors.Is(err, errDrained) {
			return nil
		}
		if err != nil {
			return err
		}
		switch err := w.handle(ctx, id); {
		case err == nil:
			b.ack()
		case errors.Is(err, errBusy), errors.Is(err, errUnavailable):
			w.say(w.name, "puts %s back: %v", id, err)
			b.nack(id)
		default:
			return err
		}
	}
}

// handle sends the message, unless it was sent before: nil means that the delivery is done with.
func (w *worker) handle(ctx context.Context, id string) error {
	h, err := w.locker.TryAcquire(ctx, "message:"+id, redlock.WithTTL(remember))
	if errors.Is(err, redlock.ErrHeld) {
		return w.duplicate(ctx, id)
	}
	if err != nil {
		return err // an outage says nothing about the message
	}
	// Not under h.Context: sending ends long before the lock does, and a handle that nobody watches
	// costs nothing for the next 24 hours.
	if err := w.outbox.send(ctx, id, h.Token()); err != nil {
		return errors.Join(err, h.Release(ctx)) // so that it can be tried again
	}
	w.say(w.name, "has sent %s and keeps its lock", id) // no Release: the lock is the memory
	return nil
}

// duplicate returns nil if the message was sent, as far as a lock can tell: somebody has had it for
// long enough.
func (w *worker) duplicate(ctx context.Context, id string) error {
	status, err := w.locker.Inspect(ctx, "message:"+id)
	if err != nil {
		return err
	}
	if !status.Locked || remember-status.TTL < settled {
		return errBusy
	}
	w.say(w.name, "drops %s: a duplicate", id)
	return nil
}

// forget releases the lock that remembers a message, whichever process took it.
func (w *worker) forget(ctx context.Context, id string) error {
	h, err := w.locker.Adopt(ctx, []string{"message:" + id}, w.outbox.token(id))
	if err != nil {
		return err
	}
	return h.Release(ctx)
}
