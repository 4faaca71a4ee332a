package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/history"
	"github.com/rediskit/redlock/internal/wallclock"
)

// client is one process: a Locker with its go-redis clients, and what its users do with it. When it
// has crashed or was closed another one takes its place.
type client struct {
	world       *World
	number      int
	incarnation int
	name        string
	roads       []*road // to each node
	back        []*road // and from there
	paused      moment  // until then it does not run, as after a SIGSTOP
	dead        atomic.Bool
	closed      atomic.Bool
	redis       []*redis.Client
	locker      *redlock.Locker
	ctx         context.Context // of its users' code
	cancel      context.CancelFunc
	users       sync.WaitGroup
	buried      chan struct{} // closed when everything of it has ended

	mu    sync.Mutex
	conns []*conn
	dials []int
}

// dialTimeout is go-redis's default.
const dialTimeout = 5 * time.Second

var errDead = errors.New("the client is dead")

func newClient(w *World, number, incarnation int) (*client, error) {
	c := &client{
		world: w, number: number, incarnation: incarnation,
		name:  fmt.Sprintf("c%d.%d", number, incarnation),
		dials: make([]int, w.Nodes), buried: make(chan struct{}),
	}
	ahead := time.Duration((2*w.random("skew", c.name).Float64() - 1) * float64(w.Skew))
	c.ctx, c.cancel = context.WithCancel(wallclock.Ahead(context.Background(), ahead))
	for _, n := range w.nodes {
		c.roads = append(c.roads, &road{latency: w.Latency})
		c.back = append(c.back, &road{latency: w.Latency})
		c.redis = append(c.redis, redis.NewClient(c.options(n)))
	}
	var err error
	c.locker, err = redlock.New(c.redis, w.locker(c.name)...)
	return c, err
}

// options are stock, but for what cannot be otherwise in virtual time. Where a replay is to be
// exact, the pauses between go-redis's retries do not vary: it draws them from a source that all
// clients of the program share.
func (c *client) options(n *node) *redis.Options {
	o := &redis.Options{
		Addr:     "127.0.0.1:6379",
		PoolSize: 100,
		Dialer: func(ctx context.Context, _, _ string) (net.Conn,
			error) {
			return c.dial(ctx, n)
		},
	}
	if !c.world.Stock {
		o.MinRetryBackoff = []time.Duration{8 * time.Millisecond, 60 * time.Millisecond,
			512 * time.Millisecond}[c.number%3]
		o.MaxRetryBackoff = o.MinRetryBackoff
	}
	if c.world.Brisk {
		o.MaxRetries, o.ReadTimeout = -1, 700*time.Millisecond
	}
	tame(o)
	return o
}

// dialled counts the connections to a node.
func (c *client) dialled(node int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dials[node]++
	return c.dials[node]
}

// dial takes a round trip, and as long as the roads are closed.
func (c *client) dial(ctx context.Context, n *node) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	number := c.dialled(n.index)
	at := time.Now().Add(2*c.world.Latency + lag(c.world, c, n, number, 2))
	for _, r := range []*road{c.roads[n.index], c.back[n.index]} {
		if w := r.now(); w.held {
			at = later(at, w.until.Add(lag(c.world, c, n, number, 3)))
		}
	}
	if err := sleep(ctx, time.Until(at)); err != nil {
		return nil, err
	}
	if c.dead.Load() {
		return nil, errDead
	}
	mine, theirs := connect(c.world, c, n, number)
	if err := n.accept(theirs); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = append(c.conns, mine)
	return mine, nil
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// start lets the users begin.
func (c *client) start() {
	for i := range c.world.Tasks {
		c.users.Add(1)
		go newTask(c, i).run()
	}
}

// crash ends the process. Nothing leaves it any more and nothing reaches it; the nodes hear of
// that, or not.
func (c *client) crash(silently bool) {
	c.log(history.Event{Kind: history.Crashed, At: c.world.now(),
		Note: map[bool]string{true: "vanished", false: "killed"}[silently]})
	c.dead.Store(true)
	c.world.diesWaiting(c)
	c.mu.Lock()
	conns := c.conns
	c.mu.Unlock()
	for _, conn := range conns {
		if silently {
			conn.vanish()
		} else {
			_ = conn.Close()
			conn.vanish()
		}
	}
	c.cancel()
	go c.bury()
}

// close closes the Locker while its users are at work.
func (c *client) close() {
	c.closed.Store(true)
	c.log(history.Event{Kind: history.Fault, At: c.world.now(), Note: "closes its Locker"})
	c.shut()
	c.cancel()
	go c.bury()
}

// shut closes the Locker and checks that it keeps to its time, and uses all of it before it says
// that go-redis has calls which it has not given up.
func (c *client) shut() {
	const most = 7 * time.Second
	began := time.Now()
	err := c.locker.Close()
	took := time.Since(began)
	if err != nil && !c.dead.Load() && (took < most || c.world.Profile == Calm) {
		c.world.breach("no residue", "%s, after %v: %v", c.name, took, err)
	}
	if took > most {
		c.world.breach("promptness", "%s: Close took %v", c.name, took)
	}
}

// bury ends what a process leaves in the simulation.
func (c *client) bury() {
	defer close(c.buried)
	c.users.Wait()
	_ = c.locker.Close()
	for _, r := range c.redis {
		_ = r.Close()
	}
}

// log records what the client saw. The dead see nothing.
func (c *client) log(e history.Event) {
	if c.dead.Load() {
		return
	}
	e.Client = c.name
	c.world.log.Add(e)
}
