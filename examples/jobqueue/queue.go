package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

const group = "workers"

var (
	errNothingYet = errors.New("no job for this worker at the moment")
	errDone       = errors.New("no jobs left")
)

type job struct {
	name  string
	takes time.Duration
	crash bool // whether the first worker on it crashes
}

// queue is a Redis stream with one consumer group. It knows nothing of locks.
type queue struct {
	data   *redis.Client
	stream string
}

func (q *queue) open(ctx context.Context, jobs []job) error {
	for i, j := range jobs {
		entry := &redis.XAddArgs{Stream: q.stream, Values: []any{"job", i}}
		if err := q.data.XAdd(ctx, entry).Err(); err != nil {
			return fmt.Errorf("add %s: %w", j.name, err)
		}
	}
	return q.data.XGroupCreate(ctx, q.stream, group, "0").Err()
}

// next returns a new job, or else one that nobody has acknowledged for a while.
func (q *queue) next(ctx context.Context, consumer string) (id string, j job, err error) {
	streams, err := q.data.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group: group, Consumer: consumer, Streams: []string{q.stream, ">"}, Count: 1,
		Block: 50 * time.Millisecond,
	}).Result()
	if err == nil {
		return q.parse(streams[0].Messages)
	}
	if !errors.Is(err, redis.Nil) {
		return "", job{}, err
	}
	claimed, _, err := q.data.XAutoClaim(ctx, &redis.XAutoClaimArgs{
		Stream: q.stream, Group: group, Consumer: consumer, MinIdle: idle, Start: "0", Count: 1,
	}).Result()
	if err != nil {
		return "", job{}, err
	}
	if len(claimed) > 0 {
		return q.parse(claimed)
	}
	return "", job{}, q.rest(ctx)
}

// rest tells a queue that is empty from one whose jobs are all in somebody's hands.
func (q *queue) rest(ctx context.Context) error {
	left, err := q.data.XLen(ctx, q.stream).Result()
	if err != nil {
		return err
	}
	if left == 0 {
		return errDone
	}
	return errNothingYet
}

func (q *queue) parse(messages []redis.XMessage) (id string, j job, err error) {
	var index int
	if _, err := fmt.Sscan(fmt.Sprint(messages[0].Values["job"]), &index); err != nil ||
		index >= len(jobs) {
		return "", job{}, fmt.Errorf("stream entry %v is not a job", messages[0])
	}
	return messages[0].ID, jobs[index], nil
}

// pending tells whether the job is still unacknowledged.
func (q *queue) pending(ctx context.Context, id string) (bool, error) {
	found, err := q.data.XPendingExt(ctx, &redis.XPendingExtArgs{
		Stream: q.stream, Group: group, Start: id, End: id, Count: 1,
	}).Result()
	return len(found) > 0, err
}

// ack acknowledges the job and takes it out of the stream, in one transaction.
func (q *queue) ack(ctx context.Context, id string) error {
	_, err := q.data.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.XAck(ctx, q.stream, group, id)
		p.XDel(ctx, q.stream, id)
		return nil
	})
	return err
}

// drop removes the stream, also when ctx has ended.
func (q *queue) drop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return q.data.Del(ctx, q.stream).Err()
}
