package redlock_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rediskit/redlock"
)

func ExampleLocker_Adopt() {
	locker, stop := startLocker()
	defer stop()
	ctx := context.Background()

	// One process takes the lock and sends the token to another, instead of releasing it.
	h, err := locker.Acquire(ctx, "upload:5")
	if err != nil {
		fmt.Println(err)
		return
	}
	token := h.Token()

	// The other one continues where the first stopped.
	adopted, err := locker.Adopt(ctx, []string{"upload:5"}, token, redlock.WithAutoRenewal(true))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("same lock:", adopted.Token() == token)
	fmt.Println("released:", adopted.Release(ctx))

	_, err = locker.Adopt(ctx, []string{"upload:5"}, token)
	fmt.Println("too late:", errors.Is(err, redlock.ErrLost))
	// Output:
	// same lock: true
	// released: <nil>
	// too late: true
}

// A Release before the minimum hold is over leaves the keys on the nodes until then.
func ExampleWithMinHold() {
	locker, stop := startLocker()
	defer stop()
	ctx := context.Background()

	h, err := locker.TryAcquire(ctx, "alarm", redlock.WithMinHold(time.Minute))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("released:", h.Release(ctx))
	_, err = locker.TryAcquire(ctx, "alarm")
	fmt.Println("still held:", errors.Is(err, redlock.ErrHeld))
	// Output:
	// released: <nil>
	// still held: true
}

// Who has the lock, and for how long at most.
func ExampleHeldError() {
	locker, stop := startLocker()
	defer stop()
	ctx := context.Background()

	h, err := locker.TryAcquire(ctx, "order:42", redlock.WithOwner("request-17"),
		redlock.WithTTL(time.Minute))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Release(ctx)

	_, err = locker.TryAcquire(ctx, "order:42")
	var held *redlock.HeldError
	if errors.As(err, &held) {
		fmt.Println("held by", held.Owner, "for", held.TTL.Round(time.Minute))
	}
	// Output:
	// held by request-17 for 1m0s
}

func ExampleHandle_Extend() {
	locker, stop := startLocker()
	defer stop()
	ctx := context.Background()

	h, err := locker.Acquire(ctx, "import", redlock.WithTTL(10*time.Second))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Release(ctx)

	left := func() time.Duration { return time.Until(h.ValidUntil()).Round(10 * time.Second) }
	fmt.Println(left()) // a little less than the TTL
	if err := h.Extend(ctx, time.Minute); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(left())

	h.Release(ctx)
	fmt.Println(h.Extend(ctx, time.Minute))
	// Output:
	// 10s
	// 1m0s
	// redlock: extend "import": lock released
}

func ExampleHandle_Context() {
	locker, stop := startLocker()
	defer stop()

	h, err := locker.Acquire(context.Background(), "order:42", redlock.WithTTL(2*time.Second))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Release(context.Background())

	// Work that takes longer than the lock lasts, and notices.
	ctx := h.Context(context.Background())
	select {
	case <-time.After(time.Minute):
		fmt.Println("done")
	case <-ctx.Done():
		fmt.Println(context.Cause(ctx))
	}
	// Output:
	// redlock: lock lost
}

func ExampleHandle_Done() {
	locker, stop := startLocker()
	defer stop()
	ctx := context.Background()

	h, err := locker.Acquire(ctx, "order:42", redlock.WithAutoRenewal(true))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Release(ctx)

	results := make(chan string, 2)
	results <- "packed"
	results <- "sent"
	for range 2 {
		select {
		case <-h.Done(): // the lock is lost: stop
			fmt.Println(h.Err())
			return
		case r := <-results:
			fmt.Println(r)
		}
	}
	// Output:
	// packed
	// sent
}
