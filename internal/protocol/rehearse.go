package protocol

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rediskit/redlock/internal/lease"
	"github.com/rediskit/redlock/internal/node"
)

// rehearsal is a holder on one node, and somebody who waits for the same lock and gets it next.
type rehearsal struct {
	nodes                *Nodes
	node                 int
	keys                 Keys
	ttl                  time.Duration
	now                  time.Time
	place                *Place // of who waits
	holder, waiter, next *Claim // who waits asks twice
}

// Rehearse runs every script on one node, under keys that nobody else knows, and leaves nothing
// there. now is what a fencing token is at least. It returns what failed first: what the server,
// the network or the client said, a *NoAnswer, or the cause of ctx or of the end of the Locker.
func (n *Nodes) Rehearse(ctx context.Context, node int, k Keys, ttl time.Duration,
	now time.Time) error {
	s := &rehearsal{nodes: n, node: node, keys: k, ttl: ttl, now: now,
		place: NewPlace(n, k, "1@redlock:check")}
	s.place.Sure, s.place.Heard = func(int) bool { return false }, func(int, *Refusal) {}
	s.place.Patience, s.place.Unsure = ttl, ttl
	s.place.Ticket.Store(1)
	s.holder, s.waiter, s.next = s.claim(nil), s.claim(s.place), s.claim(s.place)
	err := s.play(ctx)
	s.place.state.Store(left)
	if err != nil {
		for _, c := range []*Claim{s.holder, s.waiter, s.next} {
			c.Abandon() // also after a release: its answer may be missing
		}
	}
	s.forgetCounter()
	return err
}

func (s *rehearsal) claim(at *Place) *Claim {
	c := &Claim{place: at}
	c.Init(s.nodes, &s.keys, NewToken("check"), s.ttl)
	c.Propose(s.now)
	return s.here(c)
}

// here leaves a claim nothing but the node.
func (s *rehearsal) here(c *Claim) *Claim {
	c.sites = slices.DeleteFunc(c.sites, func(site site) bool { return site.node != s.node })
	return c
}

func (s *rehearsal) play(ctx context.Context) error {
	if err := s.ask(ctx, s.holder, acquireVerb, s.ttl); err != nil {
		return err
	}
	var refused *Refusal
	if err := s.ask(ctx, s.waiter, standVerb, s.ttl); err != nil && !errors.As(err, &refused) {
		return err
	}
	if err := s.followWait(ctx); err != nil {
		return err
	}
	s.holder.settleFence(s.holder.counter(), time.Time{})
	for _, v := range []*verb{extendVerb, findVerb, cleanVerb} {
		if err := s.ask(ctx, s.holder, v, 2*s.ttl); err != nil {
			// an extension to less sets nothing
			return err
		}
	}
	if err := s.ask(ctx, s.next, standVerb, s.ttl); err != nil {
		return err
	}
	s.place.Holds()
	return s.ask(ctx, s.next, cleanVerb, s.ttl)
}

// ask runs the script of a verb. It returns nil if the node has said yes.
func (s *rehearsal) ask(ctx context.Context, c *Claim, v *verb, ttl time.Duration) error {
	c.mu.Lock()
	c.longest = max(c.longest, ttl)
	r := c.partLocked(v, ttl, 0)
	c.mu.Unlock()
	r.For(ctx)
	r.Send()
	if cause := r.Wait(ctx); cause != nil {
		return cause
	}
	return r.failure()
}

// failure returns why the first site of a round did not say yes, or nil.
func (r *Round) failure() error {
	r.claim.mu.Lock()
	defer r.claim.mu.Unlock()
	if a := &r.asks[0]; a.voted {
		return a.err
	}
	return &NoAnswer{r.expired.Round(time.Millisecond), r.claim.nodes.nodes[r.node(0)].LastError()}
}

// followWait lets others read what the holder would wait for, reads it, and takes it back, if
// deadlocks are looked for.
func (s *rehearsal) followWait(ctx context.Context) error {
	if !s.nodes.Hints {
		return nil
	}
	c, follow := s.nodes.follow(newLook(), s.keys.prefix, s.keys.Resources[0], s.ttl)
	s.here(c)
	token := s.holder.token
	publish := func(ms int64) *verb {
		return &verb{
			name:    "publish what is waited for",
			script:  func(s *Scripts) *node.Script { return s.waits },
			prepare: sendWithinTimeout, args: func(*ask) []any {
				return []any{token, OwnerName(token), "check", ms, "nothing"}
			},
			read: func(*ask, any) error { return nil }, rule: allRule, hints: true,
		}
	}
	for _, v := range []*verb{publish(lease.Milliseconds(s.ttl)), follow, publish(0)} {
		if err := s.ask(ctx, c, v, s.ttl); err != nil {
			return err
		}
	}
	return nil
}

// counter returns what the counter of the first site was when it last told it; 0: it has not.
func (c *Claim) counter() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sites[0].fence
}

// forgetCounter deletes the counter of the lock, as if it were a lock key and what it shows the
// token: else it would stay for a week. If the node does not answer in time, it is asked again in
// the background.
func (s *rehearsal) forgetCounter() {
	shows := max(s.holder.counter(), s.next.counter())
	if shows == 0 {
		return // without fencing, or nothing was granted
	}
	k := s.nodes.Keys("", []string{auxiliary(s.keys.all.keys[0], fenceSuffix)})
	c := &Claim{}
	c.Init(s.nodes, &k, fenceText(shows), s.ttl)
	_ = s.ask(context.Background(), s.here(c), cleanVerb, s.ttl)
}
