package redistest

import (
	"context"
	"net"
	"testing"
)

// Pair is a primary with a replica, behind a name that always leads to the
// primary: what a managed service offers.
type Pair struct {
	Name             *Name
	primary, replica *Server
}

// StartPair runs both until the end of the test and returns when the replica
// follows the primary.
func StartPair(tb testing.TB, opts ...Option) *Pair {
	tb.Helper()
	opts = append([]Option{WithConfig("repl-diskless-sync-delay", "0")}, opts...)
	primary := Start(tb, opts...)
	replica := Start(tb, append([]Option{withReplicaOf(primary)}, opts...)...)
	p := &Pair{Name: NewName(tb, primary), primary: primary, replica: replica}
	p.await(tb, replica, "master_link_status:up")
	return p
}

// Primary is the server that takes writes.
func (p *Pair) Primary() *Server { return p.primary }

// Replica is the other one.
func (p *Pair) Replica() *Server { return p.replica }

// Failover makes the servers change roles and then moves the name. Nothing that
// was written is lost: the primary holds writes up until the replica has
// everything. It goes on as the replica, and its connections stay open.
func (p *Pair) Failover(tb testing.TB) {
	tb.Helper()
	p.await(tb, p.primary, "state=online") // the replica, as the primary sees it
	host, port, err := net.SplitHostPort(p.replica.Addr())
	if err != nil {
		tb.Fatal(err)
	}
	p.primary.Do(tb, "failover", "to", host, port)
	p.primary, p.replica = p.replica, p.primary
	p.await(tb, p.primary, "role:master")
	p.await(tb, p.replica, "role:slave")
	p.Name.Move(p.primary)
}

// await waits until a server says so of its replication.
func (p *Pair) await(tb testing.TB, s *Server, want string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), failoverTimeout)
	defer cancel()
	if err := await(ctx,
		func() error { return expectInfo(ctx, s, "replication", want) }); err != nil {
		tb.Fatal(err)
	}
}
