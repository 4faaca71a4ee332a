package integrations_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/integrations"
	"github.com/rediskit/redlock/internal/locktest"
)

// consume is a process that handles each message which no other has handled.
func consume(t *testing.T, locker *redlock.Locker, from message.Subscriber,
	handle func(payload string)) {
	t.Helper()
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	require.NoError(t, err)
	dedup := middleware.Deduplicator{
		KeyFactory: middleware.NewMessageHasherSHA256(math.MaxInt64),
		Repository: integrations.Seen{Locker: locker, Window: time.Hour},
		Timeout:    5 * time.Second,
	}
	router.AddMiddleware(dedup.Middleware)
	router.AddConsumerHandler("orders", "orders", from, func(msg *message.Message) error {
		handle(string(msg.Payload))
		return nil
	})
	ended := make(chan error, 1)
	go func() { ended <- router.Run(context.Background()) }()
	receive(t, router.Running(), "the router")
	t.Cleanup(func() {
		require.NoError(t, router.Close())
		require.NoError(t, receive(t, ended, "the end of the router"))
	})
}

func TestWatermillHandlesEachMessageInOneProcess(t *testing.T) {
	servers, clients := masters(t, 3)
	topic := gochannel.NewGoChannel(gochannel.Config{}, watermill.NopLogger{})
	t.Cleanup(func() { require.NoError(t, topic.Close()) })
	const messages = 50
	handled := make(chan string, 2*messages)
	for range 2 { // each gets every message
		consume(t, open(t, clients), topic, func(payload string) { handled <- payload })
	}
	for i := range messages {
		require.NoError(t, topic.Publish("orders",
			message.NewMessage(watermill.NewUUID(), fmt.Appendf(nil, "order %d", i))))
	}
	times := make(map[string]int)
	for range messages {
		times[receive(t, handled, "a message")]++
	}
	require.Len(t, times, messages, "each was handled once")
	require.Empty(t, handled)
	marks := 0
	for _, s := range servers {
		marks += len(s.Keys(t))
	}
	require.GreaterOrEqual(t, marks, 2*messages, "each is marked on a quorum")
}

func TestWatermillForgetsAfterTheWindow(t *testing.T) {
	servers, clients := masters(t, 3)
	seen := integrations.Seen{Locker: open(t, clients, redlock.WithAutoRenewal(true)),
		Window: 3 * time.Second}
	ctx := context.Background()
	first, err := seen.IsDuplicate(ctx, "\x00 any bytes\xff")
	require.NoError(t, err)
	require.False(t, first)
	again, err := seen.IsDuplicate(ctx, "\x00 any bytes\xff")
	require.NoError(t, err)
	require.True(t, again)
	locktest.NoKeysWithin(t, 10*time.Second, servers)
}

func TestWatermillGetsAnOutageAsAnError(t *testing.T) {
	servers, clients := masters(t, 1)
	require.NoError(t, servers[0].Kill())
	_, err := integrations.Seen{Locker: open(t, clients),
		Window: time.Minute}.IsDuplicate(context.Background(), "key")
	require.ErrorIs(t, err, redlock.ErrNoQuorum)
}
