package redistest

import (
	"fmt"
	"strings"
	"testing"
)

// Stats returns how often each command has been called since the start or
// ResetStats, from INFO commandstats: by lower-case name, a subcommand as in
// "client|setinfo", but before Redis 7.0 as its command ("client"). Calls that
// failed count, calls made by scripts count under their own names too, and so do
// those of this package's helpers.
func (s *Server) Stats(tb testing.TB) map[string]int {
	tb.Helper()
	info, _ := s.Do(tb, "info", "commandstats").(string)
	stats := make(map[string]int)
	for line := range strings.Lines(info) {
		// cmdstat_get:calls=3,usec=12,...
		name, values, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		var calls int
		if _, err := fmt.Sscanf(values, "%d", &calls); ok && err == nil {
			stats[name] = calls
		}
	}
	return stats
}

// CommandCount is one entry of Stats, 0 for a command that was not called.
func (s *Server) CommandCount(tb testing.TB, command string) int {
	tb.Helper()
	return s.Stats(tb)[strings.ToLower(command)]
}

// ResetStats starts counting anew.
func (s *Server) ResetStats(tb testing.TB) {
	tb.Helper()
	s.Do(tb, "config", "resetstat")
}
