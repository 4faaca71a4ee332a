//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock/internal/redistest"
)

// arena is the servers of a run and what can happen to them.
type arena interface {
	plan(s settings) []step
	masters(side int) masters
	targetName(s step) string
	strike(ctx context.Context, s step) error
	// locks returns the keys that are left, as they stand on the nodes.
	locks(ctx context.Context) ([]string, error)
	close()
}

func newArena(dir string, s settings) (arena, error) {
	if s.Scenario == failover {
		return newWatched(dir)
	}
	return newField(dir)
}

// field is five independent masters.
type field struct {
	nodes []*node
}

// newField launches three masters that remember over a restart and two that do not.
func newField(dir string) (*field, error) {
	fsync := []redistest.Fsync{redistest.FsyncAlways, redistest.FsyncNever, redistest.FsyncNever,
		"", ""}
	f := &field{nodes: make([]*node, len(fsync))}
	errs := make([]error, len(fsync))
	var wg sync.WaitGroup
	for i := range f.nodes {
		wg.Add(1)
		go func() {
			defer wg.Done()
			name := fmt.Sprintf("node %d", i)
			t := traits{aof: fsync[i] != "", clock: redistest.CanFakeClock()}
			f.nodes[i], errs[i] = launchNode(filepath.Join(dir, fmt.Sprintf("node%d", i)), name, t,
				fsync[i])
		}()
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *field) close() {
	for _, n := range f.nodes {
		if n != nil {
			n.close()
		}
	}
}

func (f *field) plan(s settings) []step {
	var t []traits
	for _, n := range f.nodes {
		t = append(t, n.traits)
	}
	return newPlan(s, t)
}

func (f *field) masters(side int) (m masters) {
	for _, n := range f.nodes {
		m.Addrs = append(m.Addrs, n.doors[side].Addr())
	}
	return m
}

func (f *field) targetName(s step) string { return f.nodes[s.target].name }

func (f *field) strike(ctx context.Context, s step) error {
	n := f.nodes[s.target]
	if s.kind != flushAtOnce { // which does not wait
		n.mu.Lock()
		defer n.mu.Unlock()
	}
	return faultOf(s.kind).strike(ctx, n, s)
}

func (f *field) locks(ctx context.Context) (left []string, err error) {
	for _, n := range f.nodes {
		keys, err := lockKeys(ctx, n.server)
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			left = append(left, n.name+": "+key)
		}
	}
	return left, nil
}

// lockKeys returns the lock keys on a server, without what accompanies them under names of their
// own.
func lockKeys(ctx context.Context, s *redistest.Server) (keys []string, err error) {
	reply, err := s.Command(ctx, "keys", "lock:*")
	all, _ := reply.([]any)
	for _, key := range all {
		keys = append(keys, fmt.Sprint(key))
	}
	slices.Sort(keys)
	return keys, err
}

// watched is one master with a replica, and the Sentinel that knows which is which.
type watched struct {
	sentinel *redistest.Sentinel
	doors    [sides]*redistest.Proxy // in front of the Sentinel
}

func newWatched(dir string) (_ *watched, err error) {
	w := &watched{}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.sentinel, err = redistest.LaunchSentinel(dir); err != nil {
		return nil, err
	}
	for side := range w.doors {
		if w.doors[side], err = redistest.LaunchProxy(w.sentinel.Watcher.Addr()); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *watched) close() {
	for _, door := range w.doors {
		if door != nil {
			_ = door.Close()
		}
	}
	if w.sentinel != nil {
		_ = w.sentinel.Close()
	}
}

// The failovers, and for how long one side does not hear of each. Sentinel demotes the old master
// after some ten seconds.
const (
	failoverKind  = "failover"
	failoverEvery = 17 * time.Second
	failoverDeaf  = 6 * time.Second
)

func (w *watched) plan(s settings) (steps []step) {
	for at := 2 * time.Second; at+failoverDeaf < s.Duration; at += failoverEvery {
		steps = append(steps, step{at: at, kind: failoverKind, side: 1, dur: failoverDeaf})
	}
	return steps
}

func (w *watched) masters(side int) masters {
	return masters{Sentinels: []string{w.doors[side].Addr()}, Name: w.sentinel.MasterName()}
}

func (w *watched) targetName(step) string { return "sentinel" }

// strike makes the replica the master, while one side cannot hear the Sentinel and goes on with the
// old one.
func (w *watched) strike(ctx context.Context, s step) error {
	door := w.doors[s.side]
	return during(ctx, s, func() error {
		door.HoldReplies(true)
		return w.sentinel.Promote(ctx)
	}, quiet(func() { door.HoldReplies(false) }))
}

func (w *watched) locks(ctx context.Context) ([]string, error) {
	client := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: w.sentinel.MasterName(),
		SentinelAddrs: []string{w.sentinel.Watcher.Addr()}})
	defer client.Close()
	return client.Keys(ctx, "lock:*").Result()
}
