package redistest_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rediskit/redlock/internal/redistest"
)

// orphanDir, set in the environment, makes this test binary a program that
// launches a server in that directory, prints its address and waits to be killed.
const orphanDir = "REDISTEST_ORPHAN_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(orphanDir); dir != "" {
		server, err := redistest.Launch(dir)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(server.Addr())
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	goleak.VerifyTestMain(m)
}

// unrepeating returns a client that sends each command once.
func unrepeating(t *testing.T, addr string) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// hasty returns the client, connections included, for commands that nobody will
// answer: it gives up soon.
func hasty(client *redis.Client) *redis.Client {
	return client.WithTimeout(100 * time.Millisecond)
}

// connected makes sure that the client has a connection ready, so that the next
// command is the next thing on the wire.
func connected(t *testing.T, client *redis.Client) *redis.Client {
	t.Helper()
	// one that repeats nothing may need another try
	eventually(t, func() bool { return client.Ping(t.Context()).Err() == nil })
	return client
}

// requireTimeout fails unless the command went unanswered.
func requireTimeout(t *testing.T, err error) {
	t.Helper()
	var timeout interface{ Timeout() bool }
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout(), "%v", err)
}

// popped waits for an element of the list, whoever pushes it.
func popped(t *testing.T, server *redistest.Server, list string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	got, err := server.Client(t).BLPop(ctx, 10*time.Second, list).Result()
	require.NoError(t, err)
	return got[1]
}

// eventually waits for the condition. Unlike require.Eventually it asks on the
// test's own goroutine, where a helper may end the test.
func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !condition(); <-tick.C {
		require.True(t, time.Now().Before(deadline), "waited in vain")
	}
}

// stays watches that the condition holds for long enough to notice if it did not.
func stays(t *testing.T, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 10 {
		require.True(t, condition())
		<-tick.C
	}
}

// within receives from a channel that must have something to say soon.
func within[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("waited in vain")
		panic("unreachable")
	}
}
