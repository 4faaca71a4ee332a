package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
	"github.com/rediskit/redlock/monitoring/board"
)

// A real Prometheus scrapes the example, once with each exporter. Every query of the dashboard
// shows something, no rule has an error, and a lock that is lost raises the alert.
func TestPrometheusScrapesTheExample(t *testing.T) {
	exporters := []string{"prometheus", "otel"}
	targets := make(map[string]string)
	for _, exporter := range exporters {
		targets[exporter] = startExample(t, exporter)
	}
	base := startPrometheus(t, targets)
	d, err := board.Load("dashboard.json")
	require.NoError(t, err)
	for _, exporter := range exporters {
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				query := target.Query(exporter, 5*time.Second)
				eventually(t, func() bool { return shows(t, base, query) },
					p.Title+", from "+exporter+": "+query)
			}
		}
		eventually(t, func() bool {
			return shows(t, base, fmt.Sprintf(
				`ALERTS{alertname="RedlockLockLost",alertstate="firing",cause="gone",group="report",job="%s"}`, exporter))
		}, "the alert, from "+exporter)
	}
	requireHealthyRules(t, base)
}

// shows reports whether a query returns a value.
func shows(t *testing.T, base, query string) bool {
	t.Helper()
	all, err := board.Now(t.Context(), base, query)
	require.NoError(t, err, query)
	for _, s := range all {
		if len(s.Points) > 0 {
			return true
		}
	}
	return false
}

// startExample runs the example with frequent trouble and returns its address.
func startExample(t *testing.T, exporter string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- run(ctx, config{listen: "127.0.0.1:0", exporter: exporter, trouble: time.Second},
			func(addr string) { ready <- addr })
	}()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	select {
	case addr := <-ready:
		return addr
	case err := <-ended:
		ended <- err
		require.FailNow(t, "the example ended", "%v", err)
		return ""
	}
}

// startPrometheus starts a server that scrapes targets, by the names of their jobs, and returns its
// address.
func startPrometheus(t *testing.T, targets map[string]string) string {
	t.Helper()
	binary, dir := tool(t, "prometheus"), t.TempDir()
	rules, err := filepath.Abs("alerts.yaml")
	require.NoError(t, err)
	var text strings.Builder
	fmt.Fprintf(&text, "global: {scrape_interval: 250ms, scrape_timeout: 250ms, "+
		"evaluation_interval: 250ms}\nrule_files: [%q]\nscrape_configs:\n", rules)
	for job, addr := range targets {
		fmt.Fprintf(&text, "- {job_name: %s, static_configs: [{targets: [%q]}]}\n", job, addr)
	}
	file := filepath.Join(dir, "prometheus.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text.String()), 0o600))
	promtool(t, "check", "config", file)

	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, log.Close())
		if t.Failed() {
			said, _ := os.ReadFile(log.Name())
			t.Logf("%s", said)
		}
	})
	for range 5 { // somebody else may be faster at the address
		addr := freeAddress(t)
		cmd := exec.Command(binary, "--config.file="+file,
			"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr)
		cmd.Stdout, cmd.Stderr = log, log
		child, err := redistest.LaunchChild(cmd)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, child.Kill()) })
		if base := "http://" + addr; answers(t, child, base) {
			return base
		}
	}
	require.FailNow(t, "Prometheus does not start")
	return ""
}

// answers waits until Prometheus answers. It reports false if it has ended instead.
func answers(t *testing.T, child *redistest.Child, base string) (ok bool) {
	t.Helper()
	eventually(t, func() bool {
		select {
		case <-child.Exited():
			return true
		default:
		}
		_, err := board.Now(t.Context(), base, "up")
		ok = err == nil
		return ok
	}, "Prometheus answers")
	return ok
}

// freeAddress returns an address of this machine that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}

// requireHealthyRules asks Prometheus how its rules are.
func requireHealthyRules(t *testing.T, base string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/api/v1/rules",
		nil)
	require.NoError(t, err)
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	require.NoError(t, json.NewDecoder(response.Body).Decode(&answer))
	require.Len(t, answer.Data.Groups, 1)
	require.Len(t, answer.Data.Groups[0].Rules, 5)
	for _, r := range answer.Data.Groups[0].Rules {
		require.Equal(t, "ok", r.Health, "%s: %s", r.Name, r.LastError)
	}
}

// eventually waits for a condition in the test's own goroutine.
func eventually(t *testing.T, condition func() bool, what string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); {
		if time.Now().After(deadline) {
			require.FailNow(t, "waited in vain", what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// Grafana draws what it understands and says nothing of the rest.
func TestDashboardIsWhatGrafanaExpects(t *testing.T) {
	d, err := board.Load("dashboard.json")
	require.NoError(t, err)
	require.NotEmpty(t, d.UID)
	variables := map[string]bool{"__rate_interval": true}
	for _, v := range d.Templating.List {
		variables[v.Name] = true
	}
	ids, taken := make(map[int]bool), make(map[[2]int]string)
	for _, p := range d.Panels {
		require.False(t, ids[p.ID], "two panels have the id %d", p.ID)
		ids[p.ID] = true
		require.Equal(t, "timeseries", p.Type)
		require.NotEmpty(t, p.Description, p.Title)
		require.Contains(t, []string{"s", "ops", "short", "percentunit"},
			p.FieldConfig.Defaults.Unit, p.Title)
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				require.Empty(t, taken[at], "%s covers another panel", p.Title)
				taken[at] = p.Title
			}
		}
		refs := make(map[string]bool)
		for _, target := range append(p.Targets,
			board.Target{RefID: "the panel's", Datasource: p.Datasource}) {
			require.Equal(t, board.Datasource{Type: "prometheus", UID: "${datasource}"},
				target.Datasource, p.Title)
			require.False(t, refs[target.RefID], "%s: two queries %s", p.Title, target.RefID)
			refs[target.RefID] = true
			for _, part := range strings.Split(target.Expr, "$")[1:] {
				name := part[:strings.IndexFunc(part+" ",
					func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') })]
				require.True(t, variables[name], "%s: there is no variable %q", p.Title, name)
			}
		}
	}
	require.True(t, variables["datasource"])
}

func TestUnknownExporterIsRefused(t *testing.T) {
	err := run(t.Context(), config{listen: "127.0.0.1:0", exporter: "statsd"}, func(string) {})
	require.ErrorContains(t, err, `"statsd"`)
}
