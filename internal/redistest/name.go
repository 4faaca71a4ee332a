package redistest

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Name is an address that can be moved from one server to another, as a DNS name
// or a virtual IP address can. A connection stays with the server that it was made
// to.
type Name struct {
	front

	target struct {
		mu   sync.Mutex
		addr string // guarded by mu
	}
}

// NewName leads to the server until the end of the test, or until it is moved.
func NewName(tb testing.TB, to *Server) *Name {
	tb.Helper()
	n := &Name{}
	n.Move(to)
	if err := n.open(n.serve); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { closeOrFail(tb, n) })
	return n
}

// Move leads new connections to another server, and leaves those that exist alone.
func (n *Name) Move(to *Server) {
	n.target.mu.Lock()
	defer n.target.mu.Unlock()
	n.target.addr = to.Addr()
}

// Client returns a new go-redis client of the name with stock options.
func (n *Name) Client(tb testing.TB) *redis.Client {
	tb.Helper()
	return newClient(tb, n.Addr())
}

func (n *Name) serve(client net.Conn) {
	n.target.mu.Lock()
	addr := n.target.addr
	n.target.mu.Unlock()
	server, err := n.dial(addr)
	if err != nil {
		return
	}
	n.spawn(func() {
		defer n.drop(client)
		_, _ = io.Copy(client, server)
	})
	defer n.drop(server)
	_, _ = io.Copy(server, client)
}
