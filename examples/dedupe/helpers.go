package main

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

// What every example needs and what has nothing to do with locks. Each example has its own copy of
// this file, so that its directory can be copied and run anywhere. In your program redis.NewClient
// takes the place of openNodes.

const redisUsage = "comma-separated `host:port` list of independent Redis masters (default: " +
	"nodes embedded in this process)"

// openNodes returns a client for each address in addrs, a comma-separated list of host:port. If
// addrs is empty it starts n embedded nodes instead, so that the example needs no server.
func openNodes(addrs string, n int) (clients []*redis.Client, closeNodes func(), err error) {
	if addrs == "" {
		return embedNodes(n)
	}
	for addr := range strings.SplitSeq(addrs, ",") {
		client := redis.NewClient(&redis.Options{Addr: strings.TrimSpace(addr)})
		if err := client.Ping(context.Background()).Err(); err != nil {
			log.Printf("%s does not answer, and a lock needs most of the servers: %v", addr, err)
		}
		clients = append(clients, client)
	}
	return clients, func() { closeClients(clients) }, nil
}

func embedNodes(n int) (clients []*redis.Client, closeNodes func(), err error) {
	var servers []*miniredis.Miniredis
	closeNodes = func() {
		closeClients(clients)
		for _, server := range servers {
			server.Close()
		}
	}
	for range n {
		server := miniredis.NewMiniRedis()
		server.ClockTTL(true) // keys expire as time passes, as on a real server
		if err := server.Start(); err != nil {
			closeNodes()
			return nil, nil, fmt.Errorf("start an embedded node: %w", err)
		}
		servers = append(servers, server)
		clients = append(clients, redis.NewClient(&redis.Options{Addr: server.Addr()}))
	}
	return clients, closeNodes, nil
}

// closeClients only logs what goes wrong: the program is at its end and has its result.
func closeClients(clients []*redis.Client) {
	for _, client := range clients {
		if err := client.Close(); err != nil {
			log.Printf("close the client of %s: %v", client.Options().Addr, err)
		}
	}
}

// narrator returns a printer of lines such as " 0.103s worker-2 waits for order:42". The time
// counts from the call of narrator. Goroutines may share the printer.
func narrator() func(who, format string, args ...any) {
	start := time.Now()
	var mu sync.Mutex
	return func(who, format string, args ...any) {
		mu.Lock() // one line at a time, in the order of their times
		defer mu.Unlock()
		fmt.Printf("%6.3fs  %-9s %s\n", time.Since(start).Seconds(), who,
			fmt.Sprintf(format, args...))
	}
}

// pretend stands for d of real work. It stops as soon as ctx ends, and returns the cause.
func pretend(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
