// Transfer is a bank whose tellers move money between accounts that are stored in Redis. A transfer
// reads two balances, thinks, and writes two balances back; a lock on both accounts makes one step
// of it. At the end the program counts the money: it must be what it was.
//
//	go run ./examples/transfer
//	go run ./examples/transfer -unsafe      without locks: see the money change
//	go run ./examples/transfer -redis host1:6379,host2:6379,host3:6379
//
// The locks need the nodes to be independent masters; the balances are ordinary data and live on
// the first of them.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log"
	mathrand "math/rand/v2"
	"os"
	"os/signal"
	"time"

	"github.com/rediskit/redlock"
)

const (
	tellers   = 4
	transfers = 20 // of each teller
	deposit   = 100
)

var accounts = []string{"anna", "ben", "carla", "dan"}

func main() {
	log.SetFlags(0)
	addrs := flag.String("redis", "", redisUsage)
	unsafe := flag.Bool("unsafe", false, "transfer without locks, and lose money")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *addrs, *unsafe)
	stop()
	if err != nil {
		log.Fatalf("transfer: %v", err)
	}
}

func run(ctx context.Context, addrs string, unsafe bool) (err error) {
	nodes, closeNodes, err := openNodes(addrs, 3)
	if err != nil {
		return err
	}
	defer closeNodes()

	name := "transfer-" + rand.Text()[:8]
	b := &bank{data: nodes[0], name: name}
	if err := b.open(ctx, deposit); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close(ctx)) }()

	say := narrator()
	say("bank", "opens with %d in each of %d accounts", deposit, len(accounts))
	var work []func(context.Context) error
	for i := range tellers {
		t := &teller{name: fmt.Sprintf("teller-%d", i+1), bank: b, unsafe: unsafe, say: say}
		// Each teller stands for a process of its own, so each has a Locker of its own.
		t.locker, err = redlock.New(nodes, redlock.WithKeyPrefix(name), redlock.WithOwner(t.name),
			redlock.WithMaxWait(10*time.Second))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, t.locker.Close()) }()
		work = append(work, t.work)
	}
	if err := parallel(ctx, work...); err != nil {
		return err
	}
	return b.audit(ctx, deposit*len(accounts), say)
}

// teller makes transfers, one after the other.
type teller struct {
	name   string
	locker *redlock.Locker
	bank   *bank
	unsafe bool
	say    func(who, format string, args ...any)
}

func (t *teller) work(ctx context.Context) error {
	var refused int
	var longest time.Duration
	for range transfers {
		pair := mathrand.Perm(len(accounts))
		start := time.Now()
		err := t.transfer(ctx, accounts[pair[0]], accounts[pair[1]], 1+mathrand.IntN(60))
		longest = max(longest, time.Since(start))
		if errors.Is(err, errFunds) {
			refused++
			continue
		}
		if err != nil {
			return err
		}
	}
	t.say(t.name, "made %d transfers, refused %d; the longest took %d ms",
		transfers-refused, refused, longest.Milliseconds())
	return nil
}

// transfer moves amount under a lock on both accounts. Their order does not matter: it is both or
// none, so a transfer from anna to ben and one from ben to anna can meet without a deadlock.
func (t *teller) transfer(ctx context.Context, from, to string, amount int) (err error) {
	if t.unsafe {
		return t.bank.move(ctx, from, to, amount)
	}
	h, err := t.locker.AcquireMulti(ctx, []string{"account:" + from, "account:" + to})
	if err != nil {
		return err
	}
	// Release tells the truth about the whole time since Acquire: ErrLost would mean that somebody
	// else may have had the accounts as well, so it is an error of the transfer.
	defer func() { err = errors.Join(err, h.Release(ctx)) }()

	// Under this context nothing more is sent once the lock is lost.
	return t.bank.move(h.Context(ctx), from, to, amount)
}
