package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"
)

// load is a closed loop: each goroutine locks, holds, unlocks and begins again.
type load struct {
	subjects   []subject // the goroutines are spread over them
	goroutines int
	duration   time.Duration // no pair begins later, but for the first of each goroutine
	pairs      int           // and no goroutine does more than that; 0: no limit
	hold       time.Duration // between lock and unlock
	// what the goroutine locks, one after the other and round again
	resources func(goroutine int) [][]string
}

// outcome is what a load came to.
type outcome struct {
	// how long each lock, and each lock and unlock without the hold, took; sorted
	waits, pairs []time.Duration
	// between an unlock and the next lock, where all want the same; sorted
	gaps    []time.Duration
	elapsed time.Duration // until the last pair had ended
	intime  int           // pairs that ended within the duration
	cpu     time.Duration // of this process
	mallocs uint64
	calls   float64 // commands sent for a pair, by node
	left    int     // keys left behind
}

// limit is how long a load may take beyond its duration before it is given up: far above anything
// that works.
const limit = time.Minute

// run runs the load. It does not know the outcome's calls and left.
func (l load) run(ctx context.Context) (outcome, error) {
	workers := make([]*worker, l.goroutines)
	for g := range workers {
		workers[g] = &worker{
			subject:   l.subjects[g%len(l.subjects)],
			resources: l.resources(g),
			waits:     make([]time.Duration, 0, 1024),
			pairs:     make([]time.Duration, 0, 1024),
		}
	}
	runtime.GC() // nobody pays for what others left behind

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, start := cpuTime(), time.Now()
	var turns turns
	var wg sync.WaitGroup
	for _, w := range workers {
		w.turns = &turns
		wg.Go(func() { w.run(ctx, l, start.Add(l.duration)) })
	}
	wg.Wait()
	cpu, elapsed := cpuTime()-cpu, time.Since(start)
	runtime.ReadMemStats(&after)

	out := outcome{elapsed: elapsed, cpu: cpu, mallocs: after.Mallocs - before.Mallocs}
	for _, w := range workers {
		if w.err != nil {
			return out, w.err
		}
		out.waits, out.pairs = append(out.waits, w.waits...), append(out.pairs, w.pairs...)
		out.intime += w.intime
	}
	slices.Sort(out.waits)
	slices.Sort(out.pairs)
	out.gaps = turns.gaps
	slices.Sort(out.gaps)
	return out, nil
}

// worker is one goroutine of a load.
type worker struct {
	subject      subject
	resources    [][]string
	waits, pairs []time.Duration
	intime       int
	turns        *turns
	err          error
}

// turns are those of workers who want the same lock and hold it for a while.
type turns struct {
	mu       sync.Mutex
	unlocked time.Time
	gaps     []time.Duration
}

func (t *turns) begin(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.unlocked.IsZero() {
		t.gaps = append(t.gaps, at.Sub(t.unlocked))
	}
}

func (t *turns) end(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unlocked = at
}

// run locks and unlocks. Each goroutine has a context of its own, as requests have, so that nobody
// who derives contexts from it contends for one parent.
func (w *worker) run(ctx context.Context, l load, stop time.Time) {
	ctx, cancel := context.WithTimeout(ctx, l.duration+limit)
	defer cancel()
	for i := 0; l.pairs == 0 || i < l.pairs; i++ {
		start := time.Now()
		if i > 0 && !start.Before(stop) {
			return
		}
		h, err := w.subject.lock(ctx, w.resources[i%len(w.resources)])
		if err != nil {
			w.err = fmt.Errorf("lock: %w", err)
			return
		}
		locked := time.Now()
		if l.hold > 0 {
			w.turns.begin(locked)
			time.Sleep(l.hold)
		}
		unlocking := time.Now()
		if l.hold > 0 {
			w.turns.end(unlocking)
		}
		if err := h.Release(ctx); err != nil {
			w.err = fmt.Errorf("unlock: %w", err)
			return
		}
		end := time.Now()
		w.waits = append(w.waits, locked.Sub(start))
		w.pairs = append(w.pairs, locked.Sub(start)+end.Sub(unlocking))
		if end.Before(stop) {
			w.intime++
		}
	}
}

// perGoroutine is how many names a goroutine has before it begins again: enough for everything that
// the library does in the background to be over by then.
const perGoroutine = 256

// distinct gives each goroutine names of its own, several for each lock. They are made before the
// clock starts.
func distinct(prefix string, several int) func(goroutine int) [][]string {
	return func(g int) [][]string {
		locks := make([][]string, perGoroutine)
		for i := range locks {
			for k := range several {
				locks[i] = append(locks[i], prefix+":"+strconv.Itoa(g)+":"+strconv.Itoa(i)+":"+
					strconv.Itoa(k))
			}
		}
		return locks
	}
}

// same gives all goroutines one name.
func same(name string) func(goroutine int) [][]string {
	return func(int) [][]string { return [][]string{{name + ":0"}} }
}

// entrant takes part in a comparison.
type entrant struct {
	label string
	warm  func() error // before the first round; may be nil
	// one round: a value for each metric, or none if it had to be given up
	run func() ([]float64, error)
}

// compare runs all entrants in turn, again and again: what disturbs the machine disturbs all of
// them. It returns a row for each.
func compare(rounds int, entrants []entrant) ([]row, error) {
	rows := make([]row, len(entrants))
	for i, e := range entrants {
		rows[i].Label = e.label
		if e.warm == nil {
			continue
		}
		if err := e.warm(); err != nil {
			return nil, fmt.Errorf("%s: warm-up: %w", e.label, err)
		}
	}
	for range rounds {
		for i, e := range entrants {
			values, err := e.run()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", e.label, err)
			}
			rows[i].Rounds = append(rows[i].Rounds, values)
		}
	}
	return rows, nil
}

// percentile returns the value that a share p of the sorted durations does not exceed.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(p*float64(len(sorted))), len(sorted)-1)]
}

// closeAll closes subjects.
func closeAll(subjects []subject) error {
	var errs []error
	for _, s := range subjects {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
