package protocol

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/slot"
)

// FuzzKeys takes sorted names, with line feeds between them, to their keys and back.
func FuzzKeys(f *testing.F) {
	for _, prefix := range []string{"lock", "", ":", "{tag}", "lock:lock"} {
		for _, names := range []string{
			"a", "b\na\nb", "lock:a\na\n:a", "{x}a\n{x}b\nc\n{x}d", "}\n{\n\x00\n\xff",
		} {
			f.Add(prefix, names)
		}
	}
	n := NewNodes(Config{Tell: func(Trouble) {}}, []node.Client{nil}, []bool{true})
	f.Fuzz(func(t *testing.T, prefix, names string) {
		resources := strings.Split(names, "\n")
		slices.Sort(resources)
		resources = slices.Compact(resources)
		k := n.Keys(prefix, resources)
		keys := k.all.lockKeys()
		require.Len(t, keys, len(resources))
		for i, r := range resources {
			require.Equal(t, r, k.resource(keys[i]), "there and back")
			require.True(t, strings.HasPrefix(keys[i], prefix))
			require.True(t, i == 0 || keys[i-1] < keys[i], "the order of the resources")
		}
		if len(resources) > 1 {
			var runs [][]string
			for _, g := range k.groups {
				runs = append(runs, g.lockKeys())
			}
			requireRuns(t, keys, runs)
		}
	})
}

// requireRuns checks that the runs are the keys in their order, cut exactly where the slot changes.
func requireRuns(t *testing.T, keys []string, runs [][]string) {
	t.Helper()
	if runs == nil {
		runs = [][]string{keys}
	} else {
		require.Greater(t, len(runs), 1)
	}
	require.Equal(t, keys, slices.Concat(runs...))
	for i, run := range runs {
		require.NotEmpty(t, run)
		for _, key := range run {
			require.Equal(t, slot.Of(run[0]), slot.Of(key))
		}
		require.True(t, i == 0 || slot.Of(runs[i-1][0]) != slot.Of(run[0]), "a cut too many")
	}
}

// FuzzToken reads the owner's label back from a token, and from values that need not be tokens.
func FuzzToken(f *testing.F) {
	for _, s := range []string{
		"", "host:1", ":", "\x00\n", strings.Repeat("A", 22), strings.Repeat("A", 22) + ":",
		strings.Repeat("\n", 22) + ":x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		token, other := NewToken(s), NewToken(s)
		require.NotEqual(t, token, other)
		for _, number := range []int{0, 1, 10_000} {
			value := withNumber(token, number)
			require.Equal(t, token, withoutNumber(value))
			label, ours := Label(value)
			require.True(t, ours)
			require.Equal(t, s, label)
		}
		if label, ours := Label(s); ours {
			require.True(t, strings.HasSuffix(s, ":"+label), "%q", label)
		}
	})
}
