// Quickstart shows in six short acts what a lock over several Redis nodes does, and checks each of
// them:
//
//  1. two competitors: the second waits and has the lock as soon as the first releases it
//  2. automatic renewal: a lock outlives its TTL while its holder works
//  3. manual extension: a holder asks for more time
//  4. several resources at once, in any order, without a deadlock
//  5. looking at a lock without taking it
//  6. a lock that is lost: the holder learns of it, and cannot harm the next one
//
// It brings its own five nodes, or runs on yours, where it touches nothing but keys of its own:
//
//	go run github.com/rediskit/redlock/examples/quickstart@latest
//	go run ./examples/quickstart -redis host1:6379,host2:6379,host3:6379
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
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

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
		log.Fatalf("quickstart: %v", err)
	}
}

func run(ctx context.Context, addrs string) (err error) {
	nodes, closeNodes, err := openNodes(addrs, 5)
	if err != nil {
		return err
	}
	defer closeNodes()

	// Alice and Bob would be two processes; what they share is the nodes and the key prefix.
	prefix := "quickstart-" + rand.Text()[:8]
	alice, err := newLocker(nodes, prefix, "alice")
	if err != nil {
		return err
	}
	bob, err := newLocker(nodes, prefix, "bob")
	if err != nil {
		return errors.Join(err, alice.Close())
	}
	defer func() { err = errors.Join(err, alice.Close(), bob.Close()) }()

	s := &show{nodes: nodes, prefix: prefix, alice: alice, bob: bob, say: narrator()}
	return s.playAll(ctx)
}

func newLocker(nodes []*redis.Client, prefix, owner string) (*redlock.Locker, error) {
	return redlock.New(nodes, redlock.WithKeyPrefix(prefix), redlock.WithOwner(owner),
		// By default a node may take a quarter of the TTL to answer, and the TTLs here are short.
		redlock.WithNodeTimeout(900*time.Millisecond),
		// By default a call that waits goes on for as long as the servers are down.
		redlock.WithMaxOutage(5*time.Second))
}

// show is the stage: the nodes, the two who compete, and a printer.
type show struct {
	nodes      []*redis.Client
	prefix     string
	alice, bob *redlock.Locker
	say        func(who, format string, args ...any)
}

func (s *show) playAll(ctx context.Context) error {
	acts := []struct {
		title string
		play  func(context.Context) error
	}{
		{"two competitors", s.compete},
		{"automatic renewal", s.renew},
		{"manual extension", s.extend},
		{"several resources at once", s.transfer},
		{"looking at a lock", s.inspect},
		{"a lost lock", s.lose},
	}
	for i, act := range acts {
		fmt.Printf("\n%d. %s\n", i+1, act.title)
		if err := act.play(ctx); err != nil {
			return fmt.Errorf("%s: %w", act.title, err)
		}
	}
	fmt.Println("\nall six as promised")
	return nil
}

func (s *show) compete(ctx context.Context) error {
	h, err := s.alice.Acquire(ctx, "order:42")
	if err != nil {
		return err
	}
	defer h.Release(ctx) // for the ways out on error; after the Release below it changes nothing
	s.say("alice", "has order:42")

	if err := refused(s.bob.TryAcquire(ctx, "order:42")); err != nil {
		return err
	}
	s.say("bob", "tries once: ErrHeld; waits")

	var released atomic.Bool
	return parallel(ctx,
		func(ctx context.Context) error {
			if err := pretend(h.Context(ctx), 500*time.Millisecond); err != nil {
				return err
			}
			s.say("alice", "is done and releases order:42")
			released.Store(true)
			return h.Release(ctx)
		},
		func(ctx context.Context) error {
			next, err := s.bob.Acquire(ctx, "order:42", redlock.WithMaxWait(10*time.Second))
			if err != nil {
				return err
			}
			defer next.Release(ctx)
			if !released.Load() {
				return errors.New("bob got order:42 while alice had it")
			}
			s.say("bob", "has order:42")
			return next.Release(ctx)
		})
}

func (s *show) renew(ctx context.Context) error {
	h, err := s.alice.Acquire(ctx, "report", redlock.WithTTL(time.Second),
		redlock.WithAutoRenewal(true))
	if err != nil {
		return err
	}
	defer h.Release(ctx)
	s.say("alice", "has report, with a TTL of 1 s, for 3.5 s of work")

	// The context of the work ends with the lock: if the lock were lost, the work would stop.
	if err := pretend(h.Context(ctx), 3500*time.Millisecond); err != nil {
		return err
	}
	if err := refused(s.bob.TryAcquire(ctx, "report")); err != nil {
		return err
	}
	s.say("bob", "tries report: ErrHeld, more than three TTLs later")
	return h.Release(ctx)
}

func (s *show) extend(ctx context.Context) error {
	h, err := s.alice.Acquire(ctx, "task:7", redlock.WithTTL(time.Second))
	if err != nil {
		return err
	}
	defer h.Release(ctx)
	s.say("alice", "has task:7 for another %.2f s", time.Until(h.ValidUntil()).Seconds())

	if err := h.Extend(ctx, 5*time.Second); err != nil {
		return err
	}
	s.say("alice", "extends: now for another %.2f s", time.Until(h.ValidUntil()).Seconds())
	if err := pretend(h.Context(ctx), 1300*time.Millisecond); err != nil {
		return fmt.Errorf("the extended lock: %w", err)
	}
	if err := refused(s.bob.TryAcquire(ctx, "task:7")); err != nil {
		return err
	}
	s.say("bob", "tries task:7: ErrHeld, past its first end")
	return h.Release(ctx)
}

// transfer moves money both ways at once. Each move needs both accounts, and the two movers name
// them in opposite order. If they took one lock after the other, they would soon wait for each
// other for ever.
func (s *show) transfer(ctx context.Context) error {
	var anna, ben atomic.Int64
	anna.Store(100)
	ben.Store(100)
	move := func(locker *redlock.Locker, from, to *atomic.Int64,
		resources ...string) func(context.Context) error {
		return func(ctx context.Context) error {
			for range 10 {
				h, err := locker.AcquireMulti(ctx, resources)
				if err != nil {
					return err
				}
				// Load and Store, not Add: it is the lock that makes one step of them.
				debited, credited := from.Load()-5, to.Load()+5
				from.Store(debited)
				to.Store(credited)
				if err := h.Release(ctx); err != nil {
					return err
				}
			}
			return nil
		}
	}
	err := parallel(ctx,
		move(s.alice, &anna, &ben, "account:anna", "account:ben"),
		move(s.bob, &ben, &anna, "account:ben", "account:anna"),
	)
	if err != nil {
		return err
	}
	if anna.Load() != 100 || ben.Load() != 100 {
		return fmt.Errorf("anna has %d and ben %d, each should have 100", anna.Load(), ben.Load())
	}
	s.say("both", "made 10 transfers each, in opposite directions: anna 100, ben 100")
	return nil
}

func (s *show) inspect(ctx context.Context) error {
	h, err := s.alice.Acquire(ctx, "order:43")
	if err != nil {
		return err
	}
	defer h.Release(ctx)

	status, err := s.bob.Inspect(ctx, "order:43")
	if err != nil {
		return err
	}
	if !status.Locked || status.Owner != "alice" {
		return fmt.Errorf("alice has order:43, but Inspect says %+v", status)
	}
	s.say("bob", "sees order:43 locked by %s, for %.0f s at most", status.Owner,
		status.TTL.Seconds())

	if err := h.Release(ctx); err != nil {
		return err
	}
	locked, err := s.bob.IsLocked(ctx, "order:43")
	if err != nil {
		return err
	}
	if locked {
		return errors.New("order:43 was released, but IsLocked says true")
	}
	s.say("bob", "sees order:43 free")
	return nil
}

func (s *show) lose(ctx context.Context) error {
	h, err := s.alice.Acquire(ctx, "invoice:9", redlock.WithTTL(time.Second),
		redlock.WithAutoRenewal(true))
	if err != nil {
		return err
	}
	defer h.Release(ctx)
	s.say("alice", "has invoice:9 and works under its context")

	if err := s.deleteKey(ctx, s.prefix+":invoice:9"); err != nil {
		return err
	}
	if err := pretend(h.Context(ctx), 5*time.Second); !errors.Is(err, redlock.ErrLost) {
		return fmt.Errorf("alice's work should end with ErrLost, it ended with %v", err)
	}
	s.say("alice", "learns it from the next renewal: the work stops with ErrLost")

	return s.afterLoss(ctx, h)
}

// deleteKey does what nobody should do: it deletes a lock behind its holder's back, on every node
// that answers.
func (s *show) deleteKey(ctx context.Context, key string) error {
	var deleted int
	var errs error
	for _, node := range s.nodes {
		if err := node.Del(ctx, key).Err(); err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		deleted++
	}
	if deleted <= len(s.nodes)/2 {
		return errs
	}
	s.say("somebody", "deletes its key on %d of %d nodes", deleted, len(s.nodes))
	return nil
}

// afterLoss shows that nothing a former holder does touches the lock of the next one.
func (s *show) afterLoss(ctx context.Context, lost *redlock.Handle) error {
	h, err := s.bob.TryAcquire(ctx, "invoice:9")
	if err != nil {
		return err
	}
	defer h.Release(ctx)
	s.say("bob", "has invoice:9")

	if err := lost.Extend(ctx, time.Second); !errors.Is(err, redlock.ErrLost) {
		return fmt.Errorf("extending a lost lock should end with ErrLost, got %v", err)
	}
	if err := lost.Release(ctx); !errors.Is(err, redlock.ErrLost) {
		return fmt.Errorf("releasing a lost lock should end with ErrLost, got %v", err)
	}
	s.say("alice", "extends and releases: ErrLost, ErrLost")
	if err := h.Release(ctx); err != nil {
		return fmt.Errorf("bob's lock did not survive it: %w", err)
	}
	s.say("bob", "had invoice:9 untouched until its own release")
	return nil
}

// refused checks that an acquisition was answered with ErrHeld.
func refused(h *redlock.Handle, err error) error {
	switch {
	case errors.Is(err, redlock.ErrHeld):
		return nil
	case err == nil:
		return fmt.Errorf("two holders of %v", h.Resources())
	default:
		return err
	}
}
