//go:build unix

package acceptance_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

const (
	stormTTL  = 1500 * time.Millisecond // renewed every half second: a busy machine may stall for a second
	stormTime = 3 * time.Second
	stormSize = 16 // handles at a time
)

// storm is what happens to one handle, all at the same time.
type storm struct {
	h       *redlock.Handle
	clients []*redis.Client
	calm    chan struct{} // closed when the handle has been ended on purpose
	ending  atomic.Bool   // that has begun
}

// together runs functions at the same time and returns what went wrong.
func together(fns ...func() error) error {
	errs := make([]error, len(fns))
	var wg sync.WaitGroup
	for i, fn := range fns {
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = fn()
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}

// pause waits for d, or until the handle has been ended; then it returns false.
func (s *storm) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.calm:
		return false
	}
}

// extend extends now and then, until the handle has ended. No call may fail before.
func (s *storm) extend(ttl, pause time.Duration) error {
	for s.pause(rand.N(pause)) {
		began := s.ending.Load()
		err := s.h.Extend(context.Background(), ttl)
		if err != nil && (began || s.ending.Load()) && endedOnPurpose(err) {
			return nil
		}
		// A node that forgets the lock in the middle of a shortening may cost it its quorum, but never the lock.
		if err != nil && (!errors.Is(err, redlock.ErrNoQuorum) || ttl > stormTTL) {
			return fmt.Errorf("a false loss: %w", err)
		}
	}
	return nil
}

// endedOnPurpose reports whether err says that the handle was released or the Locker closed, and nothing else.
func endedOnPurpose(err error) bool {
	return (errors.Is(err, redlock.ErrReleased) || errors.Is(err, redlock.ErrClosed)) &&
		!errors.Is(err, redlock.ErrLost) && !errors.Is(err, redlock.ErrHeld) && !errors.Is(err, redlock.ErrNoQuorum)
}

// comeAndGo makes contexts that end before the lock does.
func (s *storm) comeAndGo() error {
	for s.pause(rand.N(5 * time.Millisecond)) {
		parent, cancel := context.WithCancel(context.Background())
		work := s.h.Context(parent)
		cancel()
		<-work.Done()
		if work.Err() == nil {
			return errors.New("a context outlived its parent")
		}
	}
	return nil
}

// forget makes a node lose the lock again and again, so that it is healed.
func (s *storm) forget() error {
	for s.pause(rand.N(20 * time.Millisecond)) {
		// Always the same node: the others are a quorum.
		if err := s.clients[0].Del(context.Background(), "lock:"+s.h.Resources()[0]).Err(); err != nil {
			return err
		}
	}
	return nil
}

// watch looks at every signal. All must agree, and none may go back.
func (s *storm) watch() error {
	work := s.h.Context(context.Background())
	for {
		more := s.pause(time.Millisecond)
		until := s.h.ValidUntil()
		done, cut := over(s.h.Done()), work.Err() != nil
		err := s.h.Err()
		switch {
		case err == nil && (done || cut):
			return fmt.Errorf("a signal went back: Done %v, Context %v, but Err nil", done, cut)
		case err == nil && !more:
			return errors.New("it has not ended")
		case err == nil:
			continue
		case !endedOnPurpose(err):
			return fmt.Errorf("a false loss: %w at %v before the end", err, time.Until(until))
		case !s.ending.Load():
			return fmt.Errorf("ended by nobody: %w", err)
		}
		until = s.h.ValidUntil()
		for first := true; first || s.pause(time.Millisecond); first = false {
			if !over(s.h.Done()) || !over(work.Done()) || s.h.Err() != err || context.Cause(work) != err {
				return fmt.Errorf("signals disagree after %w: Err %w, cause %w", err, s.h.Err(), context.Cause(work))
			}
			if !s.h.ValidUntil().Equal(until) {
				return errors.New("the lease moved after the end")
			}
		}
		return nil
	}
}

func over(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// rage runs everything until end has ended the handle, after a while.
func (s *storm) rage(after time.Duration, extend bool, end func() error) error {
	fns := []func() error{
		s.watch, s.comeAndGo,
		func() error {
			defer close(s.calm)
			s.pause(after)
			s.ending.Store(true)
			return end()
		},
	}
	if extend {
		fns = append(fns, s.forget,
			func() error { return s.extend(time.Minute, 20*time.Millisecond) },
			func() error { return s.extend(stormTTL*4/5, 20*time.Millisecond) },
		)
	}
	return together(fns...)
}

// moment returns when to end a handle: soon, or just when a renewal is due.
func moment() time.Duration {
	if rand.N(3) > 0 {
		return rand.N(30 * time.Millisecond)
	}
	return stormTTL/3 - 5*time.Millisecond + rand.N(10*time.Millisecond)
}

func TestReleaseIsFinalAmidstExtensionsRenewalsAndWatchers(t *testing.T) {
	servers, clients := masters(t, 3)
	l := open(t, clients, redlock.WithTTL(stormTTL), redlock.WithNodeTimeout(stormTTL/2), redlock.WithAutoRenewal(true))
	var storms atomic.Int64
	stop := time.Now().Add(stormTime)
	workers := make([]func() error, stormSize)
	for i := range workers {
		workers[i] = func() error {
			for time.Now().Before(stop) {
				h, err := l.TryAcquire(context.Background(), fmt.Sprint("r", storms.Add(1)))
				if err != nil {
					return err
				}
				s := &storm{h: h, clients: clients, calm: make(chan struct{})}
				release := func() error { return h.Release(context.Background()) }
				err = s.rage(moment(), rand.N(2) == 0, func() error { return together(release, release) })
				if err = errors.Join(err, release()); err != nil {
					return err
				}
				if h.Err() != redlock.ErrReleased {
					return fmt.Errorf("released, but %w", h.Err())
				}
			}
			return nil
		}
	}
	require.NoError(t, together(workers...))
	require.NoError(t, l.Close()) // nothing is under way any more
	for i, s := range servers {
		require.Empty(t, s.Keys(t), "made anew on node %d", i)
	}
	t.Logf("%d handles", storms.Load())
	require.Greater(t, storms.Load(), int64(2*stormSize))
}

func TestCloseIsFinalAmidstExtensionsRenewalsReleasesAndWatchers(t *testing.T) {
	servers, clients := masters(t, 3)
	var storms atomic.Int64
	stop := time.Now().Add(stormTime)
	workers := make([]func() error, stormSize)
	for i := range workers {
		workers[i] = func() error {
			for time.Now().Before(stop) {
				l, err := redlock.New(clients, redlock.WithTTL(stormTTL), redlock.WithNodeTimeout(stormTTL/2),
					redlock.WithAutoRenewal(true))
				if err != nil {
					return err
				}
				h, err := l.TryAcquire(context.Background(), fmt.Sprint("r", storms.Add(1)))
				if err != nil {
					return errors.Join(err, l.Close())
				}
				s := &storm{h: h, clients: clients, calm: make(chan struct{})}
				var released error
				err = s.rage(moment(), rand.N(2) == 0, func() error {
					return together(l.Close, l.Close, func() error {
						if rand.N(2) == 0 {
							<-h.Done() // closed by then
						}
						released = h.Release(context.Background())
						if errors.Is(released, redlock.ErrClosed) {
							return nil
						}
						return released
					})
				})
				if err != nil {
					return err
				}
				// The keys of a handle that was not released stay. Those of one that was are gone, for good.
				for i, node := range clients {
					key := "lock:" + h.Resources()[0]
					owner, err := node.Get(context.Background(), key).Result()
					if err == nil && released == nil {
						return fmt.Errorf("made anew on node %d: %s", i, owner)
					}
					if err == nil {
						err = node.Del(context.Background(), key).Err()
					}
					if err != nil && !errors.Is(err, redis.Nil) {
						return err
					}
				}
			}
			return nil
		}
	}
	require.NoError(t, together(workers...))
	for i, s := range servers {
		require.Empty(t, s.Keys(t), "made anew on node %d", i)
	}
	t.Logf("%d handles", storms.Load())
	require.Greater(t, storms.Load(), int64(2*stormSize))
}

const (
	sleeperTTL = 500 * time.Millisecond

	// sleeperNodes tells a process that it is the sleeper, and where its nodes are.
	sleeperNodes = "REDLOCK_TEST_SLEEPER_NODES"
)

// The sleeper is this test binary with another task.
func init() {
	if nodes := os.Getenv(sleeperNodes); nodes != "" {
		if err := sleepThroughTheTTL(strings.Split(nodes, ",")); err != nil {
			fmt.Fprintln(os.Stderr, "sleeper:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// firstLooks are the ways to learn of a loss. Each has a handle of its own, whose first use after the sleep it is.
var firstLooks = []struct {
	name string
	look func(h *redlock.Handle, work context.Context) bool
}{
	{"Done", func(h *redlock.Handle, _ context.Context) bool { return over(h.Done()) }},
	{"Err", func(h *redlock.Handle, _ context.Context) bool { return errors.Is(h.Err(), redlock.ErrLost) }},
	{"Context's Done", func(_ *redlock.Handle, work context.Context) bool { return over(work.Done()) }},
	{"Context's Err", func(_ *redlock.Handle, work context.Context) bool { return work.Err() != nil }},
	{"new Context", func(h *redlock.Handle, _ context.Context) bool { return h.Context(context.Background()).Err() != nil }},
	{"Extend", func(h *redlock.Handle, _ context.Context) bool {
		return errors.Is(h.Extend(context.Background(), time.Minute), redlock.ErrLost)
	}},
	{"Release", func(h *redlock.Handle, _ context.Context) bool {
		return errors.Is(h.Release(context.Background()), redlock.ErrLost)
	}},
}

// awakened is what the sleeper reports after its sleep, by the names of its first looks.
type awakened map[string]struct {
	Look                     bool // it said lost
	Err, Cause, Extend, Left bool // so did these, later; Release leaves it
}

// sleepThroughTheTTL takes and renews a lock for each first look, says so, and waits until its clock jumps. What the looks
// say then goes to standard output.
func sleepThroughTheTTL(nodes []string) error {
	clients := make([]*redis.Client, len(nodes))
	for i, addr := range nodes {
		clients[i] = redis.NewClient(&redis.Options{Addr: addr})
	}
	l, err := redlock.New(clients, redlock.WithTTL(sleeperTTL), redlock.WithNodeTimeout(sleeperTTL/2), redlock.WithAutoRenewal(true))
	if err != nil {
		return err
	}
	handles := make([]*redlock.Handle, len(firstLooks))
	works := make([]context.Context, len(firstLooks))
	for i, f := range firstLooks {
		if handles[i], err = l.TryAcquire(context.Background(), f.name); err != nil {
			return err
		}
		works[i] = handles[i].Context(context.Background())
	}
	fmt.Println("held")

	// Without a rest: what runs first after the sleep is this loop, and not some timer.
	started := time.Now()
	for last, now := started, started; now.Sub(last) < sleeperTTL; last, now = now, time.Now() {
		if now.Sub(started) > time.Minute {
			return errors.New("was never stopped")
		}
	}
	said := make([]bool, len(firstLooks))
	for i, f := range firstLooks {
		said[i] = f.look(handles[i], works[i])
	}

	report := make(awakened)
	for i, f := range firstLooks {
		h, ctx := handles[i], context.Background()
		a := report[f.name]
		a.Look = said[i]
		a.Err = errors.Is(h.Err(), redlock.ErrLost)
		a.Cause = works[i].Err() != nil && errors.Is(context.Cause(works[i]), redlock.ErrLost)
		a.Extend = errors.Is(h.Extend(ctx, time.Minute), redlock.ErrLost)
		a.Left = errors.Is(h.Release(ctx), redlock.ErrLost)
		report[f.name] = a
	}
	return errors.Join(l.Close(), json.NewEncoder(os.Stdout).Encode(report))
}

// Row 9: a process is stopped for longer than its TTL while it renews, and goes on when another one has its locks.
func TestStoppedProcessKnowsTheLossAtItsFirstLook(t *testing.T) {
	servers, clients := masters(t, 3)
	addrs := make([]string, len(servers))
	for i, s := range servers {
		addrs[i] = s.Addr()
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), sleeperNodes+"="+strings.Join(addrs, ","),
		"GOMAXPROCS=1") // nothing runs beside the first looks
	child.Stderr = os.Stderr
	stdout, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	t.Cleanup(func() { _, _ = child.Process.Kill(), child.Wait() }) // if the test has failed

	said := bufio.NewReader(stdout)
	line, err := said.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "held\n", line)
	require.Eventually(t, func() bool { // renewed
		return servers[0].CommandCount(t, "pexpire") >= 2*len(firstLooks)
	}, 20*time.Second, 5*time.Millisecond)

	require.NoError(t, child.Process.Signal(syscall.SIGSTOP))
	longEnough := time.After(2 * sleeperTTL)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	next := open(t, clients, redlock.WithRetryInterval(20*time.Millisecond))
	taken := make(map[string]*redlock.Handle)
	for _, f := range firstLooks {
		h, err := next.Acquire(ctx, f.name)
		require.NoError(t, err)
		taken[f.name] = h
		for _, s := range servers {
			require.Eventually(t, func() bool { // where the old lock lived a little longer, too
				return h.Extend(ctx, 30*time.Second) == nil && s.Do(t, "get", "lock:"+f.name) == h.Token()
			}, 10*time.Second, 5*time.Millisecond)
		}
	}
	<-longEnough
	require.NoError(t, child.Process.Signal(syscall.SIGCONT))

	var report awakened
	require.NoError(t, json.NewDecoder(said).Decode(&report))
	require.NoError(t, child.Wait())
	for _, f := range firstLooks {
		a := report[f.name]
		require.True(t, a.Look, "the first look, at %s, did not see the loss", f.name)
		require.True(t, a.Err && a.Cause && a.Extend && a.Left, "%s: %+v", f.name, a)

		h := taken[f.name]
		require.NoError(t, h.Err())
		for i, s := range servers {
			require.Equal(t, h.Token(), s.Do(t, "get", "lock:"+f.name), "the new owner of %s on node %d", f.name, i)
			require.Greater(t, s.Do(t, "pttl", "lock:"+f.name), int64(15_000), "the new owner's time was cut on node %d", i)
			require.LessOrEqual(t, s.Do(t, "pttl", "lock:"+f.name), int64(30_000), "or extended")
		}
		require.NoError(t, h.Release(ctx))
	}
	noKeys(t, servers)
}
