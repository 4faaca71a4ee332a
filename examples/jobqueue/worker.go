package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rediskit/redlock"
)

const (
	lease = time.Second // how long after a crash its job can be taken over
	// for how long a job may lie unacknowledged before others have a look at it
	idle = 250 * time.Millisecond

	// By default a node may take a quarter of the lease to answer. That is little on a busy
	// machine.
	patience = lease * 9 / 10
)

var errCrash = errors.New("crashed")

// worker takes jobs one by one until none is left.
type worker struct {
	name   string
	locker *redlock.Locker
	queue  *queue
	ledger *ledger
	say    func(who, format string, args ...any)
}

func (w *worker) run(ctx context.Context) error {
	for {
		id, j, err := w.queue.next(ctx, w.name)
		switch {
		case errors.Is(err, errDone):
			return nil
		case errors.Is(err, errNothingYet):
			continue
		case err != nil:
			return err
		}
		err = w.handle(ctx, id, j)
		if errors.Is(err, errCrash) {
			return nil // the others go on
		}
		if err != nil {
			return err
		}
	}
}

// handle works on the job if nobody else does.
func (w *worker) handle(ctx context.Context, id string, j job) error {
	h, err := w.locker.TryAcquire(ctx, "job:"+id)
	if errors.Is(err, redlock.ErrHeld) {
		w.ledger.refused()
		w.say(w.name, "leaves %s: its lock is alive", j.name)
		return nil // still unacknowledged: it comes again
	}
	if err != nil {
		return err // an outage, not a refusal
	}
	defer h.Release(ctx) // for the ways out on error

	// It may have been finished between the stream handing it over and the lock: look again, now
	// that nobody can.
	pending, err := w.queue.pending(ctx, id)
	if err != nil {
		return err
	}
	if !pending {
		w.say(w.name, "leaves %s: it was finished meanwhile", j.name)
		return h.Release(ctx)
	}
	if err := w.work(ctx, h, j); err != nil {
		return err
	}
	// The acknowledgement belongs to the work: it is not sent any more once the lock is lost.
	if err := w.queue.ack(h.Context(ctx), id); err != nil {
		return err
	}
	w.ledger.finish(j)
	w.say(w.name, "finishes %s", j.name)
	return h.Release(ctx)
}

// work does the job, under a context that ends with the lock: a worker never goes on with what may
// be another's.
func (w *worker) work(ctx context.Context, h *redlock.Handle, j job) error {
	before, err := w.ledger.begin(w.name, h, j)
	if err != nil {
		return err
	}
	if before == "" {
		w.say(w.name, "begins %s", j.name)
	} else {
		w.say(w.name, "takes over %s from %s, whose lock has ended", j.name, before)
	}
	ctx = h.Context(ctx)
	if j.crash && before == "" {
		// no entry in the ledger: as far as it knows, the worker is still at it
		return w.crash(ctx, j)
	}
	defer w.ledger.end(j)
	if err := pretend(ctx, j.takes); err != nil {
		return fmt.Errorf("%s: %w", j.name, err)
	}
	return nil
}

// crash ends the worker in the middle of the job. A closed Locker leaves behind what a killed
// process does: a lock that nobody renews and nobody releases.
func (w *worker) crash(ctx context.Context, j job) error {
	if err := pretend(ctx, j.takes/2); err != nil {
		return err
	}
	w.say(w.name, "crashes in the middle of %s", j.name)
	return errors.Join(errCrash, w.locker.Close())
}
