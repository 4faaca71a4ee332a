// Package deadlock finds out who waits for whom, and whether somebody waits in vain.
//
// A [Watch] goes along with one wait for a lock. It does nothing until the wait has lasted for a
// while. From then on it looks in two places:
//
//	in this process    local.go: all waits that last, whatever Locker they are of. A circle among
//	                   them is seen as soon as its last member comes in. It needs no Redis and no
//	                   second look: a handle that is alive keeps the others out.
//
//	on the nodes       notice.go, search.go: each wait publishes what it waits for, under the
//	                   locks that its task keeps from others, and follows
//
//	                   what I wait for -> its owner -> what this one waits for -> its owner ...
//
//	                   until it comes back to a lock of its own. While a lock is free, whoever is
//	                   first in its queue counts as the owner: they keep it from the others until
//	                   they can have all that they wait for.
//
// # Who speaks
//
// Every circle has one member that began to wait last. Only this one looks for it: a search goes on
// only to members that are older than the searcher. So all agree on who is told, without a word
// between them.
//
// # The second look
//
// The answers of one search are of different moments, and some of what they say may be over: of a
// wait that has ended, or of a process that has died. So nothing is said before a second search has
// found the same circle: the same waits, for the same resources, of the same owners. An owner's
// token and a wait's name are never used twice, so whatever is found twice was there all the time
// in between, and so the whole circle stood at once. That the waits themselves went on is seen from
// their beats: each wait counts what it publishes, and the second search wants greater counts than
// the first.
//
// # Who locks what
//
// One mutex guards the list of this process's waits. Nothing else is locked or called under it.
// Everything else of a Watch belongs to its goroutine. It starts when the wait has lasted for its
// while, and Stop waits for its end.
package deadlock
