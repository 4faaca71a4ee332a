package redlock

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/rediskit/redlock/internal/protocol"
)

// maxRecords is how much may wait for a log handler that does not keep up; what comes then is
// dropped.
const maxRecords = 1024

// logQueue passes records on to the user's logger from a goroutine of its own, which lives while
// there are any: locks must not wait for a handler that does.
type logQueue struct {
	logger *slog.Logger // nil: nothing is logged

	mu      sync.Mutex
	records []record
	running bool
	dropped int
	done    chan struct{} // closed when the goroutine ends; made for each
}

type record struct {
	level slog.Level
	msg   string
	args  []any
}

// add logs something soon. It never blocks.
func (q *logQueue) add(level slog.Level, msg string, args ...any) {
	if q.logger == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.records) == maxRecords {
		q.dropped++
		return
	}
	q.records = append(q.records, record{level, "redlock: " + msg, args})
	if !q.running {
		q.running, q.done = true, make(chan struct{})
		go q.run(q.done)
	}
}

func (q *logQueue) warn(msg string, args ...any) { q.add(slog.LevelWarn, msg, args...) }
func (q *logQueue) info(msg string, args ...any) { q.add(slog.LevelInfo, msg, args...) }

// Observe logs the events that no call returns.
func (q *logQueue) Observe(e Event) {
	switch e := e.(type) {
	case LeaseEnded:
		if e.Err == ErrLost {
			q.warn("lock lost", "resources", e.Resources, "reason", e.Reason)
		}
	case ExtendDone:
		switch {
		case e.Err == nil && e.Failures > 0:
			q.info("lock renewed again", "resources", e.Resources, "failures", e.Failures)
		case e.Failures == 1 && errors.Is(e.Err, ErrNoQuorum):
			q.warn("renewal failed and is tried again until the lease ends",
				"resources", e.Resources,
				"left", e.Left, "error", e.Err)
		}
	case NodeState:
		if at := []any{"node", e.Node, "addr", e.Addr}; e.Up {
			q.info("a node answers again",
				append(at, "failed_calls", e.Failed, "after", e.Down, "locks_not_deleted",
					e.Stayed)...)
		} else {
			q.warn("a node fails", append(at, "op", e.Op, "error", e.Err)...)
		}
	}
}

// trouble logs what is not an event.
func (q *logQueue) trouble(t protocol.Trouble) {
	at := []any{"node", t.Node, "addr", t.Addr}
	switch t.Kind {
	case protocol.Barred:
		q.warn("a node has no vote yet", append(at, "error", t.Err)...)
	case protocol.Healed:
		q.info("a node has lost a lock and gets it again", append(at, "resources", t.Resources)...)
	case protocol.NoHints:
		hint, _ := misconfigured(t.Err)
		q.warn("a node does not say who waits for what: deadlocks may not be found",
			append(at, "error", t.Err, "hint", hint)...)
	case protocol.KeysStay:
		q.warn("keys could not be deleted before the Locker was closed and stay until they expire",
			append(at, "locks", t.Stays)...)
	}
}

// noMessages says once that a node cannot tell us when a lock is released.
func (l *Locker) noMessages(node int, err error) {
	l.log.warn(
		"no messages from a node: waiting calls ask it again and again instead of being told",
		"node", node, "addr", l.nodes.Addr(node), "error", err,
		"hint", "let the user SUBSCRIBE and PUBLISH to the channels redlock:*")
}

func (q *logQueue) run(done chan struct{}) {
	defer close(done)
	for {
		q.mu.Lock()
		records, dropped := q.records, q.dropped
		q.records, q.dropped = nil, 0
		q.running = len(records) > 0 || dropped > 0
		q.mu.Unlock()
		if len(records) == 0 && dropped == 0 {
			return
		}
		for _, r := range records {
			q.logger.Log(context.Background(), r.level, r.msg, r.args...)
		}
		if dropped > 0 {
			q.logger.Warn("redlock: log records dropped: the handler does not keep up",
				"records", dropped)
		}
	}
}

// wait waits until everything is logged, but no longer than that.
func (q *logQueue) wait(most time.Duration) {
	q.mu.Lock()
	done, running := q.done, q.running
	q.mu.Unlock()
	if !running && done == nil {
		return
	}
	select {
	case <-done:
	case <-time.After(most):
	}
}
