// Package redlock is a distributed lock over N independent Redis masters: Redlock, on go-redis
// clients.
//
//	locker, err := redlock.New([]*redis.Client{a, b, c}) // or a single one
//	if err != nil {
//		return err
//	}
//	defer locker.Close()
//
//	err = locker.Do(ctx, "order:42", func(ctx context.Context) error {
//		return process(ctx, order) // ctx ends when the lock is lost
//	})
//
// A [Locker] sets a random token under a key on every node, with a script that takes effect only
// where the key is free. It has the lock once a quorum (floor(N/2)+1) has confirmed. A [Handle]
// stands for what was acquired: it can be extended, released and renewed in the background, and it
// says by itself when the lock is lost. Several resources are locked all at once or not at all.
// Those who wait in [Locker.Acquire] are served in the order in which they came, over all
// processes. A single node makes an ordinary Redis lock: it guards against the same mistakes of
// clients, but not against the loss of the node.
//
// # What is guaranteed
//
// Two handles for one resource are never both alive at the same instant. Before another client can
// get the lock, Done is closed, Err is set, and every context made by [Handle.Context] has ended. A
// lock is trusted for TTL - (TTL*drift + 2ms), from the moment before its request went out, on this
// process's monotonic clock. No operation touches what another owner has, however late or often it
// runs. What an attempt leaves on nodes that answer is removed, also after its context has ended.
//
// # What this assumes
//
// The clocks of clients and nodes run at nearly the same rate (see [WithDriftFactor]); what they
// show does not matter. And a node does not lose a key before its time: no eviction, no restart
// without its data within the TTL, no failover to a replica that lacks the key ([WithRestartGuard]
// protects from restarts, and from most failovers). With three nodes or more, it takes more than
// one such loss to break a lock that all of them have. Where only a bare quorum has it, since the
// others were down or slow, one loss is enough. The monotonic clock of most systems stands still
// while the machine sleeps: a lock does not survive a suspended laptop.
//
// # What is not guaranteed
//
// A lock with a time limit cannot stop its holder. Between the last look at Done and the write that
// it protects, a process can be paused for longer than the TTL. Where a stale write would do harm,
// the storage itself must refuse it: by the lock's fencing token ([WithFencing]), or by a version,
// a condition, a unique key. See Martin Kleppmann, "How to do distributed locking", 2016
// (https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html), and the Redlock
// specification (https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/).
//
// # The life of a Handle
//
//	TryAcquire, Acquire, Adopt
//	           |
//	           v    Extend, renewal: the lease moves
//	       +------+ ----------+
//	       | held |           |
//	       +------+ <---------+
//	           |
//	           +-- Release -----------------------> released   Err: ErrReleased
//	           |
//	           +-- the lease is over, or so many
//	           |   nodes deny the lock that no
//	           |   quorum can be left ------------> lost       Err: ErrLost
//	           |
//	           +-- Locker.Close ------------------> closed     Err: ErrClosed
//
// The first end is final. It closes Done and ends all contexts. The keys go with a Release, and
// with a loss that the nodes reported; otherwise they expire.
//
// # Where things are
//
// Imports go down only.
//
//	redlock                the API and its policy: when to try, renew and give up, and what to say
//	  internal/queue       who waits in this process, and what wakes them
//	  internal/deadlock    who waits for whom
//	  internal/protocol    one token on all nodes: what is asked, decided and taken back
//	    internal/node      one master, or one cluster: queues, order, batches, repetition, probes
//	    internal/quorum    the vote (pure)
//	    internal/lease     arithmetic with time (pure)
//	    internal/timers    many waits, few timers
//	    internal/slot      where a key lies on a Redis Cluster (pure)
//
// To change
//
//	when a lock is renewed, and for how long   internal/lease/renewal.go (times), renewal.go (act)
//	an attempt                                 acquire.go; when the next one comes: wait.go
//	what a loss does                           handle.go; Release: release.go; Extend: extend.go;
//	                                           contexts: context.go
//	New, Do, TryDo, Close                      lock.go; Once: once.go; Adopt: adopt.go
//	when a deadlock is found, who is told      internal/deadlock; what is said then: deadlock.go
//	an option, its default or its check        options.go
//	an error's text, or what it matches        errors.go; what is a misconfiguration:
//	                                           misconfigured.go
//	a log line                                 log.go, where it tells of an event or a node; else
//	                                           where it is logged
//	an event                                   events.go (what it says), observe.go (when)
//	who leads, and how candidates campaign     election.go
//	which clients are refused                  clients.go; what Check finds: check.go
//	when a vote is won or lost                 internal/quorum
//	which restarted nodes may vote             internal/node/guard.go; which scripts:
//	                                           internal/protocol/guard.go
//	how a split vote is settled                contest.go (how long it is tried),
//	                                           internal/protocol/contest.go (who gives way)
//	who is next, here                          internal/queue; on a node: scripts/queue.lua,
//	                                           wait.lua
//	how nodes agree on a fencing token         internal/protocol/fence.go, scripts/fence.lua; the
//	                                           model of it: internal/fencemodel
//	what a call sends and reads back           internal/protocol: acquire.go, extend.go,
//	                                           release.go, inspect.go
//	how a round of calls is counted and timed  internal/protocol/round.go; one call of it: ask.go
//	what a script does                         scripts/*.lua; then its digest (make digests), and
//	                                           its twin for the simulation, internal/sim/native.go
//	how calls reach the server                 internal/node: its doc.go shows the path of a call
//	what is measured                           events.go; otelredlock and promredlock, modules of
//	                                           their own
//
// docs/design.md in the repository says why things are as they are.
package redlock
