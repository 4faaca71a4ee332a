package protocol

import (
	"strings"

	"github.com/rediskit/redlock/internal/slot"
)

// Keys are the keys of a lock's resources.
type Keys struct {
	Resources []string // sorted, without duplicates

	prefix string
	names  []string   // the keys, in the order of the resources
	runs   [][]string // the keys in runs that share a slot of a Redis Cluster; nil if one call carries all
}

// Keys returns the keys of resources that are sorted and without duplicates.
func (n *Nodes) Keys(prefix string, resources []string) Keys {
	k := Keys{Resources: resources, prefix: prefix, names: resources}
	if prefix != "" {
		k.names = make([]string, len(resources))
		for i, r := range resources {
			k.names[i] = prefix + ":" + r
		}
	}
	if n.clustered && len(resources) > 1 {
		k.runs = slotRuns(k.names)
	}
	return k
}

// Apart returns the keys as they are asked for on a Redis Cluster while one of their slots is being
// moved: one by one, since a script with several keys has to wait there until the move is over.
func (k Keys) Apart() Keys {
	k.runs = make([][]string, len(k.names))
	for i := range k.names {
		k.runs[i] = k.names[i : i+1]
	}
	return k
}

// resource returns the resource that a key locks.
func (k *Keys) resource(key string) string {
	if k.prefix == "" {
		return key
	}
	return strings.TrimPrefix(key, k.prefix+":")
}

// slotRuns cuts the keys into runs that can go to a Redis Cluster in one call, without changing
// their order: everybody asks for the keys that they share with others in the same order. It
// returns nil if one call can carry them all.
func slotRuns(keys []string) [][]string {
	var runs [][]string
	start := 0
	for i := 1; i <= len(keys); i++ {
		if i == len(keys) || slot.Of(keys[i]) != slot.Of(keys[start]) {
			runs = append(runs, keys[start:i])
			start = i
		}
	}
	if len(runs) == 1 {
		return nil
	}
	return runs
}
