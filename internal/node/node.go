package node

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock/internal/slot"
)

// Client is what a Node needs of go-redis.
type Client interface {
	redis.Scripter
	Pipeline() redis.Pipeliner
	Subscribe(ctx context.Context, channels ...string) *redis.PubSub
}

var (
	// ErrNotSent ends a call that was dropped before it went out: the node knows nothing of it.
	ErrNotSent = errors.New("not sent: the node has not taken earlier calls yet")

	// ErrClosed ends calls that were still unsent when the node was closed.
	ErrClosed = errors.New("not sent: closed")
)

// Node sends calls to one master, or to the masters of one Redis Cluster. It is safe for
// concurrent use.
type Node struct {
	client   Client
	addr     string
	answered atomic.Bool // it ever has

	mu      sync.Mutex
	ctx     context.Context // of new round trips; Close ends it, and once makes it anew
	cancel  context.CancelFunc
	streams []*stream          // the first is a plain server's, or has what is not routed yet
	routes  *routes            // nil for a plain server
	holding map[string][]*Call // by key, in the order in which they began to; see HoldBack
	repeats repeats            // calls waiting for their next try
	returns returns            // calls that end unsent, on their way back to their Receivers
	unended int                // calls taken on and not done
	workers int                // goroutines that send calls
	busy    int                // workers that have calls for which Close waits
	helpers int                // other goroutines, and timers that will start one
	probes  int                // goroutines that dial a master, or listen to it
	phase   phase
	hurried time.Time     // when the phase became late
	idle    chan struct{} // closed when there is nothing left to do; made by Close
	rest    chan struct{} // closed when all that is left is inside go-redis; made by Close

	// sightings are of masters that may have been promoted, by address; see guard.go.
	sightings map[string]sighting
}

// New returns the node behind client, which is a Redis Cluster if clustered is true: then, if
// client has MasterForKey, each of its masters gets a stream of its own. The client stays the
// caller's.
func New(client Client, clustered bool) *Node {
	n := &Node{client: client, addr: addrOf(client), holding: make(map[string][]*Call)}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	first := newStream(n, client)
	n.streams = []*stream{first}
	if masters, ok := client.(masters); ok && clustered {
		n.routes = &routes{masters: masters, unrouted: first}
		first.worker, first.base = first.route, 1
	}
	return n
}

// Alone says that whoever uses the node uses no other. It must come before the first call. With
// several nodes, the program and the servers always have the calls of another node to do while a
// batch is on its way. A lone server would wait for the program, and the program for the server: so
// it gets more batches, and smaller ones.
func (n *Node) Alone() {
	if s := n.streams[0]; n.routes == nil {
		s.base, s.batch = min(loneWorkers, s.pace.most), loneBatch
		s.pace.stuck = max(1, min(s.pace.stuck, s.pace.most-s.base))
	}
}

// Addr tells where the node is: the address in its client's options, those of a cluster joined by
// commas, or "" if the client does not say.
func (n *Node) Addr() string { return n.addr }

func addrOf(client Client) string {
	if o := optionsOf(client); o != nil {
		return o.Addr
	}
	if c, ok := client.(interface{ Options() *redis.ClusterOptions }); ok && c.Options() != nil {
		return strings.Join(c.Options().Addrs, ",")
	}
	return ""
}

// optionsOf returns the options of a client to a single server, or nil.
func optionsOf(client any) *redis.Options {
	if c, ok := client.(interface{ Options() *redis.Options }); ok {
		return c.Options()
	}
	return nil
}

// Send hands the call to the node. It returns false, and the Receiver never gets the call, if the
// node is closed.
func (n *Node) Send(c *Call) bool { return n.SendAfter(c, nil) }

// SendAfter is Send for a call that must not reach the node before earlier is done, unless earlier
// is nil.
func (n *Node) SendAfter(c, earlier *Call) bool {
	n.findSlot(c)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.phase == closed {
		return false
	}
	n.unended++
	if c.followLocked(earlier); c.waits > 0 {
		c.after = earlier
	}
	n.replaceLocked(c)
	n.followHoldersLocked(c)
	if c.waits > 0 {
		c.state = parked
	} else {
		n.enqueueLocked(c)
	}
	if len(c.HoldsBack) > 0 {
		n.holdBackLocked(c, c.HoldsBack)
	}
	return true
}

// findSlot notes the slot of a call's keys, outside the mutex: it takes time.
func (n *Node) findSlot(c *Call) {
	if n.routes != nil && len(c.Keys) > 0 {
		c.slot = slot.Of(c.Keys[0])
	}
}

// Drop takes back a call that waits to be sent for the first time, but not one that waits behind
// another of the same owner: later calls rely on it. Nor one that has failed already, as it does
// where its master cannot be found. It reports whether it could: then the node knows nothing of the
// call, and its Receiver never gets it.
func (n *Node) Drop(c *Call) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.tried || c.failures > 0 || c.state != queued && (c.state != parked || c.after != nil) {
		return false
	}
	if c.state == queued {
		c.stream.queue.remove(c)
	}
	n.endLocked(c)
	n.checkIdleLocked()
	return true
}

// enqueueLocked puts a call into the queue of its master and sees to it that a worker sends it. On
// a closed node the call ends.
func (n *Node) enqueueLocked(c *Call) {
	if n.phase == closed {
		n.returnLocked(c, ErrClosed)
		return
	}
	n.streamOfLocked(c).pushLocked(c)
}
