package sim

import (
	"bytes"
	"math/rand/v2"
	"net"
	"time"
)

// conn is one end of a connection.
type conn struct {
	in, out *stream
	road    *road            // on which out goes
	holds   func() time.Time // before that nobody reads here
	lag     time.Duration    // and then one connection comes after the other
	random  *rand.Rand       // of the fate of what is sent from here
	read    stamp            // of the chunk that was read last; the reader's
	slower  func() time.Duration
}

// connect returns the two ends of a new connection.
func connect(w *World, c *client, n *node, number int) (client, server *conn) {
	requests, replies := newStream(), newStream()
	to, from := c.roads[n.index], c.back[n.index]
	client = &conn{
		in: replies, out: requests, road: to, holds: c.paused.get, lag: lag(w, c, n, number, 0),
		random: w.random("requests", c.name, n.name, number),
	}
	server = &conn{
		in: requests, out: replies, road: from, holds: n.hung.get, lag: lag(w, c, n, number, 1),
		slower: n.thinks,
		random: w.random("replies", c.name, n.name, number),
	}
	return client, server
}

// lag is a little different for each end of each connection, so that what happens to all of them at
// once has an order.
func lag(w *World, c *client, n *node, number, end int) time.Duration {
	return time.Duration(w.random("lag", c.name, n.name, number, end).Int64N(int64(w.Latency)))
}

func (c *conn) held() time.Time { return c.holds().Add(c.lag) }

func (c *conn) Read(p []byte) (n int, err error) {
	n, c.read, err = c.in.read(p, c.held)
	return n, err
}

// Write never blocks: somebody's buffers are large enough.
func (c *conn) Write(p []byte) (int, error) {
	fate, at := c.road.travel(c.random)
	at = later(at, c.held())
	if c.slower != nil {
		at = at.Add(c.slower())
	}
	switch fate {
	case passes:
		c.out.send(bytes.Clone(p), at)
	case lost:
		c.out.silence()
	case torn:
		if part := c.random.IntN(len(p)); part > 0 {
			c.out.send(bytes.Clone(p[:part]), at)
		}
		c.out.send(nil, at)
		c.in.send(nil, at)
	}
	return len(p), nil
}

// Close tells the other side, behind all that was sent before.
func (c *conn) Close() error {
	c.in.deafen()
	c.out.send(nil, later(time.Now().Add(c.road.latency+c.lag), c.held()))
	return nil
}

// vanish closes the connection and tells nobody: neither side hears of the other any more.
func (c *conn) vanish() {
	c.in.silence()
	c.out.silence()
}

func (c *conn) LocalAddr() net.Addr  { return &net.TCPAddr{} }
func (c *conn) RemoteAddr() net.Addr { return &net.TCPAddr{} }

func (c *conn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *conn) SetWriteDeadline(time.Time) error { return nil }
func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(t)
	return nil
}
