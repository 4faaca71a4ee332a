package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/locktest"
	"github.com/rediskit/redlock/internal/redistest"
)

const (
	crowdSize = 50
	crowdTTL  = 600 * time.Millisecond

	// What a process of the crowd is told by its environment.
	crowdNodes  = "REDLOCK_TEST_CROWD_NODES"
	crowdMarker = "REDLOCK_TEST_CROWD_MARKER"
)

// A process of the crowd is this test binary with another task.
func init() {
	if nodes := os.Getenv(crowdNodes); nodes != "" {
		compete(strings.Split(nodes, ","), os.Getenv(crowdMarker))
		os.Exit(0)
	}
}

// compete takes and leaves one lock until standard input ends, as it does when the test is over or
// has died. Whoever has the lock puts a marker up on a server apart from the nodes, which must have
// none by then. The marker's time is the lock's: that of a process killed in the act goes when the
// lock may go.
func compete(nodes []string, markerServer string) {
	ctx, stop := context.WithCancel(context.Background())
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); stop() }()

	clients := make([]*redis.Client, len(nodes))
	for i, addr := range nodes {
		clients[i] = redis.NewClient(&redis.Options{Addr: addr})
	}
	marker := redis.NewClient(&redis.Options{Addr: markerServer})
	complain := func(format string, args ...any) {
		marker.RPush(context.Background(), "complaints", fmt.Sprintf(format, args...))
	}
	// The drift leaves a tenth of the TTL between the end of a lock and its next beginning.
	l, err := redlock.New(clients, redlock.WithTTL(crowdTTL), redlock.WithDriftFactor(0.1),
		redlock.WithNodeTimeout(crowdTTL/2), redlock.WithRetryInterval(50*time.Millisecond))
	if err != nil {
		complain("%v", err)
		return
	}
	marker.Incr(ctx, "started")
	for ctx.Err() == nil {
		h, err := l.Acquire(ctx, "the one")
		if err != nil {
			if ctx.Err() == nil {
				complain("acquire: %v", err)
			}
			continue
		}
		hold(marker, h, complain)
		// A process that was not let run for a while may come too late, or hear too late.
		err = h.Release(ctx)
		if err != nil && !errors.Is(err, redlock.ErrLost) && !errors.Is(err, redlock.ErrNoQuorum) {
			complain("release: %v", err)
		}
	}
	if err := l.Close(); err != nil {
		complain("close: %v", err)
	}
}

var (
	// putUp sets the marker if there is none, until the given time in milliseconds, and counts.
	putUp = redis.NewScript(`
		if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PXAT', ARGV[2]) then
			redis.call('INCR', KEYS[2])
			return ARGV[1]
		end
		return redis.call('GET', KEYS[1])`)
	takeDown = redis.NewScript(`
		if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
		return 0`)
)

// hold does what a holder does. What it finds counts only if its lock is still held after it has
// looked.
func hold(marker *redis.Client, h *redlock.Handle, complain func(string, ...any)) {
	ctx := context.Background()
	me := fmt.Sprintf("%d %s", os.Getpid(), h.Token())
	until := time.Now().Add(time.Until(h.ValidUntil())).UnixMilli() + 1
	found, err := putUp.Run(ctx, marker, []string{"marker", "grants"}, me, until).Text()
	for range 20 {
		if h.Err() != nil {
			break
		}
		if found != me {
			complain("%s holds the lock, and the marker is %q (%v)", me, found, err)
			return
		}
		found, err = marker.Get(ctx, "marker").Result()
	}
	takeDown.Run(ctx, marker, []string{"marker"}, me)
}

// crowd is the processes that are alive, by their ids.
type crowd struct {
	t       *testing.T
	environ []string
	members map[int]*member
}

func (c *crowd) join() {
	c.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = c.environ
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(c.t, err)
	require.NoError(c.t, cmd.Start())
	c.members[cmd.Process.Pid] = &member{cmd, stdin}
}

// kill ends a member in the midst of whatever it does, and returns when it is dead. Another one
// takes its place.
func (c *crowd) kill(pid int) {
	c.t.Helper()
	m := c.members[pid]
	require.NotNil(c.t, m, "%d is none of ours", pid)
	delete(c.members, pid)
	require.NoError(c.t, m.cmd.Process.Kill())
	require.Error(c.t, m.cmd.Wait(), "ended by itself")
	_ = m.stdin.Close()
	c.join()
}

// disperse ends all members in peace.
func (c *crowd) disperse() {
	c.t.Helper()
	for _, m := range c.members {
		_ = m.stdin.Close()
	}
	for pid, m := range c.members {
		require.NoError(c.t, m.cmd.Wait(), "process %d", pid)
	}
	clear(c.members)
}

type member struct {
	cmd   *exec.Cmd
	stdin io.Closer // closed: come to an end
}

// Row 20: a crowd of processes competes for one lock on an even number of nodes, and they are
// killed at random.
func TestCrowdUnderRandomKillsHasOneHolderAtATime(t *testing.T) {
	noLeak(t)
	servers, marker := redistest.StartN(t, 4), redistest.Start(t)
	nodes := make([]string, len(servers))
	for i, s := range servers {
		nodes[i] = s.Addr()
	}
	c := &crowd{t: t, members: make(map[int]*member), environ: append(os.Environ(),
		crowdNodes+"="+strings.Join(nodes, ","), crowdMarker+"="+marker.Addr(), "GOMAXPROCS=1")}
	t.Cleanup(func() { // if the test has failed
		for _, m := range c.members {
			_, _ = m.cmd.Process.Kill(), m.cmd.Wait()
		}
	})
	number := func(key string) int {
		s, _ := marker.Do(t, "get", key).(string)
		n, _ := strconv.Atoi(s)
		return n
	}
	for range crowdSize {
		c.join()
	}
	until(t, time.Minute, func() bool { return number("started") == crowdSize }, "not all there")

	died, waited := 0, []time.Duration{}
	// For six seconds, and on a busy machine until there is enough to see.
	for begun := time.Now(); time.Since(begun) < 6*time.Second ||
		(died < 3 || number("grants") < 50) && time.Since(begun) < time.Minute; {
		calm := number("grants") + 10
		eventually(t, func() bool { return number("grants") >= calm }, "nobody gets the lock")
		pids := slices.Collect(maps.Keys(c.members))
		c.kill(pids[rand.N(len(pids))])

		// And the holder, if it is quick enough.
		held, _ := marker.Do(t, "get", "marker").(string)
		if held == "" {
			continue
		}
		pid, err := strconv.Atoi(strings.Fields(held)[0])
		require.NoError(t, err)
		if c.members[pid] == nil {
			continue // it died a moment ago, with the lock
		}
		c.kill(pid)
		start, grants := time.Now(), number("grants")
		if now, _ := marker.Do(t, "get", "marker").(string); now != held {
			continue // it had let go before
		}
		died++
		eventually(t, func() bool { return number("grants") > grants }, "the lock did not move on")
		waited = append(waited, time.Since(start))
	}
	c.disperse()

	t.Logf("%d grants, %d processes, %d died with the lock, which then moved on after %v",
		number("grants"), number("started"), died, waited)
	require.Empty(t, marker.Do(t, "lrange", "complaints", 0, -1))
	require.GreaterOrEqual(t, died, 3)
	require.GreaterOrEqual(t, number("grants"), 50)
	require.Less(t, slices.Max(waited), crowdTTL+2*time.Second)
	until(t, 5*time.Second, func() bool {
		return !slices.ContainsFunc(servers,
			func(s *redistest.Server) bool {
				return s.Do(t, "exists", lockKey("the one")).(int64) == 1
			})
	}, "the lock is held")
	// who was killed in line may stand there for 12
	locktest.NoKeysWithin(t, 13*time.Second, servers)
}
