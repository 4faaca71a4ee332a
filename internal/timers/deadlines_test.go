//go:build go1.25

package timers

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Nobody's patience ends late, or earlier than by a 32nd.
func TestDeadlinesAreKeptWhoeverSharesThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const d = 320 * time.Millisecond
		var ds Deadlines
		var wg sync.WaitGroup
		defer wg.Wait()
		begin := time.Now()
		for _, after := range []time.Duration{0, 10, 11, 11, 21, 22, 5, 500, 1000} {
			start := begin.Add(after * time.Millisecond)
			time.Sleep(time.Until(start)) // not at all for one that comes late
			called := time.Now()
			over := ds.After(start, d)
			wg.Go(func() {
				<-over
				lost := time.Until(start.Add(d))
				assert.GreaterOrEqual(t, lost, time.Duration(0), "begun after %v",
					called.Sub(begin))
				assert.LessOrEqual(t, lost, time.Duration(d/sharing), "begun after %v",
					called.Sub(begin))
			})
		}
	})
}

func TestDeadlinesAreSharedByThoseThatBeginTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const d = 320 * time.Millisecond
		var ds Deadlines
		begin := time.Now()
		first := ds.After(begin, d)
		require.Equal(t, first, ds.After(begin.Add(d/sharing), d))
		require.NotEqual(t, first, ds.After(begin.Add(d/sharing+1), d), "begun too late")
		require.NotEqual(t, first, ds.After(begin, d-1), "less patient")
		time.Sleep(2 * d)
		require.Zero(t, ds.count())
	})
}

// The number of timers depends on how patient calls are, not on how many there are.
func TestDeadlinesOfDifferentLengthsDoNotPileUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ds Deadlines
		for range 2000 {
			for _, d := range []time.Duration{50, 500, 1500} {
				ds.After(time.Now(), d*time.Millisecond)
			}
			time.Sleep(time.Millisecond)
		}
		require.LessOrEqual(t, ds.count(), 3*(sharing+1))
		time.Sleep(2 * time.Second)
		require.Zero(t, ds.count())
	})
}

func TestDeadlineOfOneThatNobodySharesIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ds Deadlines
		for _, d := range []time.Duration{time.Second, 10 * time.Millisecond, time.Minute} {
			start := time.Now()
			<-ds.After(start, d)
			require.Equal(t, d, time.Since(start))
		}
	})
}

func (ds *Deadlines) count() int {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return len(ds.pending)
}
