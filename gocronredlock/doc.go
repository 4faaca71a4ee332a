// Package gocronredlock lets several [gocron] schedulers run each job once, with locks of
// [redlock]. There are two ways, and a scheduler takes one of them:
//
//   - A [Locker] takes a lock for each run of a job: whichever scheduler comes first runs it. Give
//     it to gocron.WithDistributedLocker, or to one job by gocron.WithDistributedJobLocker.
//   - An [Elector] makes one scheduler the leader, which runs all jobs until it closes, crashes or
//     loses its nodes. Give it to gocron.WithDistributedElector; gocron then asks no Locker.
//
// Use the Locker for jobs that tick at the same time everywhere (cron, daily, weekly), and the
// Elector for jobs whose ticks depend on when the scheduler was started (gocron.DurationJob).
//
// # What is guaranteed
//
// As long as its lock lasts, a job runs nowhere else, and the lock is renewed while the job runs.
// Nothing can stop a job whose lock is lost (see "What is not guaranteed" in package redlock), but
// the job can learn of it: [Locker.Context] and [Elector.Context] give it a context that ends then.
//
// A crash in the middle of a job does not repeat it: the next run is the one of the next tick.
//
// # Shutting down
//
// In this order: the scheduler, whose Shutdown waits for its jobs; the Elector; the redlock.Locker;
// its clients.
//
// [gocron]: https://pkg.go.dev/github.com/go-co-op/gocron/v2
package gocronredlock
