package integrations

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/rediskit/redlock"
)

// Storage is a certmagic.Storage whose locks are taken from redlock.
type Storage struct {
	certmagic.Storage // keeps the certificates; its own locks are not used
	Locker            *redlock.Locker

	held sync.Map // *redlock.Handle by name
}

func (s *Storage) Lock(ctx context.Context, name string) error {
	h, err := s.Locker.Acquire(ctx, "certmagic:"+name, redlock.WithAutoRenewal(true))
	if err == nil {
		s.held.Store(name, h)
	}
	return err
}

func (s *Storage) TryLock(ctx context.Context, name string) (bool, error) {
	h, err := s.Locker.TryAcquire(ctx, "certmagic:"+name, redlock.WithAutoRenewal(true))
	if errors.Is(err, redlock.ErrHeld) {
		return false, nil
	}
	if err == nil {
		s.held.Store(name, h)
	}
	return err == nil, err
}

func (s *Storage) Unlock(ctx context.Context, name string) error {
	h, ok := s.held.LoadAndDelete(name)
	if !ok {
		return fmt.Errorf("unlock %q: not locked", name)
	}
	return h.(*redlock.Handle).Release(ctx)
}

// RenewLockLease fails if the lock is lost, and has nothing to do otherwise: the lock is renewed in
// the background, for as long as it is needed. A long lease would outlive a crash.
func (s *Storage) RenewLockLease(_ context.Context, name string, _ time.Duration) error {
	h, ok := s.held.Load(name)
	if !ok {
		return fmt.Errorf("renew %q: not locked", name)
	}
	return h.(*redlock.Handle).Err()
}
