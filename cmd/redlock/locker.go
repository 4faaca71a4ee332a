package main

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
)

// locker is a Locker with its clients.
type locker struct {
	*redlock.Locker
	clients []*redis.Client
	prefix  string
	verbose bool
}

// open returns the Locker that the flags ask for. It sends nothing.
func (g *globals) open() (*locker, error) {
	clients, err := openNodes(g.Nodes)
	if err != nil {
		return nil, err
	}
	l, err := redlock.New(clients, redlock.WithKeyPrefix(g.Prefix),
		redlock.WithLogger(newLogger(g.Verbose)))
	if err != nil {
		return nil, err
	}
	return &locker{l, clients, g.Prefix, g.Verbose}, nil
}

// close waits until nothing is under way on the nodes, but for no longer than most. The process
// ends then, whatever hangs.
func (l *locker) close(most time.Duration) {
	closed := make(chan struct{})
	go func() {
		l.Close() // its error has been logged, or says that nodes hang
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(most):
	}
}

// closeTime is what a command that has done its work gives nodes that are slow: long enough to say
// of one that hangs that it does.
const closeTime = clientTimeout + clientTimeout/2

// with calls f with a Locker and a context that ends when a signal asks the process to end.
func (g *globals) with(f func(ctx context.Context, l *locker) error) error {
	l, err := g.open()
	if err != nil {
		return err
	}
	defer l.close(closeTime)
	return untilSignal(listen(), func(ctx context.Context) error { return f(ctx, l) })
}

// key returns the key under which a lock stands on the nodes.
func (l *locker) key(name string) string {
	if l.prefix == "" {
		return name
	}
	return l.prefix + ":" + name
}

// said writes to the standard error what only --verbose asks for.
func (l *locker) said(format string, args ...any) {
	if l.verbose {
		complain(fmt.Errorf(format, args...))
	}
}
