// Command picture draws the panels of dashboard.json from the answers of a Prometheus server, as
// SVG, for README.md. Grafana draws them more finely; the queries and the data are the same.
//
//	go run ./picture -prometheus http://127.0.0.1:9090 -job shop -last 10m -o dashboard.svg
package main

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"html"
	"log"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rediskit/redlock/monitoring/board"
)

func main() {
	base := flag.String("prometheus", "http://127.0.0.1:9090", "`address` of the server")
	job := flag.String("job", "shop", "the job to show")
	last := flag.Duration("last", 10*time.Minute, "how much to show")
	to := time.Now()
	flag.TextVar(&to, "to", to, "the end of that, such as 2027-01-31T12:00:00Z")
	interval := flag.Duration("interval", 20*time.Second,
		"of rates: at least four times that of scrapes")
	dashboard := flag.String("dashboard", "dashboard.json", "`file` of the dashboard")
	out := flag.String("o", "dashboard.svg", "`file` to write")
	flag.Parse()
	d, err := board.Load(*dashboard)
	if err != nil {
		log.Fatal(err)
	}
	p := picture{base: *base, job: *job, interval: *interval, from: to.Add(-*last), to: to}
	if err := p.draw(context.Background(), d); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(*out, p.svg.Bytes(), 0o644); err != nil {
		log.Fatal(err)
	}
}

// picture is the SVG in the making.
type picture struct {
	base, job string
	interval  time.Duration
	from, to  time.Time
	svg       bytes.Buffer
}

// In pixels.
const (
	column                 = 40.0 // of Grafana's grid
	row                    = 29
	head                   = 44
	gap                    = 8
	left, right, top, foot = 46, 10, 28, 40 // what a panel leaves free around its diagram
)

// colours can be told apart by people who see few of them.
var colours = []string{"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"}

// line is one series of a panel.
type line struct {
	name   string
	points []board.Point
}

func (p *picture) draw(ctx context.Context, d *board.Dashboard) error {
	height := 0
	for _, panel := range d.Panels {
		height = max(height, panel.GridPos.Y+panel.GridPos.H)
	}
	fmt.Fprintf(&p.svg,
		`<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%d" font-family="sans-serif" font-size="10" fill="#333">`+"\n",
		24*column, head+height*row)
	fmt.Fprintln(&p.svg, `<rect width="100%" height="100%" fill="#f4f5f5"/>`)
	p.text(gap, 20, "start", ` font-size="14" font-weight="bold"`, d.Title)
	p.text(gap, 36, "start", "", fmt.Sprintf("The dashboard's queries, and what a Prometheus "+
		"answered: job %s, %s to %s UTC. Not a screenshot of Grafana.",
		p.job, p.from.UTC().Format("15:04:05"), p.to.UTC().Format("15:04:05")))
	for _, panel := range d.Panels {
		lines, err := p.ask(ctx, panel)
		if err != nil {
			return fmt.Errorf("%s: %w", panel.Title, err)
		}
		p.panel(panel, lines)
	}
	fmt.Fprintln(&p.svg, "</svg>")
	return nil
}

func (p *picture) ask(ctx context.Context, panel board.Panel) (lines []line, err error) {
	for _, t := range panel.Targets {
		series, err := board.Range(ctx, p.base, t.Query(p.job, p.interval), p.from, p.to,
			p.to.Sub(p.from)/200)
		if err != nil {
			return nil, err
		}
		for _, s := range series {
			lines = append(lines, line{t.Legend(s.Labels), s.Points})
		}
	}
	return lines, nil
}

func (p *picture) panel(panel board.Panel, lines []line) {
	g := panel.GridPos
	x, y := float64(g.X)*column+gap/2, float64(head+g.Y*row)
	w, h := float64(g.W)*column-gap, float64(g.H*row-gap)
	fmt.Fprintf(&p.svg,
		`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="2" fill="#fff" stroke="#ddd"/>`+
			"\n", x, y, w, h)
	p.text(x+8, y+16, "start", ` font-size="11" font-weight="bold"`, panel.Title)

	lowest, highest := extremes(lines)
	step := niceStep((highest - lowest) / 4)
	lowest, highest = math.Floor(lowest/step)*step, math.Ceil(highest/step)*step
	at := func(pt board.Point) (float64, float64) {
		return x + left + (w-left-right)*float64(pt.Time.Sub(p.from))/float64(p.to.Sub(p.from)),
			y + top + (h-top-foot)*(highest-pt.Value)/(highest-lowest)
	}
	for v := lowest; v < highest+step/2; v += step {
		_, level := at(board.Point{Time: p.from, Value: v})
		fmt.Fprintf(&p.svg, `<path d="M%.1f %.1fH%.1f" stroke="#eee"/>`+"\n", x+left, level,
			x+w-right)
		p.text(x+left-4, level+3, "end", ` font-size="9"`,
			value(v, panel.FieldConfig.Defaults.Unit))
	}
	for i, l := range lines {
		fmt.Fprintf(&p.svg, `<path d="%s" fill="none" stroke="%s" stroke-width="1.3"/>`+"\n",
			p.path(l, at), colours[i%len(colours)])
	}
	p.text(x+left, y+h-foot+12, "start", ` font-size="9"`, p.from.UTC().Format("15:04"))
	p.text(x+w-right, y+h-foot+12, "end", ` font-size="9"`, p.to.UTC().Format("15:04"))
	p.legend(x+8, y+h-10, lines)
}

// path connects the points, except across a gap in which there were none.
func (p *picture) path(l line, at func(board.Point) (float64, float64)) string {
	var d strings.Builder
	var before time.Time
	for _, pt := range l.points {
		px, py := at(pt)
		command := "L"
		if pt.Time.Sub(before) > p.to.Sub(p.from)/100 {
			command = "M"
		}
		fmt.Fprintf(&d, "%s%.1f %.1f", command, px, py)
		before = pt.Time
	}
	return d.String()
}

func (p *picture) legend(x, y float64, lines []line) {
	for i, l := range lines {
		fmt.Fprintf(&p.svg, `<rect x="%.1f" y="%.1f" width="8" height="3" fill="%s"/>`+"\n", x, y-4,
			colours[i%len(colours)])
		name := cmp.Or(l.name, `""`)
		p.text(x+11, y, "start", ` font-size="9"`, name)
		x += 19 + 5*float64(len(name))
	}
}

func (p *picture) text(x, y float64, anchor, attributes, s string) {
	fmt.Fprintf(&p.svg, `<text x="%.1f" y="%.1f" text-anchor="%s"%s>%s</text>`+"\n", x, y, anchor,
		attributes, html.EscapeString(s))
}

// extremes returns the range that a diagram has to show, 0 included.
func extremes(lines []line) (lowest, highest float64) {
	for _, l := range lines {
		for _, pt := range l.points {
			lowest, highest = min(lowest, pt.Value), max(highest, pt.Value)
		}
	}
	if lowest == highest {
		highest++
	}
	return lowest, highest
}

// niceStep returns the smallest of 1, 2 and 5 times a power of ten that is not below the given one.
func niceStep(least float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(least)))
	steps := []float64{1, 2, 5, 10}
	i := slices.IndexFunc(steps, func(s float64) bool { return s*power >= least*(1-1e-9) })
	return steps[i] * power
}

// value writes a number with its unit.
func value(v float64, unit string) string {
	switch {
	case unit == "percentunit":
		return fmt.Sprintf("%.0f %%", 100*v)
	case unit == "s" && v != 0 && math.Abs(v) < 1:
		return fmt.Sprintf("%.3g ms", 1000*v)
	case unit == "s":
		return fmt.Sprintf("%.3g s", v)
	case unit == "ops":
		return fmt.Sprintf("%.3g /s", v)
	}
	return fmt.Sprintf("%.3g", v)
}
