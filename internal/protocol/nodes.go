package protocol

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/quorum"
	"github.com/rediskit/redlock/internal/timers"
)

const (
	minTimeout = 20 * time.Millisecond
	maxTimeout = time.Second
)

// Config is what all claims of a Locker share.
type Config struct {
	Scripts *Scripts
	Timeout time.Duration // what a node may take to answer; 0: a quarter of the TTL, 20 ms to 1 s
	Drift   float64
	Fencing bool            // each lock has a fencing token
	Life    context.Context // ends, with its cause, when the Locker is closed
	// Tell gets what no caller learns otherwise: one at a time, in order, without any lock held.
	Tell  func(Trouble)
	Heard func(Heard) // each answer; may be nil; called without any lock held
	Hints bool        // deadlocks are looked for
}

// Nodes are the independent masters among which a quorum decides.
type Nodes struct {
	Config
	nodes     []peer
	clustered bool // one of them is a Redis Cluster
	deadlines timers.Deadlines
	news      news
	noHints   sync.Once
}

// peer is one of the nodes.
type peer struct {
	*node.Node
	clustered bool
	health    health
}

// NewNodes returns the nodes behind the clients. clustered says which are Redis Clusters.
func NewNodes(c Config, clients []node.Client, clustered []bool) *Nodes {
	n := &Nodes{Config: c, nodes: make([]peer, len(clients))}
	for i, client := range clients {
		n.nodes[i].Node, n.nodes[i].clustered = node.New(client, clustered[i]), clustered[i]
		n.clustered = n.clustered || clustered[i]
	}
	if len(n.nodes) == 1 {
		n.nodes[0].Alone()
	}
	return n
}

// TimeoutFor returns how long a node may take in an operation on a lock with the given TTL.
func (n *Nodes) TimeoutFor(ttl time.Duration) time.Duration {
	if n.Timeout > 0 {
		return min(n.Timeout, ttl) // what comes later proves nothing
	}
	return min(max(ttl/4, minTimeout), maxTimeout)
}

// Addr returns the address of a node as its client has it, or "".
func (n *Nodes) Addr(i int) string { return n.nodes[i].Addr() }

// Close closes all nodes at the same time: see node.Node.Close.
func (n *Nodes) Close(ctx context.Context, grace time.Duration) []error {
	errs := make([]error, len(n.nodes))
	var wg sync.WaitGroup
	for i := range n.nodes {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := n.nodes[i].Close(ctx, grace); err != nil {
				errs[i] = fmt.Errorf("%s: %w", n.name(i), err)
			}
			if stays := n.nodes[i].health.stays.Swap(0); stays > 0 {
				n.tell(Trouble{Kind: KeysStay, Node: i, Stays: int(stays)})
			}
		}()
	}
	wg.Wait()
	n.passOn()
	n.awaitNews()
	return errs
}

// name returns what people call a node.
func (n *Nodes) name(i int) string {
	if addr := n.Addr(i); addr != "" {
		return fmt.Sprintf("node %d (%s)", i, addr)
	}
	return fmt.Sprintf("node %d", i)
}

// Len returns how many nodes there are, and Need how many make a quorum.
func (n *Nodes) Len() int  { return len(n.nodes) }
func (n *Nodes) Need() int { return quorum.Size(len(n.nodes)) }
