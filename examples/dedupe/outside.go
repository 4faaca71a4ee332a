package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const redelivery = 100 * time.Millisecond

var (
	errDrained     = errors.New("no more deliveries")
	errUnavailable = errors.New("the mail server is not available")
)

// broker stands for a message broker: it delivers what was not acknowledged again.
type broker struct {
	queue chan string
	left  atomic.Int64 // deliveries that were not acknowledged
}

func newBroker(batches ...[]string) *broker {
	total := 0
	for _, batch := range batches {
		total += len(batch)
	}
	b := &broker{queue: make(chan string, total)}
	b.left.Store(int64(total))
	for _, batch := range batches {
		for _, id := range batch {
			b.queue <- id
		}
	}
	return b
}

func (b *broker) next(ctx context.Context) (string, error) {
	select {
	case id, ok := <-b.queue:
		if !ok {
			return "", errDrained
		}
		return id, nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

func (b *broker) ack() {
	if b.left.Add(-1) == 0 {
		close(b.queue) // nothing is on its way back: that would not be acknowledged
	}
}

func (b *broker) nack(id string) {
	// there is room: its delivery was taken out
	time.AfterFunc(redelivery, func() { b.queue <- id })
}

// outbox stands for the mail server and its records, which outlive the workers.
type outbox struct {
	mu sync.Mutex
	// guarded by mu, as is what follows: the message that cannot be sent the first time
	failOnce string
	sent     map[string]int    // how often each message went out
	tokens   map[string]string // the token of the lock that remembers it
}

func newOutbox(failOnce string) *outbox {
	return &outbox{failOnce: failOnce, sent: map[string]int{}, tokens: map[string]string{}}
}

// send sends the message and records the lock's token with it.
func (o *outbox) send(ctx context.Context, id, token string) error {
	if err := pretend(ctx, 20*time.Millisecond); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if id == o.failOnce {
		o.failOnce = ""
		return errUnavailable
	}
	o.sent[id]++
	o.tokens[id] = token
	return nil
}

// ids are the messages that were sent.
func (o *outbox) ids() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var ids []string
	for id := range o.sent {
		ids = append(ids, id)
	}
	return ids
}

func (o *outbox) count(id string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sent[id]
}

func (o *outbox) token(id string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tokens[id]
}

// check tells whether every message was sent exactly n times.
func (o *outbox) check(n int) error {
	for _, id := range messages {
		if got := o.count(id); got != n {
			return fmt.Errorf("%s was sent %d times, not %d", id, got, n)
		}
	}
	return nil
}
