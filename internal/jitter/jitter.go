// Package jitter spreads pauses at random.
package jitter

import (
	"context"
	"math/rand/v2"
	"time"
)

type key struct{}

// From returns a context under which pauses are spread by the given source, for runs that must be
// able to repeat themselves. Whoever waits under the context uses the source, and not at the same
// time as others.
func From(ctx context.Context, source *rand.Rand) context.Context {
	return context.WithValue(ctx, key{}, source)
}

// Around returns a duration that is d, more or less by half of it.
func Around(ctx context.Context, d time.Duration) time.Duration {
	if source, ok := ctx.Value(key{}).(*rand.Rand); ok {
		return d/2 + time.Duration(source.Int64N(int64(d)))
	}
	return d/2 + rand.N(d)
}
