package redlock

import (
	"context"
	"time"
)

// Event is one of the structs below, by value. Their fields may grow.
//
// Context is the one that the caller gave to the call, whatever has become of it: for its values,
// and as the parent of a span that is made afterwards. It is nil where nobody called. Resources are
// sorted, without duplicates, and shared by several events: do not change them. Start is a time of
// this process, with a monotonic reading.
type Event interface{ event() }

// Waiting says that an acquisition begins to wait: its first attempt has failed, or it stands in
// line behind others of its Locker before it makes one. It is told once, and an AcquireDone
// follows.
type Waiting struct {
	Context   context.Context
	Resources []string
	Start     time.Time // of the call
	Err       error     // why it waits: it matches ErrHeld or ErrNoQuorum
}

// AcquireDone is the end of an acquisition: of any call that acquires or adopts, unless its
// arguments were invalid. If Err is nil, a LeaseEnded follows.
type AcquireDone struct {
	Context   context.Context
	Resources []string
	Start     time.Time
	Duration  time.Duration
	Attempts  int           // tries: a contest in one moment is one; 0 if the call had ended before
	Waited    bool          // a Waiting went before
	Adopted   bool          // by Locker.Adopt
	Granted   int           // nodes that had granted the lock by then; others may follow
	Nodes     int           // of so many
	Validity  time.Duration // how long the lock can be trusted from now on; 0 if Err is not nil
	Locker    uint64        // numbers the Lockers of this process
	Lock      uint64        // numbers the locks of the Locker, in all events; 0 if Err is not nil
	Fence     uint64        // the fencing token; 0 without fencing
	Err       error         // what the call returns
}

// ExtendDone is the end of an extension, by hand or by automatic renewal. A renewal that had
// failed, since the answers came too late, is told once more if they prove it in the end. One that
// a Release or Close overtakes is not told.
type ExtendDone struct {
	Context   context.Context // of Extend; nil for a renewal
	Resources []string
	Start     time.Time
	Duration  time.Duration
	Renewal   bool
	TTL       time.Duration // what was asked for
	Left      time.Duration // what was left of the former lease at the end; not negative
	Validity  time.Duration // how long the lock can be trusted from now on; 0 if it has ended
	Healed    int           // nodes that had lost the lock and get it again, as far as known by now
	Failures  int           // renewals in a row that have failed, with this one; 0 for an Extend
	Locker    uint64        // like Lock, that of its AcquireDone
	Lock      uint64
	Err       error
}

// Cause says how a lease ended. As a text it is fit for a label.
type Cause string

const (
	CauseReleased Cause = "released" // by Handle.Release
	CauseExpired  Cause = "expired"  // its time was over
	CauseTaken    Cause = "taken"    // nodes said that somebody else has it
	CauseGone     Cause = "gone"     // nodes said that the keys are gone
	CauseMaxHold  Cause = "max_hold" // the end of WithMaxHold
	CauseClosed   Cause = "closed"   // the Locker was closed
)

// err returns what a handle says that ended in this way.
func (c Cause) err() error {
	switch c {
	case CauseReleased:
		return ErrReleased
	case CauseClosed:
		return ErrClosed
	}
	return ErrLost
}

// LeaseEnded is told exactly once for each AcquireDone without an error, after it: also for a
// handle that nobody watches and that was forgotten, since with an observer the Locker watches each
// handle. Only the end of the process keeps it from being told.
type LeaseEnded struct {
	Context   context.Context // of the acquisition
	Resources []string
	Start     time.Time     // of the first lease
	Held      time.Duration // until the end, however late that was noticed
	Left      time.Duration // what was left of the lease then: 0 if it had run out
	Cause     Cause
	Reason    string // of a loss, for people
	Locker    uint64 // like Lock, that of its AcquireDone
	Lock      uint64
	Fence     uint64
	Err       error // ErrReleased, ErrLost or ErrClosed
}

// ReleaseDone is the end of the Release that counts, which is the first.
type ReleaseDone struct {
	Context   context.Context
	Resources []string
	Start     time.Time
	Duration  time.Duration
	Overrun   time.Duration // for how long the lock had been lost before; 0 if it was not
	Locker    uint64        // like Lock, that of its AcquireDone
	Lock      uint64
	Err       error
}

// NodeCall says that a call to a node was answered or has failed: one for each node that an
// operation asks (on a Redis Cluster, for each slot), and another one where a call that failed was
// repeated in the background. A call that never went out is not told.
type NodeCall struct {
	Context   context.Context // nil for renewals, and for what is cleaned up in the background
	Resources []string
	Node      int           // index into New's list
	Addr      string        // as the client has it, "" where it cannot be told
	Op        string        // "acquire", "extend", "release", "inspect" or "adopt"
	Start     time.Time     // when it was handed to the node's queue
	Duration  time.Duration // until the answer, the time in the queue included
	Batch     int           // calls that shared the round trip, this one included
	Late      bool          // it took longer than the node timeout: nobody waited for it any more
	Refused   bool          // the node is well: Err says whose the key is, or that it is gone
	Err       error         // a *HeldError if it is somebody's; what the server or the network said
}

// NodeState says that a node has begun to fail, or answers again. Nodes count as up until a call
// has failed; events of different nodes and of one come one at a time, in order.
type NodeState struct {
	Node      int
	Addr      string
	Up        bool
	Reachable int           // nodes that are up now
	Needed    int           // nodes that make a quorum
	Op        string        // what failed; "" if the node is up
	Err       error         // how; nil if the node is up
	Down      time.Duration // for how long it has failed; 0 if it has just begun to
	Failed    int           // calls that have failed meanwhile; 0 if it has just begun to
	Stayed    int           // locks that could not be deleted there meanwhile
}

// LeaderChanged says that this process becomes the leader, or no longer is: see [Locker.Lead].
// The second comes at the end of the leadership, even if the function that leads has not returned
// yet.
type LeaderChanged struct {
	Context   context.Context // of Lead
	Resources []string        // the name that the candidates campaign for
	Leading   bool
	Term      uint64        // the fencing token of the term; 0 without fencing
	Gap       time.Duration // since this process last saw or was a leader; 0 if it never did
	Cause     Cause         // why the leadership ended; "" if it begins
}

// DeadlockFound says that waiting would never end: each of the Cycle waits for what the next one
// holds. The process whose acquisition gives up is told: see [WithDeadlockDetection].
type DeadlockFound struct {
	Context   context.Context // of the acquisition that waits
	Resources []string        // what it waits for
	Cycle     []Wait
	Victim    bool // the acquisition gives up, and returns a DeadlockError
}

func (Waiting) event()       {}
func (AcquireDone) event()   {}
func (ExtendDone) event()    {}
func (LeaseEnded) event()    {}
func (ReleaseDone) event()   {}
func (NodeCall) event()      {}
func (NodeState) event()     {}
func (LeaderChanged) event() {}
func (DeadlockFound) event() {}
