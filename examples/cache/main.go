// Cache keeps a page that is expensive to build from being built by everybody at once when it is
// not in the cache (a cache stampede). Eight processes ask for it at the same moment, twice:
//
//  1. the cache is empty: one process builds the page, the others wait for it and read the cache
//  2. the page is out of date: one process builds it anew, the others are served the old one at
//     once
//
// Both times the program checks that the page was built once.
//
//	go run ./examples/cache
//	go run ./examples/cache -redis host1:6379,host2:6379,host3:6379
//
// The lock saves work and protects nothing: where too few nodes answer, a process builds the page
// without it.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
)

const processes = 8

func main() {
	log.SetFlags(0)
	addrs := flag.String("redis", "", redisUsage)
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *addrs)
	stop()
	if err != nil {
		log.Fatalf("cache: %v", err)
	}
}

func run(ctx context.Context, addrs string) (err error) {
	nodes, closeNodes, err := openNodes(addrs, 3)
	if err != nil {
		return err
	}
	defer closeNodes()

	say := narrator()
	name := "cache-" + rand.Text()[:8]
	pages := &store{data: nodes[0], name: name}
	defer func() { err = errors.Join(err, pages.drop(ctx)) }()
	s := &site{pages: pages, say: say}
	for i := range processes {
		p, err := newProcess(i+1, nodes, s)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.locker.Close()) }()
		s.processes = append(s.processes, p)
	}
	if err := s.fillEmptyCache(ctx); err != nil {
		return err
	}
	return s.refreshOldPage(ctx)
}

func newProcess(i int, nodes []*redis.Client, s *site) (*process, error) {
	name := fmt.Sprintf("process-%d", i)
	locker, err := redlock.New(nodes, redlock.WithKeyPrefix(s.pages.name), redlock.WithOwner(name),
		redlock.WithRetryInterval(10*time.Millisecond), // the page is built soon
		// and if Redis is down, build it without a lock
		redlock.WithMaxOutage(500*time.Millisecond))
	if err != nil {
		return nil, err
	}
	return &process{name: name, locker: locker, site: s}, nil
}

// site is what the processes share.
type site struct {
	pages     *store
	processes []*process
	built     atomic.Int64 // how often the page was built
	say       func(who, format string, args ...any)
}

// build stands for the expensive work.
func (s *site) build(ctx context.Context, who string) (string, error) {
	s.say(who, "builds the page")
	if err := pretend(ctx, 200*time.Millisecond); err != nil {
		return "", err
	}
	return fmt.Sprintf("edition %d", s.built.Add(1)), nil
}

// fillEmptyCache has everybody ask at once, with nothing there yet.
func (s *site) fillEmptyCache(ctx context.Context) error {
	s.say("cache", "is empty; %d processes ask for the page", processes)
	editions, err := s.askAll(ctx, (*process).getOrWait)
	if err != nil {
		return err
	}
	if editions["edition 1"] != processes || s.built.Load() != 1 {
		return fmt.Errorf("everybody should have edition 1, built once; they have %v, built "+
			"%d times", editions, s.built.Load())
	}
	s.say("cache", "served edition 1 to all %d, built once", processes)
	return nil
}

// refreshOldPage has everybody ask at once for a page that is out of date.
func (s *site) refreshOldPage(ctx context.Context) error {
	if err := s.pages.outdate(ctx); err != nil {
		return err
	}
	s.say("cache", "is out of date; %d processes ask for the page", processes)
	editions, err := s.askAll(ctx, (*process).getOrStale)
	if err != nil {
		return err
	}
	if s.built.Load() != 2 || editions["edition 2"] == 0 {
		return fmt.Errorf("the page should have been built once more; they have %v, built %d times",
			editions, s.built.Load())
	}
	s.say("cache", "served the old edition to %d of %d meanwhile, built once",
		editions["edition 1"], processes)
	return nil
}

// askAll has every process ask at the same time, and counts which edition they got.
func (s *site) askAll(ctx context.Context, ask func(p *process, ctx context.Context) (string,
	error)) (map[string]int, error) {
	got := make([]string, len(s.processes))
	var work []func(context.Context) error
	for i, p := range s.processes {
		work = append(work, func(ctx context.Context) (err error) {
			got[i], err = ask(p, ctx)
			return err
		})
	}
	if err := parallel(ctx, work...); err != nil {
		return nil, err
	}
	editions := map[string]int{}
	for _, edition := range got {
		editions[edition]++
	}
	return editions, nil
}
