package node

import "time"

// Call is one script call to one node. Its exported fields belong to the caller until the call is
// sent, and again from the moment the Receiver gets it; in between they are the node's. Small
// fields stand together: each request to each node has a Call, and its size counts.
type Call struct {
	Script *Script
	Keys   []string // on a Redis Cluster they share a slot
	Args   []any

	// KeyArgs are the Keys as arguments, from a caller who has them for several calls. To make
	// them takes an allocation for each. nil: the caller does not.
	KeyArgs []any

	// SendBy is when the call loses its purpose: if it still waits to be sent then, it is dropped
	// with ErrNotSent. Zero: never.
	SendBy time.Time

	// Patience is how long the caller waits for an answer. A round trip that takes longer no
	// longer keeps later calls from being sent. Zero: a second.
	Patience time.Duration

	// RepeatUntil makes the node repeat the call, in the background and with growing pauses, while
	// it ends in an error. Zero: one try, not counting go-redis's own retries.
	RepeatUntil time.Time

	// HoldsBack are the keys on which the call holds others back from the start; see Node.HoldBack.
	// It waits itself for those that do so already, if the node may know of them.
	HoldsBack []string

	Receiver Receiver

	// Reply is the script's reply, and Err what went wrong: the script's error, or the client's.
	Reply any
	Err   error

	// HeldBack makes the call wait for calls that hold back one of its keys; see Node.HoldBack.
	HeldBack bool

	// Yields allows the node to drop the call with ErrNotSent, as long as it has never been sent,
	// in favour of a later one that yields and holds the same keys back: it says what this one
	// would.
	Yields bool

	// Repeating says that the call has failed for the first time, or because a cluster moves a slot
	// of several of its keys, and may be repeated: the Receiver is told of Err, and gets the call
	// once more when it is done. It may have it sent anew at once.
	Repeating bool

	// Repeated says that an earlier try of the call got no answer. It may still reach the node
	// after this one.
	Repeated bool

	// Batch is how many calls shared its latest round trip.
	Batch uint16

	slot uint16 // of its keys, on a Redis Cluster

	// Guarded by the node's mutex.
	state      state
	tried      bool    // the node may know of the call
	spare      bool    // a late Close does not wait for it: it has had its chance
	waits      int32   // calls that must be done before this one is queued
	failures   int32   // how often the call failed and was put aside for another try
	stream     *stream // in whose queue it is
	next, prev *Call   // neighbours there
	// after is the one of the calls that it waits for that has the same owner: whoever follows this
	// one relies on it.
	after     *Call
	followers []*Call  // calls that wait for this one
	holds     []string // keys on which it holds others back
}

// defaultPatience is the Patience of calls that do not say.
const defaultPatience = time.Second

func (c *Call) patience() time.Duration {
	if c.Patience <= 0 {
		return defaultPatience
	}
	return c.Patience
}

// Receiver gets a call back when it was answered, failed or was dropped: once, on a goroutine of
// the node's, and never from within a method of the Node. It must not block.
//
// It may set the call's Keys and Args anew and return true to have it sent once more. Calls that
// follow it go on waiting. After ErrClosed the return value is ignored.
type Receiver interface {
	Receive(c *Call) (again bool)
}

// state tells where a call is.
type state uint8

const (
	fresh  state = iota // not handed to a node
	parked              // waits for other calls, or for its next try
	queued              // waits to be sent
	sent                // with go-redis, or on its way back to the Receiver
	done                // received, or dropped
)
