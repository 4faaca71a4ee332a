// Leader shows an election: three processes campaign, one leads, and when it goes another takes
// over.
//
//  1. the leader is asked to stop (SIGINT) and hands over at once
//  2. the next one is killed (SIGKILL), and the third leads once the lock has expired
//
// How to run it:
//
//	go run ./examples/leader
//	go run ./examples/leader -redis host1:6379,host2:6379,host3:6379
//
// With -candidate the program is one candidate, until Ctrl-C: see the README for a demonstration in
// three terminals.
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
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

const ttl = 2 * time.Second // how long nobody leads after a leader was killed

func main() {
	log.SetFlags(0)
	addrs := flag.String("redis", "", redisUsage)
	name := flag.String("candidate", "", "be one candidate, with this `name`")
	prefix := flag.String("prefix", "leader-example", "what the candidate's keys begin with")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *addrs, *prefix, *name)
	stop()
	if err != nil {
		log.Fatalf("leader: %v", err)
	}
}

func run(ctx context.Context, addrs, prefix, name string) error {
	nodes, closeNodes, err := openNodes(addrs, 3)
	if err != nil {
		return err
	}
	defer closeNodes()
	if name != "" {
		return campaign(ctx, nodes, prefix, name)
	}
	e := &election{lines: make(chan line), addrs: addresses(nodes),
		prefix: "leader-" + rand.Text()[:8]}
	return errors.Join(e.show(ctx), e.end())
}

func addresses(nodes []*redis.Client) string {
	var addrs []string
	for _, node := range nodes {
		addrs = append(addrs, node.Options().Addr)
	}
	return strings.Join(addrs, ",")
}

// show runs the demonstration and checks what it shows.
func (e *election) show(ctx context.Context) error {
	if err := e.enter("anna", "ben", "carl"); err != nil {
		return err
	}
	first, _, err := e.nextLeader(ctx)
	if err != nil {
		return err
	}
	say("demo", "asks %s to stop", first.name)
	began := time.Now()
	if err := first.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	second, when, err := e.nextLeader(ctx)
	if err != nil {
		return err
	}
	if gap := when.Sub(began); gap < ttl {
		say("demo", "hand-over after %v, of a TTL of %v", gap.Round(time.Millisecond), ttl)
	} else {
		return fmt.Errorf("the hand-over took %v: that is a TTL", gap)
	}

	say("demo", "kills %s", second.name)
	began = time.Now()
	if err := second.cmd.Process.Kill(); err != nil {
		return err
	}
	third, when, err := e.nextLeader(ctx)
	if err != nil {
		return err
	}
	say("demo", "%s leads after %v: the dead leader's lock had to expire", third.name,
		when.Sub(began).Round(time.Millisecond))
	return nil
}
