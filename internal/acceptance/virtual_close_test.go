//go:build go1.25

package acceptance_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// The Locker is closed when the node has granted the lock, and the answer has not arrived yet.
func TestVirtualCloseBetweenTheGrantAndTheAnswerLeavesNoLock(t *testing.T) {
	virtually(t, 1, func(t *testing.T, nodes []*virtualNode) {
		l := open(t, clientsOf(nodes))
		other, err := l.TryAcquire(context.Background(), "b")
		require.NoError(t, err)
		ended, closed := other.Done(), make(chan error, 1)
		var once sync.Once
		nodes[0].client.AddHook(hook(func(send func() error, sent ...redis.Cmder) error {
			err := send()
			if strings.Contains(fmt.Sprint(sent), "lock:a") {
				once.Do(func() {
					go func() { closed <- l.Close() }()
					<-ended
				})
			}
			return err
		}))
		_, err = l.TryAcquire(context.Background(), "a")
		require.ErrorIs(t, err, redlock.ErrClosed)
		require.NoError(t, <-closed)
		require.Empty(t, nodes[0].owner("lock:a"))
	})
}
