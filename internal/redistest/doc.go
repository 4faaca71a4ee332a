// Package redistest runs real redis-server processes for tests, benchmarks and
// demonstrations, and breaks them on demand.
//
// [Start] and [StartN] give independent masters; [StartCluster] and
// [StartSentinel] give the two composed deployments. Everything listens on
// 127.0.0.1, keeps its files in a directory of its own and is gone when the
// test is: the clean-up waits for the process, and on Linux the kernel kills it
// if the test binary dies first. Code without a testing.TB uses [Launch] and
// [LaunchProxy], which return errors, and calls Close itself.
//
// Faults come in two layers. A [Server] can be paused (SIGSTOP: it accepts
// connections and bytes but answers nothing, while its keys go on ageing),
// killed and restarted. A [Proxy] stands between a client and a server and
// delays, holds, swallows or cuts what passes.
//
// What managed services put in between: [StartSharding] gives a proxy that
// spreads the keys over several servers, and [StartPair] a primary with a
// replica behind a [Name] that always leads to the primary.
//
// # Which server
//
// The server is the redis-server in PATH. REDLOCK_REDIS_SERVER=/path/to/program in
// the environment names another, a script that starts one included. Redis from 6.0
// on, Valkey and Redict are understood. Where it matters which one it is,
// [Server.Version] tells.
//
// # Without Redis
//
// A test that needs a server is skipped where redis-server is not installed. If
// the environment has REDLOCK_REQUIRE_REDIS=1 it fails instead, so that a
// continuous integration run cannot pass by testing nothing. On Linux the same
// goes for the C compiler that [WithFakeClock] needs. If REDLOCK_REDIS_SERVER names
// a program that cannot be run, the test fails in any case.
//
// # Leak checks
//
// A closed go-redis client leaves goroutines behind for a while where its server is
// gone. After a test that kills one, goleak needs ClientLeaks of internal/locktest.
package redistest
