//go:build unix

package acceptance_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

const (
	// What a process is told that takes two locks, one under the other: its nodes, its label, and
	// for each lock its resources.
	clincherNodes = "REDLOCK_TEST_CLINCHER_NODES"
	clincherLabel = "REDLOCK_TEST_CLINCHER_LABEL"
	clincherHolds = "REDLOCK_TEST_CLINCHER_HOLDS"
	clincherWants = "REDLOCK_TEST_CLINCHER_WANTS"

	clincherAfter = 300 * time.Millisecond
	clincherTTL   = 5 * time.Second
)

// The clincher is this test binary with another task.
func init() {
	if nodes := os.Getenv(clincherNodes); nodes != "" {
		if err := clinch(strings.Split(nodes, ",")); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// clinch takes its first lock and says so, waits for a line, and takes the second one under the
// first. It says what came of that.
func clinch(nodes []string) error {
	clients := make([]*redis.Client, len(nodes))
	for i, addr := range nodes {
		clients[i] = redis.NewClient(&redis.Options{Addr: addr})
	}
	logger := slog.New(slog.NewTextHandler(os.Stdout, nil))
	l, err := redlock.New(clients, redlock.WithOwner(os.Getenv(clincherLabel)),
		redlock.WithTTL(clincherTTL), redlock.WithAutoRenewal(true),
		redlock.WithNodeTimeout(4*time.Second), redlock.WithLogger(logger),
		redlock.WithDeadlockDetection(clincherAfter))
	if err != nil {
		return err
	}
	ctx := context.Background()
	first, err := l.AcquireMulti(ctx, strings.Split(os.Getenv(clincherHolds), ","))
	if err != nil {
		return err
	}
	fmt.Println("has the first")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	second, err := l.AcquireMulti(first.Context(ctx), strings.Split(os.Getenv(clincherWants), ","))
	var found *redlock.DeadlockError
	switch {
	case errors.As(err, &found):
		fmt.Println("deadlock of", len(found.Cycle))
		err = nil
	case err != nil:
		return err
	default:
		fmt.Println("has the second")
		err = second.Release(ctx)
	}
	return errors.Join(err, first.Release(ctx), l.Close())
}

// clincher is such a process.
type clincher struct {
	child *redistest.Child
	label string
	stdin *os.File
	lines chan string // what it prints
	said  []string    // what was read of that
}

// newClincher starts one and waits until it has its first lock.
func newClincher(t *testing.T, servers []*redistest.Server, label, holds, wants string) *clincher {
	t.Helper()
	addrs := make([]string, len(servers))
	for i, s := range servers {
		addrs[i] = s.Addr()
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), clincherNodes+"="+strings.Join(addrs, ","),
		clincherLabel+"="+label, clincherHolds+"="+holds, clincherWants+"="+wants)
	cmd.Stderr = os.Stderr
	stdin, ours, err := os.Pipe()
	require.NoError(t, err)
	stdout, theirs, err := os.Pipe()
	require.NoError(t, err)
	cmd.Stdin, cmd.Stdout = stdin, theirs
	child, err := redistest.LaunchChild(cmd)
	require.NoError(t, err)
	require.NoError(t, errors.Join(stdin.Close(), theirs.Close()))
	c := &clincher{child: child, label: label, stdin: ours, lines: make(chan string, 100)}
	go func() {
		defer close(c.lines)
		for text := bufio.NewScanner(stdout); text.Scan(); {
			c.lines <- text.Text()
		}
	}()
	t.Cleanup(func() {
		_ = child.Kill()
		for range c.lines { // until the pipe has ended
		}
		require.NoError(t, errors.Join(ours.Close(), stdout.Close()))
	})
	c.waitFor(t, "has the first")
	return c
}

// waitFor reads until a line begins with the text.
func (c *clincher) waitFor(t *testing.T, begin string) string {
	t.Helper()
	for {
		line := outcome(t, c.lines, fmt.Sprintf("%s to say %q, after %q", c.label, begin, c.said))
		c.said = append(c.said, line)
		if strings.HasPrefix(line, begin) {
			return line
		}
		require.NotEmpty(t, line, "it has ended: %q", c.said)
		require.NotContains(t, line, "failed:")
	}
}

// goOn lets it take its second lock.
func (c *clincher) goOn(t *testing.T) {
	t.Helper()
	_, err := c.stdin.WriteString("go\n")
	require.NoError(t, err)
}

// rest reads what it says until its end.
func (c *clincher) rest(t *testing.T) []string {
	t.Helper()
	for line := range c.lines {
		c.said = append(c.said, line)
	}
	require.Zero(t, c.child.ExitCode(), "%q", c.said)
	return c.said
}

// logged returns the lines that contain all the texts.
func (c *clincher) logged(texts ...string) (found []string) {
	for _, line := range c.said {
		has := true
		for _, text := range texts {
			has = has && strings.Contains(line, text)
		}
		if has {
			found = append(found, line)
		}
	}
	return found
}

func TestOfProcessesThatWaitForEachOtherOneIsToldAndTheOthersGoOn(t *testing.T) {
	for name, ring := range map[string][][2]string{
		"two":           {{"a", "b"}, {"b", "a"}},
		"three":         {{"a", "b"}, {"b", "c"}, {"c", "a"}},
		"several locks": {{"a,a2", "b2,x"}, {"b,b2", "a,y,z"}},
	} {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			servers := redistest.StartN(t, 3)
			processes := make([]*clincher, len(ring))
			for i, r := range ring {
				processes[i] = newClincher(t, servers, fmt.Sprint("process ", i), r[0], r[1])
			}
			for _, p := range processes {
				p.goOn(t)
			}
			told := 0
			for _, p := range processes {
				said := strings.Join(p.rest(t), "\n")
				require.NotContains(t, said, "failed:")
				warnings := p.logged("level=WARN")
				if len(p.logged("deadlock of")) == 0 {
					require.Contains(t, said, "has the second")
					require.Empty(t, warnings)
					continue
				}
				told++
				require.Contains(t, said, fmt.Sprint("deadlock of ", len(ring)))
				require.Len(t, warnings, 1)
				for i := range ring {
					require.Contains(t, warnings[0], fmt.Sprint("process ", i))
				}
			}
			require.Equal(t, 1, told)
			noKeys(t, servers)
		})
	}
}

// A killed process leaves its lock and what it has published. Nobody is told of a deadlock, and
// both go by themselves.
func TestPublishedWaitOfAKilledProcessGoesByItself(t *testing.T) {
	noLeak(t)
	servers := redistest.StartN(t, 3)
	killed, other := newClincher(t, servers, "killed", "a", "b"),
		newClincher(t, servers, "other", "b", "a")
	killed.goOn(t)
	for _, s := range servers {
		eventually(t, func() bool { return s.Do(t, "exists", "{lock:a}:waits") == int64(1) },
			"nothing published")
	}
	require.NoError(t, killed.child.Kill())
	other.goOn(t)
	other.waitFor(t, "has the second")
	other.rest(t)
	require.Empty(t, other.logged("level=WARN"))
	noKeys(t, servers)
}

// clinchers are two Lockers of this process, which learn of each other from the nodes only.
func clinchers[N redlock.Node](t *testing.T, nodes []N,
	opts ...redlock.Option) (a, b *redlock.Locker) {
	t.Helper()
	opts = append([]redlock.Option{redlock.WithAutoRenewal(true),
		redlock.WithDeadlockDetection(clincherAfter), redlock.WithMaxWait(time.Minute)}, opts...)
	return open(t, nodes, opts...), open(t, nodes, opts...)
}

// clincherOf waits under h for a resource and then releases all.
func clincherOf(l *redlock.Locker, h *redlock.Handle, resource string) <-chan error {
	return inBackground(func() error {
		ctx := context.Background()
		second, err := l.Acquire(h.Context(ctx), resource)
		if err == nil {
			err = second.Release(ctx)
		}
		return errors.Join(err, h.Release(ctx))
	})
}

// oneIsTold checks that of two calls one is told of a deadlock and the other one goes on.
func oneIsTold(t *testing.T, one, two <-chan error) {
	t.Helper()
	first, second := outcome(t, one, "the first"), outcome(t, two, "the second")
	if first == nil {
		first, second = second, first
	}
	require.NoError(t, second)
	require.ErrorIs(t, first, redlock.ErrDeadlock)
}

func TestDeadlockIsFoundThroughALockThatWasShortenedAndAdopted(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 3)
	l, other := clinchers(t, clients)
	a, b := heldEverywhere(t, l, servers, "a"), heldEverywhere(t, other, servers, "b")
	require.NoError(t, a.Extend(ctx, 20*time.Second))
	takenEverywhere(t, a, servers...) // with its number: a later one would be nobody's to delete
	a, err := l.Adopt(ctx, []string{"a"}, a.Token())
	require.NoError(t, err)
	oneIsTold(t, clincherOf(l, a, "b"), clincherOf(other, b, "a"))
	noKeys(t, servers)
}

func TestDeadlockIsFoundWhileAMinorityIsDown(t *testing.T) {
	for _, fault := range []fault{down, hung} {
		t.Run(fault.name, func(t *testing.T) {
			servers, clients := masters(t, 3)
			l, other := clinchers(t, clients)
			a, b := heldEverywhere(t, l, servers, "a"), heldEverywhere(t, other, servers, "b")
			fault.strike(t, servers[0])
			oneIsTold(t, clincherOf(l, a, "b"), clincherOf(other, b, "a"))
			fault.cure(t, servers[0])
			noKeys(t, servers)
		})
	}
}

func TestDeadlockIsFoundOnARedisCluster(t *testing.T) {
	noLeak(t)
	cluster := redistest.StartCluster(t, 3)
	l, other := clinchers(t, []*redis.ClusterClient{cluster.Client(t)})
	ctx := context.Background()
	a, err := l.TryAcquireMulti(ctx, []string{"a", "b", "c{d}"})
	require.NoError(t, err)
	x, err := other.TryAcquireMulti(ctx, []string{"x", "y", "z"})
	require.NoError(t, err)
	oneIsTold(t, clincherOf(l, a, "y"), clincherOf(other, x, "c{d}"))
}

// A user who may not read what is published is told so once, and so is Check.
func TestDeadlockDetectionNeedsPermissions(t *testing.T) {
	noLeak(t)
	servers := redistest.StartN(t, 1)
	name, rules := userInReadme(t)
	less := slices.DeleteFunc(slices.Clone(rules),
		func(rule string) bool { return rule == "+hgetall" })
	logged := make(chan string, 100)
	logger := slog.New(slog.NewTextHandler(writer(func(b []byte) { logged <- string(b) }), nil))
	events := &recorder{}
	l, other := clinchers(t, loggedIn(t, servers, name, less), redlock.WithLogger(logger), patient,
		redlock.WithMaxWait(2*time.Second), redlock.WithObserver(events))
	a, b := heldEverywhere(t, l, servers, "a"), heldEverywhere(t, other, servers, "b")
	one, two := clincherOf(l, a, "b"), clincherOf(other, b, "a")
	require.Contains(t, outcome(t, logged, "a warning"), "a node does not say who waits for what")
	require.NotErrorIs(t, errors.Join(<-one, <-two), redlock.ErrDeadlock)
	for more := 0; len(logged) > 0; {
		if strings.Contains(<-logged, "a node") {
			more++
		}
		require.LessOrEqual(t, more, 1, "the other Locker says so too, and nobody twice")
	}
	require.Empty(t, told[redlock.NodeState](events), "the node does what locks need")
	require.ErrorIs(t, l.Check(context.Background()), redlock.ErrMisconfigured)
}

func TestDeadlockDetectionMustBeginAfterSomeTime(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer client.Close()
	for _, d := range []time.Duration{-time.Second, 0, time.Millisecond, tenYears + 1} {
		_, err := redlock.New([]*redis.Client{client}, redlock.WithDeadlockDetection(d))
		require.ErrorContains(t, err, "deadlock detection")
		require.ErrorContains(t, err, d.String())
	}
}

// A wait that is short, and one without the option, publish and look up nothing.
func TestDeadlockDetectionCostsNothingBefore(t *testing.T) {
	ctx := context.Background()
	servers, clients := masters(t, 1)
	for _, opts := range [][]redlock.Option{{redlock.WithDeadlockDetection(time.Hour)}, nil} {
		l, other := open(t, clients, opts...), open(t, clients, opts...)
		a, b := heldEverywhere(t, l, servers, "a"), heldEverywhere(t, other, servers, "b")
		_, err := l.Acquire(a.Context(ctx), "b", redlock.WithMaxWait(500*time.Millisecond))
		require.ErrorIs(t, err, redlock.ErrHeld)
		require.NoError(t, errors.Join(a.Release(ctx), b.Release(ctx)))
	}
	for command := range servers[0].Stats(t) {
		require.NotEqual(t, "hgetall", command)
	}
}
