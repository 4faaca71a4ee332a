package main

import (
	"os"
	"os/exec"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// tool returns the path of a program of Prometheus'. Without it the test is skipped, or fails if
// REDLOCK_REQUIRE_PROMETHEUS is set, as it is by make.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Getenv("REDLOCK_REQUIRE_PROMETHEUS") == "" {
		t.Skip(err, "(Debian, Ubuntu: apt-get install prometheus; macOS: brew install prometheus)")
	}
	require.NoError(t, err)
	return path
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.Command(tool(t, "promtool"), args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func TestPromtoolAcceptsRulesAndConfiguration(t *testing.T) {
	promtool(t, "check", "rules", "--lint-fatal", "alerts.yaml")
	promtool(t, "check", "config", "prometheus.yaml")
}

func TestAlertsFireWhenTheyShould(t *testing.T) {
	promtool(t, "test", "rules", "alerts_test.yaml")
}

func TestEachAlertIsExplainedAndTested(t *testing.T) {
	rules, err := os.ReadFile("alerts.yaml")
	require.NoError(t, err)
	names := regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(rules), -1)
	require.Len(t, names, 5)
	for _, name := range names {
		readme, err := os.ReadFile("README.md")
		require.NoError(t, err)
		require.Contains(t, string(readme), "| `"+name[1]+"` |")
		tests, err := os.ReadFile("alerts_test.yaml")
		require.NoError(t, err)
		require.Regexp(t, "alertname: "+name[1]+"\n\\s+exp_alerts:", string(tests))
	}
}
