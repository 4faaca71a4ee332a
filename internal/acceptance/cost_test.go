package acceptance_test

import (
	"context"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// nobody observes, and does nothing with what it is told.
type nobody struct{}

func (nobody) Observe(redlock.Event) {}

// allocationsUnobserved are those of an acquire and a release of one resource on one node, with the
// oldest go-redis: as many as there would be if there were no observers. The race detector adds
// some.
func allocationsUnobserved() float64 {
	info, ok := debug.ReadBuildInfo()
	if ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return 50
	}
	return 47
}

func TestLockThatNobodyObservesAllocatesNothingForThat(t *testing.T) {
	ctx := context.Background()
	_, clients := masters(t, 1)
	l := open(t, clients, redlock.WithObserver(nil))
	pair := func() {
		h, err := l.TryAcquire(ctx, "a")
		if err == nil {
			err = h.Release(ctx)
		}
		if err != nil {
			t.Error(err)
		}
	}
	pair()
	require.LessOrEqual(t, testing.AllocsPerRun(1000, pair), allocationsUnobserved())
}

// What an observer costs an acquire and a release, besides what it does itself.
func BenchmarkObserver(b *testing.B) {
	for _, c := range []struct {
		name string
		opts []redlock.Option
	}{{"none", nil}, {"idle", []redlock.Option{redlock.WithObserver(nobody{})}}} {
		b.Run(c.name, func(b *testing.B) {
			ctx := context.Background()
			l, err := redlock.New(redistest.Clients(b, redistest.StartN(b, 1)), c.opts...)
			require.NoError(b, err)
			b.ReportAllocs()
			for i := 0; i < b.N; i++ {
				h, err := l.TryAcquire(ctx, "a")
				require.NoError(b, err)
				require.NoError(b, h.Release(ctx))
			}
			require.NoError(b, l.Close())
		})
	}
}
