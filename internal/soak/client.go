//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/history"
	"github.com/rediskit/redlock/internal/locktest"
)

// clientEnv, set in the environment, makes this program a client of the locks.
const clientEnv = "REDLOCK_SOAK_CLIENT"

// brief is all that a client process is told.
type brief struct {
	Name      string
	Settings  settings
	Seed      uint64
	Origin    time.Duration // of the clock
	Registers string
	Masters   masters
}

// masters are where a client finds its nodes.
type masters struct {
	Addrs     []string
	Sentinels []string // if there are any, they know the only node,
	Name      string   // by this name
}

// connect returns clients with stock options.
func (m masters) connect() []*redis.Client {
	if len(m.Sentinels) > 0 {
		return []*redis.Client{redis.NewFailoverClient(
			&redis.FailoverOptions{MasterName: m.Name, SentinelAddrs: m.Sentinels})}
	}
	var clients []*redis.Client
	for _, addr := range m.Addrs {
		clients = append(clients, redis.NewClient(&redis.Options{Addr: addr}))
	}
	return clients
}

// client is a process that takes locks.
type client struct {
	brief
	clock  clock
	locker *redlock.Locker
	out    recorder
}

// clientMain runs the client that the environment asks for, until its standard input ends, and does
// not return. Without such a wish it does nothing.
func clientMain() {
	text := os.Getenv(clientEnv)
	if text == "" {
		return
	}
	redis.SetLogger(silence{}) // all day long it would tell of the faults
	var c client
	err := json.Unmarshal([]byte(text), &c.brief)
	if err == nil {
		err = c.run()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", c.Name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

func (c *client) run() (err error) {
	c.clock = newClock(c.Origin)
	c.out = recorder{to: os.Stdout}
	nodes := c.Masters.connect()
	opts := []redlock.Option{redlock.WithTTL(c.Settings.MaxTTL),
		redlock.WithRetryInterval(c.Settings.Retry), redlock.WithOwner(c.Name)}
	if c.Settings.NodeTimeout > 0 {
		opts = append(opts, redlock.WithNodeTimeout(c.Settings.NodeTimeout))
	}
	if c.Settings.Fencing {
		opts = append(opts, redlock.WithFencing())
	}
	if c.Settings.Guard {
		opts = append(opts, redlock.WithRestartGuard(c.Settings.MaxTTL))
	}
	if c.Settings.Deadlocks > 0 {
		opts = append(opts, redlock.WithDeadlockDetection(c.Settings.Deadlocks))
	}
	if c.locker, err = redlock.New(nodes, opts...); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	err = c.work(ctx)
	cancel()
	err = errors.Join(err, c.locker.Close())
	for _, node := range nodes {
		err = errors.Join(err, node.Close())
	}
	return errors.Join(err, goleak.Find(append(locktest.ClientLeaks(),
		goleak.IgnoreAnyFunction("github.com/rediskit/redlock/internal/soak.(*client).run.func1"),
		goleak.IgnoreAnyFunction("main.(*client).run.func1"),
	)...))
}

// work runs the workers until ctx ends.
func (c *client) work(ctx context.Context) error {
	errs := make([]error, c.Settings.Workers)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			v, err := visit(c.Registers)
			if err != nil {
				errs[i] = err
				return
			}
			defer v.close()
			w := &worker{client: c, name: fmt.Sprintf("%s.%d", c.Name, i),
				rng: rand.New(rand.NewPCG(c.Seed, uint64(i))), registers: v}
			w.run(ctx)
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}

// recorder sends events to the parent. Each is one write, which the kernel takes whole or not at
// all.
type recorder struct {
	mu sync.Mutex
	to io.Writer
}

func (r *recorder) add(e history.Event) {
	if e.Began == 0 {
		e.Began = e.At
	}
	line, err := json.Marshal(e)
	if err != nil {
		panic(err) // of numbers and strings
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = r.to.Write(append(line, '\n')) // the parent is gone: so are we
}
