package queue

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit is much longer than anything here takes.
const limit = 20 * time.Second

// lineOver returns a line over so many servers that run in this process.
func lineOver(t *testing.T, n int) (*Line, []*miniredis.Miniredis) {
	t.Helper()
	var servers []*miniredis.Miniredis
	var clients []node.Client
	for range n {
		server := miniredis.RunT(t)
		client := redis.NewClient(&redis.Options{Addr: server.Addr()})
		t.Cleanup(func() { require.NoError(t, client.Close()) })
		servers, clients = append(servers, server), append(clients, client)
	}
	life, end := context.WithCancel(context.Background())
	nodes := protocol.NewNodes(protocol.Config{
		Scripts: protocol.LoadScripts(os.DirFS("../.."), 0), Timeout: limit, Drift: 0.01,
		Life: life, Tell: func(protocol.Trouble) {},
	}, clients, make([]bool, n))
	l := New(nodes, "inbox", func(int, error) {})
	t.Cleanup(func() {
		end()
		l.Close()
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		for _, err := range nodes.Close(ctx, time.Second) {
			require.NoError(t, err)
		}
	})
	return l, servers
}

// hearOnlyTheTest keeps the nodes' subscriptions, which come to stand at any time, from the line:
// for a test that says itself what it hears.
func (l *Line) hearOnlyTheTest() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inboxes = l.nodes.Listen(l.channel, func(int, string) {}, func(int, error) {})
}

func (l *Line) keys(resources ...string) protocol.Keys { return l.nodes.Keys("lock", resources) }

// attempt asks the nodes for the lock.
func (l *Line) attempt(t *testing.T, w *Waiter) (*protocol.Claim, *protocol.Round) {
	t.Helper()
	c := &protocol.Claim{}
	c.Init(l.nodes, &w.keys, protocol.NewToken(""), limit)
	var r *protocol.Round
	if at := w.Place(); at != nil {
		r = c.Stand(limit, at)
	} else {
		r = c.Acquire(limit)
	}
	r.Send()
	require.NoError(t, r.Wait(context.Background()))
	l.Look(r)
	return c, r
}

// foreign has somebody else hold a resource on all servers.
func foreign(t *testing.T, servers []*miniredis.Miniredis, resource string) {
	t.Helper()
	for _, s := range servers {
		require.NoError(t, s.Set("lock:"+resource, "somebody"))
	}
}

func within(t *testing.T, done <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(limit):
		require.Fail(t, what+" takes too long")
	}
}
