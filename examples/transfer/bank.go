package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

var errFunds = errors.New("insufficient funds")

// bank keeps its balances in Redis. It knows nothing of locks: whoever calls move has to see to it
// that nobody else works on the same accounts.
type bank struct {
	data *redis.Client
	name string // in front of every key, so that runs do not meet
}

func (b *bank) key(account string) string { return b.name + ":balance:" + account }

func (b *bank) open(ctx context.Context, deposit int) error {
	for _, account := range accounts {
		if err := b.data.Set(ctx, b.key(account), deposit, 0).Err(); err != nil {
			return err
		}
	}
	return nil
}

func (b *bank) move(ctx context.Context, from, to string, amount int) error {
	balances, err := b.balances(ctx, from, to)
	if err != nil {
		return err
	}
	if balances[0] < amount {
		return errFunds
	}
	if err := pretend(ctx, 5*time.Millisecond); err != nil { // limits, fraud, fees ...
		return err
	}
	// One command, so that a crash never leaves half a transfer.
	return b.data.MSet(ctx, b.key(from), balances[0]-amount, b.key(to), balances[1]+amount).Err()
}

func (b *bank) balances(ctx context.Context, names ...string) ([]int, error) {
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = b.key(name)
	}
	values, err := b.data.MGet(ctx, keys...).Result()
	if err != nil {
		return nil, err
	}
	balances := make([]int, len(names))
	for i, value := range values {
		text, ok := value.(string)
		if !ok {
			return nil, fmt.Errorf("no account %s", names[i])
		}
		if balances[i], err = strconv.Atoi(text); err != nil {
			return nil, fmt.Errorf("balance of %s: %w", names[i], err)
		}
	}
	return balances, nil
}

// audit checks that no money came or went and that no account is in debt.
func (b *bank) audit(ctx context.Context, want int,
	say func(who, format string, args ...any)) error {
	balances, err := b.balances(ctx, accounts...)
	if err != nil {
		return err
	}
	total := 0
	for i, balance := range balances {
		say("bank", "%-6s has %4d", accounts[i], balance)
		if balance < 0 {
			return fmt.Errorf("%s is in debt: %d", accounts[i], balance)
		}
		total += balance
	}
	say("bank", "total %d, of %d paid in", total, want)
	if total != want {
		return fmt.Errorf("updates were lost: %d paid in, %d there", want, total)
	}
	return nil
}

// close removes the accounts, also when ctx has ended.
func (b *bank) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	for _, account := range accounts {
		if err := b.data.Del(ctx, b.key(account)).Err(); err != nil {
			return err
		}
	}
	return nil
}
