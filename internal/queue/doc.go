// Package queue is where the calls of one Locker wait for locks that others have: who is next here,
// where they stand in the nodes' queues, and what wakes them. What the nodes do about it stands in
// scripts/queue.lua, and why all this is as it is, with each race and what closes it, in
// docs/design.md, "Waiting in line".
//
//	Locker.Acquire              Line                              nodes
//	     |                       |                                  |
//	     |-- Try --------------->| nobody here waits for it         |
//	     |-- an attempt, without a place ------------------------->|
//	     |<- refused ----------------------------------------------|
//	     |-- Join, Refused ----->| a place: name, ticket; inboxes   |
//	     |-- an attempt at that Place ----------------------------->| registers it
//	     |-- Wait -------------->|                                  |
//	     |                       |<-- "come" ----------------------| of a quorum; or a little
//	     |<----------------------|                                  | after the first
//	     |-- an attempt at that Place ----------------------------->| grants
//	     |-- Won --------------->| the next one here stays covered until the release,
//	     |                       | which takes its place along: Release
//
// Where somebody here waits already, or tries, the way begins with Line.Join in place of the first
// attempt, and with Turn, which waits until it is the first of its group.
//
// All fields of waiters, watchers and groups are guarded by Line.mu. A claim asks the line, with
// its own mutex held, whether a node reaches the inbox; so the line asks claims for nothing with
// Line.mu held.
//
//	line.go     Line, groups, messages, what is forgotten when
//	try.go      Try: a first attempt, which takes no place
//	waiter.go   Waiter: its turn, when its next attempt is due, what becomes of its lock
//	watch.go    those who only want to see a resource free
//	clock.go    tickets: what the nodes' clocks show
package queue
