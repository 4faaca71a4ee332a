package redistest

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Sentinel is a master and a replica watched by one sentinel, whose own word is
// the quorum.
type Sentinel struct {
	Nodes   []*Server // the data servers; the first one starts as the master
	Watcher *Server   // the sentinel process
}

const (
	masterName      = "redistest"
	failoverTimeout = time.Minute
)

// StartSentinel runs the three processes until the end of the test and returns
// when the replica follows the master and the sentinel knows both. The options
// are for the data servers.
func StartSentinel(tb testing.TB, opts ...Option) *Sentinel {
	tb.Helper()
	master := Start(tb, append([]Option{WithConfig("repl-diskless-sync-delay", "0")}, opts...)...)
	replica := Start(tb, append([]Option{withReplicaOf(master)}, opts...)...)
	watcher := Start(tb, withSentinel(),
		WithConfig("sentinel", fmt.Sprintf("monitor %s 127.0.0.1 %d 1", masterName, master.port)),
		// A failover happens when a test asks for it, not when the machine is slow.
		WithConfig("sentinel", "down-after-milliseconds "+masterName+" 60000"))
	s := &Sentinel{Nodes: []*Server{master, replica}, Watcher: watcher}

	ctx, cancel := context.WithTimeout(context.Background(), failoverTimeout)
	defer cancel()
	if err := await(ctx, func() error { return s.promotable(ctx, master) }); err != nil {
		tb.Fatal(err)
	}
	return s
}

func withReplicaOf(master *Server) Option {
	return WithConfig("replicaof", fmt.Sprintf("127.0.0.1 %d", master.port))
}

// Client returns a new failover client with stock options, closed at the end of
// the test.
func (s *Sentinel) Client(tb testing.TB) *redis.Client {
	tb.Helper()
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName:    masterName,
		SentinelAddrs: []string{s.Watcher.Addr()},
	})
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

// Master is the server that the sentinel names.
func (s *Sentinel) Master(tb testing.TB) *Server {
	tb.Helper()
	master, err := s.master(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	return master
}

// Failover makes the replica the master and returns when it says so itself and
// the sentinel names it, after about a second. The old master goes on as one until
// the sentinel demotes it, some ten seconds later, and in that time both accept
// writes. The demotion cuts all its connections: a command under way fails then,
// one of the helpers' too. A second Failover waits for the demotion first.
func (s *Sentinel) Failover(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), failoverTimeout)
	defer cancel()
	if err := s.failover(ctx); err != nil {
		tb.Fatal(err)
	}
}

func (s *Sentinel) failover(ctx context.Context) error {
	old, err := s.master(ctx)
	if err != nil {
		return err
	}
	if err := await(ctx, func() error { return s.promotable(ctx, old) }); err != nil {
		return err
	}
	if err := await(ctx, func() error {
		// Refused while the last failover goes on or the replica's state is unknown.
		_, err := s.Watcher.do(ctx, "sentinel", "failover", masterName)
		return err
	}); err != nil {
		return err
	}
	return await(ctx, func() error {
		master, err := s.master(ctx)
		if err != nil {
			return err
		}
		if master == old {
			return fmt.Errorf("redistest: the master is still %s", old.Addr())
		}
		return expectInfo(ctx, master, "replication", "role:master")
	})
}

// master asks the sentinel.
func (s *Sentinel) master(ctx context.Context) (*Server, error) {
	reply, err := s.Watcher.do(ctx, "sentinel", "get-master-addr-by-name", masterName)
	if err != nil {
		return nil, err
	}
	if parts, _ := reply.([]any); len(parts) == 2 {
		addr := net.JoinHostPort(fmt.Sprint(parts[0]), fmt.Sprint(parts[1]))
		for _, node := range s.Nodes {
			if node.Addr() == addr {
				return node, nil
			}
		}
	}
	return nil, fmt.Errorf("redistest: sentinel names an unknown master: %v", reply)
}

// promotable says what a failover from master still lacks.
func (s *Sentinel) promotable(ctx context.Context, master *Server) error {
	for _, node := range s.Nodes {
		if node == master {
			continue
		}
		if err := expectInfo(ctx, node, "replication", "master_link_status:up"); err != nil {
			return err
		}
	}
	return expectInfo(ctx, s.Watcher, "sentinel", "slaves=1")
}
