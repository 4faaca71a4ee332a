package acceptance_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rediskit/redlock"
)

// A process that computes on every processor lets its goroutines wait for tens of milliseconds each
// time. That is no outage.
func TestLockInAProcessThatIsBusyOnAllProcessors(t *testing.T) {
	for _, ttl := range []time.Duration{time.Second, 3 * time.Second} {
		t.Run(ttl.String(), func(t *testing.T) {
			ctx := context.Background()
			servers, clients := masters(t, 1)
			l := open(t, clients, redlock.WithTTL(ttl))
			warmUp(t, clients)
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
			var stop atomic.Bool
			var spinning sync.WaitGroup
			for range 8 {
				spinning.Add(1)
				go func() {
					defer spinning.Done()
					for n := 0; !stop.Load(); n++ {
						_ = n * n
					}
				}()
			}
			var errs []error
			for i := range 20 {
				h, err := l.TryAcquire(ctx, fmt.Sprint("r", i))
				if err == nil {
					err = h.Release(ctx)
				}
				errs = append(errs, err)
			}
			stop.Store(true)
			spinning.Wait()
			requireNoErrors(t, errs, "acquisitions")
			noKeys(t, servers)
		})
	}
}
