//go:build go1.25

package acceptance_test

import (
	"context"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// virtualNode is a node in memory, in virtual time: there, computing takes no time at all, and an
// hour passes at once. Its faults act on scripts only, so that the test's own commands always get
// through.
type virtualNode struct {
	client *redis.Client
	dial   func() (net.Conn, error)
	gone   chan struct{} // closed at the end of the test

	mu     sync.Mutex
	delay  time.Duration // before a script runs
	more   time.Duration // which is added to the delay each time
	hung   chan struct{} // what scripts wait for, if it is not nil
	broken string        // an error in place of any reply
	calls  []virtualCall
}

// serve comes before each command. It returns true if the command is done with.
func (n *virtualNode) serve(peer *server.Peer, command string, args ...string) bool {
	if !strings.HasPrefix(command, "EVAL") {
		return false
	}
	n.mu.Lock()
	delay, hung, broken := n.delay, n.hung, n.broken
	n.delay += n.more
	if keys, _ := strconv.Atoi(args[1]); command == "EVALSHA" && keys <= 2 {
		// a lock key, and its queue
		n.calls = append(n.calls, virtualCall{time.Now(), keys == 2, args[2+keys:]})
	}
	n.mu.Unlock()

	time.Sleep(delay)
	if hung != nil {
		select {
		case <-hung:
		case <-n.gone:
		}
	}
	if broken != "" {
		peer.WriteError(broken)
		return true
	}
	return false
}

func (n *virtualNode) hang() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hung = make(chan struct{})
}

// fail makes the node answer with an error; with "" it works again.
func (n *virtualNode) fail(reply string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broken = reply
}

func (n *virtualNode) delayBy(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay = d
}

// delayMoreBy delays each script longer than the one before.
func (n *virtualNode) delayMoreBy(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.more = d
}

// sent returns when extensions in that mode reached the node, or with "" when acquires did.
func (n *virtualNode) sent(mode string) []time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	var at []time.Time
	for _, c := range n.calls {
		extends := len(c.args) == 4
		acquires := c.queued && len(c.args) == 2 || // a try
			len(c.args) == 7 && c.args[6] == "take" // or one from the queue
		if extends && c.args[3] == mode || acquires && mode == "" {
			at = append(at, c.at)
		}
	}
	return at
}

// owner returns what stands under the key.
func (n *virtualNode) owner(key string) string {
	return n.client.Get(context.Background(), key).Val()
}

// extensions returns how long after start the node was asked to extend a lock.
func (n *virtualNode) extensions(start time.Time) []time.Duration {
	var after []time.Duration
	for _, at := range n.sent("keep") {
		after = append(after, at.Sub(start))
	}
	return after
}

// recover undoes all faults.
func (n *virtualNode) recover() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hung != nil {
		close(n.hung)
	}
	n.delay, n.hung, n.broken = 0, nil, ""
}

// virtualCall is a script that reached a node.
type virtualCall struct {
	at     time.Time
	queued bool     // it carries the queue
	args   []string // behind the keys
}

// virtually runs a test in virtual time, with that many nodes.
func virtually(t *testing.T, nodes int, test func(t *testing.T, nodes []*virtualNode)) {
	synctest.Test(t, func(t *testing.T) {
		started := make([]*virtualNode, nodes)
		for i := range started {
			started[i] = startVirtualNode(t)
		}
		test(t, started)
	})
}

func startVirtualNode(t *testing.T) *virtualNode {
	memory := miniredis.NewMiniRedis()
	memory.ClockTTL(true)
	n := &virtualNode{
		client: virtualClient(memory.Dial), dial: memory.Dial, gone: make(chan struct{}),
	}
	require.NoError(t, n.client.Ping(context.Background()).Err())
	memory.Server().SetPreHook(n.serve)
	t.Cleanup(func() {
		close(n.gone)
		require.NoError(t, n.client.Close())
		memory.Close()
		time.Sleep(10 * time.Second) // whatever go-redis still waits for
	})
	return n
}

func virtualClient(dial func() (net.Conn, error)) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr:     "127.0.0.1:6379", // not a name: looking one up leaves the bubble
		PoolSize: 100,              // a client that waits for a connection leaves it, too
		Dialer:   func(context.Context, string, string) (net.Conn, error) { return dial() },
	})
}

// anotherClient returns a client of its own for the node, that gets its connections from dial.
func anotherClient(t *testing.T, dial func() (net.Conn, error)) *redis.Client {
	client := virtualClient(dial)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

func clientsOf(nodes []*virtualNode) []*redis.Client {
	clients := make([]*redis.Client, len(nodes))
	for i, n := range nodes {
		clients[i] = n.client
	}
	return clients
}
