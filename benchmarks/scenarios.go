package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-redsync/redsync/v4"
	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock"
)

// settings say how thoroughly to measure.
type settings struct {
	rounds   int
	duration time.Duration // of one round of one entrant
	slow     bool          // measure what takes a minute because it hangs
	locks    int           // held at the same time
	heldTTL  time.Duration
	heldFor  time.Duration
}

// scenario is a set of comparisons.
type scenario struct {
	name string
	run  func(ctx context.Context, f *field, s settings) ([]group, error)
}

var scenarios = []scenario{
	{"uncontended", uncontended},
	{"limits", limits},
	{"contended", contended},
	{"hand-over", handOver},
	{"roll-out", rollOut},
	{"hung", hung},
	{"distant", distant},
	{"multi", multi},
	{"held", heldLocks},
	{"observers", observers},
}

// cell is one comparison in the making.
type cell struct {
	ctx      context.Context
	f        *field
	s        settings
	calm     time.Duration // see settle
	opened   []subject
	entrants []entrant
}

// add enters a library. copies is how many instances of it, each with its own clients, share the
// load; values turns what came out of a round into the metrics.
func (c *cell) add(label string, k kind, addrs []string, copies int, l load,
	values func(outcome) []float64) error {
	for range copies {
		s, err := k.open(addrs)
		if err != nil {
			return err
		}
		c.opened, l.subjects = append(c.opened, s), append(l.subjects, s)
	}
	round := func(l load) ([]float64, error) {
		before, err := c.f.calls(c.ctx, len(addrs), k.commands)
		if err != nil {
			return nil, err
		}
		out, err := l.run(c.ctx)
		if k.sticks && errors.Is(err, context.DeadlineExceeded) {
			_, err := c.f.settle(c.ctx, k.name, c.calm)
			return nil, err
		}
		if err != nil {
			return nil, err
		}
		if out.left, err = c.f.settle(c.ctx, k.name, c.calm); err != nil {
			return nil, err
		}
		after, err := c.f.calls(c.ctx, len(addrs), k.commands)
		out.calls = (after - before) / float64(len(addrs)) / float64(len(out.pairs))
		return values(out), err
	}
	c.entrants = append(c.entrants, entrant{
		label: label,
		warm: func() error {
			short := l
			short.duration /= 2
			_, err := round(short)
			return err
		},
		run: func() ([]float64, error) { return round(l) },
	})
	return nil
}

// uncontended enters libraries that lock names which nobody else wants, and runs them.
func (c *cell) uncontended(ks []kind, addrs []string, goroutines int,
	values func(outcome) []float64) ([]row, error) {
	for _, k := range ks {
		l := load{goroutines: goroutines, duration: c.s.duration, resources: distinct(k.name, 1)}
		if err := c.add(k.name, k, addrs, 1, l, values); err != nil {
			return nil, errors.Join(err, closeAll(c.opened))
		}
	}
	return c.compare()
}

// compare runs what was entered and closes it.
func (c *cell) compare() ([]row, error) {
	rows, err := compare(c.s.rounds, c.entrants)
	return rows, errors.Join(err, closeAll(c.opened))
}

// uncontended locks and unlocks names that nobody else wants.
func uncontended(ctx context.Context, f *field, s settings) ([]group, error) {
	var groups []group
	for _, n := range []int{1, 3, 5} {
		for _, goroutines := range []int{1, 64, 512} {
			c := &cell{ctx: ctx, f: f, s: s, calm: calm}
			rows, err := c.uncontended(kinds(n), f.addrs(n), goroutines, pairValues)
			if err != nil {
				return nil, err
			}
			groups = append(groups, group{
				Scenario: "uncontended", Case: fmt.Sprintf("N=%d, %s", n,
					plural(goroutines, "goroutine")),
				Metrics: pairMetrics,
				Rows:    rows,
			}.against(ours.name))
		}
	}
	return groups, nil
}

var pairMetrics = []string{"pairs/s", "p50 µs", "p99 µs", "CPU µs/pair", "allocs/pair",
	"commands/pair/node"}

// pairValues returns the values of pairMetrics.
func pairValues(out outcome) []float64 {
	pairs := float64(len(out.pairs))
	return []float64{
		pairs / out.elapsed.Seconds(), micros(percentile(out.pairs, 0.5)),
		micros(percentile(out.pairs, 0.99)),
		micros(out.cpu) / pairs, float64(out.mallocs) / pairs, out.calls,
	}
}

// limits shows what the figures for one node, and for nodes at a distance, could be at best: with
// one node what a deadline of one's own costs with a stock client, and what redlock does with
// clients that have one; at a distance what it takes this machine to get bare PINGs to all nodes
// and back from a quorum.
func limits(ctx context.Context, f *field, s settings) ([]group, error) {
	near, err := limit1(&cell{ctx: ctx, f: f, s: s, calm: calm}, f.addrs(1))
	if err != nil {
		return nil, err
	}
	addrs, done, err := f.distance(distances)
	if err != nil {
		return nil, err
	}
	far, err := limitFar(&cell{ctx: ctx, f: f, s: s, calm: farCalm}, addrs)
	return []group{near, far}, errors.Join(err, done())
}

func limit1(c *cell, addrs []string) (group, error) {
	rows, err := c.uncontended([]kind{floor, passedOn, ours}, addrs, 1, pairValues)
	return group{
		Scenario: "limits", Case: "N=1, 1 goroutine", Metrics: pairMetrics, Rows: rows,
		Ratios: [][2]string{{passedOn.name, floor.name}, {ours.name, floor.name},
			{ours.name, passedOn.name}},
	}, err
}

func limitFar(c *cell, addrs []string) (group, error) {
	trip, err := tripTo(c.ctx, addrs[0])
	if err != nil {
		return group{}, err
	}
	rows, err := c.uncontended([]kind{pings, ours}, addrs, 1, tripValues(trip))
	return group{Scenario: "limits", Case: distanceLabel + ", 1 goroutine", Metrics: tripMetrics,
		Rows: rows}.against(ours.name), err
}

const (
	waiters = 32
	lockers = 4 // that the waiters belong to: as if so many processes
)

// contended has many goroutines wait for one name, each of which holds it for a millisecond.
func contended(ctx context.Context, f *field, s settings) ([]group, error) {
	var groups []group
	for _, n := range []int{1, 5} {
		c := &cell{ctx: ctx, f: f, s: s, calm: calm}
		for _, k := range kinds(n) {
			if k.noWait {
				continue
			}
			// At the end of a round the waiters that are left wait with less and less competition.
			// Their waits count, but the rate is that of the time when all were there.
			l := load{goroutines: waiters, duration: 2 * s.duration, hold: time.Millisecond,
				resources: same(k.name)}
			err := c.add(k.name, k, f.addrs(n), lockers, l, func(out outcome) []float64 {
				p50, p99 := millis(percentile(out.waits, 0.5)), millis(percentile(out.waits, 0.99))
				return []float64{
					float64(out.intime) / l.duration.Seconds(), p50, p99, p99 / p50,
					millis(out.waits[len(out.waits)-1]), out.calls,
				}
			})
			if err != nil {
				return nil, errors.Join(err, closeAll(c.opened))
			}
		}
		rows, err := c.compare()
		if err != nil {
			return nil, err
		}
		groups = append(groups, group{
			Scenario: "contended", Case: fmt.Sprintf(
				"N=%d, %d waiters in %d lockers, held for 1 ms", n, waiters, lockers),
			Metrics: []string{"acquisitions/s", "wait p50 ms", "wait p99 ms", "p99 ÷ p50",
				"wait max ms", "commands/acquisition/node"},
			Rows: rows,
		}.against(ours.name))
	}
	return groups, nil
}

// handOver lets two in two instances take turns over a distance. What counts is the time in which
// nobody has the lock, beside what two PINGs take that a quorum of the nodes has answered, one
// after the other.
func handOver(ctx context.Context, f *field, s settings) ([]group, error) {
	const away, hold = 4 * time.Millisecond, 20 * time.Millisecond
	addrs, done, err := f.distance(slices.Repeat([]time.Duration{away}, maxNodes))
	if err != nil {
		return nil, err
	}
	c := &cell{ctx: ctx, f: f, s: s, calm: calm}
	for _, k := range []kind{pings, ours, redsyncs} {
		l := load{goroutines: 2, duration: s.duration, hold: hold, resources: same(k.name)}
		took := func(out outcome) []time.Duration { return out.gaps }
		if k.noWait {
			l.goroutines = 1
			took = func(out outcome) []time.Duration { return out.pairs }
		}
		err := c.add(k.name, k, addrs, l.goroutines, l, func(out outcome) []float64 {
			return []float64{millis(percentile(took(out), 0.5)), millis(percentile(took(out), 0.9)),
				out.calls}
		})
		if err != nil {
			return nil, errors.Join(err, closeAll(c.opened), done())
		}
	}
	rows, err := c.compare()
	return []group{group{
		Scenario: "hand-over", Case: fmt.Sprintf(
			"N=%d, %v away, 2 waiters in 2 lockers, held for %v", maxNodes, away, hold),
		Metrics: []string{"p50 ms", "p90 ms", "commands/acquisition/node"},
		Rows:    rows,
	}.against(ours.name)}, errors.Join(err, done())
}

// The roll-out: those who are there poll every 5 ms with redsync, and the guests share their locks.
const (
	pollers    = 8
	guests     = 8
	pollsEvery = 5 * time.Millisecond
)

// rollOut lets a library in among fast pollers of another one, under the same keys.
func rollOut(ctx context.Context, f *field, s settings) ([]group, error) {
	const nodes = 3
	addrs := f.addrs(nodes)
	hosts := func(addrs []string) (subject, error) {
		return newRedsync(addrs, redsync.WithRetryDelay(pollsEvery))
	}
	var opened []subject
	entrants := make([]entrant, 0, 3)
	for _, guest := range []struct {
		label, name string
		lockers     int
		open        func([]string) (subject, error)
	}{
		{"redlock", "roll-out", 1, openRedlock}, // whose keys begin with lock:
		{fmt.Sprintf("redlock, %d lockers", guests), "roll-out", guests, openRedlock},
		{"redsync", "lock:roll-out", 1, openRedsync},
	} {
		host, err := hosts(addrs)
		if err != nil {
			return nil, errors.Join(err, closeAll(opened))
		}
		opened = append(opened, host)
		theirs := load{subjects: []subject{host}, goroutines: pollers, duration: 2 * s.duration,
			hold: time.Millisecond, resources: same("lock:roll-out")}
		ours := load{goroutines: guests, duration: 2 * s.duration, hold: time.Millisecond,
			resources: same(guest.name)}
		for range guest.lockers {
			s, err := guest.open(addrs)
			if err != nil {
				return nil, errors.Join(err, closeAll(opened))
			}
			opened, ours.subjects = append(opened, s), append(ours.subjects, s)
		}
		entrants = append(entrants, entrant{label: guest.label, run: func() ([]float64, error) {
			var had outcome
			var failed error
			var wg sync.WaitGroup
			wg.Go(func() { had, failed = theirs.run(ctx) })
			got, err := ours.run(ctx)
			wg.Wait()
			rate := func(out outcome) float64 {
				return float64(out.intime) / ours.duration.Seconds()
			}
			return []float64{rate(got), millis(percentile(got.waits, 0.5)),
				millis(percentile(got.waits, 0.99)), rate(had)}, errors.Join(err, failed)
		}})
	}
	rows, err := compare(s.rounds, entrants)
	return []group{{
		Scenario: "roll-out", Case: fmt.Sprintf("N=%d, %d guests among %d who poll every %v, "+
			"held for 1 ms", nodes, guests, pollers, pollsEvery),
		Metrics: []string{"guests' acquisitions/s", "guests' wait p50 ms", "guests' wait p99 ms",
			"the others' acquisitions/s"},
		Rows:   rows,
		Ratios: [][2]string{{entrants[0].label, "redsync"}, {entrants[1].label, "redsync"}},
	}}, errors.Join(err, closeAll(opened))
}

// hung stops one of five servers and compares with the same library when all run.
func hung(ctx context.Context, f *field, s settings) ([]group, error) {
	var groups []group
	for _, goroutines := range []int{1, 64} {
		g := group{
			Scenario: "hung", Case: "N=5, " + plural(goroutines, "goroutine"),
			Metrics: []string{"p50 µs", "p99 µs", "max µs", "keys left"},
			Ratios:  [][2]string{{hungLabel(ours, true), hungLabel(ours, false)}},
		}
		l := load{goroutines: goroutines, duration: s.duration}
		var err error
		g.Rows, err = compare(s.rounds, []entrant{hungEntrant(ctx, f, ours, false, l),
			hungEntrant(ctx, f, ours, true, l)})
		if err != nil {
			return nil, err
		}
		if s.slow && goroutines == 1 {
			rows, err := hungPeers(ctx, f, l)
			if err != nil {
				return nil, err
			}
			g.Rows = append(g.Rows, rows...)
		}
		groups = append(groups, g)
	}
	return groups, nil
}

// hungPeers is what the others do then: once, since each pair that meets the stopped server takes
// many seconds.
func hungPeers(ctx context.Context, f *field, l load) ([]row, error) {
	few := l
	few.duration, few.pairs = limit, 1
	return compare(1, []entrant{
		hungEntrant(ctx, f, redsyncs, false, l), hungEntrant(ctx, f, redsyncs, true, few),
		hungEntrant(ctx, f, hasty, false, l), hungEntrant(ctx, f, hasty, true, l),
	})
}

func hungLabel(k kind, stopped bool) string {
	if stopped {
		return k.name + ", one hung"
	}
	return k.name + ", healthy"
}

func hungEntrant(ctx context.Context, f *field, k kind, stopped bool, l load) entrant {
	l.resources = distinct(k.name, 1)
	return entrant{
		label: hungLabel(k, stopped),
		run:   func() ([]float64, error) { return hungRound(ctx, f, k, stopped, l) },
	}
}

// hungRound runs a load with fresh clients that have seen all nodes answer, and with one of them
// stopped if so asked.
func hungRound(ctx context.Context, f *field, k kind, stopped bool,
	l load) (values []float64, err error) {
	s, err := k.open(f.addrs(maxNodes))
	if err != nil {
		return nil, err
	}
	l.subjects = []subject{s}
	defer func() {
		// whatever the clients still had in hand has been given up or done when they are closed
		closed := s.close()
		left, settled := f.settle(ctx, k.name, calm)
		values = append(values, float64(left))
		err = errors.Join(err, closed, settled)
	}()

	warm := l
	warm.duration = min(l.duration/2, time.Second)
	warm.pairs = 0
	if _, err := warm.run(ctx); err != nil {
		return nil, fmt.Errorf("warm-up: %w", err)
	}
	if stopped {
		last := f.servers[maxNodes-1]
		if err := last.Pause(); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, last.Resume()) }()
	}
	out, err := l.run(ctx)
	if err != nil {
		return nil, err
	}
	return []float64{
		micros(percentile(out.pairs, 0.5)), micros(percentile(out.pairs, 0.99)),
		micros(out.pairs[len(out.pairs)-1]),
	}, nil
}

const (
	roundTrip    = 20 * time.Millisecond
	farRoundTrip = 200 * time.Millisecond
)

var (
	distances     = []time.Duration{roundTrip, roundTrip, roundTrip, roundTrip, farRoundTrip}
	distanceLabel = fmt.Sprintf("N=5, %v away, one %v", roundTrip, farRoundTrip)
	tripMetrics   = []string{"p50 round trips", "p99 round trips", "keys left"}
)

// tripValues returns what computes the values of tripMetrics.
func tripValues(trip time.Duration) func(outcome) []float64 {
	return func(out outcome) []float64 {
		trips := func(p float64) float64 {
			return float64(percentile(out.pairs, p)) / float64(trip)
		}
		return []float64{trips(0.5), trips(0.99), float64(out.left)}
	}
}

// distant puts the nodes at a distance, one of them much farther than the others.
func distant(ctx context.Context, f *field, s settings) ([]group, error) {
	addrs, done, err := f.distance(distances)
	if err != nil {
		return nil, err
	}
	trip, err := tripTo(ctx, addrs[0])
	if err != nil {
		return nil, errors.Join(err, done())
	}
	var groups []group
	for _, goroutines := range []int{1, 64} {
		c := &cell{ctx: ctx, f: f, s: s, calm: farCalm}
		rows, err := c.uncontended([]kind{floor, ours, redsyncs, hasty}, addrs, goroutines,
			tripValues(trip))
		if err != nil {
			return nil, errors.Join(err, done())
		}
		groups = append(groups, group{
			Scenario: "distant", Case: distanceLabel + ", " + plural(goroutines, "goroutine"),
			Metrics: tripMetrics,
			Rows:    rows,
		}.against(ours.name))
	}
	return groups, done()
}

// tripTo returns how long a PING takes: the distance, and what the proxy's timers and the machine
// add to it.
func tripTo(ctx context.Context, addr string) (trip time.Duration, err error) {
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer func() { err = errors.Join(err, client.Close()) }()
	var trips []time.Duration
	for range 101 {
		start := time.Now()
		if err := client.Ping(ctx).Err(); err != nil {
			return 0, err
		}
		trips = append(trips, time.Since(start))
	}
	slices.Sort(trips)
	return percentile(trips, 0.5), nil
}

// multi locks several names at once, or one by one where a library cannot do better.
func multi(ctx context.Context, f *field, s settings) ([]group, error) {
	var groups []group
	for _, n := range []int{1, 5} {
		c := &cell{ctx: ctx, f: f, s: s, calm: calm}
		g := group{Scenario: "multi", Case: fmt.Sprintf("N=%d, 1 goroutine", n),
			Metrics: []string{"p50 µs", "p99 µs"}}
		for _, k := range kinds(n) {
			for _, resources := range []int{1, 8, 64} {
				label := k.name + ", " + plural(resources, "resource")
				l := load{goroutines: 1, duration: s.duration,
					resources: distinct(k.name, resources)}
				err := c.add(label, k, f.addrs(n), 1, l, func(out outcome) []float64 {
					return []float64{micros(percentile(out.pairs, 0.5)),
						micros(percentile(out.pairs, 0.99))}
				})
				if err != nil {
					return nil, errors.Join(err, closeAll(c.opened))
				}
				if resources > 1 {
					g.Ratios = append(g.Ratios, [2]string{label, k.name + ", 1 resource"})
				}
			}
		}
		var err error
		if g.Rows, err = c.compare(); err != nil {
			return nil, err
		}
		groups = append(groups, g)
	}
	return groups, nil
}

// heldLocks holds many locks that renew themselves.
func heldLocks(ctx context.Context, f *field, s settings) ([]group, error) {
	clients := openClients(f.addrs(maxNodes))
	locker, err := redlock.New([]*redis.Client(clients), redlock.WithTTL(s.heldTTL),
		redlock.WithAutoRenewal(true))
	if err != nil {
		return nil, errors.Join(err, clients.close())
	}
	values, err := holdMany(ctx, locker, clients, s)
	if err = errors.Join(err, locker.Close(), clients.close()); err != nil {
		return nil, err
	}
	return []group{{
		Scenario: "held",
		Case:     fmt.Sprintf("N=5, %d locks of %v, renewed for %v", s.locks, s.heldTTL, s.heldFor),
		Metrics: []string{"lost", "heap bytes/lock", "with connections", "goroutines at most",
			"CPU %"},
		Rows: []row{{Label: ours.name, Rounds: [][]float64{values}}},
	}}, nil
}

// holdMany takes the locks, watches what they cost, and gives them up.
func holdMany(ctx context.Context, locker *redlock.Locker, clients stockClients,
	s settings) ([]float64, error) {
	if _, err := acquireMany(ctx, locker, "warm-up", s.locks, true); err != nil {
		return nil, err
	}
	all, alone := heap(clients)
	handles, err := acquireMany(ctx, locker, "held", s.locks, false)
	if err != nil {
		return nil, err
	}
	allAtFirst, atFirst := heap(clients)
	cpu, start := cpuTime(), time.Now()
	peak := watchGoroutines(s.heldFor)
	load := 100 * float64(cpuTime()-cpu) / float64(time.Since(start))
	allAtLast, atLast := heap(clients)

	lost := 0
	for _, h := range handles {
		if h.Err() != nil {
			lost++
		}
	}
	if err := releaseMany(ctx, handles); err != nil && lost == 0 {
		return nil, err
	}
	each := func(before float64, now ...float64) float64 {
		return (slices.Max(now) - before) / float64(s.locks)
	}
	return []float64{
		float64(lost),
		each(alone, atFirst, atLast),
		each(all, allAtFirst, allAtLast),
		float64(peak), load,
	}, nil
}

// acquireMany takes n locks, some at a time, and gives each up again at once if so asked.
func acquireMany(ctx context.Context, locker *redlock.Locker, name string, n int,
	release bool) ([]*redlock.Handle, error) {
	handles := make([]*redlock.Handle, n)
	return handles, inParallel(n, func(i int) error {
		h, err := locker.Acquire(ctx, fmt.Sprintf("%s:%d", name, i))
		if err != nil || !release {
			handles[i] = h
			return err
		}
		return h.Release(ctx)
	})
}

func releaseMany(ctx context.Context, handles []*redlock.Handle) error {
	return inParallel(len(handles), func(i int) error { return handles[i].Release(ctx) })
}

// inParallel calls do for 0 to n-1 from 64 goroutines and returns the first error.
func inParallel(n int, do func(i int) error) error {
	const goroutines = 64
	var once sync.Once
	var first error
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := g; i < n; i += goroutines {
				if err := do(i); err != nil {
					once.Do(func() { first = err })
					return
				}
			}
		})
	}
	wg.Wait()
	return first
}

// watchGoroutines looks for a while and returns the highest number of goroutines in this process,
// its own included.
func watchGoroutines(d time.Duration) (peak int) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		peak = max(peak, runtime.NumGoroutine())
	}
	return peak
}

// heap returns how many bytes are alive on the heap, and how many of them are no buffers of the
// clients' connections. The second collection frees what finalizers and pools kept over the first.
func heap(clients stockClients) (all, withoutConnections float64) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc), float64(m.HeapAlloc) - float64(clients.buffers())
}

// plural counts things.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, strings.TrimSuffix(thing, "s"))
}
