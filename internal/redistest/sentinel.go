package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
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
	s, err := LaunchSentinel(tb.TempDir(), opts...)
	if err != nil {
		refuse(tb, err)
	}
	tb.Cleanup(func() { closeOrFail(tb, s) })
	return s
}

// LaunchSentinel is StartSentinel for programs: the caller closes it.
func LaunchSentinel(dir string, opts ...Option) (_ *Sentinel, err error) {
	s := &Sentinel{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	launch := func(name string, opts ...Option) (*Server, error) {
		return Launch(filepath.Join(dir, name), opts...)
	}
	master, err := launch("master", append([]Option{WithConfig("repl-diskless-sync-delay", "0")},
		opts...)...)
	if err != nil {
		return nil, err
	}
	s.Nodes = append(s.Nodes, master)
	replica, err := launch("replica", append([]Option{withReplicaOf(master)}, opts...)...)
	if err != nil {
		return nil, err
	}
	s.Nodes = append(s.Nodes, replica)
	s.Watcher, err = launch("sentinel", withSentinel(),
		WithConfig("sentinel", fmt.Sprintf("monitor %s 127.0.0.1 %d 1", masterName,
			master.port.number)),
		// A failover happens when a test asks for it, not when the machine is slow.
		WithConfig("sentinel", "down-after-milliseconds "+masterName+" 60000"))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), failoverTimeout)
	defer cancel()
	return s, await(ctx, func() error { return s.promotable(ctx, master) })
}

// Close ends the processes.
func (s *Sentinel) Close() error {
	var errs []error
	for _, server := range append(slices.Clone(s.Nodes), s.Watcher) {
		if server != nil {
			errs = append(errs, server.Close())
		}
	}
	return errors.Join(errs...)
}

// MasterName is what the sentinel calls the master.
func (s *Sentinel) MasterName() string { return masterName }

func withReplicaOf(master *Server) Option {
	return WithConfig("replicaof", fmt.Sprintf("127.0.0.1 %d", master.port.number))
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
	if err := s.Promote(context.Background()); err != nil {
		tb.Fatal(err)
	}
}

// Promote is Failover for programs.
func (s *Sentinel) Promote(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, failoverTimeout)
	defer cancel()
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
