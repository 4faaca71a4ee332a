package deadlock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNoticesAreReadAsTheyWerePublishedLast(t *testing.T) {
	n := notice{
		Owner: "me", Wait: "w", Began: 1, Beat: 3, Waited: time.Second, Held: time.Minute,
		For: []target{{[]byte("lock"), []byte("\xff\x00 any {bytes}"), "you"}},
	}
	old, other, foreign := n, n, n
	old.Beat, old.For = 2, nil
	other.Wait = "another"
	foreign.Owner = "not me"
	texts := []string{n.text(), old.text(), foreign.text(), other.text(), n.text(), "", "x", "{}",
		`{"Owner":"me"}`, `{"Owner":1}`, "null", "[]"}
	require.Equal(t, []notice{other, n}, read("me", texts))
	require.Equal(t, "lock:\xff\x00 any {bytes}", n.For[0].key())
	require.Empty(t, read("nobody", texts))
}

// Two different waits are never both older than the other one, nor neither of them.
func TestOfTwoWaitsOneIsOlder(t *testing.T) {
	ages := []age{{1, "a"}, {1, "b"}, {2, "a"}, {-5, "c"}}
	for _, a := range ages {
		for _, b := range ages {
			require.Equal(t, a != b, a.olderThan(b) != b.olderThan(a), "%v and %v", a, b)
		}
	}
	require.True(t, age{1, "z"}.olderThan(age{2, "a"}))
}

func TestCircleIsTheSameIfWaitsAndOwnersAre(t *testing.T) {
	make := func(change func(c circle)) circle {
		c := circle{
			{wait: "w1", beat: 1, target: target{[]byte("lock"), []byte("a"), "o1"}},
			{wait: "w2", beat: 7, target: target{[]byte("lock"), []byte("b"), "o2"}},
		}
		change(c)
		return c
	}
	first := make(func(circle) {})
	later := make(func(c circle) { c[1].beat, c[1].waited = 8, time.Second })
	require.True(t, later.same(first))
	require.True(t, later.after(first))
	require.False(t, first.after(first), "nobody has published anything since")
	for name, other := range map[string]circle{
		"another wait":     make(func(c circle) { c[1].wait = "w3" }),
		"another owner":    make(func(c circle) { c[0].target.Owner = "o3" }),
		"another resource": make(func(c circle) { c[0].target.Resource = []byte("c") }),
		"another prefix":   make(func(c circle) { c[0].target.Prefix = []byte("other") }),
		"one more":         append(first, first[1]),
		"none":             nil,
	} {
		require.False(t, other.same(first), name)
		require.False(t, first.same(other), name)
	}
}
