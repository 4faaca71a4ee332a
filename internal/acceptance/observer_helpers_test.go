package acceptance_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
)

// recorder keeps the events that it is told.
type recorder struct {
	then func(redlock.Event) // called after each, if it is not nil

	mu     sync.Mutex
	events []redlock.Event
}

func (r *recorder) Observe(e redlock.Event) {
	r.mu.Lock()
	r.events = append(r.events, e)
	r.mu.Unlock()
	if r.then != nil {
		r.then(e)
	}
}

// told returns the events of one kind.
func told[E redlock.Event](r *recorder) []E {
	r.mu.Lock()
	defer r.mu.Unlock()
	var some []E
	for _, e := range r.events {
		if e, ok := e.(E); ok {
			some = append(some, e)
		}
	}
	return some
}

// theOne returns the event of a kind of which there must be exactly one.
func theOne[E redlock.Event](t *testing.T, r *recorder) E {
	t.Helper()
	some := told[E](r)
	require.Len(t, some, 1)
	return some[0]
}

// latest waits until there are n events of a kind and returns the last of them.
func latest[E redlock.Event](t *testing.T, r *recorder, n int) E {
	t.Helper()
	eventually(t, func() bool { return len(told[E](r)) >= n }, "never told of %T", *new(E))
	some := told[E](r)
	require.Len(t, some, n)
	return some[n-1]
}

type callerKey struct{}

// from returns a context that names its caller.
func from(caller string) context.Context {
	return context.WithValue(context.Background(), callerKey{}, caller)
}

// callerIn returns the caller that an event's context names.
func callerIn(ctx context.Context) any {
	if ctx == nil {
		return nil
	}
	return ctx.Value(callerKey{})
}
