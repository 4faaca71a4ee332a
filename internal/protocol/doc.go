// Package protocol is what one token does on all nodes: what is asked, how it is decided, and what
// is taken back. Above it nobody knows of nodes, scripts or replies; below it nobody knows of
// handles.
//
// # A round
//
// A [Round] puts one question to all nodes of a [Claim]'s lock and counts the answers:
//
//	Claim.Acquire, Extend, ...   prepares the round and takes its start time
//	      |
//	Round.Send ──── ask ──── ask ──── ask          one to each site, behind its site's acquire
//	      |          |        |        |
//	      |       Receive  Receive  Receive        on a worker's goroutine: read, vote, tidy up
//	      |          └── quorum.Tally ──┘
//	      |                   |
//	Round.Wait  <───────── settled                 by the vote, the deadline, ctx or Life
//
// Votes that come after that still count where they matter: a grant that nobody wants any more is
// taken back, and a renewal that a quorum confirmed late is a renewal.
//
// A site is a group of keys that one call can carry: all keys of the lock on a plain server, those
// of one slot on a Redis Cluster. A node votes when its sites have answered.
//
// # Who locks what
//
// One mutex, Claim.mu, guards a claim's sites and the votes of its rounds. Under it nodes are
// called (their mutexes come below), but nothing that is not this package's own: callbacks are
// posted, and run by unlock.
//
//   - A round's waiters are woken after its callback has run. Otherwise Extend would return before
//     its lease has moved.
//   - A round's start is taken when it is prepared and never again: a lease that counts from
//     earlier is the safe one.
//   - Send may settle a round at once, on a closed node: so it is called with no lock held that the
//     round's callback takes.
//   - A release goes behind the acquire that was sent before on that site, and what is granted
//     after a claim is over is taken back. So it is safe for a claim to learn a moment late that it
//     is over.
package protocol
