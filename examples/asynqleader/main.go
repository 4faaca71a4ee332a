// Asynqleader runs an asynq scheduler in one process at a time: start it on as many hosts as you
// like, and each task is enqueued once. When the leader goes, another one schedules.
//
//	go run . -redis host1:6379,host2:6379,host3:6379
//
// The first server is asynq's too. It is a module of its own, so that nobody inherits asynq.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
)

func main() {
	addrs := flag.String("redis", "localhost:6379",
		"comma-separated `host:port` list of independent Redis masters; the first is asynq's too")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, strings.Split(*addrs, ","))
	interrupted := ctx.Err() != nil
	stop()
	if err != nil && !interrupted {
		log.Fatalf("asynqleader: %v", err)
	}
}

func run(ctx context.Context, addrs []string) (err error) {
	var clients []*redis.Client
	for _, addr := range addrs {
		client := redis.NewClient(&redis.Options{Addr: addr})
		defer client.Close()
		clients = append(clients, client)
	}
	locker, err := redlock.New(clients, redlock.WithTTL(10*time.Second))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, locker.Close()) }()
	return schedule(ctx, locker, asynq.RedisClientOpt{Addr: addrs[0]}, nil)
}

// schedule campaigns, and schedules while it leads.
func schedule(ctx context.Context, locker *redlock.Locker, queue asynq.RedisConnOpt,
	opts *asynq.SchedulerOpts) error {
	return locker.Lead(ctx, "scheduler", func(ctx context.Context) error {
		// A new one for each term: a scheduler that was stopped refuses to start again.
		scheduler := asynq.NewScheduler(queue, opts)
		if err := register(scheduler); err != nil {
			return err
		}
		if err := scheduler.Start(); err != nil {
			return err
		}
		<-ctx.Done()
		scheduler.Shutdown() // waits for a task that is being enqueued
		return ctx.Err()
	})
}

// register says what is scheduled.
func register(scheduler *asynq.Scheduler) error {
	// Unique is the last line of defence: a leader that is stopped while it enqueues a task may
	// still enqueue it after another one leads.
	_, err := scheduler.Register("@every 1s", asynq.NewTask("report", nil),
		asynq.Unique(900*time.Millisecond))
	return err
}
