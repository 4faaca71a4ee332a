package slot_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/slot"
)

// slotByTable is Redis Cluster's key slot in another way than ours: by a table, and with the hash
// tag found byte by byte.
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
		"": 0, "123456789": 12739, "foo": 12182, "lock:a": 6035, "{user1000}.following": 3443,
		"foo{}{bar}":    8363,
		"foo{{bar}}zap": 4015, "foo{bar}{zap}": 5061, "{}": 15257, "}{": 12793, "{": 4092,
		"a{b": 13340, "\x00{\xff}\x00": 7920,
	}
	for key, want := range known {
		require.Equal(f, want, slotByTable(key), "%q", key)
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		require.Equal(t, slotByTable(key), slot.Of(key), "%q", key)
	})
}
