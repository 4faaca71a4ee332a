//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/history"
)

// made is a history of which everything is known.
func made(t *testing.T, scenario string) *verdict {
	t.Helper()
	const s = time.Second
	s0, err := newSettings(scenario, 1, 10*time.Second)
	require.NoError(t, err)
	return judge(s0, []history.Event{
		{Kind: history.Acquired, Began: 1 * s, At: 2 * s, Client: "c0.1",
			Resources: []string{"r0/0", "r2/0"}, Token: "one-and-more", Until: 6 * s},
		{Kind: history.Refused, Began: 2 * s, At: 2*s + 1e6, Client: "c1.0",
			Resources: []string{"r2/0"}, Note: noteHeld},
		{Kind: history.Refused, Began: 2*s + 2e6, At: 2*s + 3e6, Client: "c1.0",
			Resources: []string{"r2/0"}, Note: noteNoQuorum},
		{Kind: history.Held, Began: 5 * s, At: 5 * s, Client: "c0.1",
			Resources: []string{"r0/0", "r2/0"}, Token: "one-and-more", Until: 6 * s},
		{Kind: history.Ended, Began: 6 * s, At: 6 * s, Client: "c0.1", Token: "one-and-more",
			Note: noteLost},
		{Kind: history.Acquired, Began: 4 * s, At: 4 * s, Client: "c1.0",
			Resources: []string{"r2/0"}, Token: "two", Until: 5 * s},
		{Kind: history.Ended, Began: 4*s + 1, At: 4*s + 1, Client: "c1.0", Token: "two",
			Note: noteReleased},
		{Kind: history.Fault, Began: 3 * s, At: 4 * s, Client: "node 3", Token: "delay",
			Note: "delay 5ms <side>"},
		{Kind: history.Fault, Began: 3 * s, At: 4 * s, Client: "c1", Token: clientPause,
			Note: clientPause},
		{Kind: history.Crashed, Began: 7 * s, At: 7 * s, Client: "c0"},
	}, nil, 3)
}

func TestReportTellsWhatHappenedAndNeedsNothingElse(t *testing.T) {
	v := made(t, safe)
	path := filepath.Join(t.TempDir(), "new", "report.html")
	require.NoError(t, writeReport(path, v))
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	page := string(raw)
	require.Contains(t, page, "mutual exclusion")
	require.Contains(t, page, "r2/0 has two holders")
	require.Contains(t, page, "seed <b>1</b>")
	require.Contains(t, page, "and 3 late ones refused")
	require.NotContains(t, page, "<side>", "is escaped")
	bare := strings.ReplaceAll(page, "http://www.w3.org/2000/svg", "")
	require.NotRegexp(t, regexp.MustCompile(`https?:|src=|<link|@import|url\([^#]`), bare)

	var data timeline
	_, rest, ok := strings.Cut(page, "const data = ")
	require.True(t, ok)
	require.NoError(t, json.NewDecoder(strings.NewReader(rest)).Decode(&data))
	require.Equal(t, 7*100_000, data.End)
	require.Equal(t, []string{"node 3"}, data.Nodes)
	require.Len(t, data.Tenures, 2)
	require.Equal(t, []any{0., 1., 1e5, 2e5, 5e5, 6e5, 6e5, "lost", []any{0., 2.}, "one-and-", 0.,
		"0"}, data.Tenures[0])
	require.Equal(t, [][]any{{1., 0., 2e5, 2.003e5, []any{2.}, noteNoQuorum, 2.}}, data.Waits,
		"two tries in a row are one wait")
	require.Len(t, data.Faults, 2)
	require.Len(t, data.Deaths, 1)
	require.Equal(t, []int{4e5}, data.Violations, "of those that have a moment")
	require.Len(t, v.violations, 2)
}

func TestVerdict(t *testing.T) {
	v := made(t, safe)
	require.False(t, v.passed())
	require.NotEmpty(t, v.violations)
	require.Equal(t, []int{2, 1, 1, 1, 1}, []int{v.grants, v.multi, v.held, v.noQuorum, v.lost})
	require.Equal(t, time.Second, v.wait(100))
	require.Contains(t, strings.Join(v.shortages, "\n"), "too few grants: 2")
	require.Contains(t, v.conclusion(), "too few grants")

	v.shortages = nil
	require.False(t, v.passed())
	require.Contains(t, v.conclusion(), "FAILED")
	v.troubles = []error{errors.New("c1 does not stop")}
	require.Contains(t, v.conclusion(), "c1 does not stop")
	v.violations = nil
	require.False(t, v.passed(), "there was trouble")
	v.troubles = nil
	require.True(t, v.passed())
	v.shortages = []string{"too few"}
	require.False(t, v.passed(), "nothing broke, but nothing much happened")
	v.shortages = nil

	v.settings.Scenario = careless
	require.False(t, v.passed(), "the checker is blind")
	v.violations, v.settings.Fencing = []history.Violation{{Promise: "mutual exclusion"}}, true
	require.True(t, v.passed())
	require.Contains(t, v.conclusion(), "kept the registers right")
	v.violations = append(v.violations, history.Violation{Promise: "register"})
	require.False(t, v.passed(), "fencing has not helped")
	require.Contains(t, v.conclusion(), "FAILED")
	v.settings.Fencing = false
	require.True(t, v.passed())
	v.violations = nil
	v.settings.Scenario = failover
	require.True(t, v.passed())

	var out bytes.Buffer
	v.print(&out)
	require.Contains(t, out.String(), "2 (1 of several resources)")
}

func TestAcquisitionThatEndsInAnotherErrorIsAViolation(t *testing.T) {
	v := made(t, safe)
	before := len(v.violations)
	v = judge(v.settings,
		append(v.events, history.Event{Kind: history.Refused, At: time.Second, Note: "boom"}), nil,
		0)
	require.Len(t, v.violations, before+1)
	require.Contains(t, v.violations[before].Text, "boom")
}
