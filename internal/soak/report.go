//go:build linux

package main

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rediskit/redlock/internal/history"
	"github.com/rediskit/redlock/internal/redistest"
)

//go:embed report.html
var reportText string

var reportTemplate = template.Must(template.New("report").Parse(reportText))

// writeReport writes the verdict as one page that needs nothing else.
func writeReport(path string, v *verdict) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := renderReport(file, v); err != nil {
		_ = file.Close()
		return err
	}
	return file.Close()
}

func renderReport(w io.Writer, v *verdict) error {
	state := "bad"
	switch {
	case v.passed() && v.expectsViolations():
		state = "expected"
	case v.passed():
		state = "good"
	}
	return reportTemplate.Execute(w, map[string]any{
		"Settings":   v.settings,
		"Verdict":    v.conclusion(),
		"State":      state,
		"Shortages":  v.shortages,
		"NoClocks":   !redistest.CanFakeClock(),
		"Violations": violationLines(v.violations),
		"Numbers":    v.numbers(),
		"Faults":     v.faultNumbers(),
		"Data":       newTimeline(v),
	})
}

// violationLine is a violation as the page shows it.
type violationLine struct {
	Seconds, Promise, Text string
	Tick                   int
}

func violationLines(violations []history.Violation) (lines []violationLine) {
	for _, v := range violations {
		line := violationLine{Promise: v.Promise, Text: v.Text, Tick: tick(v.At)}
		if hasMoment(v) {
			line.Seconds = fmt.Sprintf("%.3f", v.At.Seconds())
		}
		lines = append(lines, line)
	}
	return lines
}

// hasMoment reports whether a violation happened at a moment, and not in a whole history.
func hasMoment(v history.Violation) bool {
	return v.Promise != "linearizability" && v.Promise != "register" && v.At > 0
}

// tick is the unit of time in the page's data: 10 microseconds, which is finer than anything that
// can be seen.
func tick(d time.Duration) int { return int(d / (10 * time.Microsecond)) }

// timeline is what the page draws. Lists of lists, since there are many: what stands where is said
// beside them.
type timeline struct {
	End       int      `json:"end"`
	Nodes     []string `json:"nodes"`
	Clients   []string `json:"clients"`
	Workers   int      `json:"workers"`
	Resources int      `json:"resources"`
	// client, worker, called, first, last, until, over, end, resources, token, fence, epoch
	Tenures [][]any `json:"tenures"`
	// client, worker, began, ended, resources, how it ended, attempts
	Waits      [][]any `json:"waits"`
	Faults     [][]any `json:"faults"`     // target, began, ended, kind, note
	Deaths     [][]any `json:"deaths"`     // client, when
	Violations []int   `json:"violations"` // when
}

func newTimeline(v *verdict) *timeline {
	t := &timeline{Workers: v.settings.Workers, Resources: v.settings.Resources, Waits: [][]any{},
		Deaths: [][]any{}, Faults: [][]any{}, Tenures: [][]any{}}
	for i := range v.settings.Clients {
		t.Clients = append(t.Clients, fmt.Sprintf("c%d", i))
	}
	for _, tenure := range v.tenures {
		client, worker := whose(tenure.Client)
		t.Tenures = append(t.Tenures, []any{
			client, worker, tick(tenure.Called), tick(tenure.First), tick(tenure.Last),
			tick(tenure.Until), tick(tenure.Over), tenure.End,
			places(tenure.Resources), tenure.Token[:min(8, len(tenure.Token))], tenure.Fence,
			epochOf(tenure.Resources),
		})
	}
	open := make(map[string]int) // each worker's latest wait
	for _, e := range v.events {
		t.End = max(t.End, tick(e.At))
		switch e.Kind {
		case history.Refused:
			t.wait(open, e)
		case history.Fault:
			t.fault(e)
		case history.Crashed:
			client, _ := whose(e.Client)
			t.Deaths = append(t.Deaths, []any{client, tick(e.At)})
		}
	}
	for _, violation := range v.violations {
		if hasMoment(violation) {
			t.Violations = append(t.Violations, tick(violation.At))
		}
	}
	slices.Sort(t.Nodes)
	return t
}

// fault takes in what struck a node or a client.
func (t *timeline) fault(e history.Event) {
	if e.Token == clientDies {
		return // it is among the deaths
	}
	if !slices.Contains(t.Clients, e.Client) && !slices.Contains(t.Nodes, e.Client) {
		t.Nodes = append(t.Nodes, e.Client)
	}
	t.Faults = append(t.Faults, []any{e.Client, tick(e.Began), tick(e.At), e.Token, e.Note})
}

// between two tries of a worker who goes on trying lies no more than this.
const sameWait = 100 * time.Millisecond

// wait takes in a refusal. Those in a row, for the same resources, are one wait.
func (t *timeline) wait(open map[string]int, e history.Event) {
	where := places(e.Resources)
	if i, ok := open[e.Client]; ok {
		w := t.Waits[i]
		if slices.Equal(w[4].([]int), where) && tick(e.Began)-w[3].(int) < tick(sameWait) {
			w[3], w[5], w[6] = tick(e.At), e.Note, w[6].(int)+1
			return
		}
	}
	client, worker := whose(e.Client)
	open[e.Client] = len(t.Waits)
	t.Waits = append(t.Waits, []any{client, worker, tick(e.Began), tick(e.At), where, e.Note, 1})
}

// whose takes a worker's name apart; -1 where there is nothing of the kind.
func whose(name string) (client, worker int) {
	client, worker = -1, -1
	if n, _ := fmt.Sscanf(name, "c%d.%d", &client, &worker); n < 1 {
		return -1, -1
	}
	return client, worker
}

// epochOf returns the epoch of resources, which is the same for all that one worker wants at a
// time.
func epochOf(resources []string) string {
	_, epoch, _ := strings.Cut(resources[0], "/")
	return epoch
}

// places are the numbers of resources, whatever the epoch.
func places(resources []string) []int {
	var numbers []int
	for _, r := range resources {
		n := -1
		name, _, _ := strings.Cut(r, "/")
		if _, err := fmt.Sscanf(name, "r%d", &n); err == nil {
			numbers = append(numbers, n)
		}
	}
	return numbers
}
