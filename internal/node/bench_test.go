package node_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/protocol"
	"github.com/rediskit/redlock/internal/redistest"
)

// caller sends one call after the other and waits for each.
type caller struct {
	acquire, release node.Call
	back             chan struct{}
}

func newCaller(acquire, release *node.Script, i int) *caller {
	c := &caller{back: make(chan struct{}, 1)}
	keys := []string{fmt.Sprint("lock:", i)}
	c.acquire = node.Call{Script: acquire, Keys: keys, Receiver: c}
	c.release = node.Call{Script: release, Keys: keys, Receiver: c}
	c.acquire.Args, c.release.Args = []any{"token", int64(30_000)}, []any{"token", int64(0)}
	return c
}

func (c *caller) Receive(*node.Call) bool {
	c.back <- struct{}{}
	return false
}

// run sends n calls, of which each acquires or releases a lock.
func (c *caller) run(b *testing.B, n *node.Node, calls int) {
	for i := range calls {
		call := c.acquire
		if i%2 == 1 {
			call = c.release
		}
		if !n.Send(&call) {
			b.Error("not sent")
			return
		}
		<-c.back
		if call.Err != nil || call.Reply != int64(1) {
			b.Error(call.Reply, call.Err)
			return
		}
	}
}

func BenchmarkCalls(b *testing.B) {
	acquire, release := lua(b, "acquire"), lua(b, "release")
	for _, callers := range []int{1, 64, 512} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			client := redis.NewClient(&redis.Options{Addr: redistest.Start(b).Addr()})
			defer client.Close()
			n := node.New(client, false)
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for i := range callers {
				calls := b.N / callers
				if i < b.N%callers {
					calls++
				}
				c := newCaller(acquire, release, i)
				wg.Add(1)
				go func() {
					defer wg.Done()
					c.run(b, n, calls)
				}()
			}
			wg.Wait()
			b.StopTimer()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			require.NoError(b, n.Close(ctx, 0))
		})
	}
}

// lua returns one of the library's scripts.
func lua(b *testing.B, name string) *node.Script {
	return script(protocol.Source(os.DirFS("../.."), name))
}
