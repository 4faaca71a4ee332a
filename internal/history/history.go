// Package history records what the clients of a lock saw, and checks it against what the lock
// promises. It knows nothing of Redis, and judges by the clients' own words alone: when they held
// what, by looks at the handle.
package history

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Kind is what an Event tells.
type Kind uint8

// The kinds of events. Of a tenure (one Handle's life) Acquired comes first, then any number of
// Held and Extended, then Ended, or Crashed, or nothing where the run was over.
const (
	Acquired Kind = iota + 1 // a call returned a handle; Began is when it was made
	Held                     // a look at the handle found it alive: At is from before that look
	Extended                 // an Extend succeeded
	Ended                    // the handle was found to be over, or was released: Note says which
	Refused                  // an acquisition ended without the lock: Note is the error
	Crashed                  // the client is gone with all that it held; Token is empty
	Swapped                  // a register that the resource guards was read (Old) and set (New)
	Read                     // it was read only
	Fault                    // something was broken, or mended: Note says what
)

var kindNames = [...]string{"", "acquired", "held", "extended", "ended", "refused", "crashed",
	"swapped", "read", "fault"}

func (k Kind) String() string { return kindNames[k] }

// Event is one thing that happened. Times count from the start of the run, on one clock for all
// clients.
type Event struct {
	Kind      Kind
	Began, At time.Duration // call and return; the same where nothing lies between
	Client    string        // who; of a Fault, what it struck
	Resources []string
	Token     string        // names the tenure
	Until     time.Duration // until when the handle said it was valid
	Fence     uint64        // 0: none
	Old, New  int64         // of a register
	Note      string
}

// Log collects the events of a run. It is safe for concurrent use.
type Log struct {
	mu     sync.Mutex
	events []Event
}

// Add records an event. A Began that is not set is At.
func (l *Log) Add(e Event) {
	if e.Began == 0 {
		e.Began = e.At
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

// Events returns what was recorded, by time.
func (l *Log) Events() []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Sort(l.events)
}

// Sort returns the events by time; those of the same moment stay in their order.
func Sort(events []Event) []Event {
	sorted := slices.Clone(events)
	slices.SortStableFunc(sorted, func(a, b Event) int { return cmp.Compare(a.At, b.At) })
	return sorted
}

// Tenure is the life of one handle, as its client saw it.
type Tenure struct {
	Client    string
	Resources []string
	Token     string
	Fence     uint64
	Called    time.Duration // when the acquisition began
	First     time.Duration // when the handle was first seen alive
	Last      time.Duration // when it was last seen alive
	Until     time.Duration // the last promise
	// when it was found to be over; the end of the run if nobody looked again
	Over time.Duration
	End  string // how; "" if nobody looked again
}

// Tenures puts the events of each handle together, in the order in which they began.
func Tenures(events []Event) []Tenure {
	var tenures []Tenure
	end := time.Duration(0)
	index := make(map[string]int)
	for _, e := range Sort(events) {
		end = max(end, e.At)
		if e.Kind == Acquired {
			index[e.Token] = len(tenures)
			tenures = append(tenures, Tenure{
				Client: e.Client, Resources: e.Resources, Token: e.Token, Fence: e.Fence,
				Called: e.Began, First: e.At, Last: e.At, Until: e.Until, Over: -1,
			})
			continue
		}
		i, known := index[e.Token]
		if !known {
			continue
		}
		t := &tenures[i]
		switch e.Kind {
		case Held:
			t.Last, t.Until = max(t.Last, e.At), e.Until
		case Extended:
			t.Until = e.Until
		case Ended:
			t.Over, t.End = e.At, e.Note
		}
	}
	for i := range tenures {
		if tenures[i].Over < 0 {
			tenures[i].Over = end
		}
	}
	return tenures
}

// String says who held what, and when.
func (t Tenure) String() string {
	end := t.End
	if end == "" {
		end = "not seen to end"
	}
	return fmt.Sprintf("%s had %s from %v to %v (promised until %v, %s, token %.8s)",
		t.Client, strings.Join(t.Resources, "+"), t.First, t.Last, t.Until, end, t.Token)
}
