//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rediskit/redlock/internal/history"
	"github.com/rediskit/redlock/internal/redistest"
)

// nemesis carries a plan out.
type nemesis struct {
	arena  arena
	fleet  *fleet
	clock  clock
	log    *history.Log
	errors *troubles
}

// run returns when all faults are mended.
func (n *nemesis) run(ctx context.Context, steps []step) {
	var wg sync.WaitGroup
	defer wg.Wait()
	start := time.Now()
	for _, s := range steps {
		if sleep(ctx, time.Until(start.Add(s.at))) != nil {
			return
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			n.step(ctx, s)
		}()
	}
}

// step lets one thing happen, and records it.
func (n *nemesis) step(ctx context.Context, s step) {
	e := history.Event{Kind: history.Fault, Began: n.clock.now(), Token: s.kind, Note: describe(s)}
	var err error
	switch s.kind {
	case clientPause, clientKill:
		m := n.fleet.members[s.target]
		e.Client = m.name()
		err = m.strike(ctx, s)
	default:
		e.Client = n.arena.targetName(s)
		err = n.arena.strike(ctx, s)
	}
	e.At = n.clock.now()
	n.log.Add(e)
	if err != nil && ctx.Err() == nil {
		n.errors.add(fmt.Errorf("%s: %s: %w", e.Client, e.Note, err))
	}
}

// strike stops a client for a while, or kills it. One that has just died by itself is spared.
func (m *member) strike(ctx context.Context, s step) error {
	child := m.process()
	var err error
	if s.kind == clientKill {
		err = child.Kill()
	} else {
		err = during(ctx, s, child.Pause, child.Resume)
	}
	if errors.Is(err, redistest.ErrNotRunning) {
		return nil
	}
	return err
}
