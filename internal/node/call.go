package node

import "time"

// Call is one request to a script on one node. Its exported fields are the caller's until it is sent and again once the Receiver
// has it; in between they are the node's.
type Call struct {
	Script *Script
	Keys   []string
	Args   []any

	// SendBy is when the call has lost its purpose: if it still waits to be sent then, it is dropped with
	// ErrNotSent. Zero: never.
	SendBy time.Time

	// RepeatUntil makes the node repeat the call, in the background and with growing pauses, for as long as it
	// ends in an error. Zero: one try (go-redis's own retries not counted).
	RepeatUntil time.Time

	Receiver Receiver

	Reply any
	Err   error

	// Yields makes the call wait for calls that linger on one of its keys; see Node.Linger.
	Yields bool

	// Repeated says that an earlier try of the call got no answer, and may still reach the node after this one.
	Repeated bool

	// Guarded by the node's mutex.
	state      state
	next, prev *Call    // neighbours in the queue
	waits      int      // calls that must be done before this one is queued
	bound      bool     // one of them is of the same owner: what follows this call relies on it
	followers  []*Call  // calls that wait for this one
	lingers    []string // keys on which it does
	tried      bool     // the node may know of the call
	failures   int      // how often the call was repeated
}

// Receiver gets a call back when it has been answered, failed or was dropped: once, on a goroutine of the node's, and
// never from within a method of the Node. It must not block.
//
// It may set the call's Keys and Args anew and return true to have the call sent once more; what follows the call then
// goes on waiting. After ErrClosed that is in vain.
type Receiver interface {
	Receive(c *Call) (again bool)
}

// state tells where a call is.
type state uint8

const (
	fresh  state = iota // not handed to a node
	parked              // waits for other calls, or for its next try
	queued              // waits to be sent
	sent                // with go-redis
	done                // received, or dropped
)

// queue is a doubly linked list of calls, so that any of them can leave at once.
type queue struct {
	head, tail *Call
	length     int
}

func (q *queue) push(c *Call) {
	c.state, c.prev, c.next = queued, q.tail, nil
	if q.tail == nil {
		q.head = c
	} else {
		q.tail.next = c
	}
	q.tail = c
	q.length++
}

func (q *queue) remove(c *Call) {
	if c.prev == nil {
		q.head = c.next
	} else {
		c.prev.next = c.next
	}
	if c.next == nil {
		q.tail = c.prev
	} else {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
	q.length--
}
