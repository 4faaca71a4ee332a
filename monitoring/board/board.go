// Package board reads dashboard.json and asks a Prometheus server what its panels show. It is for
// the tests and for the picture of the dashboard: Grafana reads the file itself.
package board

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Dashboard is what we need of a Grafana dashboard.
type Dashboard struct {
	UID        string  `json:"uid"`
	Title      string  `json:"title"`
	Panels     []Panel `json:"panels"`
	Templating struct {
		List []Variable `json:"list"`
	} `json:"templating"`
}

// Variable is what somebody who looks at the dashboard can choose.
type Variable struct {
	Name string `json:"name"`
}

// Panel is one diagram.
type Panel struct {
	ID          int        `json:"id"`
	Title       string     `json:"title"`
	Type        string     `json:"type"`
	Description string     `json:"description"`
	Datasource  Datasource `json:"datasource"`
	GridPos     Grid       `json:"gridPos"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Targets []Target `json:"targets"`
}

// Grid is where a panel stands, in columns (of 24) and rows.
type Grid struct{ X, Y, W, H int }

// Datasource is where a panel's data come from.
type Datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

// Target is one query of a panel.
type Target struct {
	RefID        string     `json:"refId"`
	Datasource   Datasource `json:"datasource"`
	Expr         string     `json:"expr"`
	LegendFormat string     `json:"legendFormat"`
}

// Load reads a dashboard from a file.
func Load(name string) (*Dashboard, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var d Dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &d, nil
}

// Query returns the query as Grafana sends it, for one job (a regular expression), all groups and
// the given interval of rates.
func (t Target) Query(job string, interval time.Duration) string {
	return strings.NewReplacer("$job", job, "$group", ".*", "$__rate_interval",
		interval.String()).Replace(t.Expr)
}

// Legend returns the name of a series.
func (t Target) Legend(labels map[string]string) string {
	name := t.LegendFormat
	for label, value := range labels {
		name = strings.ReplaceAll(name, "{{"+label+"}}", value)
	}
	return name
}

// Series is what a query returns for one set of labels.
type Series struct {
	Labels map[string]string
	Points []Point // without those that are no number
}

// Point is a value at a time.
type Point struct {
	Time  time.Time
	Value float64
}

// Range asks the server at the base address for a query's series over time.
func Range(ctx context.Context, base, query string, from, to time.Time,
	step time.Duration) ([]Series, error) {
	seconds := func(t time.Time) string {
		return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64)
	}
	return ask(ctx, base+"/api/v1/query_range?"+url.Values{
		"query": {query}, "start": {seconds(from)}, "end": {seconds(to)},
		"step": {strconv.FormatFloat(step.Seconds(), 'f', -1, 64)},
	}.Encode())
}

// Now asks for the present value of a query.
func Now(ctx context.Context, base, query string) ([]Series, error) {
	return ask(ctx, base+"/api/v1/query?"+url.Values{"query": {query}}.Encode())
}

func ask(ctx context.Context, url string) ([]Series, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	request.Close = true // no connection is left behind
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var answer struct {
		Error string
		Data  struct {
			Result []struct {
				Metric map[string]string
				Value  json.RawMessage
				Values []json.RawMessage
			}
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("%s: %w", response.Status, err)
	}
	if answer.Error != "" {
		return nil, errors.New(answer.Error)
	}
	var all []Series
	for _, r := range answer.Data.Result {
		if r.Value != nil {
			r.Values = append(r.Values, r.Value)
		}
		s := Series{Labels: r.Metric}
		for _, raw := range r.Values {
			p, err := parse(raw)
			if err != nil {
				return nil, err
			}
			s.Points = append(s.Points, p...)
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Series) int {
		return strings.Compare(fmt.Sprint(a.Labels), fmt.Sprint(b.Labels))
	})
	return all, nil
}

// parse reads a time and a value, or nothing if that is no number.
func parse(raw json.RawMessage) ([]Point, error) {
	var pair [2]any
	if err := json.Unmarshal(raw, &pair); err != nil {
		return nil, err
	}
	at, ok := pair[0].(float64)
	text, ok2 := pair[1].(string)
	if !ok || !ok2 {
		return nil, fmt.Errorf("no time and value: %s", raw)
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || v != v {
		return nil, err
	}
	return []Point{{time.UnixMilli(int64(at * 1000)), v}}, nil
}
