// Dedupe sends each message at most once in 24 hours, however often it is delivered, by however
// many workers, over restarts. The lock on the message's id is the memory: it is kept after a
// success, and released after a failure, so that the message can be tried again.
//
// A refusal does not say that the message was sent: the holder of the lock may still be sending it,
// and may fail. So a delivery counts as a duplicate only when the lock is older than sending can
// take. Until then it goes back to the broker.
//
// This is at most once, not exactly once: a worker that dies in the middle leaves its lock too, and
// nobody tries again before that lock expires. If that is too little, store the id in one
// transaction with the result.
//
//	go run ./examples/dedupe
//	go run ./examples/dedupe -redis host1:6379,host2:6379,host3:6379
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

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
)

var messages = []string{"mail-1", "mail-2", "mail-3", "mail-4"}

func main() {
	log.SetFlags(0)
	addrs := flag.String("redis", "", redisUsage)
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *addrs)
	stop()
	if err != nil {
		log.Fatalf("dedupe: %v", err)
	}
}

func run(ctx context.Context, addrs string) (err error) {
	nodes, closeNodes, err := openNodes(addrs, 3)
	if err != nil {
		return err
	}
	defer closeNodes()

	d := &demo{
		nodes:  nodes,
		prefix: "dedupe-" + rand.Text()[:8],
		outbox: newOutbox("mail-3"), // which cannot be sent the first time
		say:    narrator(),
	}
	defer func() { err = errors.Join(err, d.forgetAll(ctx)) }()

	d.say("broker", "delivers each message twice")
	if err := d.deliver(ctx, "a", "b"); err != nil {
		return err
	}
	if err := d.outbox.check(1); err != nil {
		return err
	}
	d.say("system",
		"restarts: every Locker is closed, the locks live on; the broker delivers all again")
	if err := d.deliver(ctx, "c", "d"); err != nil {
		return err
	}
	if err := d.outbox.check(1); err != nil {
		return fmt.Errorf("after the restart: %w", err)
	}
	return d.sendAgain(ctx, "mail-2")
}

// demo runs the system before and after a restart.
type demo struct {
	nodes  []*redis.Client
	prefix string
	outbox *outbox
	say    func(who, format string, args ...any)
}

// deliver starts a worker under each name and hands them every message twice, until all deliveries
// are acknowledged.
func (d *demo) deliver(ctx context.Context, names ...string) error {
	b := newBroker(messages, messages)
	var work []func(context.Context) error
	for _, name := range names {
		work = append(work, func(ctx context.Context) error {
			return d.withWorker("worker-"+name, func(w *worker) error { return w.consume(ctx, b) })
		})
	}
	return parallel(ctx, work...)
}

// withWorker runs fn with a worker, a process of its own: its Locker is closed at the end, as at a
// shutdown.
func (d *demo) withWorker(name string, fn func(w *worker) error) error {
	locker, err := redlock.New(d.nodes, redlock.WithKeyPrefix(d.prefix), redlock.WithOwner(name))
	if err != nil {
		return err
	}
	err = fn(&worker{name: name, locker: locker, outbox: d.outbox, say: d.say})
	return errors.Join(err, locker.Close())
}

// sendAgain is the operator who wants a message sent a second time. The process that took the lock
// is gone, but the token was stored with the message: who knows it can continue the lock, and
// release it.
func (d *demo) sendAgain(ctx context.Context, id string) error {
	return d.withWorker("operator", func(w *worker) error {
		if err := w.forget(ctx, id); err != nil {
			return err
		}
		d.say(w.name, "adopts the lock of %s by its token and releases it", id)
		if err := w.handle(ctx, id); err != nil {
			return err
		}
		if n := d.outbox.count(id); n != 2 {
			return fmt.Errorf("%s should have been sent a second time, was sent %d times", id, n)
		}
		return nil
	})
}

// forgetAll takes back what this run remembers, also when ctx has ended. A real system lets it
// expire.
func (d *demo) forgetAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return d.withWorker("janitor", func(w *worker) error {
		for _, id := range d.outbox.ids() {
			if err := w.forget(ctx, id); err != nil {
				return err
			}
		}
		d.say(w.name, "releases what this run remembered")
		return nil
	})
}
