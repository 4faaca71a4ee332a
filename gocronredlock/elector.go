package gocronredlock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-co-op/gocron/v2"

	"github.com/rediskit/redlock"
)

// ErrClosed means that the Elector was closed.
var ErrClosed = errors.New("gocronredlock: elector closed")

// errNever means that this Elector has not been leader yet.
var errNever = errors.New("gocronredlock: this elector was never the leader")

// Elector is a [gocron.Elector]: of the schedulers whose Electors have the same name, one runs the
// jobs. It is safe for concurrent use, and ends with [Elector.Close].
//
// It campaigns when it is asked. Whoever is asked first while nobody leads becomes leader, and
// stays it, by a lock that is renewed. So there is nothing in the background while nobody asks but
// the renewal of the leader's lock. When the leader closes, the next job that is due anywhere makes
// the next leader; when it crashes, this takes until the lock expires (redlock.WithTTL).
type Elector struct {
	locker *redlock.Locker
	name   string
	settings

	life  context.Context // ends with ErrClosed when Close begins
	end   context.CancelCauseFunc
	tries sync.WaitGroup // for Close

	closing  sync.Once
	closeErr error

	mu     sync.Mutex
	closed bool
	handle *redlock.Handle // of the latest leadership, which may be over; nil: there was none
	try    *try            // under way; nil: none is
	led    time.Time       // when IsLeader last said yes
}

var _ gocron.Elector = (*Elector)(nil)

// try is one attempt to become leader, shared by all who ask meanwhile.
type try struct {
	done chan struct{}
	err  error // set before done is closed
}

// NewElector returns an Elector. The name is the resource that stands for the leadership: give all
// schedulers that share their jobs the same one. The redlock.Locker stays the caller's to close,
// after the Elector. NewElector sends nothing, and fails if the name is empty, an option is invalid
// or the redlock.Locker is nil or closed.
func NewElector(locker *redlock.Locker, name string, opts ...Option) (*Elector, error) {
	s, err := newSettings(locker, name, opts, func(time.Duration) []redlock.AcquireOption {
		return []redlock.AcquireOption{redlock.WithAutoRenewal(true)}
	})
	if err != nil {
		return nil, err
	}
	e := &Elector{locker: locker, name: name, settings: s}
	e.life, e.end = context.WithCancelCause(context.Background())
	return e, nil
}

// IsLeader returns nil if this Elector is the leader. A leader answers at once. Who is not makes
// one attempt to become it, which takes as long as a quorum of nodes takes to answer, and at most
// the redlock.Locker's node timeout; all who ask meanwhile share it.
//
// Otherwise its error matches redlock.ErrHeld where somebody else leads, redlock.ErrNoQuorum where
// too few nodes answered, [ErrClosed] after Close, or the cause of ctx's end. gocron asks before
// each run, skips the run on an error and drops the error: see [WithErrors].
func (e *Elector) IsLeader(ctx context.Context) error {
	err := e.ask(ctx)
	if err != nil && !errors.Is(err, redlock.ErrHeld) {
		e.tell(e.name, err)
	}
	return err
}

func (e *Elector) ask(ctx context.Context) error {
	t, err := e.join()
	if t == nil {
		return err
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("gocronredlock: leadership of %q: %w", e.name, context.Cause(ctx))
	case <-t.done:
	}
	if t.err != nil {
		return t.err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.leadsLocked()
}

// leadsLocked returns nil if this is the leader at this moment, and notes that a job may run now.
func (e *Elector) leadsLocked() error {
	switch {
	case e.closed:
		return ErrClosed
	case e.handle == nil:
		return errNever
	}
	if err := e.handle.Err(); err != nil {
		return err
	}
	e.led = time.Now()
	return nil
}

// join returns the attempt that decides, or none where the answer is known: err.
func (e *Elector) join() (t *try, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch err := e.leadsLocked(); {
	case err == nil || err == ErrClosed:
		return nil, err
	case e.try == nil:
		e.try = &try{done: make(chan struct{})}
		e.tries.Add(1)
		go e.run(e.try)
	}
	return e.try, nil
}

// run makes an attempt. It has a goroutine of its own, since the end of one caller's context must
// not be the answer to the others.
func (e *Elector) run(t *try) {
	defer e.tries.Done()
	h, err := e.locker.TryAcquire(e.life, e.name, e.acquire...)
	e.mu.Lock()
	if err == nil {
		e.handle = h
	}
	t.err, e.try = err, nil
	e.mu.Unlock()
	close(t.done)
}

// Context returns a context that ends with ctx or with the leadership: then its cause
// ([context.Cause]) is redlock.ErrLost, or redlock.ErrReleased after Close, and a job that runs
// with it should return at once, since another scheduler may run it. Where this Elector has never
// been the leader, the context has ended and its cause says so.
func (e *Elector) Context(ctx context.Context) context.Context {
	e.mu.Lock()
	h := e.handle
	e.mu.Unlock()
	if h == nil {
		return ended(ctx, errNever)
	}
	return h.Context(ctx)
}

// Close ends the Elector: IsLeader returns [ErrClosed] from now on, and the leadership is given up,
// so that another scheduler can have it at once. If a job was allowed to run less than the splay
// ago ([WithSplay]), Close waits for the rest of it first: another scheduler, whose tick for the
// same run is yet to come, must not be leader by then. Shut the scheduler down before, or its jobs
// go on without leadership.
//
// Close returns nil when the leadership is free or this is not the leader, redlock.ErrLost where it
// was lost before, and otherwise what redlock's Release does. Called again, it returns the same.
func (e *Elector) Close() error {
	e.closing.Do(func() { e.closeErr = e.close() })
	return e.closeErr
}

func (e *Elector) close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.end(ErrClosed)
	e.tries.Wait()
	// From here on nobody writes handle and led.
	if e.handle == nil {
		return nil
	}
	splay := time.NewTimer(time.Until(e.led.Add(e.splay)))
	defer splay.Stop()
	select {
	case <-splay.C:
	case <-e.handle.Done():
	}
	return e.handle.Release(context.Background())
}
