package protocol

import "github.com/rediskit/redlock/internal/node"

// Inboxes are the subscriptions of one Locker to one channel, one on each node.
type Inboxes struct {
	nodes *Nodes
	each  []*node.Inbox // nil: the node was closed
}

// Listen subscribes to a channel on every node: see node.Node.Listen.
func (n *Nodes) Listen(channel string, receive func(node int, payload string),
	changed func(node int, err error)) *Inboxes {
	b := &Inboxes{nodes: n, each: make([]*node.Inbox, len(n.nodes))}
	for i := range n.nodes {
		b.each[i] = n.nodes[i].Listen(channel,
			func(payload string) { receive(i, payload) }, func(err error) { changed(i, err) })
	}
	return b
}

// Sure reports whether a message that a node publishes in vain shows that nobody listens. On a
// Redis Cluster it does not: there PUBLISH counts who listens to the same master.
func (b *Inboxes) Sure(i int) bool {
	return b.each[i] != nil && b.each[i].Up() && !b.nodes.nodes[i].clustered
}

// Close ends the subscriptions. It does not wait for that.
func (b *Inboxes) Close() {
	for _, inbox := range b.each {
		if inbox != nil {
			inbox.Close()
		}
	}
}
