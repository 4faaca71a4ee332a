// Handover passes a lock from a process that is shut down to the one that takes its place, without
// a moment in which somebody else could get it. The old process uploads a film in parts; in the
// middle it is told to stop. It writes down how far it got and the token of its lock. The new
// process adopts the lock by that token and goes on from there. A third one tries to get the film
// all the time, and must not before the upload is through.
//
//	go run ./examples/handover
//	go run ./examples/handover -redis host1:6379,host2:6379,host3:6379
//
// The token is a secret: whoever has it can release the lock. And it must be passed on before the
// lock ends: the new process has what is left of the TTL to start and to adopt it.
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
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
)

const (
	film  = "film:7"
	parts = 6
)

func main() {
	log.SetFlags(0)
	addrs := flag.String("redis", "", redisUsage)
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *addrs)
	stop()
	if err != nil {
		log.Fatalf("handover: %v", err)
	}
}

func run(ctx context.Context, addrs string) (err error) {
	nodes, closeNodes, err := openNodes(addrs, 3)
	if err != nil {
		return err
	}
	defer closeNodes()

	d := &deployment{nodes: nodes, prefix: "handover-" + rand.Text()[:8], say: narrator()}
	rival, err := d.open("rival")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rival.Close()) }()
	return parallel(ctx, d.replace,
		func(ctx context.Context) error { return d.compete(ctx, rival) })
}

// deployment replaces one version of a program by the next.
type deployment struct {
	nodes  []*redis.Client
	prefix string
	say    func(who, format string, args ...any)

	mu       sync.Mutex
	uploaded []int // guarded by mu: the parts that are there, in the order in which they came
}

func (d *deployment) open(name string) (*redlock.Locker, error) {
	return redlock.New(d.nodes, redlock.WithKeyPrefix(d.prefix), redlock.WithOwner(name),
		redlock.WithTTL(10*time.Second), redlock.WithAutoRenewal(true))
}

// note is what the old process leaves for the new one: in a database, or in a file that only they
// can read.
type note struct {
	token string
	next  int // the part to go on with
}

// replace runs the old process and then the new one.
func (d *deployment) replace(ctx context.Context) error {
	left, err := d.oldProcess(ctx)
	if err != nil {
		return err
	}
	return d.newProcess(ctx, left)
}

// oldProcess is told to stop after half of the parts. It closes its Locker, which ends renewal and
// leaves the lock.
func (d *deployment) oldProcess(ctx context.Context) (left note, err error) {
	locker, err := d.open("old")
	if err != nil {
		return note{}, err
	}
	defer func() { err = errors.Join(err, locker.Close()) }()
	h, err := locker.Acquire(ctx, film)
	if err != nil {
		return note{}, err
	}
	d.say("old", "has the lock and uploads")
	if err := d.upload(h.Context(ctx), 0, parts/2); err != nil {
		return note{}, errors.Join(err, h.Release(ctx)) // nobody is to go on with it
	}
	// A full TTL from now on, for the new process to start in.
	if err := h.Extend(ctx, 10*time.Second); err != nil {
		return note{}, err
	}
	d.say("old", "is told to stop: it notes its token, and does not release")
	return note{token: h.Token(), next: parts / 2}, nil
}

// newProcess goes on where the old one stopped.
func (d *deployment) newProcess(ctx context.Context, left note) (err error) {
	locker, err := d.open("new")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, locker.Close()) }()
	// Also when ctx has just ended: the lock is ours to release then.
	h, err := locker.Adopt(context.WithoutCancel(ctx), []string{film}, left.token)
	if err != nil {
		return err // ErrLost: it came too late, and has to start like everybody else
	}
	defer h.Release(ctx)
	d.say("new", "adopts the lock and goes on with part %d", left.next+1)
	if err := d.upload(h.Context(ctx), left.next, parts); err != nil {
		return err
	}
	d.say("new", "is through and releases")
	if err := h.Release(ctx); err != nil {
		return err
	}
	if _, err := locker.Adopt(ctx, []string{film}, left.token); !errors.Is(err, redlock.ErrLost) {
		return fmt.Errorf("a token that was used up should be answered with ErrLost, not %v", err)
	}
	return nil
}

// upload sends some parts, under a context that ends with the lock.
func (d *deployment) upload(ctx context.Context, from, to int) error {
	for part := from; part < to; part++ {
		if err := pretend(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		d.mu.Lock()
		d.uploaded = append(d.uploaded, part)
		d.mu.Unlock()
	}
	return nil
}

// compete waits for the lock from the beginning, and looks at the film when it has it.
func (d *deployment) compete(ctx context.Context, rival *redlock.Locker) error {
	for { // until the old process has begun
		d.mu.Lock()
		begun := len(d.uploaded) > 0
		d.mu.Unlock()
		if begun {
			break
		}
		if err := pretend(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	d.say("rival", "waits for the lock")
	return rival.Do(ctx, film, func(ctx context.Context) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		for i, part := range d.uploaded {
			if part != i {
				return fmt.Errorf("the parts came as %v", d.uploaded)
			}
		}
		if len(d.uploaded) != parts {
			return fmt.Errorf("the rival has the lock after %d of %d parts: it got in between",
				len(d.uploaded), parts)
		}
		d.say("rival", "has the lock, and finds the whole film")
		return nil
	})
}
