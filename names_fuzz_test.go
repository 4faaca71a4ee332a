package redlock

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// slotByTable is Redis Cluster's key slot in another way than ours: by a table, and with the hash tag found byte by byte.
func slotByTable(key string) uint16 {
	tag := key
	for i := range len(key) {
		if key[i] != '{' {
			continue
		}
		for j := i + 1; j < len(key); j++ {
			if key[j] == '}' {
				if j > i+1 {
					tag = key[i+1 : j]
				}
				break
			}
		}
		break
	}
	var crc uint16
	for i := range len(tag) {
		crc = crc<<8 ^ crcTable[byte(crc>>8)^tag[i]]
	}
	return crc & (1<<14 - 1)
}

// crcTable is that of CRC-16/XMODEM: polynomial x^16 + x^12 + x^5 + 1.
var crcTable = func() (table [256]uint16) {
	for i := range table {
		c := uint32(i) << 8
		for range 8 {
			c = c<<1 ^ c>>15*0x11021
		}
		table[i] = uint16(c)
	}
	return table
}()

func FuzzSlot(f *testing.F) {
	// As CLUSTER KEYSLOT of Redis 7.0.15 says.
	known := map[string]uint16{
		"": 0, "123456789": 12739, "foo": 12182, "lock:a": 6035, "{user1000}.following": 3443, "foo{}{bar}": 8363,
		"foo{{bar}}zap": 4015, "foo{bar}{zap}": 5061, "{}": 15257, "}{": 12793, "{": 4092, "a{b": 13340, "\x00{\xff}\x00": 7920,
	}
	for key, slot := range known {
		require.Equal(f, slot, slotByTable(key), "%q", key)
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		require.Equal(t, slotByTable(key), slot(key), "%q", key)
	})
}

// FuzzResources takes a list of names, with line feeds between them, the way that it goes to the nodes.
func FuzzResources(f *testing.F) {
	for _, prefix := range []string{"lock", "", ":", "{tag}", "lock:lock"} {
		for _, names := range []string{"a", "b\na\nb", "\n", "a\n", "lock:a\na\n:a", "{x}a\n{x}b\nc\n{x}d", "}\n{\n\x00\n\xff"} {
			f.Add(prefix, []byte(names))
		}
	}
	f.Fuzz(func(t *testing.T, prefix string, names []byte) {
		var given []string
		if len(names) > 0 {
			given = strings.Split(string(bytes.Clone(names)), "\n")
		}
		before := slices.Clone(given)
		sorted, err := normalise(given)
		require.Equal(t, before, given, "the caller's list is his")
		if i := slices.Index(given, ""); i >= 0 || len(given) == 0 {
			require.ErrorContains(t, err, "redlock: ")
			require.ErrorContains(t, err, "empty")
			require.Nil(t, sorted)
			return
		}
		require.NoError(t, err)
		requireSameSet(t, given, sorted)

		l := &Locker{config: config{prefix: prefix}}
		keys := make([]string, len(sorted))
		for i, r := range sorted {
			keys[i] = l.key(r)
			require.Equal(t, r, l.resource(keys[i]), "there and back")
			require.True(t, strings.HasPrefix(keys[i], prefix))
		}
		requireSameSet(t, keys, keys)
		requireRuns(t, keys, slotRuns(keys))
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
			require.Equal(t, slotByTable(run[0]), slotByTable(key))
		}
		require.True(t, i == 0 || slotByTable(runs[i-1][0]) != slotByTable(run[0]), "a cut too many")
	}
}

// FuzzToken reads the owner's label back from a token, and from values that need not be tokens.
func FuzzToken(f *testing.F) {
	for _, s := range []string{"", "host:1", ":", "\x00\n", strings.Repeat("A", 22), strings.Repeat("A", 22) + ":", strings.Repeat("\n", 22) + ":x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l := &Locker{config: config{owner: s}}
		token, other := l.newToken(), l.newToken()
		require.Equal(t, s, ownerLabel(token))
		require.NotEqual(t, token, other)
		if label := ownerLabel(s); label != "unknown" {
			require.True(t, strings.HasSuffix(s, ":"+label), "%q", label)
		}
	})
}
