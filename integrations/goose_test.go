package integrations_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"sync"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/integrations"
)

var _ lock.Locker = (*integrations.MigrationLock)(nil)

// newProvider is a process that wants to migrate.
func newProvider(t *testing.T, locker *redlock.Locker, versions *versionTable,
	migration func()) *goose.Provider {
	t.Helper()
	db := sql.OpenDB(versions)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	up := &goose.GoFunc{RunTx: func(context.Context, *sql.Tx) error { migration(); return nil }}
	provider, err := goose.NewProvider(goose.DialectCustom, db, nil, goose.WithStore(versions),
		goose.WithGoMigrations(goose.NewGoMigration(1, up, nil)),
		goose.WithLocker(&integrations.MigrationLock{Locker: locker, Name: "migrate:orders"}))
	require.NoError(t, err)
	return provider
}

func TestGooseMigratesOnceAndTheOthersWait(t *testing.T) {
	servers, clients := masters(t, 3)
	versions := &versionTable{}
	running, finish := make(chan struct{}, 3), make(chan struct{})
	results := make(chan int, 3)
	for range cap(results) {
		p := newProvider(t, open(t, clients), versions, func() { running <- struct{}{}; <-finish })
		go func() {
			done, err := p.Up(context.Background())
			if err != nil {
				t.Error(err)
			}
			results <- len(done)
		}()
	}
	receive(t, running, "the migration")
	require.Empty(t, results, "the others wait")
	close(finish)
	total := 0
	for range cap(results) {
		total += receive(t, results, "a process")
	}
	require.Equal(t, 1, total, "migrations that were run")
	require.Empty(t, running)
	noKeys(t, servers)
}

func TestGooseWaitEndsWithItsContext(t *testing.T) {
	servers, clients := masters(t, 1)
	servers[0].Do(t, "set", "lock:migrate:orders", "a stranger")
	ctx, cancel := context.WithCancel(context.Background())
	provider := newProvider(t, open(t, clients), &versionTable{},
		func() { t.Error("migrated without the lock") })
	failed := make(chan error, 1)
	go func() {
		_, err := provider.Up(ctx)
		failed <- err
	}()
	eventually(t, func() bool { return servers[0].CommandCount(t, "evalsha") > 1 }, "it waits")
	cancel()
	err := receive(t, failed, "the end of the wait")
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, redlock.ErrHeld)
}

func TestGooseLockIsRenewedDuringTheMigration(t *testing.T) {
	servers, clients := masters(t, 1)
	locker := open(t, clients, redlock.WithTTL(3*time.Second))
	running, finish, migrated := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	provider := newProvider(t, locker, &versionTable{}, func() { close(running); <-finish })
	go func() {
		_, err := provider.Up(context.Background())
		migrated <- err
	}()
	defer func() { // also when the test fails, or nothing could be closed
		close(finish)
		require.NoError(t, receive(t, migrated, "the end"))
		noKeys(t, servers)
	}()
	receive(t, running, "the migration")
	renewed(t, servers[0])
}

// versionTable is a database for goose with nothing in it but the table of versions, and a driver
// that only begins and ends transactions: what is tested is the lock around them.
type versionTable struct {
	mu       sync.Mutex
	versions []int64
}

func (v *versionTable) Connect(context.Context) (driver.Conn, error) { return noConn{}, nil }
func (v *versionTable) Driver() driver.Driver                        { return nil }

type noConn struct{}

func (noConn) Prepare(string) (driver.Stmt, error) { return nil, driver.ErrSkip }
func (noConn) Close() error                        { return nil }
func (noConn) Begin() (driver.Tx, error)           { return noTx{}, nil }

type noTx struct{}

func (noTx) Commit() error   { return nil }
func (noTx) Rollback() error { return nil }

func (v *versionTable) Tablename() string { return "versions" }

func (v *versionTable) CreateVersionTable(context.Context, database.DBTxConn) error { return nil }

func (v *versionTable) Insert(_ context.Context, _ database.DBTxConn,
	req database.InsertRequest) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.versions = append(v.versions, req.Version)
	return nil
}

func (v *versionTable) Delete(context.Context, database.DBTxConn, int64) error { return nil }

func (v *versionTable) GetMigration(_ context.Context, _ database.DBTxConn,
	version int64) (*database.GetMigrationResult, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, applied := range v.versions {
		if applied == version {
			return &database.GetMigrationResult{IsApplied: true}, nil
		}
	}
	return nil, database.ErrVersionNotFound
}

func (v *versionTable) GetLatestVersion(context.Context, database.DBTxConn) (int64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.versions) == 0 {
		return 0, database.ErrVersionNotFound
	}
	return v.versions[len(v.versions)-1], nil
}

func (v *versionTable) ListMigrations(context.Context,
	database.DBTxConn) ([]*database.ListMigrationsResult, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var list []*database.ListMigrationsResult
	for _, version := range v.versions {
		// newest first
		list = append([]*database.ListMigrationsResult{{Version: version, IsApplied: true}},
			list...)
	}
	return list, nil
}
