package integrations_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/integrations"
)

var (
	_ certmagic.Storage          = (*integrations.Storage)(nil)
	_ certmagic.TryLocker        = (*integrations.Storage)(nil)
	_ certmagic.LockLeaseRenewer = (*integrations.Storage)(nil)
)

// issuer signs whatever it is asked to, as soon as it may.
type issuer struct {
	key    *ecdsa.PrivateKey
	asked  chan struct{} // gets a value for each certificate
	answer chan struct{} // closed when it may answer
}

func (i *issuer) IssuerKey() string { return "test" }

func (i *issuer) Issue(ctx context.Context,
	csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	i.asked <- struct{}{}
	select {
	case <-i.answer:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: csr.DNSNames,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, csr.PublicKey, i.key)
	if err != nil {
		return nil, err
	}
	return &certmagic.IssuedCertificate{Certificate: pem.EncodeToMemory(
		&pem.Block{Type: "CERTIFICATE", Bytes: der})}, nil
}

// newStorage is a process's access to the certificates, which lie in a directory that all share.
func newStorage(locker *redlock.Locker, dir string) *integrations.Storage {
	storage := &integrations.Storage{Storage: &certmagic.FileStorage{Path: dir}, Locker: locker}
	return storage
}

// newConfig is a process that wants a certificate.
func newConfig(t *testing.T, storage certmagic.Storage, ca certmagic.Issuer) *certmagic.Config {
	t.Helper()
	var config *certmagic.Config
	cache := certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) {
			return config, nil
		},
		Logger: zap.NewNop(),
	})
	t.Cleanup(cache.Stop)
	config = certmagic.New(cache, certmagic.Config{Storage: storage,
		Issuers: []certmagic.Issuer{ca}, Logger: zap.NewNop()})
	return config
}

func TestCertmagicObtainsACertificateOnce(t *testing.T) {
	servers, clients := masters(t, 3)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	ca := &issuer{key: key, asked: make(chan struct{}, 3), answer: make(chan struct{})}
	dir, obtained := t.TempDir(), make(chan error, 3)
	for range cap(obtained) {
		config := newConfig(t, newStorage(open(t, clients), dir), ca)
		// With retries, and so with RenewLockLease before each try.
		go func() { obtained <- config.ObtainCertAsync(context.Background(), "example.com") }()
	}
	receive(t, ca.asked, "a request to the issuer")
	close(ca.answer)
	for range cap(obtained) {
		require.NoError(t, receive(t, obtained, "a process"))
	}
	require.Empty(t, ca.asked, "the issuer was asked once")
	noKeys(t, servers)
}

func TestCertmagicLocksExcludeEachOther(t *testing.T) {
	servers, clients := masters(t, 3)
	a, b := newStorage(open(t, clients), t.TempDir()), newStorage(open(t, clients), t.TempDir())
	ctx, cancel := context.WithCancel(context.Background())
	require.NoError(t, a.Lock(ctx, "name"))
	ok, err := b.TryLock(ctx, "name")
	require.NoError(t, err)
	require.False(t, ok)
	require.NoError(t, a.RenewLockLease(ctx, "name", time.Hour))

	waited := make(chan error, 1)
	go func() { waited <- b.Lock(ctx, "name") }()
	require.NoError(t, a.Unlock(ctx, "name"))
	require.NoError(t, receive(t, waited, "the lock"))
	ok, err = a.TryLock(ctx, "name")
	require.NoError(t, err)
	require.False(t, ok)

	go func() { waited <- a.Lock(ctx, "name") }()
	cancel()
	require.ErrorIs(t, receive(t, waited, "the end of the wait"), context.Canceled)
	require.NoError(t, b.Unlock(ctx, "name"), "ctx has ended")
	require.Error(t, b.Unlock(ctx, "name"))
	require.Error(t, b.RenewLockLease(ctx, "name", time.Hour))
	noKeys(t, servers)

	ok, err = b.TryLock(context.Background(), "name")
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, b.Unlock(ctx, "name"))
	noKeys(t, servers)
}

func TestCertmagicLearnsOfALossAndOfAnOutage(t *testing.T) {
	servers, clients := masters(t, 1)
	s := newStorage(open(t, clients, redlock.WithTTL(time.Second)), t.TempDir())
	ctx := context.Background()
	require.NoError(t, s.Lock(ctx, "name"))
	servers[0].Do(t, "set", "lock:certmagic:name", "a stranger")
	eventually(t, func() bool { return s.RenewLockLease(ctx, "name", time.Hour) != nil },
		"the loss")
	require.ErrorIs(t, s.RenewLockLease(ctx, "name", time.Hour), redlock.ErrLost)
	require.ErrorIs(t, s.Unlock(ctx, "name"), redlock.ErrLost)

	require.NoError(t, servers[0].Kill())
	_, err := s.TryLock(ctx, "name")
	require.ErrorIs(t, err, redlock.ErrNoQuorum)
}

func TestCertmagicLocksAreRenewed(t *testing.T) {
	servers, clients := masters(t, 1)
	s := newStorage(open(t, clients, redlock.WithTTL(3*time.Second)), t.TempDir())
	ctx := context.Background()
	require.NoError(t, s.Lock(ctx, "name"))
	renewed(t, servers[0])
	require.NoError(t, s.Unlock(ctx, "name"))
	ok, err := s.TryLock(ctx, "name")
	require.NoError(t, err)
	require.True(t, ok)
	renewed(t, servers[0])
	require.NoError(t, s.Unlock(ctx, "name"))
	noKeys(t, servers)
}
