package main

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// chart is a bar chart of one metric: a cluster of bars for each group of the scenario whose case
// begins so.
type chart struct {
	file, title              string
	scenario, prefix, metric string
}

var charts = []chart{
	{"throughput-5.svg", "Lock and unlock, five nodes: pairs per second", "uncontended", "N=5, ",
		"pairs/s"},
	{"throughput-1.svg", "Lock and unlock, one node: pairs per second", "uncontended", "N=1, ",
		"pairs/s"},
	{"cpu-5.svg", "Lock and unlock, five nodes: client CPU per pair in µs", "uncontended", "N=5, ",
		"CPU µs/pair"},
	{"wait.svg", "32 waiters for one lock: 99th percentile of the wait in ms", "contended", "N=",
		"wait p99 ms"},
}

// colours tells the libraries apart, also for people who see few colours.
var colours = map[string]string{
	floor.name: "#bbbbbb", ours.name: "#0072b2", redsyncs.name: "#e69f00", bsm.name: "#009e73",
	rueidi.name: "#cc79a7",
}

// plot writes the charts whose scenarios have run into the directory, if there is to be one.
func plot(dir string, groups []group) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, c := range charts {
		var chosen []group
		for _, g := range groups {
			if g.Scenario == c.scenario && strings.HasPrefix(g.Case, c.prefix) {
				chosen = append(chosen, g)
			}
		}
		if len(chosen) == 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, c.file), c.draw(chosen), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Sizes in pixels.
const (
	barWidth, clusterGap  = 44, 36
	barHeight             = 200
	margin, top, bottom   = 20, 70, 30
	legendBox, legendStep = 12, 110
)

// draw returns the chart as SVG.
func (c chart) draw(groups []group) []byte {
	var svg bytes.Buffer
	labels, most, bars := c.survey(groups)
	width := max(bars*barWidth+(len(groups)+1)*clusterGap, len(labels)*legendStep) + 2*margin
	height := top + barHeight + bottom
	fmt.Fprintf(&svg,
		`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12" fill="#333">`+"\n", width, height)
	fmt.Fprintf(&svg, `<rect width="100%%" height="100%%" fill="#fff"/>`+"\n")
	text(&svg, margin, 22, "start", ` font-size="14" font-weight="bold"`, c.title)
	for i, label := range labels {
		x := margin + i*legendStep
		fmt.Fprintf(&svg, `<rect x="%d" y="36" width="%d" height="%d" fill="%s"/>`+"\n", x,
			legendBox, legendBox, colour(label))
		text(&svg, x+legendBox+5, 46, "start", "", label)
	}
	x := margin + clusterGap
	for _, g := range groups {
		begin := x
		for _, r := range g.Rows {
			v := spanOf(g.values(r.Label, c.metric)).median
			h := int(v / most * barHeight)
			fmt.Fprintf(&svg, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`+"\n", x+2,
				top+barHeight-h, barWidth-4, h, colour(r.Label))
			text(&svg, x+barWidth/2, top+barHeight-h-4, "middle", ` font-size="10"`, number(v))
			x += barWidth
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(g.Case, c.prefix), ",")
		if c.prefix == "N=" {
			name = "N=" + name
		}
		text(&svg, (begin+x)/2, top+barHeight+18, "middle", "", name)
		x += clusterGap
	}
	fmt.Fprintf(&svg, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="#333"/>`+"\n</svg>\n", margin,
		top+barHeight, width-margin, top+barHeight)
	return svg.Bytes()
}

// survey returns the rows' labels, the highest value and how many bars there are.
func (c chart) survey(groups []group) (labels []string, most float64, bars int) {
	for _, g := range groups {
		for _, r := range g.Rows {
			bars++
			most = max(most, spanOf(g.values(r.Label, c.metric)).median)
			if !slices.Contains(labels, r.Label) {
				labels = append(labels, r.Label)
			}
		}
	}
	return labels, most, bars
}

func colour(label string) string { return cmp.Or(colours[label], "#56b4e9") }

func text(svg *bytes.Buffer, x, y int, anchor, attributes, s string) {
	fmt.Fprintf(svg, `<text x="%d" y="%d" text-anchor="%s"%s>%s</text>`+"\n", x, y, anchor,
		attributes, html.EscapeString(s))
}
