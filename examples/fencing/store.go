package main

import (
	"context"
	"database/sql"
	"errors"

	"github.com/redis/go-redis/v9"
	_ "modernc.org/sqlite" // the driver
)

// errStale is what a store says to a holder whose lock is over.
var errStale = errors.New("refused: somebody with a larger fencing token was here")

// store keeps a balance, and the largest fencing token that was shown to it. It refuses whoever
// shows a smaller one. The same token is that of the same holder, which may come again. Without
// fencing all tokens are 0.
type store interface {
	reset(ctx context.Context, balance int) error
	look(ctx context.Context) (int, error) // for the audience
	read(ctx context.Context, fence uint64) (int, error)
	write(ctx context.Context, balance int, fence uint64) error
}

// key is a store in Redis: a hash with the balance and the token.
type key struct {
	data *redis.Client
	name string
}

func (k *key) String() string { return "a Redis key" }

func (k *key) reset(ctx context.Context, balance int) error {
	return k.data.HSet(ctx, k.name, "balance", balance, "fence", 0).Err()
}

func (k *key) look(ctx context.Context) (int, error) {
	return k.data.HGet(ctx, k.name, "balance").Int()
}

// fenced compares the token, remembers it, sets the balance if one is given, and returns it, all in
// one step. Tokens are below 2^52: Lua can compare them as numbers.
var fenced = redis.NewScript(`
if tonumber(redis.call('HGET', KEYS[1], 'fence')) > tonumber(ARGV[1]) then return false end
redis.call('HSET', KEYS[1], 'fence', ARGV[1])
if ARGV[2] then redis.call('HSET', KEYS[1], 'balance', ARGV[2]) end
return redis.call('HGET', KEYS[1], 'balance')`)

func (k *key) read(ctx context.Context, fence uint64) (int, error) { return k.run(ctx, fence) }

func (k *key) write(ctx context.Context, balance int, fence uint64) error {
	_, err := k.run(ctx, fence, balance)
	return err
}

func (k *key) run(ctx context.Context, args ...any) (balance int, err error) {
	balance, err = fenced.Run(ctx, k.data, []string{k.name}, args...).Int()
	if errors.Is(err, redis.Nil) {
		err = errStale
	}
	return balance, err
}

func (k *key) close() error { return k.data.Del(context.Background(), k.name).Err() }

// table is a store in SQL.
type table struct{ db *sql.DB }

func openTable(ctx context.Context) (*table, error) {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // each connection would have a database of its own
	_, err = db.ExecContext(ctx, `
		CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, fence INTEGER NOT NULL);
		INSERT INTO account VALUES (1, 0, 0)`)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &table{db}, nil
}

func (t *table) String() string { return "an SQL table" }

func (t *table) reset(ctx context.Context, balance int) error {
	_, err := t.db.ExecContext(ctx, `UPDATE account SET balance = $1, fence = 0 WHERE id = 1`,
		balance)
	return err
}

func (t *table) look(ctx context.Context) (balance int, err error) {
	err = t.db.QueryRowContext(ctx, `SELECT balance FROM account WHERE id = 1`).Scan(&balance)
	return balance, err
}

func (t *table) read(ctx context.Context, fence uint64) (balance int, err error) {
	return t.run(ctx,
		`UPDATE account SET fence = $1 WHERE id = 1 AND fence <= $1 RETURNING balance`, fence)
}

func (t *table) write(ctx context.Context, balance int, fence uint64) error {
	_, err := t.run(ctx,
		`UPDATE account SET fence = $1, balance = $2 WHERE id = 1 AND fence <= $1 RETURNING balance`, fence, balance)
	return err
}

func (t *table) run(ctx context.Context, query string, args ...any) (balance int, err error) {
	err = t.db.QueryRowContext(ctx, query, args...).Scan(&balance)
	if errors.Is(err, sql.ErrNoRows) {
		err = errStale
	}
	return balance, err
}

func (t *table) close() error { return t.db.Close() }
