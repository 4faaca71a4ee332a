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
func TestEachCallOfABatchTellsWhyItDidNotGoOut(t *testing.T) {
	noRoad := errors.New("no road")
	client := redis.NewClient(&redis.Options{
		MaxRetries: -1,
		Dialer:     func(context.Context, string, string) (net.Conn, error) { return nil, noRoad },
	})
	defer client.Close()
	for _, count := range []int{1, 2} {
		calls := []*Call{{Script: NewScript("return {1}")}, {Script: NewScript("return {2}")}}[:count]
		var commands []*command
		for _, c := range calls {
			commands = append(commands, &command{script: c.Script, calls: []*Call{c}})
		}
		roundTrip(context.Background(), client, commands, false)
		for i, c := range commands {
			c.distribute()
			require.ErrorIs(t, calls[i].Err, noRoad, "call %d of %d", i, count)
		}
	}
}
