package protocol

import (
	"strings"

	"github.com/rediskit/redlock/internal/slot"
)

// Keys are the keys of a lock's resources.
type Keys struct {
	Resources []string // sorted, without duplicates

	prefix string
	all    group // the keys of a plain server, in the order of the resources
	// groups are those of a Redis Cluster, where slots differ; nil: it is asked as a plain server
	// is.
	groups []group
	apart  bool // see Apart
	fenced bool // with their counters
}

// group are keys that one call can carry.
type group struct {
	// keys are the lock keys; behind them, if they are queued, their queues; then, with fencing,
	// their counters.
	keys    []string
	args    []any    // the same, as arguments of a command; nil: they are made for each command
	counted []string // the lock keys and their counters; nil without fencing
	locks   int      // how many lock keys there are
	queued  bool     // somebody may wait for them in queues
}

func (g *group) lockKeys() []string { return g.keys[:g.locks] }

// carried returns the keys of a call, also as arguments: the lock keys, and, if there are any,
// those of the queues and the counters, as it needs them.
func (g *group) carried(queues, counters bool) (keys []string, args []any) {
	n := g.locks
	switch queues = queues && g.queued; {
	case counters && !queues:
		return g.counted, nil
	case counters:
		n = len(g.keys)
	case queues:
		n = 2 * n
	}
	return g.keys[:n], g.args[:min(n, len(g.args))]
}

// Keys returns the keys of resources that are sorted and without duplicates.
func (n *Nodes) Keys(prefix string, resources []string) Keys {
	names := resources
	if prefix != "" {
		names = make([]string, len(resources))
		for i, r := range resources {
			names[i] = KeyName(prefix, r)
		}
	}
	k := Keys{Resources: resources, prefix: prefix, all: withQueues(names, n.Fencing),
		fenced: n.Fencing}
	if n.clustered && len(resources) > 1 {
		k.groups = bySlot(names, n.Fencing)
	}
	return k
}

// Apart returns the keys as they are asked for on a Redis Cluster while one of their slots is being
// moved: one by one and without their queues, since a script with several keys has to wait there
// until the move is over. With fencing it has to all the same: each has its counter.
func (k Keys) Apart() Keys {
	names := k.all.lockKeys()
	k.groups, k.apart = make([]group, len(names)), true
	for i := range names {
		k.groups[i] = group{keys: names[i : i+1 : i+1], locks: 1}
		if k.fenced {
			counted := withCounters(names[i : i+1])
			k.groups[i] = group{keys: counted, counted: counted, locks: 1}
		}
	}
	return k
}

// Misfit returns a resource that cannot be locked on a Redis Cluster, if there is one: the braces
// in its name keep the key of its queue from being in the slot of the lock key.
func (n *Nodes) Misfit(k Keys) (resource string, found bool) {
	for i, key := range k.all.lockKeys() {
		if queue := k.all.keys[k.all.locks+i]; n.clustered && slot.Of(queue) != slot.Of(key) {
			return k.Resources[i], true
		}
	}
	return "", false
}

// The keys that belong to a lock key.
const (
	queueSuffix = "queue" // who waits for it: see scripts/queue.lua
	fenceSuffix = "fence" // with fencing, its counter: see scripts/fence.lua
)

// auxiliary returns the name of a key that belongs to a lock key, and has its slot on a Redis
// Cluster.
func auxiliary(key, suffix string) string {
	return withAuxiliaries([]string{key}, suffix)[1]
}

// withAuxiliaries returns lock keys, and behind them a key that belongs to each. Their names are
// parts of one text: one allocation, however many.
func withAuxiliaries(locks []string, suffix string) []string {
	names := append(make([]string, 0, 2*len(locks)), locks...)
	var text strings.Builder
	size := 0
	for _, key := range locks {
		size += len("{") + len(key) + len("}:") + len(suffix)
	}
	text.Grow(size)
	for _, key := range locks {
		start := text.Len()
		before, after := braces(key)
		for _, part := range [...]string{before, key, after, suffix} {
			text.WriteString(part)
		}
		names = append(names, text.String()[start:])
	}
	return names
}

// braces returns what stands around a lock key in the name of a key that belongs to it.
func braces(key string) (before, after string) {
	switch {
	case !slot.Tagged(key):
		return "{", "}:"
	case key[0] == '{' && strings.IndexByte(key, '}') == len(key)-1:
		return "", "::" // else {a} would share the queue of a
	default:
		return "", ":"
	}
}

// withQueues returns a group of lock keys, their queues, and their counters if they are fenced.
func withQueues(locks []string, fenced bool) group {
	g := group{keys: withAuxiliaries(locks, queueSuffix), locks: len(locks), queued: true}
	if fenced {
		g.counted = withCounters(locks)
		g.keys = append(g.keys, g.counted[g.locks:]...)
	}
	g.args = make([]any, len(g.keys))
	for i, key := range g.keys {
		g.args[i] = key
	}
	return g
}

// withCounters returns lock keys with their counters behind them.
func withCounters(locks []string) []string { return withAuxiliaries(locks, fenceSuffix) }

// resource returns the resource that a key locks.
func (k *Keys) resource(key string) string {
	if k.prefix == "" {
		return key
	}
	return strings.TrimPrefix(key, k.prefix+":")
}

// bySlot cuts lock keys into groups that can go to a Redis Cluster in one call, without changing
// their order: everybody asks for the keys that they share with others in the same order. It
// returns nil if one call can carry them all.
func bySlot(keys []string, fenced bool) []group {
	var groups []group
	start := 0
	for i := 1; i <= len(keys); i++ {
		if i == len(keys) || slot.Of(keys[i]) != slot.Of(keys[start]) {
			groups = append(groups, withQueues(keys[start:i], fenced))
			start = i
		}
	}
	if len(groups) == 1 {
		return nil
	}
	return groups
}
