package acceptance_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// mistake is one that no waiting mends.
type mistake struct {
	name string
	hint string // in the error
	node func(t *testing.T) redlock.Node
}

// connected returns a client that is closed at the end of the test.
func connected(t *testing.T, o *redis.Options) *redis.Client {
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() }) // the test may have closed it
	return client
}

// servedTo is a mistake in the options of a client, made with a server that has the given
// configuration.
func servedTo(o redis.Options, config ...redistest.Option) func(t *testing.T) redlock.Node {
	return func(t *testing.T) redlock.Node {
		mine := o
		mine.Addr = redistest.Start(t, config...).Addr()
		return connected(t, &mine)
	}
}

// permitted is a user of a server with the given rights and no others.
func permitted(rules ...any) func(t *testing.T) redlock.Node {
	return func(t *testing.T) redlock.Node { return asUser(t, redistest.Start(t), rules...) }
}

var mistakes = []mistake{
	{"a wrong password", "", servedTo(redis.Options{Password: "wrong"},
		redistest.WithConfig("requirepass", "right"))},
	{"no password", "password", servedTo(redis.Options{},
		redistest.WithConfig("requirepass", "right"))},
	{"an unknown user", "", servedTo(redis.Options{Username: "nobody", Password: "any"})},
	{"no right to run scripts", "README", permitted("~*", "&*", "+@all", "-@scripting")},
	{"no right to EVAL", "README", permitted("~*", "&*", "+@all", "-eval")},
	{"no right to the keys", "README", permitted("~other:*", "&*", "+@all")},
	{"no right to SET", "README", permitted("~*", "&*", "+@all", "-set")},
	{"no EVALSHA", "EVALSHA", servedTo(redis.Options{},
		redistest.WithConfig("rename-command", `evalsha ""`))},
	{"no EVAL", "EVAL", servedTo(redis.Options{},
		redistest.WithConfig("rename-command", `eval ""`))},
	{"no SET", "README", servedTo(redis.Options{},
		redistest.WithConfig("rename-command", `set ""`))},
	{"a database that there is not", "DB", servedTo(redis.Options{DB: 99})},
	// A cluster has no databases, or as Valkey 9 a few.
	{"a database on a cluster", "(the server ", func(t *testing.T) redlock.Node {
		return connected(t, &redis.Options{Addr: redistest.StartCluster(t, 1).Nodes[0].Addr(),
			DB: 1})
	}},
	{"a cluster client of a single server", "redis.NewClient", func(t *testing.T) redlock.Node {
		c := redis.NewClusterClient(
			&redis.ClusterOptions{Addrs: []string{redistest.Start(t).Addr()}})
		t.Cleanup(func() { _ = c.Close() })
		return c
	}},
	{"a certificate that nobody knows", "certificate", func(t *testing.T) redlock.Node {
		return connected(t, &redis.Options{Addr: overTLS(t, redistest.Start(t)),
			TLSConfig: &tls.Config{ServerName: "redis.example"}})
	}},
	{"a certificate for another name", "certificate", func(t *testing.T) redlock.Node {
		return connected(t, &redis.Options{Addr: overTLS(t, redistest.Start(t)),
			TLSConfig: &tls.Config{}})
	}},
	{"a closed client", "closed", func(t *testing.T) redlock.Node {
		c := redistest.Start(t).Client(t)
		require.NoError(t, c.Close())
		return c
	}},
}

// overTLS puts TLS in front of a server, with a certificate that nobody knows.
func overTLS(t *testing.T, s *redistest.Server) (addr string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"redis.example"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	})
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Add(1)
	go func() {
		defer serving.Done()
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			serving.Add(1)
			go func() { defer serving.Done(); connect(client, s.Addr()) }()
		}
	}()
	t.Cleanup(func() { require.NoError(t, l.Close()); serving.Wait() })
	return l.Addr().String()
}

// connect passes on what a client says to a server and the other way round.
func connect(client net.Conn, addr string) {
	defer client.Close()
	server, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(client, server)
		_ = client.Close()
	}()
	_, _ = io.Copy(server, client)
	_ = server.Close()
	<-back
}

func TestPermanentMistakeIsNotWaitedFor(t *testing.T) {
	noLeak(t)
	for _, m := range mistakes {
		runAlongside(t, m.name, func(t *testing.T) {
			requireMisconfigured(t, m.hint, m.node(t))
		})
	}
}

// requireMisconfigured checks that all calls that wait end at once on the only node, and say why.
func requireMisconfigured(t *testing.T, hint string, node redlock.Node, opts ...redlock.Option) {
	t.Helper()
	l := open(t, []redlock.Node{node}, opts...)
	ctx := context.Background()
	for name, wait := range map[string]func() error{
		"Acquire": func() error { return onlyError(l.Acquire(ctx, "r")) },
		"AcquireMulti": func() error {
			return onlyError(l.AcquireMulti(ctx, []string{"{r}1", "{r}2"}))
		},
		"Do": func() error {
			return l.Do(ctx, "r", func(context.Context) error { return nil })
		},
		"TryAcquire": func() error { return onlyError(l.TryAcquire(ctx, "r")) },
	} {
		err := outcome(t, inBackground(wait), name)
		require.ErrorIs(t, err, redlock.ErrMisconfigured, name)
		require.ErrorIs(t, err, redlock.ErrNoQuorum, name)
		require.NotErrorIs(t, err, redlock.ErrHeld, name)
		var short *redlock.QuorumError
		require.ErrorAs(t, err, &short)
		require.Len(t, short.Nodes, 1)
		require.ErrorContains(t, err, hint, name)
	}
}

func TestPlainClientOfAClusterIsAPermanentMistake(t *testing.T) {
	noLeak(t)
	c := redistest.StartCluster(t, 3)
	wrong := connected(t, &redis.Options{Addr: c.Nodes[0].Addr()})
	l := open(t, []*redis.Client{wrong})
	ctx := context.Background()
	refused := map[string]error{}
	for _, resources := range [][]string{{"a"}, {"b"}, {"c"}, {"d"}, {"e"}, {"a", "b"}} {
		_, err := l.TryAcquireMulti(ctx, resources)
		if err == nil { // of a slot that this master has
			continue
		}
		require.ErrorIs(t, err, redlock.ErrMisconfigured)
		require.ErrorIs(t, err, redlock.ErrNoQuorum)
		require.ErrorContains(t, err, "redis.NewClusterClient")
		var reply redis.Error
		require.ErrorAs(t, err, &reply)
		refused[reply.Error()[:5]] = outcome(t,
			inBackground(func() error { return onlyError(l.AcquireMulti(ctx, resources)) }),
			"Acquire")
	}
	require.Contains(t, refused, "MOVED")
	require.Contains(t, refused, "CROSS")
	for _, err := range refused {
		require.ErrorIs(t, err, redlock.ErrMisconfigured)
	}
}

func TestOneMisconfiguredNodeOfThreeHasNoEffect(t *testing.T) {
	noLeak(t)
	for _, m := range mistakes {
		runAlongside(t, m.name, func(t *testing.T) {
			ctx := context.Background()
			servers := redistest.StartN(t, 2)
			nodes := []redlock.Node{m.node(t), servers[0].Client(t), servers[1].Client(t)}
			mine, theirs := open(t, nodes), open(t, nodes)
			h, err := mine.Acquire(ctx, "r")
			require.NoError(t, err)
			require.NoError(t, h.Extend(ctx, time.Minute))
			_, err = theirs.TryAcquire(ctx, "r")
			requireOnly(t, err, redlock.ErrHeld)
			require.NotErrorIs(t, err, redlock.ErrMisconfigured)
			require.NoError(t, h.Release(ctx))
			require.NoError(t, theirs.WaitForUnlock(ctx, "r"))

			// Nor does it make a mistake of an outage.
			require.NoError(t, servers[0].Kill())
			_, err = mine.TryAcquire(ctx, "r")
			requireOnly(t, err, redlock.ErrNoQuorum)
			require.NotErrorIs(t, err, redlock.ErrMisconfigured)
		})
	}
}
