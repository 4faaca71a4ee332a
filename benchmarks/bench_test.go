package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rediskit/redlock/internal/redistest"
)

// startField starts servers for a test; without redis-server the test is skipped, as redistest
// says.
func startField(tb testing.TB) *field {
	tb.Helper()
	f := newField(redistest.StartN(tb, maxNodes))
	tb.Cleanup(func() {
		if err := f.close(); err != nil {
			tb.Error(err)
		}
	})
	return f
}

// BenchmarkAcquireRelease locks and unlocks names that nobody else wants. It is made for profiles;
// for comparisons run the program, which takes the libraries in turn.
//
//	go test -run '^$' -bench 'AcquireRelease/redlock/N=5/goroutines=512' -cpuprofile cpu.out
func BenchmarkAcquireRelease(b *testing.B) {
	f := startField(b)
	for _, k := range kinds(1) {
		for _, n := range []int{1, 3, 5} {
			if k.single && n > 1 {
				continue
			}
			for _, goroutines := range []int{1, 64, 512} {
				b.Run(fmt.Sprintf("%s/N=%d/goroutines=%d", k.name, n, goroutines),
					func(b *testing.B) {
						benchmark(b, k, f.addrs(n), goroutines)
					})
			}
		}
	}
}

func benchmark(b *testing.B, k kind, addrs []string, goroutines int) {
	s, err := k.open(addrs)
	if err != nil {
		b.Fatal(err)
	}
	defer s.close()
	names := make([][][]string, goroutines)
	for g := range names {
		names[g] = distinct(k.name, 1)(g)
	}
	pair := func(resources []string) error {
		h, err := s.lock(b.Context(), resources)
		if err != nil {
			return err
		}
		return h.Release(b.Context())
	}
	if err := pair(names[0][0]); err != nil { // the scripts are loaded
		b.Fatal(err)
	}
	var next atomic.Int32
	b.SetParallelism((goroutines + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
	b.ReportAllocs()
	b.ResetTimer()
	if goroutines == 1 {
		mine := names[0]
		for i := 0; b.Loop(); i++ {
			if err := pair(mine[i%len(mine)]); err != nil {
				b.Fatal(err)
			}
		}
		return
	}
	b.RunParallel(func(pb *testing.PB) {
		mine := names[(next.Add(1)-1)%int32(goroutines)]
		for i := 0; pb.Next(); i++ {
			if err := pair(mine[i%len(mine)]); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// TestScenariosRun keeps the scenarios from rotting: each runs for a moment, and what it measures
// makes sense.
func TestScenariosRun(t *testing.T) {
	f := startField(t)
	f.patience = time.Second
	s := settings{
		rounds: 1, duration: 20 * time.Millisecond,
		// time for two renewals
		locks: 50, heldTTL: 2 * time.Second, heldFor: 1500 * time.Millisecond,
	}
	var groups []group
	for _, sc := range scenarios {
		if sc.name == "contended" {
			continue // waiters of one of the libraries may wait for ever; see docs/benchmarks.md
		}
		t.Run(sc.name, func(t *testing.T) {
			if testing.Short() && sc.name == "distant" {
				t.Skip("takes half a minute at the least: round trips are long")
			}
			more, err := sc.run(t.Context(), f, s)
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range more {
				checkGroup(t, g)
			}
			groups = append(groups, more...)
		})
	}
	if t.Failed() || testing.Short() {
		return
	}
	for _, figure := range figuresHere() {
		if _, ok := figure.measured(groups); !ok {
			t.Errorf("nothing has measured %s", figure)
		}
	}
	checkReport(t, f, s, groups)
}

// figuresHere are the figures of the scenarios that run here.
func figuresHere() []figure {
	return slices.DeleteFunc(slices.Clone(figures),
		func(f figure) bool { return f.scenario == "contended" })
}

func checkGroup(t *testing.T, g group) {
	t.Helper()
	for _, r := range g.Rows {
		if len(r.Rounds) == 0 {
			t.Errorf("%s, %s: no round of %s", g.Scenario, g.Case, r.Label)
		}
		for _, values := range r.Rounds {
			if len(values) != len(g.Metrics) {
				t.Errorf("%s, %s: %s has %d values for %d metrics", g.Scenario, g.Case, r.Label,
					len(values), len(g.Metrics))
			}
			if m := g.Metrics[1]; !(values[1] > 0) { // a time, or the heap: never nothing
				t.Errorf("%s, %s: %s of %s is %v", g.Scenario, g.Case, m, r.Label, values[1])
			}
		}
	}
	for _, pair := range g.Ratios {
		for _, label := range pair {
			if len(g.values(label, g.Metrics[0])) == 0 {
				t.Errorf("%s, %s: a ratio wants %q, which is no row", g.Scenario, g.Case, label)
			}
		}
	}
}

// checkReport writes everything that the program can write.
func checkReport(t *testing.T, f *field, s settings, groups []group) {
	dir := t.TempDir()
	if err := plot(dir, groups); err != nil {
		t.Fatal(err)
	}
	for _, c := range charts {
		if c.file == "wait.svg" {
			continue // of the contended scenario, which does not run here
		}
		svg, err := os.ReadFile(filepath.Join(dir, c.file))
		if err != nil || !bytes.Contains(svg, []byte("</svg>")) {
			t.Errorf("%s: %d bytes, %v", c.file, len(svg), err)
		}
	}
	var out bytes.Buffer
	if err := writeJSON(&out, circumstances(context.Background(), f, s), groups); err != nil ||
		!json.Valid(out.Bytes()) {
		t.Errorf("JSON: %v", err)
	}
	doc := filepath.Join(dir, "doc.md")
	if err := os.WriteFile(doc, []byte(page("old\n", "old\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writeDoc(doc, "today", groups); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	text := string(written)
	if !strings.HasPrefix(text, "before\n") || !strings.HasSuffix(text, "after\n") ||
		strings.Contains(text, "old\n") {
		t.Errorf("the document became\n%s", text)
	}
	first, second, _ := strings.Cut(text, "between\n")
	if strings.Contains(first, "### observers") || !strings.Contains(second, "### observers") ||
		strings.Contains(second, "### held") {
		t.Errorf("the sections became\n%s", text)
	}
	if n := strings.Count(text, " met |") + strings.Count(text,
		"**not met** |"); n != len(figuresHere()) {
		t.Errorf("the summary has %d of %d figures", n, len(figuresHere()))
	}
}

// page is a document with both sections.
func page(compared, observed string) string {
	own := ownSections["observers"]
	return "before\n" + mainSection.begin + compared + mainSection.end + "between\n" + own.begin +
		observed + own.end + "after\n"
}

// TestSectionsOfWhatDidNotRunStay shows that measuring the observers leaves the comparisons alone.
func TestSectionsOfWhatDidNotRunStay(t *testing.T) {
	doc := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(doc, []byte(page("old\n", "old\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writeDoc(doc, "today", []group{{Scenario: "observers", Case: "N=1"}}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	if head, _, ok := strings.Cut(page("old\n", ""), ownSections["observers"].begin); !ok ||
		!strings.HasPrefix(string(text), head) ||
		!strings.Contains(string(text), "today") || strings.Count(string(text), "old\n") != 1 {
		t.Errorf("the document became\n%s", text)
	}
	if err := os.WriteFile(doc, []byte("nothing"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writeDoc(doc, "today", []group{{Scenario: "observers"}}); err == nil ||
		!strings.Contains(err.Error(), "no place") {
		t.Errorf("got %v", err)
	}
}

// TestRatiosAreTakenRoundByRound shows that a slow round, in which everybody was slow, changes no
// ratio.
func TestRatiosAreTakenRoundByRound(t *testing.T) {
	g := group{Metrics: []string{"µs"}, Rows: []row{
		{Label: "a", Rounds: [][]float64{{10}, {100}, {20}}},
		{Label: "b", Rounds: [][]float64{{20}, {200}, {40}}},
	}}
	if got, want := spanOf(g.ratios("a", "b", "µs")), (span{0.5, 0.5, 0.5}); got != want {
		t.Errorf("ratio %v, want %v", got, want)
	}
	if got, want := spanOf(g.values("a", "µs")), (span{20, 10, 100}); got != want {
		t.Errorf("span %v, want %v", got, want)
	}
	if got, want := spanOf([]float64{4, 1, 3, 2}).median, 2.5; got != want {
		t.Errorf("median of an even number: %v, want %v", got, want)
	}
}

// TestRoundsThatWereGivenUpDoNotCount shows that such a round leaves medians and ratios to the
// others, and is told.
func TestRoundsThatWereGivenUpDoNotCount(t *testing.T) {
	g := group{Metrics: []string{"µs"}, Rows: []row{
		{Label: "a", Rounds: [][]float64{{10}, {100}, {30}}},
		{Label: "b", Rounds: [][]float64{{20}, nil, {40}}},
	}, Ratios: [][2]string{{"a", "b"}}}
	if got, want := spanOf(g.values("b", "µs")), (span{30, 20, 40}); got != want {
		t.Errorf("span %v, want %v", got, want)
	}
	if got, want := spanOf(g.ratios("a", "b", "µs")), (span{0.625, 0.5, 0.75}); got != want {
		t.Errorf("ratio %v, want %v", got, want)
	}
	var out bytes.Buffer
	g.table(&out)
	if text := out.String(); !strings.Contains(text, "| b (1 of 3 rounds given up) | 30 |") ||
		strings.Contains(text, "| a (") {
		t.Errorf("the table is\n%s", text)
	}
}

// TestPercentileOfFewValues shows that a percentile of a handful of values is one of them.
func TestPercentileOfFewValues(t *testing.T) {
	sorted := []time.Duration{1, 2, 3, 4}
	for p, want := range map[float64]time.Duration{0: 1, 0.5: 3, 0.99: 4, 1: 4} {
		if got := percentile(sorted, p); got != want {
			t.Errorf("percentile %v is %v, want %v", p, got, want)
		}
	}
}

// TestUnknownScenarioIsRefused shows that a typing error does not measure something else.
func TestUnknownScenarioIsRefused(t *testing.T) {
	if _, err := choose("multi,uncontented"); err == nil ||
		!strings.Contains(err.Error(), `"uncontented"`) {
		t.Errorf("got %v", err)
	}
	if chosen, err := choose("multi, held"); err != nil || len(chosen) != 2 {
		t.Errorf("got %v, %v", chosen, err)
	}
}
