package gocronredlock_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/gocronredlock"
)

// lockErrors sends what gocron reports to a channel.
func lockErrors(to chan<- error) gocron.JobOption {
	return gocron.WithEventListeners(gocron.AfterLockError(
		func(_ uuid.UUID, _ string, err error) { to <- err }))
}

func TestJobRunsOnOneOfTwoSchedulers(t *testing.T) {
	servers, clients := masters(t, 3)
	running, finish, refused := make(chan string, 2), make(chan struct{}), make(chan error, 1)
	start := func(host string) gocron.Scheduler {
		locker := newLocker(t, open(t, clients, redlock.WithOwner(host)),
			gocronredlock.WithSplay(0))
		return schedule(t, gocron.WithDistributedLocker(locker), now(), func() {
			running <- host
			<-finish
		}, lockErrors(refused))
	}
	start("host-a")
	require.Equal(t, "host-a", receive(t, running, "the first scheduler"))
	start("host-b")

	err := receive(t, refused, "the second scheduler's refusal")
	require.ErrorIs(t, err, redlock.ErrHeld)
	var held *redlock.HeldError
	require.ErrorAs(t, err, &held)
	require.Equal(t, "host-a", held.Owner)
	require.Equal(t, "gocron:"+report, held.Resource)

	close(finish)
	noKeys(t, servers)
	require.Empty(t, running, "nobody else ran the job")
}

func TestJobThatIsDoneIsNotRepeatedWithinTheSplay(t *testing.T) {
	_, clients := masters(t, 3)
	ran, refused := make(chan struct{}, 2), make(chan error, 1)
	start := func() gocron.Scheduler {
		locker := newLocker(t, open(t, clients), gocronredlock.WithSplay(time.Hour))
		return schedule(t, gocron.WithDistributedLocker(locker), now(),
			func() { ran <- struct{}{} }, lockErrors(refused))
	}
	first := start()
	receive(t, ran, "the first scheduler")
	require.NoError(t, first.Shutdown())
	start()
	require.ErrorIs(t, receive(t, refused, "the second scheduler's refusal"), redlock.ErrHeld)
}

func TestOutageIsTheReasonThatGocronReports(t *testing.T) {
	servers, clients := masters(t, 3)
	for _, s := range servers[:2] {
		require.NoError(t, s.Kill())
	}
	refused := make(chan error, 1)
	locker := newLocker(t, open(t, clients))
	schedule(t, gocron.WithDistributedLocker(locker), now(),
		func() { t.Error("ran without a lock") }, lockErrors(refused))
	err := receive(t, refused, "the refusal")
	require.ErrorIs(t, err, redlock.ErrNoQuorum)
	require.NotErrorIs(t, err, redlock.ErrHeld)
	noKeys(t, servers[2:])
}

func TestShutdownDuringAJobWaitsAndLeavesNothing(t *testing.T) {
	servers, clients := masters(t, 3)
	var unlock atomic.Pointer[error]
	locker := newLocker(t, open(t, clients), gocronredlock.WithSplay(0),
		gocronredlock.WithErrors(func(_ string, err error) { unlock.Store(&err) }))
	running, wasHeld := make(chan struct{}), false
	s := schedule(t, gocron.WithDistributedLocker(locker), now(), func(ctx context.Context) {
		close(running)
		<-ctx.Done() // Shutdown has begun, and gocron's context for Unlock has ended
		wasHeld = len(servers[0].Keys(t))+len(servers[1].Keys(t))+len(servers[2].Keys(t)) >= 2
	})
	receive(t, running, "the job")
	require.NoError(t, s.Shutdown())
	require.True(t, wasHeld)
	require.Nil(t, unlock.Load(), "Unlock failed")
	noKeys(t, servers)
}

func TestJobThatOutlastsShutdownKeepsItsLock(t *testing.T) {
	servers, clients := masters(t, 3)
	l := open(t, clients, redlock.WithTTL(time.Second))
	locker := newLocker(t, l, gocronredlock.WithSplay(0))
	running, finish := make(chan context.Context, 1), make(chan struct{})
	s, err := gocron.NewScheduler(gocron.WithDistributedLocker(locker),
		gocron.WithStopTimeout(10*time.Millisecond))
	require.NoError(t, err)
	_, err = s.NewJob(now(), gocron.NewTask(func() {
		running <- locker.Context(context.Background(), report)
		<-finish
	}), gocron.WithName(report))
	require.NoError(t, err)
	s.Start()
	ctx := receive(t, running, "the job")
	require.ErrorIs(t, s.Shutdown(), gocron.ErrStopJobsTimedOut)

	h, err := l.Inspect(context.Background(), "gocron:"+report)
	require.NoError(t, err)
	require.True(t, h.Locked)
	require.NoError(t, ctx.Err())
	close(finish)
	noKeys(t, servers)
	receive(t, ctx.Done(), "the end of the job's context")
	require.ErrorIs(t, context.Cause(ctx), redlock.ErrReleased)
}

func TestJobLearnsThatItsLockIsLost(t *testing.T) {
	servers, clients := masters(t, 3)
	told := make(chan error, 1)
	locker := newLocker(t, open(t, clients, redlock.WithTTL(time.Second)),
		gocronredlock.WithErrors(func(job string, err error) {
			require.Equal(t, report, job)
			told <- err
		}))
	running, cause := make(chan struct{}), make(chan error, 1)
	schedule(t, gocron.WithDistributedLocker(locker), now(), func(ctx context.Context) {
		ctx = locker.Context(ctx, report)
		close(running)
		<-ctx.Done()
		cause <- context.Cause(ctx)
	})
	receive(t, running, "the job")
	uproot(t, "gocron:"+report, servers...)
	require.ErrorIs(t, receive(t, cause, "the end of the job's context"), redlock.ErrLost)
	require.ErrorIs(t, receive(t, told, "the result of Unlock"), redlock.ErrLost)
	noKeys(t, servers)
}

func TestOneJobWithALockerOfItsOwn(t *testing.T) {
	servers, clients := masters(t, 1)
	locker := newLocker(t, open(t, clients), gocronredlock.WithSplay(0))
	running, finish := make(chan struct{}), make(chan struct{})
	none, err := gocron.NewScheduler()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, none.Shutdown()) })
	_, err = none.NewJob(now(), gocron.NewTask(func() { close(running); <-finish }),
		gocron.WithName(report), gocron.WithDistributedJobLocker(locker))
	require.NoError(t, err)
	none.Start()
	receive(t, running, "the job")
	require.Equal(t, []string{"lock:gocron:" + report}, servers[0].Keys(t))
	close(finish)
	noKeys(t, servers)
}

func TestUnlockIsIdempotentAndNeedsNoContext(t *testing.T) {
	servers, clients := masters(t, 3)
	locker := newLocker(t, open(t, clients), gocronredlock.WithSplay(0))
	ctx, cancel := context.WithCancel(context.Background())
	lock, err := locker.Lock(ctx, report)
	require.NoError(t, err)
	cancel()
	require.NoError(t, lock.Unlock(ctx))
	require.NoError(t, lock.Unlock(ctx))
	require.ErrorContains(t, context.Cause(locker.Context(context.Background(), report)),
		"holds no lock")
	noKeys(t, servers)

	_, err = locker.Lock(ctx, report)
	require.ErrorIs(t, err, context.Canceled)
	noKeys(t, servers)
}

func TestUnlockOfALostLockLeavesTheNextOneAlone(t *testing.T) {
	servers, clients := masters(t, 3)
	locker := newLocker(t, open(t, clients, redlock.WithTTL(time.Second)),
		gocronredlock.WithSplay(0))
	ctx := context.Background()
	first, err := locker.Lock(ctx, report)
	require.NoError(t, err)
	lost := locker.Context(ctx, report)
	uproot(t, "gocron:"+report, servers...)
	receive(t, lost.Done(), "the loss")

	second, err := locker.Lock(ctx, report)
	require.NoError(t, err)
	require.ErrorIs(t, first.Unlock(ctx), redlock.ErrLost)
	require.NoError(t, locker.Context(ctx, report).Err(), "the second one's context")
	require.NoError(t, second.Unlock(ctx))
	noKeys(t, servers)
}

func TestContextOfAJobWithoutALockHasEnded(t *testing.T) {
	_, clients := masters(t, 1)
	locker := newLocker(t, open(t, clients))
	ctx := locker.Context(context.Background(), "another")
	require.Error(t, ctx.Err())
	require.EqualError(t, context.Cause(ctx),
		`gocronredlock: this Locker holds no lock for a job named "another"`)
}

func TestOptionsThatAreRefused(t *testing.T) {
	servers, clients := masters(t, 1)
	closed, l := open(t, clients), open(t, clients)
	require.NoError(t, closed.Close())
	acquire := gocronredlock.WithAcquireOptions
	for name, c := range map[string]struct {
		locker *redlock.Locker
		opt    gocronredlock.Option
		want   string
	}{
		"no locker":  {nil, acquire(), "the redlock.Locker is nil"},
		"closed":     {closed, acquire(), "locker closed"},
		"nil option": {l, nil, "option 0 is nil"},
		"negative splay": {l, gocronredlock.WithSplay(-1),
			"splay must not be negative, but is -1ns"},
		"redlock refuses": {l, acquire(redlock.WithTTL(1)),
			"TTL must be 10ms to 10 years, not 1ns"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := gocronredlock.NewLocker(c.locker, c.opt)
			require.ErrorContains(t, err, c.want)
			_, err = gocronredlock.NewElector(c.locker, "leader", c.opt)
			require.ErrorContains(t, err, c.want)
		})
	}
	_, err := gocronredlock.NewLocker(l, gocronredlock.WithSplay(time.Minute),
		acquire(redlock.WithMaxHold(time.Minute-1)))
	require.ErrorContains(t, err,
		"maximum hold (59.999999999s) must not be below the minimum hold (1m0s)")
	_, err = gocronredlock.NewElector(l, "")
	require.ErrorContains(t, err, "empty")
	require.Zero(t, servers[0].CommandCount(t, "evalsha"), "nothing was sent")
}
