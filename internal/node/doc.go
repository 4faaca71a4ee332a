// Package node turns script calls into traffic to one Redis master, or to the masters of one Redis
// Cluster.
//
// Calls queue up. A few workers take everything that waits and send it in one round trip, each call
// as an EVALSHA of its own, several of them as a pipeline. Without load a call goes out at once;
// under load many share a round trip. A worker lives while there is something to send: an idle node
// has no goroutine.
//
// # The path of a call
//
//	Send, SendAfter
//	   |  waits for calls before it (order.go) ------------------ parked
//	   v
//	stream: one for each master (route.go finds it)               queued
//	   |  a worker takes a batch (work.go)
//	   v
//	go-redis: EVALSHA, pipelines, NOSCRIPT (command.go)           sent
//	   |  failed, and to be repeated (repeat.go): parked, then queued again
//	   v
//	Receiver; then the calls that have waited for it are queued   done
//
// # Who waits for whom
//
// Only workers wait for go-redis. A stock client can neither be interrupted in flight nor held to a
// deadline of ours, so a master that hangs must cost nobody but its workers. And even these are
// replaced: one that waits for longer than its callers do counts as stuck. It makes room for
// another, which gets another connection (stream.go).
//
// # Locks
//
// One mutex guards a node with all its streams, and every Call that was handed to it. Methods
// called with it held end in Locked. No Receiver and nothing of go-redis runs under it, and a
// Receiver is never called from within a method of the Node, so callers may hold locks of their own
// that their Receivers take. Close waits for every goroutine and timer.
package node
