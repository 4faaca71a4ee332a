// Cron runs jobs on one of several hosts. Three hosts start each job by their own clocks, which
// differ:
//
//  1. Once runs the job in one of them, and not again before the interval is over
//  2. when the job fails, the next host may try at once
//  3. a lock on the tick itself runs each tick at most once, even if its host dies in the middle
//
// How to run it:
//
//	go run ./examples/cron
//	go run ./examples/cron -redis host1:6379,host2:6379,host3:6379
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

const (
	every = 600 * time.Millisecond // an hour, in real life
	// for how long Once keeps others away: ticks may come a little early
	hold = every * 9 / 10
	tick = 100 * time.Millisecond // hosts ask more often than the job is due
)

func main() {
	log.SetFlags(0)
	addrs := flag.String("redis", "", redisUsage)
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *addrs)
	stop()
	if err != nil {
		log.Fatalf("cron: %v", err)
	}
}

func run(ctx context.Context, addrs string) (err error) {
	nodes, closeNodes, err := openNodes(addrs, 3)
	if err != nil {
		return err
	}
	defer closeNodes()

	f := &fleet{
		say: narrator(),
		// The tick is part of the name: the time that the job is due, and not what some host's
		// clock shows.
		backup: "backup:" + time.Now().UTC().Truncate(time.Hour).Format(time.RFC3339),
	}
	prefix := "cron-" + rand.Text()[:8]
	defer func() { err = errors.Join(err, f.settle(ctx, nodes, prefix)) }()
	for _, name := range []string{"host-a", "host-b", "host-c"} {
		locker, err := redlock.New(nodes, redlock.WithKeyPrefix(prefix), redlock.WithOwner(name))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, locker.Close()) }()
		f.hosts = append(f.hosts, host{name, locker})
	}
	for _, show := range []func(context.Context) error{
		f.oncePerInterval, f.againAfterFailure, f.oncePerTick,
	} {
		if err := show(ctx); err != nil {
			return err
		}
	}
	return nil
}

// fleet is the hosts that start the same jobs.
type fleet struct {
	hosts  []host
	backup string // the resource of the backup's tick
	say    func(who, format string, args ...any)
}

type host struct {
	name   string
	locker *redlock.Locker
}

// oncePerInterval lets every host ask again and again until the job has run four times.
func (f *fleet) oncePerInterval(ctx context.Context) error {
	f.say("cron", "three hosts ask every %v for a job that is due every %v", tick, every)
	runs := newRuns(4)
	var work []func(context.Context) error
	for i, h := range f.hosts {
		work = append(work, func(ctx context.Context) error {
			// Each clock is off by another part of a tick.
			if err := pretend(ctx, time.Duration(i)*tick/3); err != nil {
				return err
			}
			return f.ask(ctx, h, runs)
		})
	}
	if err := parallel(ctx, work...); err != nil {
		return err
	}
	return runs.check(hold)
}

func (f *fleet) ask(ctx context.Context, h host, runs *runs) error {
	for !runs.enough() {
		asked := time.Now()
		_, err := h.locker.Once(ctx, "invoices", every, func(ctx context.Context) error {
			f.say(h.name, "sends the invoices")
			runs.add(asked, time.Now())
			return pretend(ctx, 20*time.Millisecond)
		})
		if err != nil {
			return err
		}
		if err := pretend(ctx, tick); err != nil {
			return err
		}
	}
	return nil
}

// againAfterFailure shows that a failed run does not count.
func (f *fleet) againAfterFailure(ctx context.Context) error {
	errPrinter := errors.New("the printer is on fire")
	ran, err := f.hosts[0].locker.Once(ctx, "report", time.Hour,
		func(context.Context) error { return errPrinter })
	if !ran || !errors.Is(err, errPrinter) {
		return fmt.Errorf("the report should have failed, got %v, %w", ran, err)
	}
	f.say(f.hosts[0].name, "runs the report: %v", err)
	for i, want := range []bool{true, false} {
		h := f.hosts[i+1]
		ran, err := h.locker.Once(ctx, "report", time.Hour,
			func(context.Context) error { return nil })
		if err != nil {
			return err
		}
		if ran != want {
			return fmt.Errorf("%s: ran is %v after %d successes", h.name, ran, i)
		}
		f.say(h.name, "asks for the report: ran is %v", ran)
	}
	return nil
}

// oncePerTick makes the tick part of the name and lets the lock expire. A host that dies in the
// middle leaves its lock too: that tick is lost, but never done twice.
func (f *fleet) oncePerTick(ctx context.Context) error {
	var had []string
	for _, h := range f.hosts {
		_, err := h.locker.TryAcquire(ctx, f.backup, redlock.WithTTL(24*time.Hour))
		switch {
		case err == nil:
			had = append(had, h.name)
		case !errors.Is(err, redlock.ErrHeld):
			return err
		}
	}
	if len(had) != 1 {
		return fmt.Errorf("%s was had by %v", f.backup, had)
	}
	f.say(had[0], "has the backup's tick of this hour, for good")
	return nil
}

// settle deletes what this run remembers, also when ctx has ended. A real system lets it expire.
func (f *fleet) settle(ctx context.Context, nodes []*redis.Client, prefix string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	var errs []error
	for _, node := range nodes {
		for _, name := range []string{"invoices", "report", f.backup} {
			errs = append(errs, node.Del(ctx, prefix+":"+name).Err())
		}
	}
	return errors.Join(errs...)
}
