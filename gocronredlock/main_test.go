package gocronredlock_test

import (
	"os"
	"testing"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/gocronredlock"
	"github.com/rediskit/redlock/internal/locktest"
	"github.com/rediskit/redlock/internal/redistest"
)

func TestMain(m *testing.M) {
	if addrs := os.Getenv(leaderEnv); addrs != "" {
		os.Exit(leadUntilKilled(addrs))
	}
	locktest.Main(m)
}

var (
	masters = locktest.Masters
	open    = locktest.Open[*redis.Client]
	noKeys  = locktest.NoKeys
)

const report = "report" // the name of most tests' job

func newLocker(t *testing.T, l *redlock.Locker,
	opts ...gocronredlock.Option) *gocronredlock.Locker {
	t.Helper()
	locker, err := gocronredlock.NewLocker(l, opts...)
	require.NoError(t, err)
	return locker
}

// newElector returns an Elector that is closed at the end of the test.
func newElector(t *testing.T, l *redlock.Locker,
	opts ...gocronredlock.Option) *gocronredlock.Elector {
	t.Helper()
	e, err := gocronredlock.NewElector(l, "leader", opts...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = e.Close() }) // what it returns is for the tests that close it
	return e
}

// schedule starts a scheduler with one job. It is shut down at the end of the test, unless the test
// does it.
func schedule(t *testing.T, distributed gocron.SchedulerOption, when gocron.JobDefinition, task any,
	opts ...gocron.JobOption) gocron.Scheduler {
	t.Helper()
	s, err := gocron.NewScheduler(distributed, gocron.WithStopTimeout(30*time.Second))
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Shutdown() })
	_, err = s.NewJob(when, gocron.NewTask(task),
		append([]gocron.JobOption{gocron.WithName(report)}, opts...)...)
	require.NoError(t, err)
	s.Start()
	return s
}

// now is a job that is due at once, and once.
func now() gocron.JobDefinition { return gocron.OneTimeJob(gocron.OneTimeJobStartImmediately()) }

// every is a job that is due again and again.
func every(d time.Duration) gocron.JobDefinition { return gocron.DurationJob(d) }

// receive waits for a value.
func receive[T any](t *testing.T, from <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(time.Minute):
		require.FailNow(t, "waited in vain for "+what)
	}
	return v
}

// eventually waits for a condition in the test's own goroutine.
func eventually(t *testing.T, condition func() bool, what string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); {
		if time.Now().After(deadline) {
			require.FailNow(t, "waited in vain: "+what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// uproot deletes a resource's key on some servers, whoever has it.
func uproot(t *testing.T, resource string, servers ...*redistest.Server) {
	t.Helper()
	for _, s := range servers {
		s.Do(t, "del", locktest.LockKey(resource))
	}
}
