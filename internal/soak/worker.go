//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/history"
)

// worker takes one lock after the other.
type worker struct {
	*client
	name      string
	rng       *rand.Rand
	registers *visitor
}

// task is one way to use a lock.
type task struct {
	name   string
	weight int
	opts   []redlock.AcquireOption
	hold   func(w *worker, ctx context.Context, t *tenure)
}

var tasks = []task{
	{name: "release soon", weight: 24, hold: (*worker).releaseSoon},
	{name: "hold to the end", weight: 3, hold: (*worker).holdToTheEnd},
	{name: "extend", weight: 3, hold: (*worker).extend},
	{name: "renew", weight: 2, hold: (*worker).renew,
		opts: []redlock.AcquireOption{redlock.WithAutoRenewal(true)}},
	{name: "take another one", weight: 2, hold: (*worker).takeAnother,
		opts: []redlock.AcquireOption{redlock.WithAutoRenewal(true)}},
	{name: "wait for the end", weight: 1, hold: (*worker).waitForTheEnd},
}

// dieEvery is how rarely a client dies by itself: once in so many tenures.
const dieEvery = 400

func (w *worker) run(ctx context.Context) {
	total := 0
	for _, t := range tasks {
		total += t.weight
	}
	for ctx.Err() == nil {
		if w.rng.IntN(12) == 0 {
			w.do(ctx)
			continue
		}
		n, i := w.rng.IntN(total), 0
		for ; n >= tasks[i].weight; i++ {
			n -= tasks[i].weight
		}
		w.once(ctx, tasks[i])
	}
}

// once gets a lock and holds it as the task wants.
func (w *worker) once(ctx context.Context, task task) {
	ttl := min(between(w.rng, w.Settings.MinTTL, w.Settings.MaxTTL),
		between(w.rng, w.Settings.MinTTL, w.Settings.MaxTTL))
	t := w.take(ctx, w.choose(), ttl, append([]redlock.AcquireOption{redlock.WithTTL(ttl)},
		task.opts...))
	if t == nil {
		return
	}
	w.useRegisters(t)
	if w.rng.IntN(dieEvery) == 0 && t.alive() {
		t.say()
		w.out.add(history.Event{Kind: history.Fault, At: w.clock.now(), Client: w.name,
			Token: clientDies, Note: clientDies})
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	task.hold(w, ctx, t)
}

// choose returns one resource, sometimes several, the first ones more often.
func (w *worker) choose() []string {
	now, n := w.clock.now(), 1
	if w.rng.IntN(6) == 0 {
		n = 2 + w.rng.IntN(2)
	}
	var chosen []string
	for len(chosen) < n {
		r := resource(min(w.rng.IntN(w.Settings.Resources), w.rng.IntN(w.Settings.Resources)), now)
		if !slices.Contains(chosen, r) {
			chosen = append(chosen, r)
		}
	}
	slices.Sort(chosen)
	return chosen
}

// take waits in Acquire, or tries again and again, and gives up after a while.
func (w *worker) take(ctx context.Context, resources []string, ttl time.Duration,
	opts []redlock.AcquireOption) *tenure {
	if w.rng.IntN(2) == 0 {
		opts = append(opts, redlock.WithMaxWait(between(w.rng, ttl/2, 2*w.Settings.MaxTTL)))
		return w.attempt(resources, func() (*redlock.Handle,
			error) {
			return w.locker.AcquireMulti(ctx, resources, opts...)
		})
	}
	for range 1 + w.rng.IntN(20) {
		t := w.attempt(resources, func() (*redlock.Handle,
			error) {
			return w.locker.TryAcquireMulti(ctx, resources, opts...)
		})
		if t != nil {
			return t
		}
		if sleep(ctx, between(w.rng, time.Millisecond, 40*time.Millisecond)) != nil {
			return nil
		}
	}
	return nil
}

// attempt makes the call and records what came of it.
func (w *worker) attempt(resources []string, call func() (*redlock.Handle, error)) *tenure {
	began := w.clock.now()
	h, err := call()
	if err != nil {
		w.refused(began, resources, err)
		return nil
	}
	t := &tenure{w: w, h: h, resources: resources, token: h.Token()}
	if !t.begin(began) {
		w.refused(began, resources, redlock.ErrLost)
		return nil
	}
	return t
}

// The ends of an acquisition that are as they should be; the note of any other is the error itself.
const (
	noteHeld     = "held"
	noteNoQuorum = "no quorum"
	noteLate     = "lost at once"
	noteStopped  = "stopped"
	noteDeadlock = "deadlock"
)

func (w *worker) refused(began time.Duration, resources []string, err error) {
	note := err.Error()
	switch {
	case errors.Is(err, redlock.ErrDeadlock):
		note = noteDeadlock
	case errors.Is(err, redlock.ErrHeld):
		note = noteHeld
	case errors.Is(err, redlock.ErrNoQuorum):
		note = noteNoQuorum
	case errors.Is(err, redlock.ErrLost):
		note = noteLate
	case errors.Is(err, context.Canceled):
		note = noteStopped
	}
	w.out.add(history.Event{Kind: history.Refused, Began: began, At: w.clock.now(), Client: w.name,
		Resources: resources, Note: note})
}

// useRegisters adds one to what the resources guard, taking its time between reading and writing.
// Only every other time it looks at the lock again before it writes, like the programs that there
// are: the registers must refuse what comes too late.
func (w *worker) useRegisters(t *tenure) {
	longest := pick(w.rng, time.Millisecond, 3*time.Millisecond, w.Settings.MinTTL/4,
		w.Settings.MinTTL)
	for _, r := range t.resources {
		a := access{Client: w.name, Resource: r, Token: t.token, Fence: t.h.Fence()}
		was, err := w.registers.do(a)
		if err != nil || was.Refused {
			return
		}
		work := between(w.rng, 0, longest)
		if w.rng.IntN(2) == 0 {
			_ = sleep(context.Background(), work)
		} else if !t.pass(work) {
			return
		}
		a.Write, a.Began, a.Old, a.New, a.Until = true, was.Began, was.Value, was.Value+1, t.until
		if _, err := w.registers.do(a); err != nil {
			return
		}
	}
}

func (w *worker) releaseSoon(_ context.Context, t *tenure) {
	t.pass(between(w.rng, 0, 20*time.Millisecond))
	t.release()
}

// holdToTheEnd looks without a rest when the end is near: nobody may have the lock before that.
func (w *worker) holdToTheEnd(_ context.Context, t *tenure) {
	for t.alive() {
		if left := t.until - t.seen; left > 3*time.Millisecond {
			_ = sleep(context.Background(), min(left-2*time.Millisecond, 10*time.Millisecond))
		} else {
			runtime.Gosched()
		}
	}
}

// waitForTheEnd is told of the end by Done, and by a context.
func (w *worker) waitForTheEnd(_ context.Context, t *tenure) {
	work := t.h.Context(context.Background())
	<-t.h.Done()
	<-work.Done()
	t.end(noteLost)
	if at := w.clock.now(); t.h.Err() == nil {
		t.record(history.Held, at, at, "though Done was closed")
	}
}

// extend makes the lease longer, and sometimes shorter, a few times.
func (w *worker) extend(ctx context.Context, t *tenure) {
	for range 1 + w.rng.IntN(5) {
		if !t.pass(between(w.rng, 0, w.Settings.MinTTL/2)) {
			return
		}
		began := w.clock.now()
		if t.h.Extend(ctx, between(w.rng, w.Settings.MinTTL/2, w.Settings.MaxTTL)) == nil &&
			t.alive() {
			w.out.add(history.Event{
				Kind: history.Extended, Began: began, At: t.seen, Client: w.name,
				Resources: t.resources, Token: t.token, Until: t.until,
			})
		}
	}
	if w.rng.IntN(2) == 0 {
		w.holdToTheEnd(ctx, t)
		return
	}
	t.release()
}

// takeAnother waits for a second lock while it holds the first, in any order: two who do that may
// wait for each other.
func (w *worker) takeAnother(ctx context.Context, t *tenure) {
	another := w.choose()[:1]
	if slices.Contains(t.resources, another[0]) {
		t.release()
		return
	}
	// so that the wait is known as one of the holder
	under, cancel := context.WithCancel(t.h.Context(ctx))
	second := w.attempt(another, func() (*redlock.Handle, error) {
		return w.locker.Acquire(under, another[0], redlock.WithTTL(w.Settings.MaxTTL),
			redlock.WithMaxWait(2*w.Settings.MaxTTL))
	})
	cancel()
	if second != nil {
		w.useRegisters(second)
		second.release()
	}
	t.release()
}

// renew holds the lock for longer than its TTL.
func (w *worker) renew(_ context.Context, t *tenure) {
	t.pass(between(w.rng, 0, 2*w.Settings.MaxTTL))
	t.release()
}

// do uses Do, where there is no handle to look at but a context.
func (w *worker) do(ctx context.Context) {
	began, resources := w.clock.now(), w.choose()[:1]
	var t *tenure
	err := w.locker.Do(ctx, resources[0], func(work context.Context) error {
		t = &tenure{w: w, work: work, resources: resources,
			token: fmt.Sprintf("%016x by Do", w.rng.Uint64())}
		if t.begin(began) {
			t.pass(between(w.rng, 0, w.Settings.MaxTTL/2))
			t.say()
		}
		return nil
	}, redlock.WithTTL(between(w.rng, w.Settings.MinTTL, w.Settings.MaxTTL)),
		redlock.WithMaxWait(w.Settings.MaxTTL))
	switch {
	case t == nil:
		w.refused(began, resources, err)
	case !t.begun:
		w.refused(began, resources, redlock.ErrLost)
	case !t.over:
		t.end(releaseNote(err))
	}
}
