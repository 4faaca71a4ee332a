package node_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/redistest"
)

// tally counts how often its calls come back.
type tally struct {
	accepted, received atomic.Int64
	twice              atomic.Int64
}

// counted is the Receiver of one call.
type counted struct {
	tally *tally
	back  atomic.Bool
}

func (c *counted) Receive(call *node.Call) bool {
	if call.Repeating { // it will come back once more
		return false
	}
	if c.back.Swap(true) {
		c.tally.twice.Add(1)
	}
	c.tally.received.Add(1)
	return false
}

// send keeps sending chains of calls until the node is closed.
func (ta *tally) send(n *node.Node, sender int) {
	var last *node.Call
	for i := 0; ; i++ {
		c := pushCall(&counted{tally: ta}, fmt.Sprint("list", sender), "x")
		c.Patience = 20 * time.Millisecond
		c.HeldBack = i%3 == 0
		if i%4 == 0 {
			c.RepeatUntil = time.Now().Add(time.Minute)
		}
		if i%7 == 0 {
			last = nil
		}
		if !n.SendAfter(c, last) {
			return
		}
		ta.accepted.Add(1)
		if i%5 == 0 {
			n.HoldBack(c, c.Keys)
		}
		if i%6 == 0 && n.Drop(c) {
			ta.received.Add(1)
		}
		if last = c; i%8 == 0 {
			time.Sleep(time.Millisecond) // others want to be served, too
		}
	}
}

// Whatever happens to the server, and whenever Close ends, each call comes back once, and nothing
// runs on.
func TestEachCallComesBackOnceHoweverCloseEnds(t *testing.T) {
	type proxy = redistest.Proxy
	type server = redistest.Server
	for name, fault := range map[string]func(p *proxy, s *server){
		"all is well":             func(*proxy, *server) {},
		"connections are cut":     func(p *proxy, _ *server) { p.Cut() },
		"connections hang":        func(p *proxy, _ *server) { p.HoldReplies(true) },
		"the server hangs":        func(_ *proxy, s *server) { _ = s.Pause() },
		"the server is gone":      func(_ *proxy, s *server) { _ = s.Kill() },
		"connections are refused": func(p *proxy, _ *server) { p.Refuse(true); p.Cut() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			proxy := server.Proxy(t)
			client := redis.NewClient(&redis.Options{
				Addr:        proxy.Addr(),
				ReadTimeout: 300 * time.Millisecond,
			})
			defer client.Close()
			n, ta := node.New(client, false), &tally{}
			var wg sync.WaitGroup
			for sender := range 8 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					ta.send(n, sender)
				}()
			}
			eventually(t, func() bool { return ta.received.Load() > 100 })
			fault(proxy, server)
			took, err := shut(n, 100*time.Millisecond, 100*time.Millisecond)
			require.Less(t, took, time.Second)
			var left int64
			if err != nil {
				_, _ = fmt.Sscanf(err.Error(), "%d calls", &left)
			}
			wg.Wait()
			require.LessOrEqual(t, ta.accepted.Load()-ta.received.Load(), left,
				"those that Close speaks of")
			require.NoError(t, n.Close(context.Background(), 0))
			require.Equal(t, ta.accepted.Load(), ta.received.Load())
			require.Zero(t, ta.twice.Load())
		})
	}
}
