package gocronredlock

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-co-op/gocron/v2"

	"github.com/rediskit/redlock"
)

// Locker is a [gocron.Locker]: each run of a job takes a lock first, and the scheduler that gets it
// runs the job. It is safe for concurrent use, and may serve several schedulers.
//
// The lock is on the resource "gocron:" and the job's name. gocron names a job after its function
// unless it gets gocron.WithName. All closures of one function have nearly the same name, and it
// changes when the code does: so name your jobs.
type Locker struct {
	locker *redlock.Locker
	settings

	mu   sync.Mutex
	held map[string]*redlock.Handle // by job: the latest lock that has not been unlocked
}

var _ gocron.Locker = (*Locker)(nil)

// NewLocker returns a Locker that takes its locks from a redlock.Locker, which stays the caller's
// to close. It sends nothing, and fails if an option is invalid or the redlock.Locker is nil or
// closed.
func NewLocker(locker *redlock.Locker, opts ...Option) (*Locker, error) {
	s, err := newSettings(locker, resource(""), opts,
		func(splay time.Duration) []redlock.AcquireOption {
			return []redlock.AcquireOption{redlock.WithAutoRenewal(true),
				redlock.WithMinHold(splay)}
		})
	if err != nil {
		return nil, err
	}
	return &Locker{locker: locker, settings: s, held: make(map[string]*redlock.Handle)}, nil
}

// resource is what a job's runs lock.
func resource(job string) string { return "gocron:" + job }

// Lock makes one attempt to lock the job and never waits for another scheduler. gocron calls it
// before each run. When it fails, gocron skips the run and passes the error to the job's
// gocron.AfterLockError: it matches redlock.ErrHeld where another scheduler runs the job, or ran it
// less than the splay ago ([WithSplay]), and redlock.ErrNoQuorum where too few nodes answered. The
// other errors are those of redlock's TryAcquire.
func (l *Locker) Lock(ctx context.Context, job string) (gocron.Lock, error) {
	h, err := l.locker.TryAcquire(ctx, resource(job), l.acquire...)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[job] = h
	return &lock{l, job, h}, nil
}

// Context returns a context that ends with ctx, or when the lock under which the job runs ends:
// then its cause ([context.Cause]) is redlock.ErrLost or redlock.ErrClosed, and the job should
// return at once, since another scheduler may run it. A job calls it first thing, with the name
// that it has in gocron, on the Locker that it was given to. Where no lock is held under that name,
// the context has ended and its cause says so.
func (l *Locker) Context(ctx context.Context, job string) context.Context {
	l.mu.Lock()
	h := l.held[job]
	l.mu.Unlock()
	if h == nil {
		return ended(ctx, fmt.Errorf("gocronredlock: this Locker holds no lock for a job named %q",
			job))
	}
	return h.Context(ctx)
}

// lock is the lock of one run.
type lock struct {
	l   *Locker
	job string
	h   *redlock.Handle
}

// Unlock releases the lock. It works as well when ctx has ended, which is so after the scheduler's
// Shutdown. Its errors are those of redlock's Release. Called again, it returns the same.
func (k *lock) Unlock(ctx context.Context) error {
	k.l.mu.Lock()
	if k.l.held[k.job] == k.h { // not if it was lost, and taken again by this process
		delete(k.l.held, k.job)
	}
	k.l.mu.Unlock()
	err := k.h.Release(ctx)
	if err != nil {
		k.l.tell(k.job, err)
	}
	return err
}
