// Jobqueue works through jobs in a Redis stream with a consumer group: three workers, a lock for
// each job, and a worker that crashes in the middle of one.
//
// A stream hands each job to one worker, and hands over (XAUTOCLAIM) what was not acknowledged for
// a while. It cannot know whether that while means a crash or just a long job. The lock can: a
// worker that lives renews it, a worker that crashed does not, and so a job moves on only when its
// lock has ended. The program checks that no job was worked on by two at once, and that every job
// was finished once.
//
//	go run ./examples/jobqueue
//	go run ./examples/jobqueue -redis host1:6379,host2:6379,host3:6379
//
// The stream lives on the first of the nodes, which has to be Redis 6.2 or newer for XAUTOCLAIM.
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
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
)

// jobs and how long each takes. The first one takes longer than a job may lie unacknowledged (see
// idle); the worker that gets the second one first crashes.
var jobs = []job{
	{name: "film-1", takes: 1500 * time.Millisecond},
	{name: "film-2", takes: 200 * time.Millisecond, crash: true},
	{name: "film-3", takes: 100 * time.Millisecond},
	{name: "film-4", takes: 100 * time.Millisecond},
	{name: "film-5", takes: 100 * time.Millisecond},
	{name: "film-6", takes: 100 * time.Millisecond},
}

func main() {
	log.SetFlags(0)
	addrs := flag.String("redis", "", redisUsage)
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *addrs)
	stop()
	if err != nil {
		log.Fatalf("jobqueue: %v", err)
	}
}

func run(ctx context.Context, addrs string) (err error) {
	nodes, closeNodes, err := openNodes(addrs, 3)
	if err != nil {
		return err
	}
	defer closeNodes()

	name := "jobqueue-" + rand.Text()[:8]
	q := &queue{data: nodes[0], stream: name + ":jobs"}
	if err := q.open(ctx, jobs); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.drop(ctx)) }()

	say := narrator()
	say("queue", "has %d jobs", len(jobs))
	ledger := newLedger()
	var work []func(context.Context) error
	for i := range 3 {
		w, err := newWorker(fmt.Sprintf("worker-%d", i+1), nodes, name)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.locker.Close()) }()
		w.queue, w.ledger, w.say = q, ledger, say
		work = append(work, w.run)
	}
	if err := parallel(ctx, work...); err != nil {
		return err
	}
	return ledger.check(say)
}

func newWorker(name string, nodes []*redis.Client, prefix string) (*worker, error) {
	locker, err := redlock.New(nodes, redlock.WithKeyPrefix(prefix), redlock.WithOwner(name),
		redlock.WithTTL(lease), redlock.WithAutoRenewal(true), redlock.WithNodeTimeout(patience))
	if err != nil {
		return nil, err
	}
	return &worker{name: name, locker: locker}, nil
}
