package integrations

import (
	"context"
	"errors"
	"time"

	"github.com/rediskit/redlock"
	"github.com/robfig/cron/v3"
)

// RunOnce wraps a job so that one process runs it, of all whose ticks are less than half a second
// apart.
func RunOnce(locker *redlock.Locker, name string, logger cron.Logger) cron.JobWrapper {
	return func(job cron.Job) cron.Job {
		return cron.FuncJob(func() {
			err := locker.TryDo(context.Background(), "cron:"+name, func(context.Context) error {
				job.Run()
				return nil
			}, redlock.WithMinHold(500*time.Millisecond))
			if err != nil && !errors.Is(err, redlock.ErrHeld) {
				logger.Error(err, "lock of a job", "job", name)
			}
		})
	}
}
