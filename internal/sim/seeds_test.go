//go:build go1.25

package sim_test

import (
	"flag"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/sim"
)

var (
	seeds     = flag.Int("seeds", 0, "how many seeds to run, from -first on (default 200; 24 with -race)")
	first     = flag.Uint64("first", 1, "the first seed")
	only      = flag.Uint64("seed", 0, "run this seed alone, and print its timeline")
	stopEarly = flag.Bool("stop", false, "run no more seeds after one has failed")
)

// TestSeeds runs the library through whatever follows from each seed. It fails where a promise is broken, and where too little
// happened for the promises to be tried.
func TestSeeds(t *testing.T) {
	began := time.Now()
	batch, from := uint64(*seeds), *first
	switch {
	case *only > 0:
		batch, from = 1, *only
	case batch == 0 && raceDetector:
		batch = 24
	case batch == 0:
		batch = 200
	}
	var totals sim.Totals
	var failed atomic.Bool
	t.Run("all", func(t *testing.T) {
		for seed := from; seed < from+batch; seed++ {
			t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
				t.Parallel()
				if *stopEarly && failed.Load() {
					return
				}
				outcome := live(t, sim.FromSeed(seed))
				totals.Add(outcome.Totals)
				found := outcome.Violations()
				if len(found) > 0 {
					failed.Store(true)
					t.Error(outcome.Report(found))
				}
				if *only > 0 {
					t.Logf("%v\n%s%v", outcome.Options, outcome.Timeline(0, time.Hour), outcome.Totals)
				}
			})
		}
	})
	t.Logf("%d seeds in %v: %v", batch, time.Since(began).Round(time.Millisecond), &totals)
	if batch >= 100 && !failed.Load() {
		lacking := totals.Lacking(int64(batch))
		require.Empty(t, lacking, "too little happened: %s", strings.Join(lacking, "; "))
	}
}

// live runs one world. Goroutines that it leaves behind are its failure too.
func live(t *testing.T, o sim.Options) (outcome *sim.Outcome) {
	t.Helper()
	var once sync.Once
	defer func() {
		if p := recover(); p != nil {
			once.Do(func() { t.Errorf("%v\nVIOLATION no residue: %v", o, p) })
		}
	}()
	synctest.Test(t, func(*testing.T) { outcome = sim.Run(o) })
	return outcome
}
