package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rediskit/redlock"
)

var accounts = []string{"rent", "wages", "sales", "taxes"}

// hierarchy has one worker book while the other one closes the month. A lock is exclusive: there is
// none that many may share for reading. So the one above takes all that is below it, in one round
// trip; those below take what they need, and do not stand in each other's way.
func (o *office) hierarchy(ctx context.Context) error {
	books := newLedger()
	bookkeeper, closer := o.workers[0], o.workers[1]
	const bookings, closings = 20, 5
	err := parallel(ctx,
		func(ctx context.Context) error {
			for i := range bookings {
				if err := books.book(ctx, bookkeeper.locker, accounts[i%4],
					accounts[(i+1)%4]); err != nil {
					return err
				}
			}
			return nil
		},
		func(ctx context.Context) error {
			for range closings {
				if err := books.close(ctx, closer.locker); err != nil {
					return err
				}
			}
			return nil
		},
	)
	if err != nil {
		return err
	}
	o.say(closer.name,
		"closed the month %d times, %s made %d bookings meanwhile: the sum was always 0",
		closings, bookkeeper.name, bookings)
	return nil
}

// ledger has a balance for each account, which belongs to who has the account's lock.
type ledger map[string]*atomic.Int64

func newLedger() ledger {
	books := ledger{}
	for _, name := range accounts {
		books[name] = new(atomic.Int64)
	}
	return books
}

// book moves 10 from one account to another. Between the two the sum is wrong, and nobody may see
// it.
func (b ledger) book(ctx context.Context, locker *redlock.Locker, from, to string) (err error) {
	h, err := locker.AcquireMulti(ctx, []string{"account:" + from, "account:" + to})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Release(ctx)) }()
	b[from].Add(-10)
	if err := pretend(h.Context(ctx), time.Millisecond); err != nil {
		return err
	}
	b[to].Add(10)
	return nil
}

// close adds up all accounts.
func (b ledger) close(ctx context.Context, locker *redlock.Locker) (err error) {
	var all []string
	for _, name := range accounts {
		all = append(all, "account:"+name)
	}
	h, err := locker.AcquireMulti(ctx, all)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Release(ctx)) }()
	var sum int64
	for _, balance := range b {
		sum += balance.Load()
	}
	if sum != 0 {
		return fmt.Errorf("the sum is %d in the middle of a booking", sum)
	}
	return pretend(h.Context(ctx), time.Millisecond)
}
