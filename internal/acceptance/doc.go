// Package acceptance tests the library as its users see it: through the public API, on real
// servers. It contains tests only. Package locktest has what they share with the tests of the root,
// and package redistest runs the servers.
//
// Where to look:
//
//	getting a lock
//	    contention_test.go      several want the same lock
//	    contest_test.go         several try at the same moment: one gets it
//	    queue_test.go           waiting in line: the order, and what befalls messages and waiters
//	    strangers_test.go       waiting among programs that poll with another library
//	    queue_process_test.go   the first in line is killed or stopped
//	    cutoff_test.go          the first in line does not reach a quorum
//	    attempt_test.go         attempts that fail, come late or are cancelled; what they leave
//	    wait_test.go            Acquire and WaitForUnlock while they wait
//	    wait_together_test.go   several of one Locker that stop waiting at the same time
//	    multilock_test.go       several resources at once
//	    fencing_test.go         WithFencing: tokens that increase from holder to holder
//	    queue_fencing_test.go   the same for those who wait
//	    adopt_test.go           Adopt: a lock that another process has handed over
//	    trydo_test.go           TryDo
//	    once_test.go            Once, also in virtual time
//	    lead_test.go            Lead: one leader at a time, and how it changes
//	    deadlock_test.go        WithDeadlockDetection, also in virtual time
//	    maxoutage_test.go       WithMaxOutage: a wait that ends when Redis is down
//
//	having a lock
//	    handle_test.go          what a handle says, while the lock lasts and afterwards
//	    context_test.go         the contexts of a handle
//	    context_end_test.go     when contexts end, what they cost, what they race with
//	    extend_test.go          Extend
//	    shortening_test.go      Extend to less, where late and repeated requests are dangerous
//	    shortening_cost_test.go what many shortenings cost, and shortenings that are cut short
//	    renewal_test.go         automatic renewal
//	    healing_test.go         nodes that have lost the lock get it again
//
//	the end of a lock
//	    release_test.go         Release
//	    release_errors_test.go  what Release says when servers refuse
//	    minhold_test.go         WithMinHold: keys that stay after Release
//	    close_test.go           Close, with locks held and calls under way
//	    close_pause_test.go     Close while nodes stop for a moment, hang or are down
//	    memory_test.go          what has ended costs nothing any more
//
//	looking and asking
//	    inspect_test.go         IsLocked and Inspect
//	    check_test.go           Check: what is wrong before it hurts
//	    errors_test.go          what errors say, and what they match
//	    error_text_test.go      the same in trouble, and what the log says then
//	    misconfigured_test.go   ErrMisconfigured: what no waiting mends
//	    secrets_test.go         what nobody may read in errors, logs and formats
//	    options_test.go         which options and arguments are refused, and what the others do
//	    same_server_test.go     New refuses one server twice
//
//	observing
//	    observer_test.go        what an observer is told, and how often
//	    cost_test.go            what it costs to have one, and to have none
//
//	servers and processes in trouble
//	    guard_test.go           WithRestartGuard: servers that restart and forget locks
//	    outage_test.go          nodes that are down, hung or slow: a minority, and a majority
//	    forgotten_connections_test.go  a firewall has forgotten the connections
//	    busy_process_test.go    a process that computes on all processors
//	    error_replies_test.go   nodes that answer with errors
//	    storm_test.go           one handle is extended, renewed, released and closed at once
//	    crowd_test.go           many processes compete for one lock and are killed at random
//	    paused_process_test.go  a process is stopped for longer than its lock lives
//	    cluster_hung_test.go    one master of a Redis Cluster hangs
//	    failover_managed_test.go  a name moves from a primary to its replica
//
//	kinds of servers
//	    deployments_test.go     one node or many, Redis Cluster, Sentinel, both protocols
//	    onelock_test.go         what stands in front of the keys sees each lock by itself
//	    scripts_text_test.go    servers that check a script's text before they run it
//	    notime_test.go          servers on which scripts may not ask for the time
//	    cluster_slots_test.go   Redis Cluster: many slots, and a slot that is being moved
//	    acl_test.go             the Redis user that the README recommends
//	    acl_names_test.go       a Redis user who may not touch some of the names
//	    strictfips_test.go      a program that may use nothing but what FIPS 140 approves
//
//	virtual time: exact to the nanosecond, and an hour passes at once
//	    virtual_lease_test.go, virtual_attempt_test.go, virtual_wait_test.go,
//	    virtual_renewal_test.go, virtual_late_test.go, virtual_once_test.go, virtual_hold_test.go,
//	    virtual_close_test.go, virtual_contest_test.go, virtual_order_test.go,
//	    virtual_lead_test.go, virtual_context_test.go, virtual_end_test.go,
//	    virtual_distance_test.go, virtual_deadlock_test.go, virtual_handover_test.go,
//	    virtual_observer_test.go, virtual_outage_test.go, virtual_deadline_test.go
//
//	what tests use
//	    main_test.go            servers with clients, with and without proxies, and Lockers
//	    helpers_test.go         look at keys, wait for things, break servers
//	    observer_helpers_test.go  an observer that keeps what it is told
//	    tap_test.go             see a client's requests and hold them up
//	    onelock_helpers_test.go  many callers at the same moment
//	    virtual_node_test.go    a node in virtual time
package acceptance
