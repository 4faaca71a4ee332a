package gocronredlock_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/go-co-op/gocron/v2"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/gocronredlock"
)

// startNode starts a Redis server inside this process. In your program redis.NewClient takes its
// place, for your own servers.
func startNode() (client *redis.Client, stop func()) {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	client = redis.NewClient(&redis.Options{Addr: server.Addr()})
	return client, func() {
		client.Close()
		server.Close()
	}
}

// newHost returns a Locker, as each process has one.
func newHost(client *redis.Client, host string) *redlock.Locker {
	locker, err := redlock.New([]*redis.Client{client}, redlock.WithOwner(host),
		redlock.WithTTL(time.Second))
	if err != nil {
		panic(err)
	}
	return locker
}

// startInvoices schedules a job for all hosts together, once an hour.
func startInvoices(locker *redlock.Locker,
	sendInvoices func(ctx context.Context)) (gocron.Scheduler, error) {
	locks, err := gocronredlock.NewLocker(locker) // locker is a *redlock.Locker
	if err != nil {
		return nil, err
	}
	scheduler, err := gocron.NewScheduler(gocron.WithDistributedLocker(locks))
	if err != nil {
		return nil, err
	}
	task := gocron.NewTask(func(ctx context.Context) {
		sendInvoices(locks.Context(ctx, "invoices")) // ends at Shutdown, and when the lock is lost
	})
	_, err = scheduler.NewJob(gocron.CronJob("0 * * * *", false), task, gocron.WithName("invoices"))
	if err != nil {
		return nil, err
	}
	scheduler.Start()
	return scheduler, nil
}

func Example() {
	client, stop := startNode()
	defer stop()
	locker := newHost(client, "host-a")
	defer locker.Close()

	sent := make(chan struct{}, 2)
	scheduler, err := startInvoices(locker, func(context.Context) { sent <- struct{}{} })
	if err != nil {
		fmt.Println(err)
		return
	}
	defer scheduler.Shutdown() // before the Locker is closed

	if err := scheduler.Jobs()[0].RunNow(); err != nil { // not to wait for an hour
		fmt.Println(err)
		return
	}
	<-sent
	fmt.Println("sent")
	// Output: sent
}

// Two hosts have the same job at the same time: one runs it, and the other is told why it does not.
func ExampleNewLocker() {
	client, stop := startNode()
	defer stop()
	running, refused := make(chan struct{}), make(chan struct{})

	start := func(locker *redlock.Locker, job func()) gocron.Scheduler {
		locks, err := gocronredlock.NewLocker(locker)
		if err != nil {
			panic(err)
		}
		scheduler, err := gocron.NewScheduler(gocron.WithDistributedLocker(locks))
		if err != nil {
			panic(err)
		}
		listener := gocron.AfterLockError(func(_ uuid.UUID, job string, err error) {
			var held *redlock.HeldError
			if errors.As(err, &held) {
				fmt.Println(job, "runs on", held.Owner)
			}
			close(refused)
		})
		_, err = scheduler.NewJob(gocron.OneTimeJob(gocron.OneTimeJobStartImmediately()),
			gocron.NewTask(job),
			gocron.WithName("report"), gocron.WithEventListeners(listener))
		if err != nil {
			panic(err)
		}
		scheduler.Start()
		return scheduler
	}

	a, b := newHost(client, "host-a"), newHost(client, "host-b")
	defer a.Close()
	defer b.Close()
	first := start(a, func() {
		close(running)
		<-refused // so long is the job
	})
	<-running
	second := start(b, func() { fmt.Println("never") })
	<-refused
	fmt.Println(first.Shutdown(), second.Shutdown())
	// Output:
	// report runs on host-a
	// <nil> <nil>
}

// Deploying a new version: the leader closes, and another host leads at once.
func ExampleNewElector() {
	client, stop := startNode()
	defer stop()
	a, b := newHost(client, "host-a"), newHost(client, "host-b")
	defer a.Close()
	defer b.Close()
	first, err := gocronredlock.NewElector(a, "scheduler")
	if err != nil {
		panic(err)
	}
	second, err := gocronredlock.NewElector(b, "scheduler")
	if err != nil {
		panic(err)
	}
	// gocron.NewScheduler(gocron.WithDistributedElector(first)): it asks before each run of a job.

	ctx := context.Background()
	fmt.Println("host-a leads:", first.IsLeader(ctx) == nil)
	err = second.IsLeader(ctx)
	fmt.Println("host-b leads:", err == nil, "because another does:",
		errors.Is(err, redlock.ErrHeld))

	fmt.Println("host-a closes:", first.Close()) // after its scheduler's Shutdown
	fmt.Println("host-b leads:", second.IsLeader(ctx) == nil)
	fmt.Println("host-b closes:", second.Close())
	// Output:
	// host-a leads: true
	// host-b leads: false because another does: true
	// host-a closes: <nil>
	// host-b leads: true
	// host-b closes: <nil>
}

// A job that takes long watches its context, and stops when somebody else may run it.
func ExampleLocker_Context() {
	client, stop := startNode()
	defer stop()
	locker := newHost(client, "host-a")
	defer locker.Close()
	locks, err := gocronredlock.NewLocker(locker)
	if err != nil {
		panic(err)
	}
	scheduler, err := gocron.NewScheduler(gocron.WithDistributedLocker(locks))
	if err != nil {
		panic(err)
	}
	defer scheduler.Shutdown()

	done := make(chan struct{})
	_, err = scheduler.NewJob(gocron.OneTimeJob(gocron.OneTimeJobStartImmediately()),
		gocron.NewTask(func(ctx context.Context) {
			defer close(done)
			ctx = locks.Context(ctx, "import")
			client.FlushAll(ctx) // somebody deletes the lock
			<-ctx.Done()         // noticed by the next renewal
			fmt.Println("lock lost:", errors.Is(context.Cause(ctx), redlock.ErrLost))
		}), gocron.WithName("import"))
	if err != nil {
		panic(err)
	}
	scheduler.Start()
	<-done
	// Output: lock lost: true
}
