package redlock_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
)

// startNodes starts three independent masters inside this process, with a client for each. In your
// program redis.NewClient takes its place.
func startNodes() (nodes []*redis.Client, stop func()) {
	var servers []*miniredis.Miniredis
	for range 3 {
		server, err := miniredis.Run()
		if err != nil {
			panic(err)
		}
		server.ClockTTL(true) // keys expire as time passes
		servers = append(servers, server)
		nodes = append(nodes, redis.NewClient(&redis.Options{Addr: server.Addr()}))
	}
	return nodes, func() {
		for i, node := range nodes {
			node.Close()
			servers[i].Close()
		}
	}
}

// startLocker starts nodes and a Locker over them.
func startLocker() (locker *redlock.Locker, stop func()) {
	nodes, stopNodes := startNodes()
	// A busy machine may be slow to answer, and some of the locks below are short.
	locker, err := redlock.New(nodes, redlock.WithNodeTimeout(1500*time.Millisecond))
	if err != nil {
		panic(err)
	}
	return locker, func() {
		if err := locker.Close(); err != nil {
			panic(err)
		}
		stopNodes()
	}
}

func ExampleNew() {
	nodes, stop := startNodes() // a *redis.Client for each of three independent masters
	defer stop()

	locker, err := redlock.New(nodes,
		redlock.WithTTL(10*time.Second),       // the default of all its locks
		redlock.WithOwner("billing-1"),        // what others see
		redlock.WithKeyPrefix("billing:lock"), // a name space of its own
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer locker.Close()

	h, err := locker.TryAcquire(context.Background(), "invoice:7")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Release(context.Background())
	fmt.Println("locked", h.Resources())

	_, err = redlock.New(nodes, redlock.WithTTL(time.Millisecond))
	fmt.Println(err)
	// Output:
	// locked [invoice:7]
	// redlock: TTL must be 10ms to 10 years, not 1ms
}

func ExampleLocker_TryAcquire() {
	locker, stop := startLocker()
	defer stop()
	ctx := context.Background()

	h, err := locker.TryAcquire(ctx, "order:42")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Release(ctx) // safe to call twice

	_, err = locker.TryAcquire(ctx, "order:42")
	switch {
	case errors.Is(err, redlock.ErrHeld):
		fmt.Println("busy: somebody else has it")
	case errors.Is(err, redlock.ErrNoQuorum):
		fmt.Println("too few nodes answer")
	}

	fmt.Println("released:", h.Release(ctx))
	_, err = locker.TryAcquire(ctx, "order:42")
	fmt.Println("tried again:", err)
	// Output:
	// busy: somebody else has it
	// released: <nil>
	// tried again: <nil>
}

// A lock that is neither renewed nor released lives for exactly its TTL: a guard against doing
// something twice.
func ExampleLocker_TryAcquire_duplicates() {
	locker, stop := startLocker()
	defer stop()

	for _, message := range []string{"a", "b", "a"} {
		_, err := locker.TryAcquire(context.Background(), "message:"+message,
			redlock.WithTTL(24*time.Hour))
		switch {
		case errors.Is(err, redlock.ErrHeld):
			fmt.Println(message, "was seen before")
		case err != nil:
			fmt.Println(err)
		default:
			fmt.Println(message, "is new")
		}
	}
	// Output:
	// a is new
	// b is new
	// a was seen before
}

func ExampleLocker_Acquire() {
	locker, stop := startLocker()
	defer stop()
	ctx := context.Background()

	first, err := locker.Acquire(ctx, "order:42")
	if err != nil {
		fmt.Println(err)
		return
	}

	// A wait that ends without the lock says why.
	_, err = locker.Acquire(ctx, "order:42", redlock.WithMaxWait(50*time.Millisecond))
	fmt.Println("held:", errors.Is(err, redlock.ErrHeld))

	// This one gets it.
	time.AfterFunc(50*time.Millisecond, func() { first.Release(ctx) })
	second, err := locker.Acquire(ctx, "order:42")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer second.Release(ctx)
	fmt.Println("the first:", first.Err())
	fmt.Println("the second:", second.Err())
	// Output:
	// held: true
	// the first: redlock: lock released
	// the second: <nil>
}

func ExampleLocker_AcquireMulti() {
	locker, stop := startLocker()
	defer stop()
	ctx := context.Background()

	// Both or neither. Others may name them in the opposite order: there is no deadlock.
	h, err := locker.AcquireMulti(ctx, []string{"account:bob", "account:alice"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Release(ctx)
	fmt.Println(h.Resources())
	// Output:
	// [account:alice account:bob]
}

func ExampleLocker_Do() {
	locker, stop := startLocker()
	defer stop()

	// Do waits for the lock, renews it while the function runs, and releases it whatever happens.
	err := locker.Do(context.Background(), "report:daily", func(ctx context.Context) error {
		if ctx.Err() != nil { // ctx ends when the lock is lost
			return context.Cause(ctx)
		}
		fmt.Println("building the report")
		return nil
	})
	fmt.Println(err)
	// Output:
	// building the report
	// <nil>
}

func ExampleLocker_TryDo() {
	locker, stop := startLocker()
	defer stop()
	ctx := context.Background()

	rebuild := func(ctx context.Context) error {
		// While this runs, nobody else can.
		err := locker.TryDo(ctx, "cache", func(context.Context) error { return nil })
		fmt.Println("at the same time:", errors.Is(err, redlock.ErrHeld))
		return nil
	}
	fmt.Println(locker.TryDo(ctx, "cache", rebuild))
	// Output:
	// at the same time: true
	// <nil>
}

// Every host starts the job, and one of them runs it.
func ExampleLocker_Once() {
	locker, stop := startLocker()
	defer stop()

	for _, host := range []string{"a", "b", "c"} {
		ran, err := locker.Once(context.Background(), "report", time.Hour,
			func(ctx context.Context) error {
				fmt.Println("host", host, "builds the report")
				return nil
			})
		fmt.Println(host, ran, err)
	}
	// Output:
	// host a builds the report
	// a true <nil>
	// b false <nil>
	// c false <nil>
}

func ExampleLocker_Inspect() {
	nodes, stop := startNodes()
	defer stop()
	ctx := context.Background()
	locker, err := redlock.New(nodes, redlock.WithOwner("worker-1"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer locker.Close()

	h, err := locker.Acquire(ctx, "order:42", redlock.WithTTL(time.Minute))
	if err != nil {
		fmt.Println(err)
		return
	}
	status, err := locker.Inspect(ctx, "order:42")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s: held by %s for %v at most\n", status.Resource, status.Owner,
		status.TTL.Round(time.Minute))

	h.Release(ctx)
	locked, err := locker.IsLocked(ctx, "order:42")
	fmt.Println(locked, err)
	// Output:
	// order:42: held by worker-1 for 1m0s at most
	// false <nil>
}

func ExampleLocker_WaitForUnlock() {
	locker, stop := startLocker()
	defer stop()
	ctx := context.Background()

	migration, err := locker.Acquire(ctx, "migration")
	if err != nil {
		fmt.Println(err)
		return
	}
	time.AfterFunc(50*time.Millisecond, func() { migration.Release(ctx) })

	// Wait for somebody else's work without taking the lock.
	if err := locker.WaitForUnlock(ctx, "migration"); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("the migration is over:", migration.Err())
	// Output:
	// the migration is over: redlock: lock released
}

func ExampleLocker_Lead() {
	locker, stop := startLocker()
	defer stop()

	ctx, shutDown := context.WithCancelCause(context.Background())
	err := locker.Lead(ctx, "scheduler", func(ctx context.Context) error {
		fmt.Println("this process leads")
		shutDown(errors.New("shutting down")) // stands for a signal
		<-ctx.Done()                          // work until the leadership ends
		return ctx.Err()
	}, redlock.WithTTL(10*time.Second)) // how long nobody leads after the leader has crashed
	fmt.Println(err)
	// Output:
	// this process leads
	// shutting down
}

func ExampleLocker_Check() {
	nodes, stopNodes := startNodes()
	defer stopNodes()
	locker, err := redlock.New(nodes)
	if err != nil {
		panic(err)
	}
	defer locker.Close()

	fmt.Println(locker.Check(context.Background()))
	nodes[1].Close() // a mistake
	err = locker.Check(context.Background())
	var found *redlock.CheckError
	if errors.As(err, &found) {
		for _, n := range found.Nodes {
			fmt.Println("node", n.Node, n.Err)
		}
	}
	fmt.Println("ready:", !errors.Is(err, redlock.ErrNoQuorum))
	// Output:
	// <nil>
	// node 1 cannot be used for locks: redis: client is closed (a client was closed before the Locker)
	// ready: true
}
