package integrations

import (
	"context"
	"database/sql"
	"sync/atomic"

	"github.com/rediskit/redlock"
)

// MigrationLock is a lock.Locker of goose: one process migrates, the others wait for it.
type MigrationLock struct {
	Locker *redlock.Locker
	Name   string // one for each database

	handle atomic.Pointer[redlock.Handle]
}

func (m *MigrationLock) Lock(ctx context.Context, _ *sql.DB) error {
	h, err := m.Locker.Acquire(ctx, m.Name, redlock.WithAutoRenewal(true))
	if err == nil {
		m.handle.Store(h)
	}
	return err
}

func (m *MigrationLock) Unlock(ctx context.Context, _ *sql.DB) error {
	return m.handle.Load().Release(ctx)
}
