//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/history"
)

const (
	// The clients get to know each other before the first fault, and have some peace after the last
	// one.
	warmUp = time.Second
	calm   = 2 * time.Second

	stopPatience = 20 * time.Second
)

// run makes a run, and judges it.
func run(ctx context.Context, s settings) (_ *verdict, err error) {
	dir, err := os.MkdirTemp("", "redlock-soak-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	arena, err := newArena(dir, s)
	if err != nil {
		return nil, err
	}
	defer arena.close()

	origin := monotonic()
	clock, log, troubles := newClock(origin), &history.Log{}, &troubles{}
	registers, err := openRegisters(dir, clock, log)
	if err != nil {
		return nil, err
	}
	defer registers.close()
	f := &fleet{settings: s, clock: clock, log: log, brief: arena.masters,
		registry: registers.addr(), origin: origin, errors: troubles}
	defer f.kill()
	if err := f.launch(); err != nil {
		return nil, err
	}
	n := &nemesis{arena: arena, fleet: f, clock: clock, log: log, errors: troubles}
	if err := ordeal(ctx, s, n); err != nil {
		return nil, err
	}
	f.stop(stopPatience)
	broken := aftermath(ctx, s, arena, clock, log)
	v := judge(s, log.Events(), broken, registers.refused())
	v.troubles = troubles.list()
	return v, ctx.Err()
}

// ordeal is the time in which things happen.
func ordeal(ctx context.Context, s settings, n *nemesis) error {
	if err := sleep(ctx, warmUp+s.barred()); err != nil { // the servers have just been started
		return err
	}
	over := time.NewTimer(s.Duration)
	defer over.Stop()
	n.run(ctx, n.arena.plan(s))
	select {
	case <-over.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return sleep(ctx, calm)
}

// aftermath looks whether every resource can be had when all is mended and everybody is gone, and
// whether nothing is left then.
func aftermath(ctx context.Context, s settings, a arena, c clock,
	log *history.Log) (broken []history.Violation) {
	complain := func(promise, format string, args ...any) {
		broken = append(broken, history.Violation{Promise: promise, At: c.now(),
			Text: fmt.Sprintf(format, args...)})
	}
	nodes := a.masters(0).connect()
	locker, err := redlock.New(nodes)
	if err != nil {
		complain("liveness", "%v", err)
		return broken
	}
	defer func() {
		_ = locker.Close()
		for _, node := range nodes {
			_ = node.Close()
		}
	}()
	seen := make(map[string]bool)
	for _, e := range log.Events() {
		for _, r := range e.Resources {
			seen[r] = true
		}
	}
	// What a crashed client had expires; a waiter comes back after eight retry intervals at the
	// latest, and half as much again.
	limit, cancel := context.WithTimeout(ctx, s.MaxTTL+5*time.Second)
	defer cancel()
	for r := range seen {
		h, err := locker.Acquire(limit, r)
		if err == nil {
			err = h.Release(ctx)
		}
		if err != nil {
			complain("liveness", "%s cannot be had when all is over: %v", r, err)
		}
	}
	for {
		left, err := a.locks(ctx)
		if err == nil && len(left) == 0 {
			return broken
		}
		if sleep(limit, 20*time.Millisecond) != nil {
			complain("no orphan", "left behind: %v (%v)", left, err)
			return broken
		}
	}
}
