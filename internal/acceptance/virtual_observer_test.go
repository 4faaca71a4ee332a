//go:build go1.25

package acceptance_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// Whoever holds locks that belong together gives them all up when one is lost. All are over at the
// same moment.
func TestVirtualObserverReleasesAllWhenOneIsLost(t *testing.T) {
	virtually(t, 1, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		handles := make(chan *redlock.Handle, 2)
		watcher := &recorder{}
		watcher.then = func(e redlock.Event) {
			if e, ended := e.(redlock.LeaseEnded); ended && e.Err == redlock.ErrLost {
				for range cap(handles) {
					h := <-handles
					handles <- h
					require.ErrorIs(t, h.Release(ctx), redlock.ErrLost)
				}
			}
		}
		l := open(t, clientsOf(nodes), redlock.WithObserver(watcher), redlock.WithTTL(time.Second))
		for _, name := range []string{"a", "b"} {
			h, err := l.TryAcquire(ctx, name)
			require.NoError(t, err)
			handles <- h
		}
		time.Sleep(5 * time.Second)
		require.Len(t, told[redlock.LeaseEnded](watcher), 2)
		require.Len(t, told[redlock.ReleaseDone](watcher), 2)
	})
}

// A context of one lock under that of another: to end the inner one is to look at the outer one.
func TestVirtualObserverReleasesALockUnderTheContextOfALostOne(t *testing.T) {
	virtually(t, 1, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		var inner atomic.Pointer[redlock.Handle]
		watcher := &recorder{}
		watcher.then = func(e redlock.Event) {
			if e, ended := e.(redlock.LeaseEnded); ended && e.Resources[0] != "inner" {
				_ = inner.Load().Release(ctx)
			}
		}
		l := open(t, clientsOf(nodes), redlock.WithObserver(watcher), redlock.WithTTL(time.Second))
		_, err := l.TryAcquire(ctx, "first") // the schedule comes to it before the outer one
		require.NoError(t, err)
		outer, err := l.TryAcquire(ctx, "outer")
		require.NoError(t, err)
		h, err := l.TryAcquire(ctx, "inner", redlock.WithTTL(time.Minute))
		require.NoError(t, err)
		inner.Store(h)
		under := h.Context(outer.Context(ctx))
		time.Sleep(5 * time.Second)
		require.Error(t, under.Err())
		require.Len(t, told[redlock.LeaseEnded](watcher), 3)
	})
}

// A panic that somebody above recovers, as net/http does, must not leave a waiter behind that
// nobody wakes.
func TestVirtualObserverThatPanicsHoldsNobodyUp(t *testing.T) {
	virtually(t, 1, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		var once sync.Once
		watcher := &recorder{then: func(e redlock.Event) {
			if _, waits := e.(redlock.Waiting); waits {
				once.Do(func() { panic("observer") })
			}
		}}
		l := open(t, clientsOf(nodes), redlock.WithObserver(watcher))
		h, err := l.TryAcquire(ctx, "a")
		require.NoError(t, err)
		require.PanicsWithValue(t, "observer", func() { _, _ = l.Acquire(ctx, "a") })
		require.NoError(t, h.Release(ctx))
		began := time.Now()
		h, err = l.Acquire(ctx, "a", redlock.WithMaxWait(time.Hour))
		require.NoError(t, err)
		require.Less(t, time.Since(began), time.Minute)
		require.NoError(t, h.Release(ctx))
	})
}

// Nor a lock of which nobody has the handle.
func TestVirtualLockWhoseObserverPanicsIsReleased(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx, calm := context.Background(), open(t, clientsOf(nodes))
		for name, get := range map[string]func(l *redlock.Locker){
			"TryAcquire": func(l *redlock.Locker) { _, _ = l.TryAcquire(ctx, "a") },
			"Acquire":    func(l *redlock.Locker) { _, _ = l.Acquire(ctx, "a") },
			"Once": func(l *redlock.Locker) {
				_, _ = l.Once(ctx, "a", time.Hour, func(context.Context) error { return nil })
			},
		} {
			watcher := &recorder{then: func(e redlock.Event) {
				if _, has := e.(redlock.AcquireDone); has {
					panic("observer")
				}
			}}
			l := open(t, clientsOf(nodes), redlock.WithObserver(watcher))
			require.PanicsWithValue(t, "observer", func() { get(l) }, name)
			h, err := calm.TryAcquire(ctx, "a")
			require.NoError(t, err, name)
			require.NoError(t, h.Release(ctx))
			require.Empty(t, told[redlock.LeaseEnded](watcher), name)
		}
	})
}

// Renewals that went unanswered, and not the maximum hold, ended this lock.
func TestVirtualLossBeforeTheMaximumHoldIsNotBlamedOnIt(t *testing.T) {
	virtually(t, 1, func(t *testing.T, nodes []*virtualNode) {
		watcher := &recorder{}
		l := open(t, clientsOf(nodes), redlock.WithObserver(watcher),
			redlock.WithNodeTimeout(2500*time.Millisecond))
		_, err := l.TryAcquire(context.Background(), "a",
			redlock.WithTTL(3*time.Second), redlock.WithMaxHold(5*time.Second),
			redlock.WithAutoRenewal(true))
		require.NoError(t, err)
		nodes[0].hang()
		time.Sleep(10 * time.Second)
		ended := theOne[redlock.LeaseEnded](t, watcher)
		require.Equal(t, redlock.CauseExpired, ended.Cause, ended.Reason)
		nodes[0].recover()
	})
}

// A lock that is meant to run out, as a guard against duplicates is, is nothing to be warned of. It
// is if there is a Release.
func TestVirtualLockThatIsMeantToRunOutIsNoWarning(t *testing.T) {
	for name, watcher := range map[string]redlock.Observer{
		"observed": &recorder{}, "not observed": nil,
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, 1, func(t *testing.T, nodes []*virtualNode) {
				ctx := context.Background()
				log := &diary{}
				l := open(t, clientsOf(nodes), redlock.WithObserver(watcher),
					redlock.WithLogger(log.logger()))
				h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(time.Hour))
				require.NoError(t, err)
				time.Sleep(2 * time.Hour)
				require.Empty(t, log.with("lock lost"))
				for range 2 {
					require.ErrorIs(t, h.Release(ctx), redlock.ErrLost)
				}
				require.NoError(t, l.Close()) // which waits for the log
				require.Len(t, log.with("lock lost"), 1)
			})
		})
	}
}

// A renewal that failed is told once, unless it proves the lease after all.
func TestVirtualRenewalThatProvesNothingIsToldOnce(t *testing.T) {
	virtually(t, 1, func(t *testing.T, nodes []*virtualNode) {
		watcher := &recorder{}
		l := open(t, clientsOf(nodes), redlock.WithObserver(watcher))
		_, err := l.TryAcquire(context.Background(), "a", redlock.WithTTL(1200*time.Millisecond),
			redlock.WithAutoRenewal(true))
		require.NoError(t, err)
		nodes[0].delayBy(1100 * time.Millisecond)
		time.Sleep(10 * time.Second)
		begun := make(map[time.Time]int)
		for _, e := range told[redlock.ExtendDone](watcher) {
			begun[e.Start]++
		}
		require.NotEmpty(t, begun)
		for _, times := range begun {
			require.Equal(t, 1, times)
		}
	})
}

// An extension that is answered when the lease is over is taken back, but not what a minimum hold
// keeps.
func TestVirtualExtensionThatComesTooLateKeepsTheMinimumHold(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		l, other := open(t, clientsOf(nodes), redlock.WithDriftFactor(0.5)),
			open(t, clientsOf(nodes))
		began := time.Now()
		h, err := l.TryAcquire(ctx, "a", redlock.WithTTL(time.Second),
			redlock.WithMinHold(time.Minute))
		require.NoError(t, err)
		require.NoError(t, h.Extend(ctx, time.Second))
		time.Sleep(490 * time.Millisecond)
		for _, n := range nodes {
			n.delayBy(20 * time.Millisecond)
		}
		require.ErrorIs(t, h.Extend(ctx, time.Second), redlock.ErrLost)
		time.Sleep(time.Second)
		require.ErrorIs(t, onlyError(other.TryAcquire(ctx, "a")), redlock.ErrHeld)
		_, err = other.Acquire(ctx, "a")
		require.NoError(t, err)
		require.InDelta(t, time.Minute, time.Since(began), float64(time.Second))
	})
}

// That a node fails is noted by one goroutine, and may be told while another one is in the middle
// of a Release.
func TestVirtualObserverReleasesWhenANodeFails(t *testing.T) {
	virtually(t, 3, func(t *testing.T, nodes []*virtualNode) {
		ctx := context.Background()
		var held atomic.Pointer[redlock.Handle]
		var once sync.Once
		noted, goOn := make(chan struct{}), make(chan struct{})
		watcher := &recorder{then: func(e redlock.Event) {
			switch e := e.(type) {
			case redlock.NodeCall:
				if e.Err != nil {
					once.Do(func() { close(noted); <-goOn })
				}
			case redlock.NodeState:
				if !e.Up {
					_ = held.Load().Release(ctx)
				}
			}
		}}
		l := open(t, clientsOf(nodes), redlock.WithObserver(watcher))
		h, err := l.TryAcquire(ctx, "a")
		require.NoError(t, err)
		held.Store(h)
		nodes[2].fail("ERR out of order")
		looked := inBackground(func() error { return onlyError(l.IsLocked(ctx, "b")) })
		<-noted
		require.NoError(t, h.Release(ctx))
		close(goOn)
		require.NoError(t, <-looked)
		nodes[2].recover()
		time.Sleep(time.Minute) // what is left there is deleted
		require.NotEmpty(t, told[redlock.NodeState](watcher))
	})
}
