package redistest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Cluster is a Redis Cluster of masters without replicas.
type Cluster struct {
	Nodes []*Server // the slots are spread over them evenly, in this order
}

const (
	slotCount   = 16384
	joinTimeout = 30 * time.Second
)

// StartCluster runs a cluster until the end of the test and returns when every
// node agrees that it is complete, which takes a little over two seconds: a node
// does not call its cluster complete earlier than that.
func StartCluster(tb testing.TB, masters int, opts ...Option) *Cluster {
	tb.Helper()
	opts = append([]Option{withCluster()}, opts...)
	c := &Cluster{Nodes: StartN(tb, masters, opts...)}
	if err := c.join(); err != nil {
		tb.Fatal(err)
	}
	return c
}

// Client returns a new cluster client with stock options, closed at the end of
// the test.
func (c *Cluster) Client(tb testing.TB) *redis.ClusterClient {
	tb.Helper()
	addrs := make([]string, len(c.Nodes))
	for i, s := range c.Nodes {
		addrs[i] = s.Addr()
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs})
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

// join makes one cluster of the nodes and waits until all of them see it.
func (c *Cluster) join() error {
	ctx, cancel := context.WithTimeout(context.Background(), joinTimeout)
	defer cancel()
	for i, s := range c.Nodes {
		// Distinct epochs, or the nodes have a conflict to settle first.
		if _, err := s.do(ctx, "cluster", "set-config-epoch", i+1); err != nil {
			return fmt.Errorf("redistest: cluster set-config-epoch: %w", err)
		}
		if _, err := s.do(ctx, addSlots(i, len(c.Nodes))...); err != nil {
			return fmt.Errorf("redistest: cluster addslots: %w", err)
		}
		// Each meets all before it: hearing of each other by gossip takes longer.
		for _, other := range c.Nodes[:i] {
			if _, err := s.do(ctx, "cluster", "meet", "127.0.0.1", other.port.number,
				other.busPort.number); err != nil {
				return fmt.Errorf("redistest: cluster meet: %w", err)
			}
		}
	}
	for _, s := range c.Nodes {
		if err := await(ctx, func() error { return c.joined(ctx, s) }); err != nil {
			return err
		}
	}
	return nil
}

// addSlots gives a node its share. There is no command for a range of slots before Redis 7.0.
func addSlots(node, nodes int) []any {
	command := []any{"cluster", "addslots"}
	for slot := node * slotCount / nodes; slot < (node+1)*slotCount/nodes; slot++ {
		command = append(command, slot)
	}
	return command
}

// joined says what node s still misses.
func (c *Cluster) joined(ctx context.Context, s *Server) error {
	reply, err := s.do(ctx, "cluster", "info")
	if err != nil {
		return err
	}
	info, _ := reply.(string)
	for _, want := range []string{
		"cluster_state:ok\r\n",
		fmt.Sprintf("cluster_slots_ok:%d\r\n", slotCount),
		fmt.Sprintf("cluster_known_nodes:%d\r\n", len(c.Nodes)),
		fmt.Sprintf("cluster_size:%d\r\n", len(c.Nodes)),
	} {
		if !strings.Contains(info, want) {
			return fmt.Errorf("redistest: %s: no %q in CLUSTER INFO:\n%s", s.Addr(), want, info)
		}
	}
	return nil
}
