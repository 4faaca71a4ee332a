package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
)

// group is one comparison: a table.
type group struct {
	Scenario string   `json:"scenario"`
	Case     string   `json:"case"`
	Metrics  []string `json:"metrics"`
	Rows     []row    `json:"rows"`
	// labels of the rows to divide, the first by the second
	Ratios [][2]string `json:"ratios,omitempty"`
}

// row is what one entrant came to: for each round, a value for each metric, or none where it had to
// be given up.
type row struct {
	Label  string      `json:"label"`
	Rounds [][]float64 `json:"rounds"`
}

// against asks for the ratios of one row to all others.
func (g group) against(label string) group {
	for _, r := range g.Rows {
		if r.Label != label {
			g.Ratios = append(g.Ratios, [2]string{label, r.Label})
		}
	}
	return g
}

// span is a median with the lowest and highest round.
type span struct{ median, low, high float64 }

func spanOf(values []float64) span {
	sorted := slices.DeleteFunc(slices.Sorted(slices.Values(values)), math.IsNaN)
	n := len(sorted)
	if n == 0 {
		return span{math.NaN(), math.NaN(), math.NaN()}
	}
	return span{(sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[0], sorted[n-1]}
}

// values returns a row's values of one metric, by round.
func (g group) values(label, metric string) []float64 {
	i := slices.IndexFunc(g.Rows, func(r row) bool { return r.Label == label })
	m := slices.Index(g.Metrics, metric)
	if i < 0 || m < 0 {
		return nil
	}
	values := make([]float64, len(g.Rows[i].Rounds))
	for k, round := range g.Rows[i].Rounds {
		if values[k] = math.NaN(); round != nil {
			values[k] = round[m]
		}
	}
	return values
}

// givenUp returns how many rounds of a row were.
func (r row) givenUp() (n int) {
	for _, round := range r.Rounds {
		if round == nil {
			n++
		}
	}
	return n
}

// ratios divides two rows' values of one metric, round by round: what slowed a round down slowed
// both.
func (g group) ratios(over, under, metric string) []float64 {
	a, b := g.values(over, metric), g.values(under, metric)
	ratios := make([]float64, min(len(a), len(b)))
	for i := range ratios {
		ratios[i] = a[i] / b[i]
	}
	return ratios
}

// table writes the group as Markdown: medians over the rounds, then medians of the rounds' ratios.
func (g group) table(w io.Writer) {
	fmt.Fprintf(w, "### %s: %s\n\n| | %s |\n|---|%s\n", g.Scenario, g.Case,
		strings.Join(g.Metrics, " | "), strings.Repeat("---:|", len(g.Metrics)))
	line := func(label string, values func(metric string) []float64) {
		fmt.Fprintf(w, "| %s |", label)
		for _, m := range g.Metrics {
			fmt.Fprintf(w, " %s |", number(spanOf(values(m)).median))
		}
		fmt.Fprintln(w)
	}
	for _, r := range g.Rows {
		label := r.Label
		if n := r.givenUp(); n > 0 {
			label += fmt.Sprintf(" (%d of %d rounds given up)", n, len(r.Rounds))
		}
		line(label, func(m string) []float64 { return g.values(r.Label, m) })
	}
	for _, r := range g.Ratios {
		line("*"+r[0]+" ÷ "+r[1]+"*", func(m string) []float64 { return g.ratios(r[0], r[1], m) })
	}
	fmt.Fprintln(w)
}

// number writes a value with three significant digits, and large ones in full.
func number(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "–" // nothing to divide by
	case v >= 100 || v == float64(int(v)):
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// figure is something to reach.
type figure struct {
	scenario, cell, metric string // cell is what the group's Case begins with
	row, over              string // over is "" for an absolute value
	target                 float64
	atLeast                bool // else at most
}

var figures = []figure{
	{"uncontended", "N=5, 1 goroutine", "p50 µs", "redlock", "floor", 0.95, false},
	{"uncontended", "N=1, 1 goroutine", "p50 µs", "redlock", "floor", 1, false},
	{"uncontended", "N=5, 512 goroutines", "pairs/s", "redlock", "redsync", 6, true},
	{"uncontended", "N=1, 512 goroutines", "pairs/s", "redlock", "redislock", 3, true},
	{"uncontended", "N=1, 512 goroutines", "pairs/s", "redlock", "rueidislock", 1.2, true},
	{"uncontended", "N=5, 512 goroutines", "CPU µs/pair", "redlock", "redsync", 0.25, false},
	{"contended", "N=5", "acquisitions/s", "redlock", "redsync", 1.1, true},
	{"contended", "N=5", "p99 ÷ p50", "redlock", "", 2, false},
	{"contended", "N=1", "acquisitions/s", "redlock", "redislock", 0.95, true},
	{"contended", "N=1", "p99 ÷ p50", "redlock", "", 2, false},
	{"hand-over", "N=5", "p50 ms", "redlock", "PINGs", 1, false},
	{"roll-out", "N=3", "guests' acquisitions/s", "redlock", "redsync", 1, true},
	{"roll-out", "N=3", "guests' acquisitions/s", "redlock, 8 lockers", "redsync", 1, true},
	{"hung", "N=5, 1 goroutine", "p50 µs", "redlock, one hung", "redlock, healthy", 1.1, false},
	{"hung", "N=5, 1 goroutine", "p99 µs", "redlock, one hung", "redlock, healthy", 2, false},
	{"hung", "N=5, 64 goroutines", "p50 µs", "redlock, one hung", "redlock, healthy", 1.1, false},
	{"hung", "N=5, 64 goroutines", "p99 µs", "redlock, one hung", "redlock, healthy", 2, false},
	{"distant", "N=5, 20ms away, one 200ms, 1 goroutine", "p50 round trips", "redlock", "", 2.1,
		false},
	{"distant", "N=5, 20ms away, one 200ms, 64 goroutines", "p50 round trips", "redlock", "", 2.1,
		false},
	{"multi", "N=5", "p50 µs", "redlock, 8 resources", "redlock, 1 resource", 1.5, false},
	{"multi", "N=5", "p50 µs", "redlock, 64 resources", "redlock, 1 resource", 4, false},
	{"multi", "N=1", "p50 µs", "redlock, 8 resources", "redlock, 1 resource", 1.5, false},
	{"multi", "N=1", "p50 µs", "redlock, 64 resources", "redlock, 1 resource", 4, false},
	{"held", "N=5", "lost", "redlock", "", 0, false},
	{"held", "N=5", "heap bytes/lock", "redlock", "", 2048, false},
	{"held", "N=5", "goroutines at most", "redlock", "", 100, false},
}

// measured returns the figure's value, if its scenario has run.
func (f figure) measured(groups []group) (span, bool) {
	i := slices.IndexFunc(groups, func(g group) bool {
		return g.Scenario == f.scenario && (g.Case == f.cell ||
			strings.HasPrefix(g.Case, f.cell+","))
	})
	if i < 0 {
		return span{}, false
	}
	values := groups[i].values(f.row, f.metric)
	if f.over != "" {
		values = groups[i].ratios(f.row, f.over, f.metric)
	}
	if len(values) == 0 {
		return span{}, false
	}
	return spanOf(values), true
}

// met reports whether a value is good enough.
func (f figure) met(v float64) bool {
	if f.atLeast {
		return v >= f.target
	}
	return v <= f.target
}

func (f figure) String() string {
	s := fmt.Sprintf("%s, %s: %s, %s", f.scenario, f.cell, f.metric, f.row)
	if f.over != "" {
		s += " ÷ " + f.over
	}
	return s
}

// summary writes the figures to reach and what was measured.
func summary(w io.Writer, groups []group) {
	fmt.Fprint(w, "### Figures\n\n| figure | target | median (lowest to highest round) | "+
		"|\n|---|---:|---:|---|\n")
	for _, f := range figures {
		v, ok := f.measured(groups)
		if !ok {
			continue
		}
		sign, verdict := "≤", "**not met**"
		if f.atLeast {
			sign = "≥"
		}
		if f.met(v.median) {
			verdict = "met"
		}
		fmt.Fprintf(w, "| %s | %s %s | %s (%s to %s) | %s |\n", f, sign, number(f.target),
			number(v.median), number(v.low), number(v.high), verdict)
	}
	fmt.Fprintln(w)
}

// circumstances tells under which the figures came about.
func circumstances(ctx context.Context, f *field, s settings) string {
	info, _ := debug.ReadBuildInfo()
	var modules []string
	for _, d := range info.Deps {
		for _, name := range []string{
			"redis/go-redis/v9", "go-redsync/redsync/v4", "bsm/redislock", "redis/rueidis",
			"prometheus/client_golang",
		} {
			if d.Path == "github.com/"+name {
				modules = append(modules, d.Path+" "+d.Version)
			}
		}
	}
	return fmt.Sprintf("%s, %s/%s, GOMAXPROCS=%d; redis-server %s, %d processes on the same "+
		"machine; %s. %d rounds of %v in turn, medians.",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), f.version(ctx),
		maxNodes,
		strings.Join(modules, ", "), s.rounds, s.duration)
}

// writeJSON writes every round of everything.
func writeJSON(w io.Writer, circumstances string, groups []group) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(map[string]any{"circumstances": circumstances, "groups": groups})
}

// section is a place in a document, between two of its lines, for what was measured.
type section struct{ begin, end string }

// The observers have a section of their own: what they cost is no comparison with other libraries.
var (
	mainSection = section{"<!-- measured: begin -->\n", "<!-- measured: end -->\n"}
	ownSections = map[string]section{
		"observers": {"<!-- measured, observers: begin -->\n",
			"<!-- measured, observers: end -->\n"},
	}
)

// writeDoc puts the figures and tables into a document. A section none of whose scenarios has run
// stays as it is.
func writeDoc(name, about string, groups []group) error {
	old, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	places := make(map[section][]group)
	for _, g := range groups {
		s, own := ownSections[g.Scenario]
		if !own {
			s = mainSection
		}
		places[s] = append(places[s], g)
	}
	text := string(old)
	for s, some := range places {
		if text, err = s.fill(text, about, some); err != nil {
			return fmt.Errorf("%s %w", name, err)
		}
	}
	return os.WriteFile(name, []byte(text), 0o644)
}

// fill returns the document with the section's contents replaced.
func (s section) fill(text, about string, groups []group) (string, error) {
	head, rest, ok1 := strings.Cut(text, s.begin)
	_, tail, ok2 := strings.Cut(rest, s.end)
	if !ok1 || !ok2 {
		return "", fmt.Errorf("has no place for the figures: %q and %q", s.begin, s.end)
	}
	var doc strings.Builder
	fmt.Fprintf(&doc, "%s%s\n%s\n\n", head, s.begin, about)
	if s == mainSection {
		summary(&doc, groups)
	}
	for _, g := range groups {
		g.table(&doc)
	}
	fmt.Fprint(&doc, s.end, tail)
	return doc.String(), nil
}
