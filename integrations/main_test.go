package integrations_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/robfig/cron/v3"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/locktest"
	"github.com/rediskit/redlock/internal/redistest"
)

func TestMain(m *testing.M) { locktest.Main(m) }

var (
	masters = locktest.Masters
	open    = locktest.Open[*redis.Client]
	noKeys  = locktest.NoKeys
)

// renewed waits until a lock that was just taken is renewed: nothing else sends scripts to the
// server then.
func renewed(t *testing.T, server *redistest.Server) {
	t.Helper()
	before := server.CommandCount(t, "evalsha")
	eventually(t, func() bool { return server.CommandCount(t, "evalsha") > before }, "a renewal")
}

// ticks waits until n whole seconds have begun, at which the jobs of the tests are due.
func ticks(t *testing.T, n int) {
	t.Helper()
	clock, tick := cron.New(cron.WithSeconds()), make(chan struct{}, 100)
	_, err := clock.AddFunc("* * * * * *", func() { tick <- struct{}{} })
	require.NoError(t, err)
	clock.Start()
	for range n {
		receive(t, tick, "a tick")
	}
	<-clock.Stop().Done()
}

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
