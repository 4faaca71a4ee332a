//go:build go1.25

package sim_test

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/sim"
)

var (
	seeds = flag.Int("seeds", 0,
		"how many seeds to run, from -first on (default 200; 24 with -race)")
	first    = flag.Uint64("first", 1, "the first seed")
	only     = flag.Uint64("seed", 0, "run this seed alone, and print its timeline")
	patience = flag.Duration("patience", 3*time.Minute,
		"what a seed may take: virtual time stands still where something never rests")
	stopEarly = flag.Bool("stop", false, "run no more seeds after one has failed")
)

// TestSeeds runs the library through whatever follows from each seed. It fails where a promise is
// broken, and where too little happened for the promises to be tried.
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
	var next atomic.Uint64
	next.Store(from)
	t.Run("all", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("worker", func(t *testing.T) {
				t.Parallel()
				for seed := next.Add(1) - 1; seed < from+batch &&
					!(*stopEarly && failed.Load()); seed = next.Add(1) - 1 {
					if !t.Run(fmt.Sprintf("seed=%d", seed),
						func(t *testing.T) { runSeed(t, seed, &totals) }) {
						failed.Store(true)
					}
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

// runSeed runs one seed and looks at what came of it.
func runSeed(t *testing.T, seed uint64, totals *sim.Totals) {
	outcome := live(t, sim.FromSeed(seed))
	if outcome == nil {
		return
	}
	totals.Add(outcome.Totals)
	if found := outcome.Violations(); len(found) > 0 {
		t.Error(outcome.Report(found))
	}
	if *only > 0 {
		t.Logf("%v\n%s%v", outcome.Options, outcome.Timeline(0, time.Hour), outcome.Totals)
	}
}

// live runs one world. Goroutines that it leaves behind are its failure too.
func live(t *testing.T, o sim.Options) (outcome *sim.Outcome) {
	t.Helper()
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("%v\nVIOLATION no residue: %v", o, p)
		}
	}()
	watchdog := time.AfterFunc(*patience, func() {
		fmt.Fprintf(os.Stderr, "%v\nVIOLATION progress: it has not come to an end in %v\n", o,
			*patience)
		os.Exit(1)
	})
	defer watchdog.Stop()
	synctest.Test(t, func(*testing.T) { outcome = sim.Run(o) })
	return outcome
}
