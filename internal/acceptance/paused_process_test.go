//go:build unix

package acceptance_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

const (
	sleeperTTL = 2 * time.Second // nothing but the test's pause takes as long

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

// firstLooks are the ways to learn of a loss. Each has a handle of its own, whose first use after
// the sleep it is.
var firstLooks = []struct {
	name string
	look func(h *redlock.Handle, work context.Context) bool
}{
	{"Done", func(h *redlock.Handle, _ context.Context) bool { return isClosed(h.Done()) }},
	{"Err", func(h *redlock.Handle, _ context.Context) bool {
		return errors.Is(h.Err(), redlock.ErrLost)
	}},
	{"Context's Done", func(_ *redlock.Handle,
		work context.Context) bool {
		return isClosed(work.Done())
	}},
	{"Context's Err", func(_ *redlock.Handle,
		work context.Context) bool {
		return work.Err() != nil
	}},
	{"new Context", func(h *redlock.Handle, _ context.Context) bool {
		return h.Context(context.Background()).Err() != nil
	}},
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

// sleepThroughTheTTL takes and renews a lock for each first look, says so, and waits until its
// clock jumps. What the looks say then goes to standard output.
func sleepThroughTheTTL(nodes []string) error {
	clients := make([]*redis.Client, len(nodes))
	for i, addr := range nodes {
		clients[i] = redis.NewClient(&redis.Options{Addr: addr})
	}
	l, err := redlock.New(clients, redlock.WithTTL(sleeperTTL),
		redlock.WithNodeTimeout(sleeperTTL/2), redlock.WithAutoRenewal(true))
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

// Row 9: a process is stopped for longer than its TTL while it renews, and goes on when another one
// has its locks.
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
				return h.Extend(ctx, 30*time.Second) == nil &&
					s.Do(t, "get", "lock:"+f.name) == h.Token()
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
			require.Equal(t, h.Token(), s.Do(t, "get", "lock:"+f.name),
				"the new owner of %s on node %d", f.name, i)
			require.Greater(t, s.Do(t, "pttl", "lock:"+f.name), int64(15_000),
				"the new owner's time was cut on node %d", i)
			require.LessOrEqual(t, s.Do(t, "pttl", "lock:"+f.name), int64(30_000), "or extended")
		}
		require.NoError(t, h.Release(ctx))
	}
	noKeys(t, servers)
}
