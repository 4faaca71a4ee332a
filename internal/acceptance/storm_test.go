//go:build unix

package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

const (
	// renewed every second: a busy machine may stall for two
	stormTTL  = 3 * time.Second
	stormTime = 6 * time.Second
	stormSize = 16 // handles at a time
)

// storm is what happens to one handle, all at the same time.
type storm struct {
	h       *redlock.Handle
	clients []*redis.Client
	calm    chan struct{} // closed when the handle has been ended on purpose
	ending  atomic.Bool   // that has begun
}

// pause waits for d, or until the handle has been ended; then it returns false.
func (s *storm) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.calm:
		return false
	}
}

// extend extends now and then, until the handle has ended. No call may fail before.
func (s *storm) extend(ttl, pause time.Duration) error {
	for s.pause(rand.N(pause)) {
		began := s.ending.Load()
		err := s.h.Extend(context.Background(), ttl)
		if err != nil && (began || s.ending.Load()) && endedOnPurpose(err) {
			return nil
		}
		// A node that forgets the lock in the middle of a shortening may cost it its quorum, but
		// never the lock.
		if err != nil && (!errors.Is(err, redlock.ErrNoQuorum) || ttl > stormTTL) {
			return fmt.Errorf("a false loss: %w", err)
		}
	}
	return nil
}

// comeAndGo makes contexts that end before the lock does.
func (s *storm) comeAndGo() error {
	for s.pause(rand.N(5 * time.Millisecond)) {
		parent, cancel := context.WithCancel(context.Background())
		work := s.h.Context(parent)
		cancel()
		<-work.Done()
		if work.Err() == nil {
			return errors.New("a context outlived its parent")
		}
	}
	return nil
}

// forget makes a node lose the lock again and again, so that it is healed.
func (s *storm) forget() error {
	for s.pause(rand.N(20 * time.Millisecond)) {
		// Always the same node: the others are a quorum.
		if err := s.clients[0].Del(context.Background(),
			"lock:"+s.h.Resources()[0]).Err(); err != nil {
			return err
		}
	}
	return nil
}

// watch looks at every signal. All must agree, and none may go back.
func (s *storm) watch() error {
	work := s.h.Context(context.Background())
	for {
		more := s.pause(time.Millisecond)
		until := s.h.ValidUntil()
		done, cut := isClosed(s.h.Done()), work.Err() != nil
		err := s.h.Err()
		switch {
		case err == nil && (done || cut):
			return fmt.Errorf("a signal went back: Done %v, Context %v, but Err nil", done, cut)
		case err == nil && !more:
			return errors.New("it has not ended")
		case err == nil:
			continue
		case !endedOnPurpose(err):
			return fmt.Errorf("a false loss: %w at %v before the end", err, time.Until(until))
		case !s.ending.Load():
			return fmt.Errorf("ended by nobody: %w", err)
		}
		until = s.h.ValidUntil()
		for first := true; first || s.pause(time.Millisecond); first = false {
			if !isClosed(s.h.Done()) || !isClosed(work.Done()) || s.h.Err() != err ||
				context.Cause(work) != err {
				return fmt.Errorf("signals disagree after %w: Err %w, cause %w", err, s.h.Err(),
					context.Cause(work))
			}
			if !s.h.ValidUntil().Equal(until) {
				return errors.New("the lease moved after the end")
			}
		}
		return nil
	}
}

// rage runs everything until end has ended the handle, after a while.
func (s *storm) rage(after time.Duration, extend bool, end func() error) error {
	fns := []func() error{
		s.watch, s.comeAndGo,
		func() error {
			defer close(s.calm)
			s.pause(after)
			s.ending.Store(true)
			return end()
		},
	}
	if extend {
		fns = append(fns, s.forget,
			func() error { return s.extend(time.Minute, 20*time.Millisecond) },
			func() error { return s.extend(stormTTL*4/5, 20*time.Millisecond) },
		)
	}
	return together(fns...)
}

// endedOnPurpose reports whether err says that the handle was released or the Locker closed, and
// nothing else.
func endedOnPurpose(err error) bool {
	return (errors.Is(err, redlock.ErrReleased) || errors.Is(err, redlock.ErrClosed)) &&
		!errors.Is(err, redlock.ErrLost) && !errors.Is(err, redlock.ErrHeld) &&
		!errors.Is(err, redlock.ErrNoQuorum)
}

// moment returns when to end a handle: soon, or just when a renewal is due.
func moment() time.Duration {
	if rand.N(3) > 0 {
		return rand.N(30 * time.Millisecond)
	}
	return stormTTL/3 - 5*time.Millisecond + rand.N(10*time.Millisecond)
}

// stormy runs one storm after the other for a while, several at a time, each on a resource of its
// own.
func stormy(t *testing.T, one func(resource string) error) {
	t.Helper()
	var storms atomic.Int64
	stop := time.Now().Add(stormTime)
	worker := func() error {
		for time.Now().Before(stop) {
			if err := one(fmt.Sprint("r", storms.Add(1))); err != nil {
				return err
			}
		}
		return nil
	}
	require.NoError(t, together(slices.Repeat([]func() error{worker}, stormSize)...))
	t.Logf("%d handles", storms.Load())
	require.Greater(t, storms.Load(), int64(2*stormSize))
}

func TestReleaseIsFinalAmidstExtensionsRenewalsAndWatchers(t *testing.T) {
	servers, clients := masters(t, 3)
	l := open(t, clients, redlock.WithTTL(stormTTL), redlock.WithNodeTimeout(stormTTL/2),
		redlock.WithAutoRenewal(true))
	stormy(t, func(resource string) error {
		h, err := l.TryAcquire(context.Background(), resource)
		if err != nil {
			return err
		}
		s := &storm{h: h, clients: clients, calm: make(chan struct{})}
		release := func() error { return h.Release(context.Background()) }
		err = s.rage(moment(), rand.N(2) == 0, func() error { return together(release, release) })
		if err = errors.Join(err, release()); err != nil {
			return err
		}
		if h.Err() != redlock.ErrReleased {
			return fmt.Errorf("released, but %w", h.Err())
		}
		return nil
	})
	require.NoError(t, l.Close()) // nothing is under way any more
	for i, s := range servers {
		require.Empty(t, s.Keys(t), "made anew on node %d", i)
	}
}

func TestCloseIsFinalAmidstExtensionsRenewalsReleasesAndWatchers(t *testing.T) {
	servers, clients := masters(t, 3)
	stormy(t, func(resource string) error {
		l, err := redlock.New(clients, redlock.WithTTL(stormTTL),
			redlock.WithNodeTimeout(stormTTL/2),
			redlock.WithAutoRenewal(true))
		if err != nil {
			return err
		}
		h, err := l.TryAcquire(context.Background(), resource)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		s := &storm{h: h, clients: clients, calm: make(chan struct{})}
		var released error
		err = s.rage(moment(), rand.N(2) == 0, func() error {
			return together(l.Close, l.Close, func() error {
				if rand.N(2) == 0 {
					<-h.Done() // closed by then
				}
				released = h.Release(context.Background())
				if errors.Is(released, redlock.ErrClosed) {
					return nil
				}
				return released
			})
		})
		if err != nil {
			return err
		}
		// The keys of a handle that was not released stay. Those of one that was are gone, for
		// good.
		for i, node := range clients {
			owner, err := node.Get(context.Background(), lockKey(resource)).Result()
			if err == nil && released == nil {
				return fmt.Errorf("made anew on node %d: %s", i, owner)
			}
			if err == nil {
				err = node.Del(context.Background(), lockKey(resource)).Err()
			}
			if err != nil && !errors.Is(err, redis.Nil) {
				return err
			}
		}
		return nil
	})
	for i, s := range servers {
		require.Empty(t, s.Keys(t), "made anew on node %d", i)
	}
}
