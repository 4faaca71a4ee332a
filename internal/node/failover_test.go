package node_test

import (
	"context"
	"net"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/redistest"
)

// moving is the address of a managed primary: after a failover it leads to another server, while
// the connections to the old one stay.
type moving struct {
	mu   sync.Mutex
	addr string
}

func (m *moving) set(addr string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.addr = addr
}

func (m *moving) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return new(net.Dialer).DialContext(ctx, network, m.addr)
}

// failover returns a line to a primary that becomes a replica when the returned function is
// called. The new primary knows none of the scripts.
func failover(t *testing.T) (l *line, demote func()) {
	t.Helper()
	servers := redistest.StartN(t, 2)
	where := &moving{addr: servers[0].Addr()}
	l = &line{server: servers[1], open: make(chan struct{})}
	l.resume()
	l.client = redis.NewClient(&redis.Options{Dialer: where.dial, MaxRetries: 3})
	t.Cleanup(func() { _ = l.client.Close() })
	l.client.AddHook(l)
	for _, source := range []string{pushSource, readSource} {
		servers[0].Do(t, "script", "load", source)
	}
	return l, func() {
		host, port, err := net.SplitHostPort(servers[1].Addr())
		require.NoError(t, err)
		servers[0].Do(t, "replicaof", host, port)
		where.set(servers[1].Addr())
	}
}

const readSource = `return redis.call('EXISTS', KEYS[1])`

func readCall(to node.Receiver) *node.Call {
	return &node.Call{Script: script(readSource), Keys: []string{"list"}, Receiver: to}
}

func writeCall(to node.Receiver) *node.Call { return pushCall(to, "list", "x") }

func unknownCall(to node.Receiver) *node.Call {
	return &node.Call{Script: script("return 1"), Receiver: to}
}

// go-redis drops the connection to a demoted primary when it sees READONLY, and it looks at the
// first command of a pipeline only.
func TestConnectionToADemotedPrimaryIsGivenUp(t *testing.T) {
	for name, first := range map[string]func(node.Receiver) *node.Call{
		"by a call alone":                        nil,
		"by the first call of a pipeline":        writeCall,
		"by a call behind one that only reads":   readCall,
		"by a call behind one that is not known": unknownCall,
	} {
		t.Run(name, func(t *testing.T) {
			l, demote := failover(t)
			n, in := l.newNode(t), newInbox()
			busy := newInbox()
			occupy(t, l, n, busy) // both connections lead to the old primary
			l.resume()
			for _, c := range busy.collect(t, 2) {
				require.NoError(t, c.Err)
			}
			occupyWith(t, l, n, busy, readCall)
			demote()
			var calls []*node.Call
			if first != nil {
				calls = append(calls, first(in))
			}
			for range 1 + 2*len(calls) {
				calls = append(calls, pushCall(in, "list", "y"))
			}
			for _, c := range calls {
				require.True(t, n.Send(c))
			}
			l.resume()
			for _, c := range in.collectAll(t, calls) {
				require.NoError(t, c.Err)
			}
			for range 4 {
				require.True(t, n.Send(pushCall(in, "list", "z")))
				require.NoError(t, in.next(t).Err)
			}
		})
	}
}

// Scripts that the old primary does not know either go out as text, and get their READONLY then.
func TestConnectionToADemotedPrimaryIsGivenUpForText(t *testing.T) {
	l, demote := failover(t)
	n, in := l.newNode(t), newInbox()
	busy := newInbox()
	occupyWith(t, l, n, busy, readCall) // both connections lead to the old primary
	l.resume()
	busy.collect(t, 2)
	occupyWith(t, l, n, busy, readCall)
	demote()
	read, write := readCall(in), pushCall(in, "list", "x")
	read.Script, write.Script = script(readSource+" "), script(pushSource+" ")
	for _, c := range []*node.Call{read, write} {
		require.True(t, n.Send(c))
	}
	l.resume()
	for _, c := range in.collectAll(t, []*node.Call{read, write}) {
		require.NoError(t, c.Err)
	}
}
