package redlock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// TryAcquireMulti makes one attempt to lock all the resources, or none of them. They are sorted, and named twice is named
// once; each node is asked for all of them in one round trip. On Redis Cluster, where resources lie in different slots, a
// node is asked for one after the other in sorted order. It fails as [Locker.TryAcquire] does, and for an empty list.
func (l *Locker) TryAcquireMulti(ctx context.Context, resources []string, opts ...AcquireOption) (*Handle, error) {
	p, err := l.plan(resources, opts)
	if err != nil {
		return nil, err
	}
	h, _, err := l.attempt(ctx, p)
	return h, err
}

// AcquireMulti locks all the resources, and waits until it can have them all at once: while it waits it holds none of them,
// so that no two waiters can block each other whatever the order in which they name their resources. It ends and fails as
// [Locker.Acquire] does, and for an empty list.
func (l *Locker) AcquireMulti(ctx context.Context, resources []string, opts ...AcquireOption) (*Handle, error) {
	p, err := l.plan(resources, opts)
	if err != nil {
		return nil, err
	}
	return l.acquire(ctx, p)
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
		return nil, fmt.Errorf(`redlock: resource %d of %d is empty ("")`, slices.Index(resources, ""), len(resources))
	}
	return slices.Compact(sorted), nil
}

// slotRuns cuts the keys into runs that can go to a Redis Cluster in one call, without changing their order: everybody
// asks for the keys that he shares with others in the same order. It returns nil if one call can carry them all.
func slotRuns(keys []string) [][]string {
	var runs [][]string
	start := 0
	for i := 1; i <= len(keys); i++ {
		if i == len(keys) || slot(keys[i]) != slot(keys[start]) {
			runs = append(runs, keys[start:i])
			start = i
		}
	}
	if len(runs) == 1 {
		return nil
	}
	return runs
}

// slot returns the Redis Cluster slot of a key: the CRC16 (XMODEM) of its hash tag, modulo 16384
// (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).
func slot(key string) uint16 {
	if open := strings.IndexByte(key, '{'); open >= 0 {
		if length := strings.IndexByte(key[open+1:], '}'); length > 0 {
			key = key[open+1 : open+1+length]
		}
	}
	var crc uint16
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % 16384
}
