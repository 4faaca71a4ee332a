// Package acceptance tests the library as its users see it: through the public API, on real servers. It contains tests only.
// Package locktest has what they share with the tests of the root, and package redistest runs the servers.
//
// Where to look:
//
//	getting a lock
//	    contention_test.go      several want the same lock
//	    attempt_test.go         attempts that fail, come late or are cancelled, and what they leave behind
//	    wait_test.go            Acquire and WaitForUnlock while they wait
//	    multilock_test.go       several resources at once
//	    adopt_test.go           Adopt: a lock that another process has handed over
//
//	having a lock
//	    handle_test.go          what a handle says, while the lock lasts and afterwards
//	    context_test.go         the contexts of a handle
//	    extend_test.go          Extend
//	    shortening_test.go      Extend to less, where late and repeated requests are dangerous
//	    renewal_test.go         automatic renewal
//	    healing_test.go         nodes that have lost the lock get it again
//
//	the end of a lock
//	    release_test.go         Release
//	    close_test.go           Close, with locks held and calls under way
//	    memory_test.go          what has ended costs nothing any more
//
//	looking and asking
//	    inspect_test.go         IsLocked and Inspect
//	    errors_test.go          what errors say, and what they match
//	    options_test.go         which options and arguments are refused, and what the others do
//
//	servers and processes in trouble
//	    outage_test.go          nodes that are down, hung or slow: a minority, and a majority
//	    error_replies_test.go   nodes that answer with errors
//	    storm_test.go           one handle is extended, renewed, watched, released and closed at the same time
//	    crowd_test.go           many processes compete for one lock and are killed at random
//	    paused_process_test.go  a process is stopped for longer than its lock lives
//
//	kinds of servers
//	    deployments_test.go     one node or many, Redis Cluster, Sentinel, both protocols
//	    acl_test.go             the Redis user that the README recommends
//
//	virtual time: exact to the nanosecond, and an hour passes at once
//	    virtual_lease_test.go, virtual_attempt_test.go, virtual_wait_test.go, virtual_renewal_test.go
//
//	what tests use
//	    main_test.go            servers with clients, with and without proxies, and Lockers
//	    helpers_test.go         look at keys, wait for things, break servers
//	    tap_test.go             see a client's requests and hold them up
//	    virtual_node_test.go    a node in virtual time
package acceptance
