package main

import (
	"context"
	"sync"
)

// parallel runs all functions at once and waits for them. The first error ends the context of the
// others and is returned, as with golang.org/x/sync/errgroup.
func parallel(ctx context.Context, fns ...func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	for _, fn := range fns {
		group.Add(1)
		go func() {
			defer group.Done()
			if err := fn(ctx); err != nil {
				cancel(err)
			}
		}()
	}
	group.Wait()
	return context.Cause(ctx)
}
