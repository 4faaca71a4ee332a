package node

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// One call after the other tells why it got no connection, and so must those that go out together.
func TestEachCallOfABatchTellsWhyItDidNotGoOut(tt *testing.T) {
	noRoad := errors.New("no road")
	client := redis.NewClient(&redis.Options{
		MaxRetries: -1,
		Dialer:     func(context.Context, string, string) (net.Conn, error) { return nil, noRoad },
	})
	defer client.Close()
	n := New(client, false)
	for _, count := range []int{1, 2} {
		t := &trip{}
		for range count {
			t.batch = append(t.batch, &Call{Script: one})
		}
		n.exchange(context.Background(), t)
		for _, c := range t.batch {
			require.ErrorIs(tt, c.Err, noRoad, "%d calls", count)
		}
	}
}
