//go:build linux

package main

import (
	"context"
	"errors"
	"time"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/history"
)

// tenure is the life of one lock in the hands of a worker, which looks at it and records what it
// sees.
type tenure struct {
	w         *worker
	h         *redlock.Handle // nil under Do
	work      context.Context // Do's
	resources []string
	token     string

	begun bool
	seen  time.Duration // the last look that found it alive
	until time.Duration // and the promise at that time
	said  time.Duration // the last look that was recorded
	over  bool
}

// Not every look is recorded: this often, and the last one.
const sayEvery = 25 * time.Millisecond

// alive looks, and records the end when it sees it. The time is from before the look: what was
// alive at the look was so then, however long this process was stopped in between.
func (t *tenure) alive() bool {
	if t.over {
		return false
	}
	at := t.w.clock.now()
	until, err := t.look(at)
	if err != nil {
		t.say()
		t.end(lossNote(err))
		return false
	}
	t.seen, t.until = at, until
	if t.begun && at-t.said >= sayEvery {
		t.say()
	}
	return true
}

// look returns the promise. A context makes none beyond the look.
func (t *tenure) look(at time.Duration) (time.Duration, error) {
	if t.h == nil {
		return at + 1, t.work.Err()
	}
	err := t.h.Err()
	return t.w.clock.at(t.h.ValidUntil()), err
}

// begin records that the lock was acquired in a call that began then, unless it is over already.
func (t *tenure) begin(began time.Duration) bool {
	if !t.alive() {
		return false
	}
	t.begun, t.said = true, t.seen
	t.record(history.Acquired, began, t.seen, "")
	return true
}

// say records the last look.
func (t *tenure) say() {
	if t.begun && t.seen > t.said {
		t.said = t.seen
		t.record(history.Held, t.seen, t.seen, "")
	}
}

func (t *tenure) end(note string) {
	t.over = true
	if t.begun {
		now := t.w.clock.now()
		t.record(history.Ended, now, now, note)
	}
}

func (t *tenure) record(kind history.Kind, began, at time.Duration, note string) {
	e := history.Event{
		Kind: kind, Began: began, At: at, Client: t.w.name, Resources: t.resources, Token: t.token,
		Until: t.until, Note: note,
	}
	if t.h != nil {
		e.Fence = t.h.Fence()
	}
	t.w.out.add(e)
}

// pass lets some time go by, with looks, and reports whether the lock is still there.
func (t *tenure) pass(d time.Duration) bool {
	for end := t.w.clock.now() + d; t.alive(); {
		left := end - t.w.clock.now()
		if left <= 0 {
			return true
		}
		_ = sleep(context.Background(), min(left, 10*time.Millisecond))
	}
	return false
}

// release lets go of the lock, after a last look.
func (t *tenure) release() {
	if t.alive() {
		t.say()
		t.end(releaseNote(t.h.Release(context.Background())))
	}
}

// How a tenure ends.
const (
	noteReleased = "released"
	noteUnproved = "released, unproved" // no quorum has confirmed it
	noteLost     = "lost"
	noteClosed   = "closed"
)

func lossNote(err error) string {
	if errors.Is(err, redlock.ErrClosed) {
		return noteClosed
	}
	return noteLost
}

func releaseNote(err error) string {
	switch {
	case err == nil:
		return noteReleased
	case errors.Is(err, redlock.ErrNoQuorum):
		return noteUnproved
	default:
		return lossNote(err)
	}
}
