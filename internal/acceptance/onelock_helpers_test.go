package acceptance_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// callers is how many call at once: enough for their calls to be sent together.
const callers = 200

// patient is for callers who may have to wait for each other on a busy machine: a late answer must
// not look like an outage.
var patient = redlock.WithNodeTimeout(15 * time.Second)

// atOnce makes n calls at the same moment and returns what each of them returned.
func atOnce(n int, call func(i int) error) []error {
	errs, start := make([]error, n), make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			<-start
			errs[i] = call(i)
		}()
	}
	close(start)
	wg.Wait()
	return errs
}

// requireNoErrors fails the test with the number of errors and the first of them.
func requireNoErrors(t *testing.T, errs []error, what string, args ...any) {
	t.Helper()
	var first error
	count := 0
	for _, err := range errs {
		if err == nil {
			continue
		}
		if count++; first == nil {
			first = err
		}
	}
	if count > 0 {
		require.FailNow(t, fmt.Sprintf("%s: %d of %d failed", fmt.Sprintf(what, args...), count,
			len(errs)), "the first: %v", first)
	}
}

// requireEmpty waits until none of the servers has a key of a lock.
func requireEmpty(t *testing.T, servers ...*redistest.Server) {
	t.Helper()
	for i, s := range servers {
		var left []string
		until(t, 10*time.Second, func() bool {
			left = lockKeysOn(t, s)
			return len(left) == 0
		}, "keys left on server %d: %v", i, &left)
	}
}

// lockKeysOn returns the keys on a server that hold a lock, under the usual prefix.
func lockKeysOn(t *testing.T, s *redistest.Server) []string {
	t.Helper()
	var keys []string
	for _, key := range s.Keys(t) {
		if strings.HasPrefix(key, "lock:") {
			keys = append(keys, key)
		}
	}
	return keys
}

// until waits for a condition, on the test's own goroutine: conditions may end the test.
func until(t *testing.T, limit time.Duration, condition func() bool, what string, args ...any) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			require.FailNow(t, fmt.Sprintf(what, args...), "still so after %v", limit)
		}
	}
}
