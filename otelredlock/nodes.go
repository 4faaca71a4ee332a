package otelredlock

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/rediskit/redlock"
)

// nodes has the metrics of the nodes, which all Lockers share.
type nodes struct {
	m     *metrics
	known cache[nodeKey, *node]
	count atomic.Int64 // of the nodes of a Locker; 0: not known yet

	mu   sync.Mutex
	down int // nodes that fail, as the Locker said that spoke of them last
}

// nodeKey is a node's address, or its index where the address is not known.
type nodeKey struct {
	addr  string
	index int // 0 if there is an address: two Lockers may list it in another order
}

type node struct {
	calls [len(ops)][replies][]metric.RecordOption
	up    []metric.RecordOption

	down  atomic.Bool // changes under nodes.mu
	since time.Time   // when that was told; guarded by nodes.mu
}

func (ns *nodes) of(addr string, index int) *node {
	key := nodeKey{addr: addr}
	if addr == "" {
		key.index = index
	}
	return ns.known.get(key, ns.newNode)
}

func (ns *nodes) newNode(key nodeKey) *node {
	name := key.addr
	if name == "" {
		name = strconv.Itoa(key.index)
	}
	of := attribute.String("node", name)
	n := &node{up: records(ns.m.with(of))}
	// until a Locker says otherwise, which it says at once
	ns.m.up.Record(context.Background(), 1, n.up...)
	for i, op := range ops {
		for j, reply := range replyNames {
			n.calls[i][j] = records(ns.m.with(of, attribute.String("op", op),
				attribute.String("outcome", reply)))
		}
	}
	return n
}

// call takes a call to a node. One that was sent after the node was told to fail, and was answered,
// ends the outage: the Locker that told of it may have been closed, or may have nothing to ask, and
// so may never tell of its end.
func (ns *nodes) call(ctx context.Context, e redlock.NodeCall) {
	n, reply := ns.of(e.Addr, e.Node), replyOf(e)
	ns.m.took.Record(ctx, e.Duration.Seconds(), n.calls[opOf(e.Op)][reply]...)
	if reply == broken || !n.down.Load() {
		return
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if e.Start.After(n.since) {
		ns.setLocked(n, false)
	}
}

func (ns *nodes) state(e redlock.NodeState) {
	n := ns.of(e.Addr, e.Node)
	ns.mu.Lock()
	defer ns.mu.Unlock()
	n.since = time.Now()
	ns.setLocked(n, !e.Up)
}

// number takes how many nodes a Locker has.
func (ns *nodes) number(count int) {
	if ns.count.Load() == int64(count) {
		return
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	ns.count.Store(int64(count))
	ns.tellLocked()
}

func (ns *nodes) setLocked(n *node, down bool) {
	if n.down.Load() == down {
		return
	}
	n.down.Store(down)
	if down {
		ns.down++
		ns.m.up.Record(context.Background(), 0, n.up...)
	} else {
		ns.down--
		ns.m.up.Record(context.Background(), 1, n.up...)
	}
	ns.tellLocked()
}

func (ns *nodes) tellLocked() {
	if count := int(ns.count.Load()); count > 0 {
		ns.m.margin.Record(context.Background(), int64(count-ns.down-(count/2+1)), ns.m.bare...)
	}
}
