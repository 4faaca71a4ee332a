//go:build linux

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rediskit/redlock/internal/redistest"
)

// sides is how many doors a node has. Clients come in by one or the other, so that the network can
// part them.
const sides = 2

// traits are what a fault may ask of a node.
type traits struct {
	aof   bool // it remembers over a restart
	clock bool // its clock can be set
}

// node is one Redis master with its doors.
type node struct {
	traits traits
	name   string
	server *redistest.Server
	doors  [sides]*redistest.Proxy

	mu    sync.Mutex    // held during a fault: there is one at a time
	clock time.Duration // guarded by mu; how far the server's clock is ahead
}

func launchNode(dir, name string, t traits, fsync redistest.Fsync) (_ *node, err error) {
	n := &node{traits: t, name: name}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	var opts []redistest.Option
	if t.aof {
		opts = append(opts, redistest.WithAOF(fsync))
	}
	if t.clock {
		opts = append(opts, redistest.WithFakeClock())
	}
	if n.server, err = redistest.Launch(dir, opts...); err != nil {
		return nil, err
	}
	for side := range n.doors {
		if n.doors[side], err = redistest.LaunchProxy(n.server.Addr()); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (n *node) close() {
	for _, door := range n.doors {
		if door != nil {
			_ = door.Close() // never fails
		}
	}
	if n.server != nil {
		_ = n.server.Close() // what is left dies with us
	}
}

func (n *node) command(ctx context.Context, args ...any) error {
	if _, err := n.server.Command(ctx, args...); err != nil {
		return fmt.Errorf("%s: %v: %w", n.name, args, err)
	}
	return nil
}

// refuse keeps clients out, or lets them in again. What was on its way is lost.
func (n *node) refuse(on bool, doors ...*redistest.Proxy) {
	for _, door := range doors {
		door.Refuse(on)
		door.Cut()
	}
}

// shiftClock moves the server's wall clock. Called with n.mu held.
func (n *node) shiftClock(by time.Duration) error {
	n.clock += by
	return n.server.SetClock(n.clock)
}

// margin is for what takes its time between us and a server.
const margin = 200 * time.Millisecond

// quarantine loses data as the assumptions allow: no client reaches the node from before the loss
// until all leases that had counted on it are over, which is the longest TTL later. Where that is
// 0, the clients' restart guard is to see to it.
func (n *node) quarantine(ctx context.Context, longest time.Duration, lose func() error) error {
	if longest == 0 {
		return lose()
	}
	n.refuse(true, n.doors[:]...)
	defer n.refuse(false, n.doors[:]...)
	// Commands may still wait in the server's sockets. It reads them before, or in the same turn
	// as, the first of these.
	for range 2 {
		if err := n.command(ctx, "ping"); err != nil {
			return err
		}
	}
	if err := lose(); err != nil {
		return err
	}
	return sleep(ctx, longest+margin)
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
