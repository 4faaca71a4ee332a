// Package exampleredis is what the example programs have in common and what is not about locks: Redis nodes to
// run on, a printer that puts the elapsed time in front of each line, simulated work, and a group of goroutines.
package exampleredis

import (
	"context"
	"fmt"
	"log"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// Usage describes the -redis flag.
const Usage = "comma-separated `host:port` list of independent Redis masters (default: nodes embedded in this process)"

// Open returns one client for each address in addrs, a comma-separated list of host:port. When addrs is empty it
// starts n embedded nodes on 127.0.0.1 instead, so that an example needs no server. closeNodes ends what Open began.
func Open(addrs string, n int) (clients []*redis.Client, closeNodes func(), err error) {
	if addrs == "" {
		return openEmbedded(n)
	}
	for addr := range strings.SplitSeq(addrs, ",") {
		clients = append(clients, redis.NewClient(&redis.Options{Addr: strings.TrimSpace(addr)}))
	}
	return clients, func() { closeClients(clients) }, nil
}

func openEmbedded(n int) (clients []*redis.Client, closeNodes func(), err error) {
	var servers []*miniredis.Miniredis
	closeNodes = func() {
		closeClients(clients)
		for _, server := range servers {
			server.Close()
		}
	}
	for range n {
		server := miniredis.NewMiniRedis()
		server.ClockTTL(true) // its keys expire as time passes, as those of a real server do
		if err := server.Start(); err != nil {
			closeNodes()
			return nil, nil, fmt.Errorf("start an embedded node: %w", err)
		}
		servers = append(servers, server)
		clients = append(clients, redis.NewClient(&redis.Options{Addr: server.Addr()}))
	}
	return clients, closeNodes, nil
}

// closeClients logs what goes wrong: the program is at its end and has its result already.
func closeClients(clients []*redis.Client) {
	for _, client := range clients {
		if err := client.Close(); err != nil {
			log.Printf("close the client of %s: %v", client.Options().Addr, err)
		}
	}
}

// Narrator returns a printer of lines such as " 0.103s  worker-2  waits for order:42", counting from now on.
// Goroutines may share it.
func Narrator() func(who, format string, args ...any) {
	start := time.Now()
	var mu sync.Mutex
	return func(who, format string, args ...any) {
		mu.Lock() // one line at a time, and in the order of their times
		defer mu.Unlock()
		fmt.Printf("%6.3fs  %-9s %s\n", time.Since(start).Seconds(), who, fmt.Sprintf(format, args...))
	}
}

// Work stands for d of real work. It stops as soon as ctx ends and returns the cause.
func Work(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Parallel runs all fns at once and waits for them. The first error ends the context of the others and is returned,
// as golang.org/x/sync/errgroup does.
func Parallel(ctx context.Context, fns ...func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	for _, fn := range fns {
		group.Add(1)
		go func() {
			defer group.Done()
			if err := fn(ctx); err != nil {
				cancel(err)
			}
		}()
	}
	group.Wait()
	return context.Cause(ctx)
}
