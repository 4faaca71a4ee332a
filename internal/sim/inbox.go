package sim

import (
	"sync"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// inboxes are the channels of a node, and who listens to them.
type inboxes struct {
	node   *node
	bridge *miniredis.Subscriber // hears what scripts in Lua publish; nil where there are none
	done   chan struct{}         // closed when the bridge is

	mu     sync.Mutex
	listen map[string]map[*conn]*server.Peer
}

func newInboxes(n *node) *inboxes {
	b := &inboxes{node: n, listen: make(map[string]map[*conn]*server.Peer),
		done: make(chan struct{})}
	if !n.lua {
		close(b.done)
		return b
	}
	b.bridge = n.memory.NewSubscriber()
	go func() {
		defer close(b.done)
		for m := range b.bridge.Messages() {
			b.publish(m.Channel, m.Message)
		}
	}()
	return b
}

// subscribe has a connection hear what is published on some channels.
func (b *inboxes) subscribe(peer *server.Peer, c *conn, channels []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, channel := range channels {
		if b.listen[channel] == nil {
			b.listen[channel] = make(map[*conn]*server.Peer)
			if b.bridge != nil {
				b.bridge.Subscribe(channel)
			}
		}
		b.listen[channel][c] = peer
		peer.Block(func(w *server.Writer) {
			w.WritePushLen(3)
			w.WriteBulk("subscribe")
			w.WriteBulk(channel)
			w.WriteInt(i + 1)
		})
	}
}

// unsubscribe forgets a connection.
func (b *inboxes) unsubscribe(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for channel, listeners := range b.listen {
		if delete(listeners, c); len(listeners) == 0 {
			delete(b.listen, channel)
			if b.bridge != nil {
				b.bridge.Unsubscribe(channel)
			}
		}
	}
}

// publish tells those who listen, and returns how many they are.
func (b *inboxes) publish(channel, message string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, peer := range b.listen[channel] {
		peer.Block(func(w *server.Writer) {
			w.WritePushLen(3)
			w.WriteBulk("message")
			w.WriteBulk(channel)
			w.WriteBulk(message)
			w.Flush()
		})
	}
	return len(b.listen[channel])
}

// close ends the bridge. Nothing is published any more.
func (b *inboxes) close() {
	if b.bridge != nil {
		b.bridge.Close()
	}
	<-b.done
}
