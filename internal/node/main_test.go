package node_test

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/redistest"
)

func TestMain(m *testing.M) {
	// The one goroutine that a go-redis client leaves behind: it probes an unreachable server and notices Close up to a
	// second late.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// patience is how long a test waits for what takes milliseconds.
const patience = 15 * time.Second

// push appends an argument to the list that is a request's only key, and answers with the list's length.
var push = node.NewScript(pushSource)

const pushSource = `
local replies = {}
for i = 1, #KEYS do replies[i] = redis.pcall('RPUSH', KEYS[i], ARGV[2 * i]) end
return replies`

// line is a stock go-redis client of a real server whose round trips are written down and can be held up.
type line struct {
	server *redistest.Server
	client *redis.Client

	mu    sync.Mutex
	trips []trip
	open  chan struct{} // closed when round trips may go on
}

// trip is what went out together: the commands' names, and how many requests they carried, of one key each.
type trip struct {
	pipeline bool
	commands []string
	requests int
}

func (l *line) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
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

// pass notes a round trip of scripts and waits until it may go on. What go-redis says to greet a server does not count.
func (l *line) pass(pipeline bool, cmds []redis.Cmder) {
	if name := cmds[0].Name(); name != "evalsha" && name != "eval" {
		return
	}
	t := trip{pipeline: pipeline}
	for _, cmd := range cmds {
		t.commands = append(t.commands, cmd.Name())
		t.requests += cmd.Args()[2].(int)
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

func (l *line) resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.open:
	default:
		close(l.open)
	}
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
		sizes = append(sizes, t.requests)
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

// inbox is a Receiver that keeps what it gets.
type inbox chan *node.Call

func newInbox() inbox { return make(inbox, 1<<14) }

func (i inbox) Receive(c *node.Call) bool {
	i <- c
	return false
}

// next returns the next call that comes back.
func (i inbox) next(t *testing.T) *node.Call {
	t.Helper()
	select {
	case c := <-i:
		return c
	case <-time.After(patience):
		require.Fail(t, "no call came back")
		return nil
	}
}

// collect waits for that many calls.
func (i inbox) collect(t *testing.T, n int) []*node.Call {
	t.Helper()
	calls := make([]*node.Call, n)
	for k := range calls {
		calls[k] = i.next(t)
	}
	return calls
}

// receiver makes a Receiver of a function.
type receiver func(c *node.Call) bool

func (f receiver) Receive(c *node.Call) bool { return f(c) }

// pushCall returns a call that pushes the value.
func pushCall(to node.Receiver, key, value string) *node.Call {
	return &node.Call{Script: push, Keys: []string{key}, Args: []any{value}, Receiver: to}
}

// occupy halts the line and sends two calls into it: that is all the node has out at a time, and what comes next queues up.
func occupy(t *testing.T, l *line, n *node.Node, to node.Receiver) {
	t.Helper()
	l.halt()
	l.forget()
	for i := range 2 {
		require.True(t, n.Send(pushCall(to, "busy", "x")))
		eventually(t, func() bool { return len(l.begun()) > i })
	}
}

func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, patience, time.Millisecond)
}
