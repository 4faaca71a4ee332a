package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/history"
	"github.com/rediskit/redlock/internal/jitter"
)

// World is one run.
type World struct {
	Options
	start     time.Time
	healed    time.Time // when the last fault ends and nothing new is begun
	nodes     []*node
	resources []string
	keys      []string // of the resources
	registers []*register
	log       history.Log
	totals    Totals

	mu       sync.Mutex
	clients  []*client // those in use, by number
	all      []*client
	breaches []history.Violation
	names    map[string]string // of tokens, for people
	counts   map[string]int    // of tokens of each client
	fates    map[string]fate   // of the tokens whose handles users got
	fences   map[string]uint64 // of these
	looks    []look
	nests    []*nested
	circles  map[string]*nested // deadlocks that somebody was told of, and who
}

// fate is what became of a handle.
type fate uint8

const (
	inUse     fate = iota + 1
	released       // Release was called
	forgotten      // it ended by itself, and nobody called Release
)

// look is an answer that a resource is free.
type look struct {
	client   string
	resource string
	began    time.Duration
	at       time.Duration
	call     string
}

// Outcome is what came of a run.
type Outcome struct {
	Options  Options
	Events   []history.Event
	Breaches []history.Violation // those that the world saw itself
	Totals   *Totals
	looks    []look
	names    map[string]string
}

const (
	// recovery is what go-redis takes to notice that everything is well again: 5 s for a reply that
	// got lost, and a second for nodes that refused many connections.
	recovery = 7 * time.Second

	// quiet is enough for what is taken back in the background, with the longest pause between two
	// tries.
	quiet = recovery + 6*time.Second + patience

	// patience is for how long the nodes' queues stay when nobody is heard of: ten seconds for
	// whoever stands in them, and up to two more for the keys.
	patience = 12 * time.Second
)

// Run lets a world live, from its first request to its last goroutine. It must be called in a
// bubble of synctest.
func Run(o Options) *Outcome {
	w := &World{
		Options: o, start: time.Now(),
		names: make(map[string]string), counts: make(map[string]int), fates: make(map[string]fate),
		fences:  make(map[string]uint64),
		circles: make(map[string]*nested),
	}
	w.healed = w.start.Add(o.Duration)
	if err := w.build(); err != nil {
		w.breach("harness", "%v", err)
	} else {
		w.live()
		w.end()
	}
	w.totals.simulated.Add(int64(w.now()))
	return &Outcome{Options: o, Events: w.log.Events(), Breaches: w.breaches, Totals: &w.totals,
		looks: w.looks, names: w.names}
}

func (w *World) build() error {
	random := w.random("clocks")
	for i := range w.Nodes {
		skew := time.Duration(random.Int64N(int64(20*time.Hour))) - 10*time.Hour
		n, err := newNode(w, i, newClock(skew, w.Rates[i]), w.Lua)
		if err != nil {
			return err
		}
		w.nodes = append(w.nodes, n)
	}
	for i := range w.Resources {
		resource := string(rune('a' + i))
		w.resources = append(w.resources, resource)
		w.keys = append(w.keys, "lock:"+resource)
		w.registers = append(w.registers, &register{world: w, resource: resource})
	}
	for i := range w.Clients {
		c, err := newClient(w, i, 0)
		if err != nil {
			return err
		}
		w.clients = append(w.clients, c)
		w.all = append(w.all, c)
	}
	return nil
}

// live is what happens until every user has come to an end.
func (w *World) live() {
	for _, c := range w.clients {
		c.start()
	}
	newNemesis(w).run()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, c := range w.everyone() {
			c.users.Wait()
		}
	}()
	// A waiter may have to wait for locks of the dead, for the others one after the other, and for
	// its own next try.
	bound := recovery + w.longest() + w.quarantine() + time.Duration(w.Clients*w.Tasks)*w.poll() +
		w.unlocking()
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		w.breach("progress", "somebody still waits %v after everything was healed", bound)
		for _, c := range w.everyone() {
			c.cancel()
		}
		<-done
	}
}

// poll is the longest pause of a waiter.
func (w *World) poll() time.Duration { return 12 * w.Retry }

// end checks what is left, and ends everything.
func (w *World) end() {
	if w.Profile != Calm {
		time.Sleep(quiet)
	} else {
		time.Sleep(10*w.prompt() + patience)
	}
	w.noOrphans()
	w.unfollowed()
	w.probe()
	if w.Profile == Calm { // elsewhere connections are left on which nothing is answered
		w.contend()
		w.lineUp()
	}
	for _, c := range w.clients {
		if c.dead.Load() {
			continue // it buries itself
		}
		c.shut()
		c.cancel()
		c.bury()
	}
	for _, c := range w.everyone() {
		<-c.buried
	}
	for _, n := range w.nodes {
		n.close()
	}
	time.Sleep(10 * time.Second) // what go-redis still waits for
}

// probe checks that every resource can be had once the locks of the dead have expired.
func (w *World) probe() {
	c := w.clients[0]
	for i, resource := range w.resources {
		left := w.left(w.keys[i])
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), left+w.poll()+w.prompt())
		h, err := c.locker.Acquire(ctx, resource, redlock.WithTTL(w.LongTTL))
		cancel()
		if err != nil {
			w.breach("progress", "%s, which is free in %v, could not be had within %v: %v",
				resource, left, time.Since(began), err)
			continue
		}
		if err := h.Release(context.Background()); err != nil {
			w.breach("progress", "release of %s when all is well: %v", resource, err)
		}
	}
}

// contend checks that of all who try a free resource at the same moment one gets it, again and
// again. The resource is one that nobody has locked before: what a lock that lost its quorum has
// left on a minority belongs to no competitor, but looks like it.
func (w *World) contend() {
	const resource = "contest"
	for round := range 10 {
		handles, errs := make([]*redlock.Handle, len(w.clients)), make([]error, len(w.clients))
		var all sync.WaitGroup
		for i, c := range w.clients {
			ctx := jitter.From(context.Background(), w.random("contest", round, i))
			all.Add(1)
			go func() {
				defer all.Done()
				handles[i], errs[i] = c.locker.TryAcquire(ctx, resource, redlock.WithTTL(w.LongTTL))
			}()
		}
		all.Wait()
		won := 0
		for i, h := range handles {
			if h == nil {
				if !errors.Is(errs[i], redlock.ErrHeld) {
					w.breach("contest", "%s: %v", w.clients[i].name, errs[i])
				}
				continue
			}
			won++
			if err := h.Release(context.Background()); err != nil {
				w.breach("contest", "%s: %v", w.clients[i].name, err)
			}
		}
		if won != 1 {
			w.breach("contest", "of %d who tried %s at the same moment %d have got it: %v",
				len(w.clients), resource, won, errs)
		}
		time.Sleep(w.prompt())
	}
}

// left returns when a key will be gone from all nodes.
func (w *World) left(key string) (longest time.Duration) {
	for _, n := range w.nodes {
		if h, ok := n.state()[key]; ok {
			longest = max(longest, n.clock.ours(h.left)+time.Millisecond)
		}
	}
	return longest
}

// now is the time since the start.
func (w *World) now() time.Duration { return time.Since(w.start) }

func (w *World) random(what ...any) *rand.Rand { return seeded(w.Seed, what...) }

// everyone returns all clients that ever were.
func (w *World) everyone() []*client {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*client(nil), w.all...)
}

// replace puts a new process in the place of one that has ended.
func (w *World) replace(old *client) {
	c, err := newClient(w, old.number, old.incarnation+1)
	if err != nil {
		w.breach("harness", "%v", err)
		return
	}
	w.mu.Lock()
	w.clients[old.number] = c
	w.all = append(w.all, c)
	w.mu.Unlock()
	c.start()
}

// breach records that a promise is broken.
func (w *World) breach(promise, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.breaches = append(w.breaches, history.Violation{Promise: promise, At: time.Since(w.start),
		Text: fmt.Sprintf(format, args...)})
}

// short names a token: the client whose label it bears, and which of that client's tokens it is.
func (w *World) short(token string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if token == "" {
		return "nobody"
	}
	if w.names[token] == "" {
		owner := owner(token)
		w.counts[owner]++
		w.names[token] = fmt.Sprintf("%s#%d", owner, w.counts[owner])
	}
	return w.names[token]
}

// owner returns the label in a token.
func owner(token string) string {
	_, label, _ := strings.Cut(token, ":")
	return label
}

func (w *World) setFate(token string, f fate) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fates[token] = f
}

func (w *World) fateOf(token string) fate {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fates[token]
}

// byName returns a client, if there ever was one of that name.
func (w *World) byName(name string) *client {
	for _, c := range w.everyone() {
		if c.name == name {
			return c
		}
	}
	return nil
}

// support returns on how many nodes the token has the key.
func (w *World) support(key, token string) (nodes int) {
	for _, n := range w.nodes {
		if n.state()[key].token == token {
			nodes++
		}
	}
	return nodes
}

// voteless returns how many of the nodes that do not have the token under the key have no vote.
func (w *World) voteless(key, token string) (nodes int) {
	for _, n := range w.nodes {
		if n.voteless(w.Guard) && n.state()[key].token != token {
			nodes++
		}
	}
	return nodes
}

// agreed reports whether all nodes that are always well have the same under each of the keys, and
// what it is under the first.
func (w *World) agreed(keys []string) (string, bool) {
	well := w.nodes[w.sick():]
	for _, key := range keys {
		token := well[0].state()[key].token
		for _, n := range well[1:] {
			if n.state()[key].token != token {
				return "", false
			}
		}
	}
	return well[0].state()[keys[0]].token, true
}

// grantsNothing reports whether each node has somebody's lock under each of the keys.
func (w *World) grantsNothing(keys []string) bool {
	for _, key := range keys {
		for _, n := range w.nodes {
			if n.state()[key].token == "" {
				return false
			}
		}
	}
	return true
}

// contested reports whether a lock took its owner more than one acquire on a node that is always
// well.
func (w *World) contested(token string) bool {
	for _, n := range w.nodes[w.sick():] {
		if n.acquires(token) > 1 {
			return true
		}
	}
	return false
}

// proved checks that a quorum of the nodes has the token under each of the resources' keys, or has
// forgotten what it has and has no vote for that.
func (w *World) proved(h *redlock.Handle, token string) (missing string, ok bool) {
	for _, r := range h.Resources() {
		if n := w.support("lock:"+r, token) + w.voteless("lock:"+r, token); n < w.quorum() {
			return fmt.Sprintf("%s is on %d of %d nodes", r, n, w.Nodes), false
		}
	}
	return "", true
}

// noOrphans checks that nothing is left on any node but what may be.
func (w *World) noOrphans() {
	for _, n := range w.nodes {
		for _, key := range n.memory.Keys() {
			h, known := n.state()[key]
			switch {
			case w.Fencing && isCounter(key): // outlives its lock
			case !known:
				if n.memory.Exists(key) {
					w.breach("no residue", "%s has a key that is no lock: %s", n.name,
						n.memory.describe(key))
				}
			case w.mayStay(n, key, h.token):
			default:
				w.breach("no orphan", "%s still has %s for %s, for %v: %v", n.name, key,
					w.short(h.token), h.left, w.story(n, h.token))
			}
		}
	}
}

// unfollowed checks that whatever a node granted was released there afterwards, also where the key
// has expired meanwhile.
func (w *World) unfollowed() {
	for _, n := range w.nodes {
		for token, granted := range n.granted() {
			if !w.mayStay(n, granted.keys[0], token) {
				w.breach("no orphan", "%s had %v for %s, and nothing released it there: %v", n.name,
					granted.keys, w.short(token), w.story(n, token))
			}
		}
	}
}

// granted returns the tokens that got keys which no release has followed.
func (n *node) granted() map[string]run {
	n.mu.Lock()
	defer n.mu.Unlock()
	granted := make(map[string]run)
	for _, r := range n.runs {
		switch {
		case r.verb == "acquire" && r.ours:
			granted[r.token] = r
		case r.verb != "extend" || !r.ours:
			// a release, or it found somebody else, or nothing: nothing of it was left
			delete(granted, r.token)
		}
	}
	return granted
}

// mayStay reports whether a key may be left on a node: its client died or was closed with it,
// nobody released it, or a request that was under way for longer than all releases made it.
func (w *World) mayStay(n *node, key, token string) bool {
	c := w.byName(owner(token))
	if c == nil {
		return false
	}
	if c.dead.Load() || c.closed.Load() || w.fateOf(token) == forgotten {
		return true
	}
	if n.cameLate(key, token) {
		w.totals.late.Add(1)
		return true
	}
	return false
}

// cameLate reports whether the request that made the key reached the node when the node had already
// answered, with a no or by a release, what the client sent later for the same token:
// docs/design.md says that nothing on the client's side can see that. A request that was in the
// node's sockets by then does not count.
func (n *node) cameLate(key, token string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	var answered []run
	for _, r := range n.runs {
		overtaken := func(by run) bool { return r.arrived.After(by.at) && r.sent.Before(by.sent) }
		switch {
		case r.token != token || !slices.Contains(r.keys, key):
		case !r.ours:
			answered = append(answered, r)
		case r.verb == "acquire" && slices.ContainsFunc(answered, overtaken):
			return true
		}
	}
	return false
}

// acquires returns how often the node ran an acquire of the token's.
func (n *node) acquires(token string) (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.runs {
		if r.token == token && r.verb == "acquire" {
			count++
		}
	}
	return count
}

// story tells what a node ran for a token.
func (w *World) story(n *node, token string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var runs []string
	for _, r := range n.runs {
		if r.token == token {
			runs = append(runs, fmt.Sprintf("%s sent at %v, arrived at %v, ran at %v", r.verb,
				r.sent.Sub(w.start), r.arrived.Sub(w.start), r.at.Sub(w.start)))
		}
	}
	return strings.Join(runs, "; ")
}

// freed checks the answers that a resource was free: nobody may have had it all the while.
func freed(looks []look, tenures []history.Tenure) (found []history.Violation) {
	for _, l := range looks {
		for _, t := range tenures {
			if t.First <= l.began && t.Last >= l.at && slices.Contains(t.Resources, l.resource) {
				found = append(found, history.Violation{
					Promise: "status", At: l.at,
					Text: fmt.Sprintf("%s was told by %s, from %v to %v, that %s was free; but %v",
						l.client, l.call, l.began, l.at, l.resource, t),
				})
			}
		}
	}
	return found
}

// errUsersPanic is what users' code panics with.
var errUsersPanic = errors.New("a user's panic")
