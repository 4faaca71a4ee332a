package sim

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rediskit/redlock"
)

// lined are those who wait for one resource. Their pauses are too long to be of help.
type lined struct {
	*World
	resource string
	all      sync.WaitGroup

	mu     sync.Mutex
	served []int
}

// take waits for the resource.
func (l *lined) take(ctx context.Context, c *client) (*redlock.Handle, error) {
	return c.locker.Acquire(ctx, l.resource, redlock.WithTTL(l.LongTTL),
		redlock.WithRetryInterval(time.Hour))
}

// join has somebody wait behind all who do.
func (l *lined) join(ctx context.Context, c *client, number int) {
	l.all.Add(1)
	go func() {
		defer l.all.Done()
		h, err := l.take(ctx, c)
		if err != nil {
			return
		}
		l.mu.Lock()
		l.served = append(l.served, number)
		l.mu.Unlock()
		_ = h.Release(context.Background()) // what is left is seen afterwards
	}()
	time.Sleep(l.prompt())
}

// acquaint has everybody see what the nodes' clocks show: here they may drift apart by a hundredth.
func (l *lined) acquaint() {
	for _, c := range l.clients {
		for range 2 {
			ctx, cancel := context.WithTimeout(context.Background(), l.prompt())
			_, _ = l.take(ctx, c)
			cancel()
		}
	}
}

// lineUp checks that those who wait are served in the order in which they came, each by a message
// and not by a poll, that whoever gives up or dies holds nobody up, and that nothing is left in the
// queues.
func (w *World) lineUp() {
	ctx := context.Background()
	l := &lined{World: w, resource: "line"}
	h, err := l.take(ctx, w.clients[0])
	if err != nil {
		w.breach("order", "%s could not be had: %v", l.resource, err)
		return
	}
	l.acquaint()
	last := w.clients[len(w.clients)-1]
	l.join(ctx, last, -1)
	bored, cancel := context.WithCancel(ctx)
	l.join(bored, w.clients[0], -2)
	var came []int
	for range 2 {
		for _, c := range w.clients[:len(w.clients)-1] {
			came = append(came, len(came))
			l.join(ctx, c, len(came)-1)
		}
	}
	last.crash(false)
	cancel()
	time.Sleep(w.prompt())
	began := time.Now()
	if err := h.Release(ctx); err != nil {
		w.breach("order", "release of %s: %v", l.resource, err)
	}
	l.all.Wait()
	if bound := time.Duration(len(came)+2) * w.prompt(); time.Since(began) > bound ||
		!slices.Equal(came, l.served) {
		w.breach("order", "%v came, and %v were served, within %v, where %v are enough", came,
			l.served, time.Since(began), bound)
	}
	time.Sleep(w.prompt())
	w.noQueues(l.resource)
}

// noQueues checks that nothing of a resource is left on any node.
func (w *World) noQueues(resource string) {
	for _, n := range w.nodes {
		for _, key := range n.memory.Keys() {
			if strings.Contains(key, resource) && n.memory.Exists(key) && !isCounter(key) {
				w.breach("no residue", "%s has a key that nobody needs: %s", n.name,
					n.memory.describe(key))
			}
		}
	}
}
