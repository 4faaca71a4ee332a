package gocronredlock_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/gocronredlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// tick is the interval of the jobs below.
const tick = 20 * time.Millisecond

func TestOnlyTheLeaderRunsJobsAndCloseHandsOver(t *testing.T) {
	servers, clients := masters(t, 3)
	ran := make(chan string)
	start := func(host string) (*gocronredlock.Elector, gocron.Scheduler) {
		e := newElector(t, open(t, clients), gocronredlock.WithSplay(0))
		return e, schedule(t, gocron.WithDistributedElector(e), every(tick),
			func(ctx context.Context) {
				select {
				case ran <- host:
				case <-ctx.Done(): // shut down
				}
			})
	}
	a, first := start("host-a")
	require.Equal(t, "host-a", receive(t, ran, "the first job"))
	b, second := start("host-b")
	for range 20 {
		require.Equal(t, "host-a", receive(t, ran, "a job"))
	}
	require.ErrorIs(t, b.IsLeader(context.Background()), redlock.ErrHeld)

	require.NoError(t, first.Shutdown())
	require.NoError(t, a.Close())
	require.Equal(t, "host-b", receive(t, ran, "a job after the hand-over"))
	require.ErrorIs(t, a.IsLeader(context.Background()), gocronredlock.ErrClosed)

	require.NoError(t, second.Shutdown())
	require.NoError(t, b.Close())
	noKeys(t, servers)
}

// leaderEnv has the addresses of the nodes for a process that is to lead until it is killed.
const leaderEnv = "GOCRONREDLOCK_TEST_LEADER"

// leadUntilKilled runs a scheduler with an Elector. It never returns once it leads.
func leadUntilKilled(addrs string) int {
	var clients []*redis.Client
	for addr := range strings.SplitSeq(addrs, ",") {
		clients = append(clients, redis.NewClient(&redis.Options{Addr: addr}))
	}
	l, err := redlock.New(clients, redlock.WithOwner("child"), redlock.WithTTL(3*time.Second))
	if err != nil {
		return 1
	}
	e, err := gocronredlock.NewElector(l, "leader")
	if err != nil {
		return 1
	}
	s, err := gocron.NewScheduler(gocron.WithDistributedElector(e))
	if err != nil {
		return 1
	}
	if _, err := s.NewJob(every(tick), gocron.NewTask(func() {})); err != nil {
		return 1
	}
	s.Start()
	select {}
}

func TestLeaderIsKilledAndAnotherTakesOver(t *testing.T) {
	servers, clients := masters(t, 3)
	l := open(t, clients)
	addrs := make([]string, len(servers))
	for i, s := range servers {
		addrs[i] = s.Addr()
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), leaderEnv+"="+strings.Join(addrs, ","))
	child, err := redistest.LaunchChild(cmd)
	require.NoError(t, err)
	t.Cleanup(func() { _ = child.Kill() })
	eventually(t, func() bool {
		status, err := l.Inspect(context.Background(), "leader")
		return err == nil && status.Owner == "child"
	}, "the child leads")

	e := newElector(t, l, gocronredlock.WithSplay(0))
	require.ErrorIs(t, e.IsLeader(context.Background()), redlock.ErrHeld)
	ran := make(chan struct{})
	s := schedule(t, gocron.WithDistributedElector(e), every(tick), func(ctx context.Context) {
		select {
		case ran <- struct{}{}:
		case <-ctx.Done():
		}
	})
	require.NoError(t, child.Kill())
	receive(t, ran, "a job of the new leader")
	require.NoError(t, s.Shutdown())
	require.NoError(t, e.Close())
	noKeys(t, servers)
}

func TestLostLeadershipEndsTheJobsContextAndIsWonAgain(t *testing.T) {
	servers, clients := masters(t, 3)
	e := newElector(t, open(t, clients, redlock.WithTTL(3*time.Second)), gocronredlock.WithSplay(0))
	ctx := context.Background()
	never := e.Context(ctx)
	require.Error(t, never.Err())
	require.EqualError(t, context.Cause(never), "gocronredlock: this elector was never the leader")

	require.NoError(t, e.IsLeader(ctx))
	term := e.Context(ctx)
	require.NoError(t, term.Err())
	for _, s := range servers {
		s.Do(t, "set", "lock:leader", "a stranger")
	}
	receive(t, term.Done(), "the end of the term")
	require.ErrorIs(t, context.Cause(term), redlock.ErrLost)
	require.ErrorIs(t, e.IsLeader(ctx), redlock.ErrHeld)

	uproot(t, "leader", servers...)
	require.NoError(t, e.IsLeader(ctx))
	require.NoError(t, e.Context(ctx).Err())
	require.NoError(t, e.Close())
	noKeys(t, servers)
}

func TestOutageIsToldWhereGocronDropsIt(t *testing.T) {
	servers, clients := masters(t, 3)
	for _, s := range servers[:2] {
		require.NoError(t, s.Kill())
	}
	told := make(chan error, 1)
	e := newElector(t, open(t, clients), gocronredlock.WithErrors(func(name string, err error) {
		require.Equal(t, "leader", name)
		told <- err
	}))
	schedule(t, gocron.WithDistributedElector(e), now(), func() { t.Error("ran without a leader") })
	require.ErrorIs(t, receive(t, told, "the outage"), redlock.ErrNoQuorum)
	require.NoError(t, e.Close())
	noKeys(t, servers[2:])
}

func TestManyWhoAskAtTheSameTimeShareOneAttempt(t *testing.T) {
	servers, clients := masters(t, 3)
	l := open(t, clients)
	e := newElector(t, l, gocronredlock.WithSplay(0))
	var wg sync.WaitGroup
	answers := make(chan error, 200)
	for range cap(answers) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			answers <- e.IsLeader(context.Background())
		}()
	}
	wg.Wait()
	for range cap(answers) {
		require.NoError(t, <-answers)
	}
	require.NoError(t, e.Close())
	require.NoError(t, l.Close()) // the last node has answered
	for _, s := range servers {
		require.LessOrEqual(t, s.CommandCount(t, "evalsha"), 2, "an acquire and a release")
	}
	noKeys(t, servers)
}

func TestCallerWhoseContextEndsDoesNotSpoilTheAttempt(t *testing.T) {
	servers, _ := masters(t, 1)
	proxy := servers[0].Proxy(t)
	e := newElector(t, open(t, []*redis.Client{proxy.Client(t)},
		redlock.WithNodeTimeout(20*time.Second)), gocronredlock.WithSplay(0))
	proxy.HoldRequests(true)
	reason := errors.New("had enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- e.IsLeader(ctx) }()
	go func() { second <- e.IsLeader(context.Background()) }()
	cancel(reason)
	require.ErrorIs(t, receive(t, first, "the caller who leaves"), reason)
	proxy.HoldRequests(false)
	require.NoError(t, receive(t, second, "the caller who stays"))
	require.NoError(t, e.Close())
	noKeys(t, servers)
}

func TestCloseCutsAnAttemptShort(t *testing.T) {
	servers, _ := masters(t, 3)
	var proxies []*redistest.Proxy
	var clients []*redis.Client
	for _, s := range servers {
		p := s.Proxy(t)
		proxies, clients = append(proxies, p), append(clients, p.Client(t))
		require.NoError(t, clients[len(clients)-1].Ping(context.Background()).Err()) // connected
		p.HoldReplies(true)
	}
	l := open(t, clients, redlock.WithTTL(time.Hour), redlock.WithNodeTimeout(50*time.Minute))
	e := newElector(t, l)
	asked := make(chan error, 1)
	go func() { asked <- e.IsLeader(context.Background()) }()
	eventually(t, func() bool { return servers[0].CommandCount(t, "evalsha") > 0 },
		"the attempt is under way")
	require.NoError(t, e.Close())
	require.NoError(t, e.Close())
	require.ErrorIs(t, receive(t, asked, "IsLeader"), gocronredlock.ErrClosed)
	for _, p := range proxies {
		p.HoldReplies(false)
	}
	require.NoError(t, l.Close())
	noKeys(t, servers)
}

func TestCloseOfALeaderThatHasLostSaysSo(t *testing.T) {
	servers, clients := masters(t, 3)
	e := newElector(t, open(t, clients, redlock.WithTTL(3*time.Second)),
		gocronredlock.WithSplay(time.Hour))
	require.NoError(t, e.IsLeader(context.Background()))
	term := e.Context(context.Background())
	uproot(t, "leader", servers...)
	receive(t, term.Done(), "the end of the term")
	require.ErrorIs(t, e.Close(), redlock.ErrLost, "at once: there is nothing to wait for")
	noKeys(t, servers)
}
