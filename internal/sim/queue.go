package sim

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rediskit/redlock"
)

// lineUp checks that those who wait are served in the order in which they came, each by a message and not by a poll, that whoever
// gives up or dies holds nobody up, and that nothing is left in the queues. The clients' pauses are too long to be of help.
func (w *World) lineUp() {
	const resource = "line"
	ctx, opts := context.Background(), []redlock.AcquireOption{redlock.WithTTL(w.LongTTL), redlock.WithRetryInterval(time.Hour)}
	h, err := w.clients[0].locker.Acquire(ctx, resource, opts...)
	if err != nil {
		w.breach("order", "%s could not be had: %v", resource, err)
		return
	}
	for _, c := range w.clients { // to see what the nodes' clocks show: here they may drift apart by a hundredth
		for range 2 {
			ctx, cancel := context.WithTimeout(ctx, w.prompt())
			_, _ = c.locker.Acquire(ctx, resource, opts...)
			cancel()
		}
	}
	var mu sync.Mutex
	var served, came []int
	var all sync.WaitGroup
	wait := func(ctx context.Context, c *client, number int) {
		all.Add(1)
		go func() {
			defer all.Done()
			h, err := c.locker.Acquire(ctx, resource, opts...)
			if err != nil {
				return
			}
			mu.Lock()
			served = append(served, number)
			mu.Unlock()
			_ = h.Release(context.Background()) // what is left is seen below
		}()
		time.Sleep(w.prompt())
	}
	last := w.clients[len(w.clients)-1]
	wait(ctx, last, -1) // it dies
	bored, cancel := context.WithCancel(ctx)
	wait(bored, w.clients[0], -2)
	for range 2 {
		for _, c := range w.clients[:len(w.clients)-1] {
			came = append(came, len(came))
			wait(ctx, c, came[len(came)-1])
		}
	}
	last.crash(false)
	cancel()
	time.Sleep(w.prompt())
	began := time.Now()
	if err := h.Release(ctx); err != nil {
		w.breach("order", "release of %s: %v", resource, err)
	}
	all.Wait()
	if bound := time.Duration(len(came)+2) * w.prompt(); time.Since(began) > bound || !slices.Equal(came, served) {
		w.breach("order", "%v came, and %v were served, within %v, where %v are enough", came, served, time.Since(began), bound)
	}
	time.Sleep(w.prompt())
	for _, n := range w.nodes {
		for _, key := range n.memory.Keys() {
			if strings.Contains(key, resource) && n.memory.Exists(key) {
				w.breach("no residue", "%s has a key that nobody needs: %s", n.name, n.memory.describe(key))
			}
		}
	}
}
