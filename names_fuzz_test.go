package redlock

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzResources takes a list of names, with line feeds between them, the way that it is locked in.
func FuzzResources(f *testing.F) {
	for _, names := range []string{
		"", "a", "b\na\nb", "\n", "a\n", "lock:a\na\n:a", "}\n{\n\x00\n\xff",
	} {
		f.Add(names)
	}
	f.Fuzz(func(t *testing.T, names string) {
		var given []string
		if len(names) > 0 {
			given = strings.Split(names, "\n")
		}
		before := slices.Clone(given)
		sorted, err := normalise(given)
		require.Equal(t, before, given, "the list stays the caller's")
		if i := slices.Index(given, ""); i >= 0 || len(given) == 0 {
			require.ErrorContains(t, err, "redlock: ")
			require.ErrorContains(t, err, "empty")
			require.Nil(t, sorted)
			return
		}
		require.NoError(t, err)
		requireSameSet(t, given, sorted)
	})
}

// requireSameSet checks that sorted has each of the names, once, and nothing else.
func requireSameSet(t *testing.T, names, sorted []string) {
	t.Helper()
	set := make(map[string]bool)
	for _, n := range names {
		set[n] = true
	}
	require.Len(t, sorted, len(set))
	for i, n := range sorted {
		require.True(t, set[n], "%q", n)
		require.True(t, i == 0 || sorted[i-1] < n, "%q is out of order", n)
	}
}
