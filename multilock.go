package redlock

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// TryAcquireMulti makes one attempt to lock all the resources, or none of them. They are sorted,
// and named twice is named once; each node is asked for all of them in one round trip. On Redis
// Cluster, where resources lie in different slots, a node is asked for one after the other in
// sorted order. It fails as [Locker.TryAcquire] does, and for an empty list.
func (l *Locker) TryAcquireMulti(ctx context.Context, resources []string,
	opts ...AcquireOption) (*Handle, error) {
	p, err := l.plan(resources, opts)
	if err != nil {
		return nil, err
	}
	return l.try(ctx, p)
}

// AcquireMulti locks all the resources, and waits until it can have them all at once: while it
// waits it holds none of them, so that no two waiters can block each other whatever the order in
// which they name their resources. It ends and fails as [Locker.Acquire] does, and for an empty
// list.
func (l *Locker) AcquireMulti(ctx context.Context, resources []string,
	opts ...AcquireOption) (*Handle, error) {
	p, err := l.plan(resources, opts)
	if err != nil {
		return nil, err
	}
	return l.get(ctx, p)
}

// normalise returns the resources sorted and without duplicates, or says why they cannot be locked.
func normalise(resources []string) ([]string, error) {
	if len(resources) == 0 {
		return nil, errors.New("redlock: the list of resources is empty")
	}
	sorted := slices.Clone(resources)
	slices.Sort(sorted)
	if sorted[0] == "" {
		if len(resources) == 1 {
			return nil, errors.New(`redlock: the resource is empty ("")`)
		}
		return nil, fmt.Errorf(`redlock: resource %d of %d is empty ("")`,
			slices.Index(resources, ""), len(resources))
	}
	return slices.Compact(sorted), nil
}
