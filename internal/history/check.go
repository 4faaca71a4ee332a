package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Violation is a promise that was broken.
type Violation struct {
	Promise string // which
	At      time.Duration
	Text    string // how
}

func (v Violation) String() string { return fmt.Sprintf("%v: %s: %s", v.At, v.Promise, v.Text) }

// Check returns what in the events breaks a promise, by time.
func Check(events []Event) []Violation {
	tenures := Tenures(events)
	found := slices.Concat(exclusion(tenures), earlyLoss(events), finality(events), fences(tenures),
		linear(events, tenures))
	slices.SortStableFunc(found, func(a, b Violation) int { return cmp.Compare(a.At, b.At) })
	return found
}

// byResource returns the tenures of each resource, in the order in which they began.
func byResource(tenures []Tenure) map[string][]Tenure {
	of := make(map[string][]Tenure)
	for _, t := range tenures {
		for _, r := range t.Resources {
			of[r] = append(of[r], t)
		}
	}
	return of
}

// exclusion: two handles for one resource are never both alive at the same instant.
func exclusion(tenures []Tenure) (found []Violation) {
	for resource, of := range byResource(tenures) {
		var longest Tenure // of those so far, the one that was seen alive last
		for i, t := range of {
			if i > 0 && t.First < longest.Last {
				found = append(found, Violation{
					"mutual exclusion", t.First,
					fmt.Sprintf("%s has two holders: %v; %v", resource, longest, t),
				})
			}
			if i == 0 || t.Last > longest.Last {
				longest = t
			}
		}
	}
	return found
}

// earlyLoss: a handle is never alive when its validity is over.
func earlyLoss(events []Event) (found []Violation) {
	for _, e := range events {
		if e.Kind == Held && e.At >= e.Until {
			found = append(found, Violation{
				"early loss", e.At, fmt.Sprintf("%s still has %v (token %.8s), valid until %v",
					e.Client, e.Resources, e.Token, e.Until),
			})
		}
	}
	return found
}

// finality: what has ended does not come back.
func finality(events []Event) (found []Violation) {
	over := make(map[string]time.Duration)
	for _, e := range Sort(events) {
		switch end, ended := over[e.Token]; {
		case e.Kind == Ended && !ended:
			over[e.Token] = e.At
		case e.Kind == Held && ended && e.At > end:
			found = append(found, Violation{
				"finality", e.At, fmt.Sprintf("%s has %v again (token %.8s), which had ended at %v",
					e.Client, e.Resources, e.Token, end),
			})
		}
	}
	return found
}

// fences: of two tenures that do not overlap, the later one has the higher fencing token.
func fences(tenures []Tenure) (found []Violation) {
	for resource, of := range byResource(tenures) {
		var highest Tenure
		for _, t := range of {
			if t.Fence > 0 && t.Fence <= highest.Fence {
				found = append(found, Violation{
					"fencing", t.First, fmt.Sprintf("%s: fence %d of %v does not exceed %d of %v",
						resource, t.Fence, t, highest.Fence, highest),
				})
			}
			if t.Fence > highest.Fence {
				highest = t
			}
		}
	}
	return found
}
