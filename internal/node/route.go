package node

import (
	"context"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock/internal/slot"
)

// On a Redis Cluster each master has a stream of its own, so that one that hangs holds up nobody
// else's calls. Which master serves a slot is looked up once and kept as a hint: go-redis finds the
// way of each command by itself, whatever stream it is in.
//
// A lookup can block while go-redis has not seen the cluster yet. So calls whose slots are unknown
// wait in a stream of their own, and its workers look for their masters.

// masters is what a client to a Redis Cluster has.
type masters interface {
	MasterForKey(ctx context.Context, key string) (*redis.Client, error)
}

// hintsLast is for how long a hint stands. go-redis's own view of a cluster gets about as old.
const hintsLast = 10 * time.Second

// routes knows the streams of slots. Its fields are guarded by the node's mutex.
type routes struct {
	masters  masters
	unrouted *stream
	masterOf []*stream // by slot; nil: unknown
	since    time.Time // when all were unknown
	byAddr   map[string]*stream
}

// streamOfLocked returns the stream for a call.
func (n *Node) streamOfLocked(c *Call) *stream {
	r := n.routes
	if r == nil {
		return n.streams[0]
	}
	if r.masterOf == nil {
		return r.unrouted
	}
	if now := time.Now(); now.Sub(r.since) > hintsLast {
		clear(r.masterOf)
		r.since = now
	}
	if s := r.masterOf[c.slot]; s != nil {
		return s
	}
	return r.unrouted
}

// forgetRouteLocked has the master of a call's slot looked up anew, after the call has failed.
func (n *Node) forgetRouteLocked(c *Call, s *stream) {
	if r := n.routes; r != nil && r.masterOf != nil && r.masterOf[c.slot] == s {
		r.masterOf[c.slot] = nil
	}
}

// route is what a worker of the unrouted stream does. It leaves the calls in the queue while it
// looks for a master: there they can be dropped.
func (s *stream) route(t *trip, _ bool) {
	for {
		ctx, c, ok := s.takeKey(t)
		if !ok {
			return
		}
		master, err := s.node.routes.masters.MasterForKey(ctx, c.key)
		s.found(ctx, t, c.slot, master, err)
		s.node.deliver(t.batch)
	}
}

// place is a key and its slot.
type place struct {
	key  string
	slot uint16
}

// takeKey returns where the call belongs that has waited longest. If there is none, or the worker
// was stuck, it signs the worker off and returns false.
func (s *stream) takeKey(t *trip) (context.Context, place, bool) {
	n := s.node
	n.mu.Lock()
	defer n.mu.Unlock()
	n.unloadLocked(t)
	c := s.queue.head
	if c == nil || t.stuck {
		s.signOffLocked(t)
		return nil, place{}, false
	}
	where := place{slot: c.slot}
	if len(c.Keys) > 0 {
		where.key = c.Keys[0]
	}
	t.patience = c.patience()
	s.beginLocked(t, time.Now())
	return n.tripContextLocked(t), where, true
}

// found moves the calls of a slot to the stream of its master. If the lookup has failed, the trip's
// batch becomes all calls that wait for one: go-redis does not know the cluster. They stay if
// another worker has learnt better meanwhile, or if Close has cut the lookup short.
func (s *stream) found(ctx context.Context, t *trip, slot uint16, master *redis.Client, err error) {
	n := s.node
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	switch {
	case err == nil:
		s.heardLocked(ctx, now, true, nil)
		to := n.masterLocked(master, now)
		n.routes.masterOf[slot] = to
		s.queue.each(func(c *Call) {
			if c.slot == slot {
				s.queue.remove(c)
				to.pushLocked(c)
			}
		})
	case !s.health.heard.After(t.began) && (n.phase != late || ctx.Err() == nil):
		s.heardLocked(ctx, now, false, err)
		s.queue.each(func(c *Call) {
			s.queue.remove(c)
			c.state, c.Reply, c.Err = sent, nil, err
			t.batch = append(t.batch, c)
		})
		n.loadedLocked(s, t)
	}
	s.finishLocked(t)
}

// masterLocked returns the stream to a master. When it is a new one, those that no slot leads to
// any more are forgotten.
func (n *Node) masterLocked(master *redis.Client, now time.Time) *stream {
	r := n.routes
	if r.masterOf == nil {
		r.masterOf, r.since, r.byAddr = make([]*stream, slot.Count), now, make(map[string]*stream)
	}
	var client any // of a wrapper that does not tell
	addr := ""
	if master != nil {
		client, addr = master, master.Options().Addr
	}
	if s := r.byAddr[addr]; s != nil {
		return s
	}
	for old, s := range r.byAddr {
		if s.queue.length+s.workers+s.stuck == 0 && !slices.Contains(r.masterOf, s) {
			s.stopAlarmLocked()
			delete(r.byAddr, old)
			n.streams = slices.DeleteFunc(n.streams, func(other *stream) bool { return other == s })
		}
	}
	s := newStream(n, client)
	r.byAddr[addr] = s
	n.streams = append(n.streams, s)
	return s
}
