// Deadlock has two processes take the same two locks in opposite order, each the second one while
// it holds the first. Neither could ever go on. WithDeadlockDetection ends the younger of the two
// waits with a DeadlockError: that process releases what it holds and starts over, with both locks
// at once, and both finish. The program checks that exactly one of them is told.
//
//	go run ./examples/deadlock
//	go run ./examples/deadlock -redis host1:6379,host2:6379,host3:6379
//
// To take both locks at once (AcquireMulti), or always in the same order, is better where it can be
// done: then there are no deadlocks. See examples/transfer.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

func main() {
	log.SetFlags(0)
	addrs := flag.String("redis", "", redisUsage)
	name := flag.String("process", "",
		"be the process of that `name` (the program starts its processes itself)")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	var err error
	if *name != "" {
		err = work(ctx, *addrs, *name, flag.Args())
	} else {
		err = run(ctx, *addrs)
	}
	stop()
	switch {
	case err != nil && *name != "":
		fmt.Println("fails:", err)
		os.Exit(1)
	case err != nil:
		log.Fatalf("deadlock: %v", err)
	}
}

// run starts the two processes and checks what they say.
func run(ctx context.Context, addrs string) error {
	nodes, closeNodes, err := openNodes(addrs, 3)
	if err != nil {
		return err
	}
	defer closeNodes()

	prefix := "deadlock-" + rand.Text()[:8]
	say := narrator()
	say("program", "starts billing and shipping, each with two locks to take")
	ready := &sync.WaitGroup{}
	ready.Add(2)
	billing := &process{name: "billing", locks: []string{"invoice:7", "order:7"}, say: say,
		ready: ready}
	shipping := &process{name: "shipping", locks: []string{"order:7", "invoice:7"}, say: say,
		ready: ready}
	err = parallel(ctx,
		func(ctx context.Context) error { return billing.run(ctx, nodes, prefix) },
		func(ctx context.Context) error { return shipping.run(ctx, nodes, prefix) })
	if err != nil {
		return err
	}
	if told := billing.told + shipping.told; told != 1 {
		return fmt.Errorf("%d of the two were told of the deadlock, not one", told)
	}
	say("program", "one was told of the deadlock, and both have finished")
	return nil
}

// process is one of the two, as the program that starts it sees it.
type process struct {
	name  string
	locks []string
	say   func(who, format string, args ...any)
	ready *sync.WaitGroup // for all to have their first locks
	told  int             // how often it was told of a deadlock
}

// run starts the process and tells what it says, until it ends.
func (p *process) run(ctx context.Context, nodes []*redis.Client, prefix string) error {
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, n.Options().Addr)
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	args := append([]string{"-redis", strings.Join(addrs, ","), "-process", p.name, prefix},
		p.locks...)
	cmd := exec.CommandContext(ctx, program, args...)
	// so that it releases its locks
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 3 * time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	last := p.listen(ctx, stdout, stdin)
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("%s %s (%w)", p.name, last, err)
	}
	return nil
}

// listen repeats what the process says. When it and the other one have their first locks, it is
// told to go on.
func (p *process) listen(ctx context.Context, stdout io.Reader,
	stdin io.WriteCloser) (last string) {
	defer stdin.Close()
	waiting := true
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		last = lines.Text()
		if ctx.Err() == nil {
			p.say(p.name, "%s", last)
		}
		if strings.HasPrefix(last, "is told: ") {
			p.told++
		}
		if waiting && strings.HasPrefix(last, "has ") {
			waiting = false
			p.ready.Done()
			p.ready.Wait()
			stdin.Close()
		}
	}
	if waiting {
		p.ready.Done() // it has failed; the other one must not wait for it
	}
	return last
}

// unlessInterrupted joins errors, except where Ctrl-C is reason enough.
func unlessInterrupted(ctx context.Context, errs ...error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(errs...)
}
