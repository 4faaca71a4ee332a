// Package redlock is a distributed lock over N independent Redis masters: Redlock, on go-redis clients.
//
// A [Locker] sets a random token under a key on every node, in a script that takes effect only where the key is free, and
// has the lock once a quorum (floor(N/2)+1) has confirmed. A [Handle] stands for what was acquired: it can be extended,
// released, renewed in the background, and says by itself when the lock is lost. Several resources are locked all at once or
// not at all. With a single node it is an ordinary Redis lock with the same guarantees against clients' mistakes, and none
// against the loss of that node.
//
// # What is guaranteed
//
// Two handles for one resource are never both alive at the same instant: before another client can get the lock, Done is
// closed, Err is set, and every context made by [Handle.Context] has ended. A lock is trusted from the moment before its
// request went out, for TTL - (TTL*drift + 2ms), on this process's monotonic clock. No operation touches what another owner
// has, however late or often it runs. What an attempt leaves on nodes that answer is removed, also after its context has
// ended.
//
// # What this assumes
//
// The clocks of clients and nodes run at nearly the same rate (see [WithDriftFactor]); what they show does not matter. And a
// node does not lose a key before its time: no eviction, no restart without its data within the TTL, no failover to a
// replica that lacks the key. A majority of the nodes must lose a key for the lock to break, so a single node that
// restarts empty breaks a lock only where the quorum was bare. The monotonic clock of most systems stands still while
// the machine sleeps: a lock does not survive a suspended laptop.
//
// # What is not guaranteed
//
// A lock with a time limit cannot stop its holder: between the last look at Done and the write it protects, a process can
// be paused for longer than the TTL. Where a stale write would do harm, and not only waste, the storage itself must refuse
// it (a version, a condition, a unique key). See Martin Kleppmann, "How to do distributed locking", 2016
// (https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html), and the Redlock specification
// (https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/).
package redlock
