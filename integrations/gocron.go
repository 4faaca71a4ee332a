package integrations

import (
	"context"
	"errors"
	"log/slog"

	"github.com/go-co-op/gocron/v2"
	"github.com/google/uuid"
	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/gocronredlock"
)

// NewScheduler returns a scheduler that shares its jobs with those of other processes.
func NewScheduler(locker *redlock.Locker) (gocron.Scheduler, error) {
	locks, err := gocronredlock.NewLocker(locker)
	if err != nil {
		return nil, err
	}
	skipped := gocron.AfterLockError(func(_ uuid.UUID, job string, err error) {
		if errors.Is(err, redlock.ErrHeld) || errors.Is(err, context.Canceled) {
			return // somebody else runs it, or we are shutting down
		}
		slog.Error("job skipped", "job", job, "error", err)
	})
	return gocron.NewScheduler(gocron.WithDistributedLocker(locks),
		gocron.WithGlobalJobOptions(gocron.WithEventListeners(skipped)))
}
