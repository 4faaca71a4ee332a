package redlock

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock/internal/node"
)

// checkClients refuses clients that cannot serve as independent nodes.
func checkClients(clients []node.Client, guarded bool) error {
	for i, c := range clients {
		err := checkClient(c)
		if err == nil && guarded {
			err = checkConn(c)
		}
		if err != nil {
			return fmt.Errorf("redlock: node %d %w", i, err)
		}
		for j, other := range clients[:i] {
			if same(other, c) {
				return fmt.Errorf("redlock: nodes %d and %d are the same client", j, i)
			}
			if addr, shared := sharedAddr(other, c); shared {
				return fmt.Errorf("redlock: nodes %d and %d are one server (%s): a quorum of "+
					"them is worth nothing", j, i, addr)
			}
		}
	}
	return nil
}

// checkClient refuses what cannot serve as a node at all.
func checkClient(c any) error {
	if v := reflect.ValueOf(c); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return errors.New("is nil")
	}
	if _, ok := c.(*redis.Ring); ok {
		return errors.New("is a *redis.Ring, which moves keys to other servers when one fails: " +
			"locks would be held twice")
	}
	return nil
}

// same reports whether two clients are one.
func same(a, b any) bool {
	return reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable() && a == b
}

// isCluster reports whether keys that go to a client in one call must share a slot.
func isCluster(c any) bool {
	_, ok := c.(interface {
		MasterForKey(ctx context.Context, key string) (*redis.Client, error)
	})
	return ok
}

// sharedAddr returns an address that both clients lead to, if there is one.
func sharedAddr(a, b any) (addr string, shared bool) {
	known := addrs(a)
	for _, addr := range addrs(b) {
		for _, k := range known {
			if k == addr {
				return addr, true
			}
		}
	}
	return "", false
}

// defaultDialer identifies the function by which go-redis dials the address in a client's options.
// It is taken from a client: the compiler makes another copy of it for each caller of
// redis.NewDialer.
var defaultDialer = sync.OnceValue(func() uintptr {
	c := redis.NewClient(&redis.Options{})
	defer c.Close()
	return reflect.ValueOf(c.Options().Dialer).Pointer()
})

// addrs returns the addresses that a client leads to, as far as its options tell. Where a user's
// own Dialer, or Sentinel, decides where connections lead, the address says nothing.
func addrs(c any) []string {
	switch c := c.(type) {
	case interface{ Options() *redis.Options }:
		o := c.Options()
		if reflect.ValueOf(o.Dialer).Pointer() == defaultDialer() {
			return []string{o.Addr}
		}
	case interface{ Options() *redis.ClusterOptions }:
		if o := c.Options(); o.Dialer == nil && o.ClusterSlots == nil {
			return o.Addrs
		}
	}
	return nil
}
