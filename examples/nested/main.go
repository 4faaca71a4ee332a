// Nested shows what happens to those who need more than one lock, and what to do about it:
//
//  1. two workers take the same two locks in opposite orders, one inside the other: each waits for
//     what the other one has. WithMaxWait ends that, or WithDeadlockDetection (see
//     examples/deadlock); nothing else would
//  2. everybody takes them in one order, the outer one first: no deadlock
//  3. both at once with AcquireMulti: no order to agree on, and one round trip
//  4. a hierarchy: closing a month takes the locks of all accounts at once, a booking takes those
//     that it needs
//  5. a lock cannot be taken twice, not even by who has it: pass on what was acquired
//
// How to run it:
//
//	go run ./examples/nested
//	go run ./examples/nested -redis host1:6379,host2:6379,host3:6379
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/rediskit/redlock"
)

func main() {
	log.SetFlags(0)
	addrs := flag.String("redis", "", redisUsage)
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *addrs)
	stop()
	if err != nil {
		log.Fatalf("nested: %v", err)
	}
}

func run(ctx context.Context, addrs string) (err error) {
	nodes, closeNodes, err := openNodes(addrs, 3)
	if err != nil {
		return err
	}
	defer closeNodes()

	o := &office{say: narrator(), prefix: "nested-" + rand.Text()[:8]}
	for i, name := range []string{"alice", "bob"} {
		locker, err := redlock.New(nodes, redlock.WithKeyPrefix(o.prefix), redlock.WithOwner(name),
			redlock.WithMaxWait(10*time.Second), redlock.WithRetryInterval(10*time.Millisecond))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, locker.Close()) }()
		o.workers[i] = worker{name, locker}
	}
	for _, show := range []func(context.Context) error{
		o.deadlock, o.oneOrder, o.allAtOnce, o.hierarchy, o.reentrance,
	} {
		if err := show(ctx); err != nil {
			return err
		}
	}
	return nil
}

// office has two workers, each a process of its own.
type office struct {
	workers [2]worker
	prefix  string
	say     func(who, format string, args ...any)
}

type worker struct {
	name   string
	locker *redlock.Locker
}

// both runs fn for both workers at the same time.
func (o *office) both(ctx context.Context, fn func(ctx context.Context, i int,
	w worker) error) error {
	return parallel(ctx,
		func(ctx context.Context) error { return fn(ctx, 0, o.workers[0]) },
		func(ctx context.Context) error { return fn(ctx, 1, o.workers[1]) },
	)
}

// deadlock has each worker hold one of two locks and then ask for the other one.
func (o *office) deadlock(ctx context.Context) error {
	names := [2]string{"stock", "orders"}
	var gaveUp [2]error
	// closed when a worker has its first lock
	has := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	err := o.both(ctx, func(ctx context.Context, i int, w worker) error {
		outer, err := w.locker.Acquire(ctx, names[i])
		if err != nil {
			return err
		}
		defer outer.Release(ctx)
		close(has[i])
		select {
		case <-has[1-i]:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		o.say(w.name, "has %s and asks for %s", names[i], names[1-i])
		inner, err := w.locker.Acquire(ctx, names[1-i], redlock.WithMaxWait(300*time.Millisecond))
		switch {
		case errors.Is(err, redlock.ErrHeld):
			o.say(w.name, "gives up: held by another owner")
			gaveUp[i] = err
			return nil
		case err != nil:
			return err
		}
		return inner.Release(ctx)
	})
	if err == nil && gaveUp[0] == nil && gaveUp[1] == nil {
		return errors.New("both had both locks: they cannot have waited for each other")
	}
	return err
}

// oneOrder has both workers take the locks in the same order.
func (o *office) oneOrder(ctx context.Context) error {
	err := o.both(ctx, func(ctx context.Context, _ int, w worker) error {
		for range 10 {
			err := w.locker.Do(ctx, "orders", func(ctx context.Context) error {
				return w.locker.Do(ctx, "stock",
					func(ctx context.Context) error { return ctx.Err() })
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	o.say("both", "took orders, then stock, 10 times each")
	return nil
}

// allAtOnce has both workers name the locks in opposite orders, which does not matter here.
func (o *office) allAtOnce(ctx context.Context) error {
	orders := [2][]string{{"stock", "orders"}, {"orders", "stock"}}
	err := o.both(ctx, func(ctx context.Context, i int, w worker) error {
		for range 10 {
			h, err := w.locker.AcquireMulti(ctx, orders[i])
			if err != nil {
				return err
			}
			if err := h.Release(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	o.say("both", "took both at once, 10 times each, in opposite orders")
	return nil
}

// reentrance shows that a lock does not know who asks.
func (o *office) reentrance(ctx context.Context) error {
	w := o.workers[0]
	h, err := w.locker.Acquire(ctx, "orders")
	if err != nil {
		return err
	}
	defer h.Release(ctx)
	if _, err := w.locker.TryAcquire(ctx, "orders"); !errors.Is(err, redlock.ErrHeld) {
		return fmt.Errorf("the second time should have been refused, got %v", err)
	}
	o.say(w.name, "has orders and tries it once more: ErrHeld")
	if err := ship(h.Context(ctx), h); err != nil {
		return err
	}
	o.say(w.name, "passes on what it has")
	return h.Release(ctx)
}

// ship needs the lock on the orders. It takes the handle as the proof that its caller has it.
func ship(ctx context.Context, orders *redlock.Handle) error {
	if err := orders.Err(); err != nil {
		return err
	}
	return ctx.Err() // and works under a context that ends with the lock
}
