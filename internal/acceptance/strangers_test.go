package acceptance_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// poller locks and unlocks a key as other libraries do, who ask all the time and know nothing of
// who waits.
type poller struct {
	clients []*redis.Client
	key     string
}

// run goes on until ctx ends, and counts how often it has had the lock.
func (p *poller) run(ctx context.Context, name string, had *atomic.Int64) error {
	for i := 0; ; i++ {
		token, granted := fmt.Sprintf("%s %d", name, i), 0
		for _, c := range p.clients {
			if ok, err := c.SetNX(ctx, p.key, token, time.Minute).Result(); err == nil && ok {
				granted++
			}
		}
		pause := 5 * time.Millisecond
		if granted > len(p.clients)/2 {
			had.Add(1)
			pause = time.Millisecond // the lock is held
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		for _, c := range p.clients {
			// With a context of its own: the key must not stay behind.
			if c.Get(context.Background(), p.key).Val() == token {
				if err := c.Del(context.Background(), p.key).Err(); err != nil {
					return err
				}
			}
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// While programs move from another library to this one, both lock the same keys. Nobody who is
// called by a release stands a chance against those who ask every 5 ms, so waiters ask too: in a
// Locker together, and for those who stand behind in other ones.
func TestWaitersAreNotStarvedByThoseWhoPoll(t *testing.T) {
	for _, lockers := range []int{1, 4} {
		t.Run(fmt.Sprint(lockers, " Lockers"), func(t *testing.T) {
			const pollers, waiters, turns = 4, 8, 5
			servers, clients := masters(t, 3)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var theirs, ours atomic.Int64
			var polls, waits sync.WaitGroup
			for i := range pollers {
				p := &poller{clients, "lock:a"}
				polls.Add(1)
				go func() {
					defer polls.Done()
					assert.NoError(t, p.run(ctx, fmt.Sprint("poller ", i), &theirs))
				}()
			}
			var ls []*redlock.Locker
			for range lockers {
				ls = append(ls, open(t, clients))
			}
			for i := range waiters {
				waits.Add(1)
				go func() {
					defer waits.Done()
					for range turns {
						h, err := ls[i%lockers].Acquire(ctx, "a")
						if assert.NoError(t, err) {
							ours.Add(1)
							assert.NoError(t, h.Release(ctx))
						}
					}
				}()
			}
			waits.Wait()
			cancel()
			polls.Wait()
			t.Logf("%d of ours, %d of theirs", ours.Load(), theirs.Load())
			require.Less(t, theirs.Load(), 150*ours.Load(),
				"those who poll get nearly all there is")
			noKeys(t, servers)
		})
	}
}
