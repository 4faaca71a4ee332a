package sim

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rediskit/redlock/internal/history"
)

// Violations returns every promise that was broken, as the world and as its clients saw it.
func (o *Outcome) Violations() []history.Violation {
	found := slices.Concat(o.Breaches, history.Check(o.Events),
		freed(o.looks, history.Tenures(o.Events)))
	slices.SortStableFunc(found,
		func(a, b history.Violation) int { return cmp.Compare(a.At, b.At) })
	return found
}

const (
	mostViolations = 12
	before, after  = 3 * time.Second, 300 * time.Millisecond // the first violation
)

// Report tells of the violations, how to see them again and what led to them.
func (o *Outcome) Report(found []history.Violation) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v\n", o.Options)
	for i, v := range found {
		if i == mostViolations {
			fmt.Fprintf(&b, "... and %d more\n", len(found)-i)
			break
		}
		fmt.Fprintf(&b, "VIOLATION %s\n", o.named(v.String()))
	}
	fmt.Fprintf(&b, "\nTo see it again: GOMAXPROCS=1 GODEBUG=asyncpreemptoff=1 go test "+
		"./internal/sim -run TestSeeds -seed=%d\n\n", o.Options.Seed)
	b.WriteString(o.Timeline(found[0].At-before, found[0].At+after))
	return b.String()
}

// Timeline tells who held what, and what broke, between two moments. What never changes is told
// once.
func (o *Outcome) Timeline(from, to time.Duration) string {
	var b strings.Builder
	held := make(map[string]bool)
	for _, e := range o.Events {
		if e.At < from || e.At > to || e.Kind == history.Held && held[e.Token] {
			continue
		}
		held[e.Token] = e.Kind == history.Held
		fmt.Fprintf(&b, "%13v  %-8s %-9v", e.At, e.Client, e.Kind)
		if e.Began != e.At {
			fmt.Fprintf(&b, " since %v", e.Began)
		}
		if len(e.Resources) > 0 {
			fmt.Fprintf(&b, " %s", strings.Join(e.Resources, "+"))
		}
		if e.Token != "" {
			fmt.Fprintf(&b, " %s", o.name(e.Token))
		}
		if e.Fence > 0 {
			fmt.Fprintf(&b, " fence %d", e.Fence)
		}
		if e.Until > 0 {
			fmt.Fprintf(&b, " until %v", e.Until)
		}
		if e.Kind == history.Swapped {
			fmt.Fprintf(&b, " %d -> %d", e.Old, e.New)
		}
		if e.Note != "" {
			fmt.Fprintf(&b, ": %s", e.Note)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (o *Outcome) name(token string) string {
	if name := o.names[token]; name != "" {
		return name
	}
	return fmt.Sprintf("%.8s", token)
}

// named puts the names of tokens in the place of their first characters.
func (o *Outcome) named(text string) string {
	for token, name := range o.names {
		text = strings.ReplaceAll(text, fmt.Sprintf("token %.8s", token), name)
	}
	return text
}
