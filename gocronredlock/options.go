package gocronredlock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rediskit/redlock"
)

// Option configures a [Locker] or an [Elector].
type Option interface {
	applyTo(s *settings)
}

type option func(s *settings)

func (o option) applyTo(s *settings) { o(s) }

// defaultSplay is several times what hosts with a time service differ by, and leaves room for a job
// that runs every second.
const defaultSplay = 500 * time.Millisecond

// settings are what the options amount to.
type settings struct {
	splay   time.Duration
	acquire []redlock.AcquireOption
	tell    func(name string, err error) // never nil
}

// WithSplay sets by how much the ticks of two schedulers may differ for the same run of a job: 500
// ms by default. It must not be negative, and should be above the difference between the hosts'
// clocks and below the shortest time between two runs of a job: a scheduler that comes later than d
// runs the job again, and runs that are closer together than d are skipped.
//
// A [Locker] keeps the lock of a run for at least d, also over a crash. An [Elector] does not hand
// over the leadership until d after it let a job run.
func WithSplay(d time.Duration) Option {
	return option(func(s *settings) { s.splay = d })
}

// WithAcquireOptions sets how locks are taken: redlock.WithTTL, WithOwner, WithMaxHold and so on.
// They prevail over the splay and over the options of the redlock.Locker. Locks are renewed unless
// redlock.WithAutoRenewal(false) is among them: then a job runs without a lock from the end of the
// TTL on, and a leader has to win again.
func WithAcquireOptions(opts ...redlock.AcquireOption) Option {
	return option(func(s *settings) { s.acquire = append(s.acquire, opts...) })
}

// WithErrors sets a function for the errors that gocron drops: of an Unlock, with the job's name,
// and of an Elector's IsLeader, with the Elector's name, unless it is just that somebody else leads
// (redlock.ErrHeld). An Unlock that returns redlock.ErrLost means that the job may have run twice.
// The function is called synchronously, and by several goroutines at the same time. By default
// these errors are dropped.
//
// It does not get the errors of [Locker.Lock]: gocron passes them to its AfterLockError.
func WithErrors(tell func(name string, err error)) Option {
	return option(func(s *settings) { s.tell = tell })
}

// newSettings applies the options and refuses, for a lock on the resource, what redlock would
// refuse each time. defaults are for options of redlock's that the user's come after.
func newSettings(locker *redlock.Locker, resource string, opts []Option,
	defaults func(splay time.Duration) []redlock.AcquireOption) (settings, error) {
	s := settings{splay: defaultSplay}
	if locker == nil {
		return s, errors.New("gocronredlock: the redlock.Locker is nil")
	}
	for i, o := range opts {
		if o == nil {
			return s, fmt.Errorf("gocronredlock: option %d is nil", i)
		}
		o.applyTo(&s)
	}
	if s.splay < 0 {
		return s, fmt.Errorf("gocronredlock: splay must not be negative, but is %v", s.splay)
	}
	if s.tell == nil {
		s.tell = func(string, error) {}
	}
	s.acquire = append(defaults(s.splay), s.acquire...)
	return s, check(locker, resource, s.acquire)
}

// check has redlock look at the options. The context has ended, so nothing is sent.
func check(locker *redlock.Locker, resource string, opts []redlock.AcquireOption) error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := locker.TryAcquire(ctx, resource, opts...); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("gocronredlock: %w", err)
	}
	return nil
}

// ended returns a context that err has ended.
func ended(parent context.Context, err error) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	cancel(err)
	return ctx
}
