//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rediskit/redlock/internal/redistest"
)

// fault is one way in which a node can suffer.
type fault struct {
	kind string
	// how often it is chosen; 0: never at random
	weight int
	// while it lasts the node is of no use, or of little, to some clients
	impairs bool
	// it ends the keys' lives early, and a quarantine follows
	loses bool
	// it may be meant for the clients of one side only
	sided    bool
	restarts bool                                                   // the server is started anew
	fits     func(t traits) bool                                    // nil: any node
	strike   func(ctx context.Context, n *node, s step) (err error) // returns when it is mended
}

func hasAOF(t traits) bool   { return t.aof }
func hasNoAOF(t traits) bool { return !t.aof }
func hasClock(t traits) bool { return t.clock }

const (
	flushAtOnce  = "flush at once"
	restartEmpty = "restart without data"
)

// faults are all there are for nodes.
var faults = []fault{
	{kind: "pause", weight: 3, impairs: true,
		strike: func(ctx context.Context, n *node, s step) error {
			return during(ctx, s, n.server.Pause, n.server.Resume)
		}},
	{kind: "kill", weight: 3, impairs: true, restarts: true, fits: hasAOF,
		strike: func(ctx context.Context, n *node, s step) error {
			return during(ctx, s, n.server.Kill, n.server.Relaunch)
		}},
	{kind: "kill, data lost", weight: 3, impairs: true, loses: true, restarts: true, fits: hasNoAOF,
		strike: func(ctx context.Context, n *node, s step) error {
			return n.quarantine(ctx, s.longest, n.server.Relaunch)
		}},
	{kind: "power cut", weight: 2, impairs: true, loses: true, restarts: true, fits: hasAOF,
		strike: powerCut},
	{kind: "flush", weight: 1, impairs: true, loses: true,
		strike: func(ctx context.Context, n *node, s step) error {
			return n.quarantine(ctx, s.longest, func() error { return n.command(ctx, "flushall") })
		}},
	{kind: "clock ahead", weight: 2, impairs: true, loses: true, fits: hasClock,
		strike: func(ctx context.Context, n *node, s step) error {
			return n.quarantine(ctx, s.longest, func() error { return n.shiftClock(s.jump) })
		}},
	{kind: "clock back", weight: 2, impairs: true, loses: true, fits: hasClock, strike: clockBack},
	{kind: "refuse", weight: 3, impairs: true, sided: true,
		strike: func(ctx context.Context, n *node, s step) error {
			return during(ctx, s, quiet(func() { n.refuse(true, n.door(s)...) }),
				quiet(func() { n.refuse(false, n.door(s)...) }))
		}},
	{kind: "delay", weight: 3, impairs: true, sided: true,
		strike: throughDoors(func(p *redistest.Proxy, on bool, s step) {
			if !on {
				s.jump = 0
			}
			p.Delay(s.jump)
		})},
	{kind: "hold requests", weight: 3, impairs: true, sided: true,
		strike: throughDoors(func(p *redistest.Proxy, on bool, _ step) { p.HoldRequests(on) })},
	{kind: "hold replies", weight: 3, impairs: true, sided: true,
		strike: throughDoors(func(p *redistest.Proxy, on bool, _ step) { p.HoldReplies(on) })},
	{kind: "swallow requests", weight: 2, impairs: true, sided: true,
		strike: throughDoors(func(p *redistest.Proxy, on bool, _ step) { p.SwallowRequests(on) })},
	{kind: "swallow replies", weight: 2, impairs: true, sided: true,
		strike: throughDoors(func(p *redistest.Proxy, on bool, _ step) { p.SwallowReplies(on) })},
	{kind: "drop replies", weight: 1, sided: true,
		strike: func(_ context.Context, n *node, s step) error {
			for _, door := range n.door(s) {
				door.DropReplies(3, "evalsha") // whenever they come
			}
			return nil
		}},
	{kind: "cut", weight: 1, sided: true, strike: func(_ context.Context, n *node, s step) error {
		for _, door := range n.door(s) {
			door.Cut()
		}
		return nil
	}},
	{kind: "out of memory", weight: 2, impairs: true, strike: configured("maxmemory", "1", "0")},
	{kind: "no replicas", weight: 1, impairs: true,
		strike: configured("min-replicas-to-write", "1", "0")},
	{kind: "client pause", weight: 2, impairs: true,
		strike: func(ctx context.Context, n *node, s step) error {
			return during(ctx, s, func() error {
				return n.command(ctx, "client", "pause", s.dur.Milliseconds(), "all")
			}, quiet(func() {}))
		}},
	{kind: "client kill", weight: 1, strike: func(ctx context.Context, n *node, _ step) error {
		return n.command(ctx, "client", "kill", "type", "normal", "skipme", "yes")
	}},
	{kind: "script flush", weight: 1, strike: func(ctx context.Context, n *node, _ step) error {
		return n.command(ctx, "script", "flush", "sync")
	}},
	// To a majority of the nodes at the same time, where the clients have the restart guard.
	{kind: restartEmpty, impairs: true, loses: true, restarts: true,
		strike: func(ctx context.Context, n *node, _ step) error {
			n.refuse(true, n.doors[:]...)
			defer n.refuse(false, n.doors[:]...)
			return errors.Join(n.command(ctx, "flushall"), n.server.Relaunch())
		}},
	// Never in the safe scenario: the node votes on.
	{kind: flushAtOnce, strike: func(ctx context.Context, n *node, _ step) error {
		_ = n.command(ctx, "flushall") // unless something else is the matter with it just now
		return nil
	}},
}

// faultOf returns the fault of that kind.
func faultOf(kind string) fault {
	for _, f := range faults {
		if f.kind == kind {
			return f
		}
	}
	panic("no such fault: " + kind)
}

// door returns the doors that the step is about.
func (n *node) door(s step) []*redistest.Proxy {
	if s.side < 0 {
		return n.doors[:]
	}
	return n.doors[s.side : s.side+1]
}

// during breaks something for the length of the step, and mends it in any case.
func during(ctx context.Context, s step, breaks, mends func() error) error {
	err := breaks()
	if err == nil {
		err = sleep(ctx, s.dur)
	}
	return errors.Join(err, mends())
}

func quiet(do func()) func() error {
	return func() error {
		do()
		return nil
	}
}

func throughDoors(set func(p *redistest.Proxy, on bool,
	s step)) func(context.Context, *node, step) error {
	return func(ctx context.Context, n *node, s step) error {
		all := func(on bool) func() error {
			return quiet(func() {
				for _, door := range n.door(s) {
					set(door, on, s)
				}
			})
		}
		return during(ctx, s, all(true), all(false))
	}
}

func configured(name, bad, good string) func(context.Context, *node, step) error {
	return func(ctx context.Context, n *node, s step) error {
		set := func(value string) func() error {
			return func() error {
				return n.command(context.WithoutCancel(ctx), "config", "set", name, value)
			}
		}
		return during(ctx, s, set(bad), set(good))
	}
}

// powerCut loses what was written to the append-only file for a while. The quarantine is from the
// cut on.
func powerCut(ctx context.Context, n *node, s step) error {
	state, err := n.server.NoteDisk()
	if err != nil {
		return fmt.Errorf("%s: %w", n.name, err)
	}
	if err := sleep(ctx, s.dur); err != nil {
		return err
	}
	return n.quarantine(ctx, s.longest, func() error {
		return errors.Join(n.server.CutPower(state), n.server.Relaunch())
	})
}

// clockBack lets keys live longer for a while, which only makes locks hard to get. The way forward
// again ends them early.
func clockBack(ctx context.Context, n *node, s step) error {
	err := n.shiftClock(-s.jump)
	if err == nil {
		err = sleep(ctx, s.dur)
	}
	return errors.Join(err, n.quarantine(ctx, s.longest,
		func() error { return n.shiftClock(s.jump) }))
}

// describe is what the record says of a fault.
func describe(s step) string {
	text := s.kind
	if s.jump > 0 {
		text += " " + s.jump.Round(time.Millisecond).String()
	}
	if s.side >= 0 {
		text += fmt.Sprintf(" (side %d only)", s.side)
	}
	return text
}
