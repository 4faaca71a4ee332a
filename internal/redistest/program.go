package redistest

import "testing"

// Program returns the path of the redis-server that the helpers of this package run, for tests that
// start it by a command line of their own. Without one the test is skipped, or fails, as with
// [Start].
func Program(tb testing.TB) string {
	tb.Helper()
	binary, _, err := findServer()
	if err != nil {
		refuse(tb, err)
	}
	return binary
}
