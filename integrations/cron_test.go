package integrations_test

import (
	"errors"
	"testing"
	"time"

	"github.com/robfig/cron/v3"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/integrations"
)

// startCron is a process with one job, which is due every second.
func startCron(t *testing.T, locker *redlock.Locker, logger cron.Logger, sendInvoices func()) {
	t.Helper()
	c := cron.New(cron.WithSeconds())
	once := cron.NewChain(integrations.RunOnce(locker, "invoices", logger))
	_, err := c.AddJob("* * * * * *", once.Then(cron.FuncJob(sendInvoices)))
	require.NoError(t, err)
	c.Start()
	t.Cleanup(func() { <-c.Stop().Done() }) // waits for the job
}

func TestCronRunsAJobInOneProcess(t *testing.T) {
	_, clients := masters(t, 3)
	running, finish := make(chan struct{}, 100), make(chan struct{})
	for range 3 {
		startCron(t, open(t, clients), cron.DiscardLogger,
			func() { running <- struct{}{}; <-finish })
	}
	t.Cleanup(func() { close(finish) }) // before the processes stop
	receive(t, running, "the job")
	ticks(t, 3)
	require.Empty(t, running, "the job runs twice at a time")
}

func TestCronDoesNotRepeatAJobThatIsDone(t *testing.T) {
	_, clients := masters(t, 3)
	ran := 0
	var processes []cron.Job
	for range 2 {
		once := integrations.RunOnce(open(t, clients), "invoices", cron.DiscardLogger)
		processes = append(processes, once(cron.FuncJob(func() { ran++ })))
	}
	for took := time.Hour; took >= 500*time.Millisecond; { // on a machine that is too busy to tell
		ran = 0
		began := time.Now()
		processes[0].Run()
		processes[1].Run()
		if ran > 0 { // else it waits for the time before
			took = time.Since(began)
		}
	}
	require.Equal(t, 1, ran)
}

// errorLog is a cron.Logger that passes errors on.
type errorLog struct {
	cron.Logger
	errs chan error
}

func (l errorLog) Error(err error, _ string, _ ...any) {
	select {
	case l.errs <- err:
	default:
	}
}

func TestCronLogsAnOutageAndDoesNotRun(t *testing.T) {
	servers, clients := masters(t, 1)
	require.NoError(t, servers[0].Kill())
	log := errorLog{cron.DiscardLogger, make(chan error, 1)}
	startCron(t, open(t, clients), log, func() { t.Error("ran without a lock") })
	require.ErrorIs(t, receive(t, log.errs, "an error"), redlock.ErrNoQuorum)
}

func TestCronLogsALossAndNoContention(t *testing.T) {
	servers, clients := masters(t, 1)
	locker := open(t, clients, redlock.WithTTL(3*time.Second))
	log := errorLog{cron.DiscardLogger, make(chan error, 1)}
	running, finish := make(chan struct{}), make(chan struct{})
	first := integrations.RunOnce(locker, "invoices", log)(
		cron.FuncJob(func() { close(running); <-finish }))
	done := make(chan struct{})
	go func() { defer close(done); first.Run() }()
	receive(t, running, "the job")
	second := integrations.RunOnce(open(t, clients), "invoices", log)(
		cron.FuncJob(func() { t.Error("ran twice") }))
	second.Run()
	require.Empty(t, log.errs)

	servers[0].Do(t, "set", "lock:cron:invoices", "a stranger")
	renewed(t, servers[0])
	close(finish)
	receive(t, done, "the end of the job")
	require.ErrorIs(t, receive(t, log.errs, "the loss"), redlock.ErrLost)
}

func TestCronReleasesAfterAPanic(t *testing.T) {
	servers, clients := masters(t, 1)
	job := cron.NewChain(
		cron.Recover(cron.DiscardLogger),
		integrations.RunOnce(open(t, clients), "invoices", cron.DiscardLogger),
	).Then(cron.FuncJob(func() { panic(errors.New("broken")) }))
	job.Run()
	noKeys(t, servers)
}
