package protocol

import (
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/rediskit/redlock/internal/lease"
	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/slot"
)

// waitsSuffix is for the hash in which the owner of a lock lets others read what it waits for.
const waitsSuffix = "waits"

// OwnerName names the owner of a lock by the value of its key. Unlike the value it may be read by
// anybody: it releases nothing.
func OwnerName(value string) string {
	sum := sha256.Sum256([]byte(withoutNumber(value)))
	return base64.RawURLEncoding.EncodeToString(sum[:tokenBytes])
}

// Notice is what one wait lets others read on the nodes, under a lock that is kept from them: the
// task has it, or is first in its queue. It is a hint: no lock depends on it. Its methods belong to
// one goroutine.
type Notice struct {
	nodes *Nodes
	token string // of the owner, or the name in the queue
	name  string // the one that others may read
	wait  string
	sites []board
	keeps time.Duration // how long the nodes keep the latest one
	until time.Time     // when they drop it by themselves
}

// board is where a notice stands: a group of keys that one call can carry.
type board struct {
	node   int
	keys   []string   // see watchable
	latest *node.Call // the one that the next call goes behind; nil: nothing was sent
}

// Notice prepares the notice of a wait of the lock's owner; no other wait has that name.
func (c *Claim) Notice(wait string) *Notice {
	return c.nodes.notice(withoutNumber(c.token), *c.keys, wait)
}

// Notice prepares the notice of a wait that stands in the queues, under that name.
func (n *Nodes) Notice(place string, k Keys, wait string) *Notice {
	return n.notice(place, k, wait)
}

func (n *Nodes) notice(token string, k Keys, wait string) *Notice {
	notice := &Notice{nodes: n, token: token, name: OwnerName(token), wait: wait}
	var all []string
	for _, key := range k.all.lockKeys() {
		all = watchable(all, key)
	}
	for i := range n.nodes {
		for _, keys := range runsOf(all, n.nodes[i].clustered) {
			notice.sites = append(notice.sites, board{node: i, keys: keys})
		}
	}
	return notice
}

// watchable appends what the scripts need that tell who waits for what: a lock key, the hash of
// notices, and its queue.
func watchable(keys []string, key string) []string {
	return append(keys, key, auxiliary(key, waitsSuffix), auxiliary(key, queueSuffix))
}

// runsOf cuts keys into runs that one call can carry. On a Redis Cluster they share a slot.
func runsOf(keys []string, clustered bool) (runs [][]string) {
	start := 0
	for i := 1; i <= len(keys); i++ {
		if i == len(keys) || clustered && slot.Of(keys[i]) != slot.Of(keys[start]) {
			runs = append(runs, keys[start:i])
			start = i
		}
	}
	return runs
}

// Keys returns the keys of the lock.
func (c *Claim) Keys() Keys { return *c.keys }

// Owner returns the name that others may read, as [OwnerName] has it.
func (n *Notice) Owner() string { return n.name }

// Publish lets others read the text for as long as ttl, on the nodes on which the lock is kept
// from them. It waits for nothing.
func (n *Notice) Publish(text string, ttl time.Duration) {
	now := time.Now()
	n.keeps, n.until = ttl, now.Add(ttl)
	for i := range n.sites {
		n.send(&n.sites[i], &node.Call{SendBy: n.until}, ttl, text)
	}
}

// Withdraw takes back what was published. It waits for nothing: a node that does not answer is
// asked again until it has dropped the text by itself.
func (n *Notice) Withdraw() {
	for i := range n.sites {
		if b := &n.sites[i]; b.latest != nil {
			n.send(b, &node.Call{RepeatUntil: n.until}, 0, "")
		}
	}
}

// send sends a call behind the one before: a notice must not overtake its withdrawal.
func (n *Notice) send(b *board, c *node.Call, ttl time.Duration, text string) {
	nodes := n.nodes
	ms := any(0)
	if ttl > 0 {
		ms = lease.Milliseconds(ttl)
	}
	c.Script, c.Keys, c.Patience = nodes.Scripts.waits, b.keys, nodes.TimeoutFor(n.keeps)
	c.Args = []any{n.token, n.name, n.wait, ms, text}
	c.Receiver = &posting{nodes, b.node, time.Now()}
	if nodes.nodes[b.node].SendAfter(c, b.latest) {
		b.latest = c
	}
}

// posting takes the answer to a notice.
type posting struct {
	nodes *Nodes
	node  int
	sent  time.Time
}

// Receive tells of a node that fails.
func (p *posting) Receive(c *node.Call) (again bool) {
	if code(c.Err) != "" {
		p.nodes.noHint(p.node, c.Err)
	} else {
		p.nodes.note(p.node, "publish what is waited for", c.Err, p.sent)
	}
	p.nodes.passOn()
	return false
}

// noHint tells, once, that a server refuses to say who waits for what, or to be told: as a rule
// because of the user's permissions. For locks it may be all right.
func (n *Nodes) noHint(i int, err error) {
	if c := code(err); c == "NOPERM" || c == "ERR" {
		n.noHints.Do(func() { n.tell(Trouble{Kind: NoHints, Node: i, Err: err}) })
	}
}
