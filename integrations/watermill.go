package integrations

import (
	"context"
	"errors"
	"time"

	"github.com/rediskit/redlock"
)

// Seen is an ExpiringKeyRepository of watermill: of all processes that ask for a key within the
// window, the first one is told that it is new.
type Seen struct {
	Locker *redlock.Locker
	Window time.Duration
}

func (s Seen) IsDuplicate(ctx context.Context, key string) (bool, error) {
	// Never released: the lock expires with the window.
	_, err := s.Locker.TryAcquire(ctx, "message:"+key, redlock.WithTTL(s.Window),
		redlock.WithAutoRenewal(false))
	if errors.Is(err, redlock.ErrHeld) {
		return true, nil
	}
	return false, err
}
