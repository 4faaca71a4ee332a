package protocol

import (
	"sync"
	"time"

	"github.com/rediskit/redlock/internal/lease"
	"github.com/rediskit/redlock/internal/node"
)

// Claim is one token and whatever it may have left on the nodes.
type Claim struct {
	nodes *Nodes
	keys  Keys
	token string // without the number of a shortening
	args  [2]any // acquire's: token and TTL

	mu      sync.Mutex
	posted  []func()      // callbacks, run by unlock
	sites   []site        // sorted by node, then by key
	number  int           // of the latest shortening; 0: none
	longest time.Duration // the longest TTL that was asked for
	until   time.Time     // grants are wanted until then; zero: while the attempt lasts
	over    bool          // and not at all from now on
	retired bool          // what has been granted all the same may stay: see Retire
}

// site is a group of keys that one call can carry, and what is known of them.
type site struct {
	node    int
	keys    []string
	latest  *node.Call // the acquire that has not been answered: other calls go behind it
	has     possession
	leaving bool // a release has been sent
}

// possession is what a site may have of a claim.
type possession uint8

const (
	nothing possession = iota
	ourKeys            // set by an acquire that was answered: a release deletes them
	unknown            // an acquire may yet run, even after a first release: it takes two
)

// residueGrace is how long after its TTL a key of ours is still sought on a node that did not
// answer: until then the node may run a request that it received long ago.
const residueGrace = time.Minute

// Init prepares a claim that has sent nothing yet.
func (c *Claim) Init(n *Nodes, k Keys, token string, ttl time.Duration) {
	c.nodes, c.keys, c.token, c.longest = n, k, token, ttl
	c.args = [2]any{token, lease.Milliseconds(ttl)}
	c.sites = make([]site, 0, len(n.nodes))
	for i := range n.nodes {
		if k.runs == nil || !n.nodes[i].clustered {
			c.sites = append(c.sites, site{node: i, keys: k.names})
			continue
		}
		for _, run := range k.runs {
			c.sites = append(c.sites, site{node: i, keys: run})
		}
	}
}

// Resources returns what the claim is about, sorted.
func (c *Claim) Resources() []string { return c.keys.Resources }

// Token returns the value of the lock keys.
func (c *Claim) Token() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return withNumber(c.token, c.number)
}

// Prove says that a quorum has confirmed the lease: grants are wanted until it ends.
func (c *Claim) Prove(l lease.Lease) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = l.End()
	c.longest = max(c.longest, l.TTL)
}

// End says that nothing is wanted any more: what a node grants from now on is taken back.
func (c *Claim) End() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
}

// unlock frees the mutex and runs the callbacks that had to wait for that.
func (c *Claim) unlock() {
	posted := c.posted
	c.posted = nil
	c.mu.Unlock()
	for _, f := range posted {
		f()
	}
}

// wantedLocked reports whether a grant would still be of use.
func (c *Claim) wantedLocked() bool {
	return !c.over && (c.until.IsZero() || time.Now().Before(c.until))
}

// dropLocked takes back the latest acquire of a site if it has not been sent.
func (c *Claim) dropLocked(s *site) bool {
	if s.latest == nil || !c.nodes.nodes[s.node].Drop(s.latest) {
		return false
	}
	a := s.latest.Receiver.(*ask)
	s.latest = nil
	a.round.voteLocked(a, node.ErrNotSent)
	return true
}
