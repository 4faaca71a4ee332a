package deadlock

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/rediskit/redlock/internal/protocol"
)

// notice is what a wait lets others read, under each lock that its task keeps from them.
type notice struct {
	Owner  string        // of that lock: see protocol.OwnerName
	Label  []byte        // the owner's, of any bytes
	Wait   string        // a name that no other wait has
	Began  int64         // microseconds since 1970, by the clock of the wait's process
	Beat   int           // how often it was published
	Waited time.Duration // by then
	Held   time.Duration // for how long its task had the lock by then
	For    []target
}

// target is a lock that somebody waits for.
type target struct {
	Prefix, Resource []byte // of any bytes
	Owner            string // who kept the lock when the wait looked
}

// mostTargets is how many of its targets a wait lets others read: the first ones that somebody has.
// Once they are free, it is others.
const mostTargets = 16

func (t *target) key() string { return protocol.KeyName(string(t.Prefix), string(t.Resource)) }

func (t *target) same(o *target) bool { return t.Owner == o.Owner && t.key() == o.key() }

func (n *notice) text() string {
	text, err := json.Marshal(n)
	if err != nil {
		panic(err) // it has nothing but strings, numbers and bytes
	}
	return string(text)
}

// read returns what an owner's waits have published, each as it was published last, in an order
// that is always the same.
func read(owner string, texts []string) []notice {
	latest := make(map[string]notice)
	for _, text := range texts {
		var n notice
		if json.Unmarshal([]byte(text), &n) != nil || n.Owner != owner {
			continue // not written for this owner
		}
		if n.Beat > latest[n.Wait].Beat {
			latest[n.Wait] = n
		}
	}
	return slices.SortedFunc(maps.Values(latest), func(a, b notice) int {
		return cmp.Compare(a.Wait, b.Wait)
	})
}

// age decides who of a circle is told: whoever began last. Clocks differ between hosts, so that it
// may be another one that began at nearly the same time; but all see the same numbers, and agree.
type age struct {
	began int64
	wait  string
}

func (n *notice) age() age { return age{n.Began, n.Wait} }

func (a age) olderThan(b age) bool {
	return cmp.Or(cmp.Compare(a.began, b.began), cmp.Compare(a.wait, b.wait)) < 0
}
