package protocol

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/rediskit/redlock/internal/lease"
	"github.com/rediskit/redlock/internal/node"
)

// Claim is one token and whatever it may have left on the nodes.
type Claim struct {
	nodes *Nodes
	keys  *Keys
	token string // without the number of a shortening
	// args are acquire's: token, TTL, how many lock keys a plain server has, and see Propose.
	args  [4]any
	place *Place // where its owner stands in the queues; nil: nowhere
	next  *Place // who is to stand there when the lock is released; nil: nobody

	mu      sync.Mutex
	posted  []func()      // callbacks, run by unlock
	sites   []site        // sorted by node, then by key
	number  int           // of the latest shortening; 0: none
	longest time.Duration // the longest TTL that was asked for
	fence   uint64        // what a quorum has agreed on; 0: nothing yet
	until   time.Time     // grants are wanted until then; zero: while the attempt lasts
	over    bool          // and not at all from now on
	retired bool          // what is granted all the same may stay: see Retire
	aside   *Claim        // the claim itself, if it steps aside: see StepAside
	ended   atomic.Bool   // over and not retired, for what is written to a connection
}

// site is a group of keys that one call can carry, and what is known of them.
type site struct {
	*group  // of the claim's keys
	node    int
	fence   uint64     // what the counters were when a grant or an extension was answered last
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

// Init prepares a claim that has sent nothing yet. The keys may not change from here on.
func (c *Claim) Init(n *Nodes, k *Keys, token string, ttl time.Duration) {
	c.nodes, c.keys, c.token, c.longest = n, k, token, ttl
	c.args = [4]any{token, lease.Milliseconds(ttl), k.all.locks}
	c.sites = make([]site, 0, n.sitesOf(k))
	for i := range n.nodes {
		if !n.inGroups(i, k) {
			c.sites = append(c.sites, site{group: &k.all, node: i})
			continue
		}
		for g := range k.groups {
			c.sites = append(c.sites, site{group: &k.groups[g], node: i})
		}
	}
}

// inGroups reports whether a node is asked about the groups of the keys, and not about all at once.
func (n *Nodes) inGroups(i int, k *Keys) bool {
	return k.groups != nil && (n.nodes[i].clustered || k.apart)
}

// sitesOf returns how many sites a claim on the keys has.
func (n *Nodes) sitesOf(k *Keys) int {
	sites := len(n.nodes)
	for i := range n.nodes {
		if n.inGroups(i, k) {
			sites += len(k.groups) - 1
		}
	}
	return sites
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

// End says that nothing is wanted any more: what a node grants from now on is taken back, unless
// the claim retires next (see Retire).
func (c *Claim) End(retires bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.overLocked(retires)
}

func (c *Claim) overLocked(retires bool) {
	c.over, c.retired = true, retires
	c.ended.Store(!retires)
}

// unlock frees the mutex and runs the callbacks that had to wait for that.
func (c *Claim) unlock() {
	posted := c.posted
	c.posted = nil
	c.mu.Unlock()
	for _, f := range posted {
		f()
	}
	c.nodes.passOn()
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
