package node_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/redistest"
)

// line is a stock go-redis client of a real server, whose round trips are written down and can be
// held up.
type line struct {
	server *redistest.Server
	client *redis.Client

	mu    sync.Mutex
	trips []trip
	open  chan struct{} // closed when round trips may go on
}

// trip is what went out together: the commands' names.
type trip struct {
	pipeline bool
	commands []string
}

func (l *line) DialHook(next redis.DialHook) redis.DialHook {
	return next
}

func (l *line) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		l.pass(false, []redis.Cmder{cmd})
		return next(ctx, cmd)
	}
}

func (l *line) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		l.pass(true, cmds)
		return next(ctx, cmds)
	}
}

// pass notes a round trip of scripts and waits until it may go on. What go-redis says to greet a
// server does not count.
func (l *line) pass(pipeline bool, cmds []redis.Cmder) {
	if name := cmds[0].Name(); name != "evalsha" && name != "eval" {
		return
	}
	t := trip{pipeline: pipeline}
	for _, cmd := range cmds {
		t.commands = append(t.commands, cmd.Name())
	}
	l.mu.Lock()
	l.trips = append(l.trips, t)
	open := l.open
	l.mu.Unlock()
	<-open
}

// halt holds up all further round trips, and resume lets them go.
func (l *line) halt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = make(chan struct{})
}

// haltAnew is halt and forget at one moment: what begins meanwhile is held up and written down, or
// neither.
func (l *line) haltAnew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open, l.trips = make(chan struct{}), nil
}

func (l *line) resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.open:
	default:
		close(l.open)
	}
}

// passOthers lets round trips go on from now on, except those that are held up already. It returns
// the channel that lets these go.
func (l *line) passOthers() (held chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held = l.open
	l.open = make(chan struct{})
	close(l.open)
	return held
}

// begun returns the round trips that have begun since the start or the last forget.
func (l *line) begun() []trip {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.trips)
}

func (l *line) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trips = nil
}

// sizes returns how many calls the round trips carried.
func (l *line) sizes() []int {
	var sizes []int
	for _, t := range l.begun() {
		sizes = append(sizes, len(t.commands))
	}
	return sizes
}

// list returns what the scripts have pushed.
func (l *line) list(t *testing.T, key string) []string {
	t.Helper()
	list, err := l.client.LRange(t.Context(), key, 0, -1).Result()
	require.NoError(t, err)
	return list
}

// newLine connects to a server that knows the push script.
func newLine(t *testing.T) *line {
	t.Helper()
	open := make(chan struct{})
	close(open)
	server := redistest.Start(t)
	l := &line{server: server, client: server.Client(t), open: open}
	l.client.AddHook(l)
	server.Do(t, "script", "load", pushSource)
	return l
}

// newNode returns the node at the end of the line. The test closes it, or its end does.
func (l *line) newNode(t *testing.T) *node.Node {
	t.Helper()
	n := node.New(l.client, false)
	t.Cleanup(func() {
		l.resume() // where a test has failed
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, n.Close(ctx, 0))
	})
	return n
}

// occupy halts the line and sends two calls into it. The node has no more out at a time: what comes
// next queues up.
func occupy(t *testing.T, l *line, n *node.Node, to node.Receiver) {
	t.Helper()
	occupyWith(t, l, n, to, func(to node.Receiver) *node.Call { return pushCall(to, "busy", "x") })
}

func occupyWith(
	t *testing.T, l *line, n *node.Node, to node.Receiver, call func(node.Receiver) *node.Call,
) {
	t.Helper()
	l.haltAnew()
	for i := range 2 {
		c := call(to)
		c.Patience = time.Hour // else others take the place of the workers
		require.True(t, n.Send(c))
		eventually(t, func() bool { return len(l.begun()) > i })
	}
}
