// Package slot tells where a key lies on a Redis Cluster.
package slot

import "strings"

// Count is the number of slots of a cluster.
const Count = 16384

// Of returns the slot of a key: the CRC16 (XMODEM) of its hash tag, modulo [Count]
// (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).
func Of(key string) uint16 {
	var crc uint16
	for _, b := range []byte(tag(key)) {
		crc = crc<<8 ^ table[byte(crc>>8)^b]
	}
	return crc % Count
}

// Tagged reports whether a part of the key decides about its slot: keys with the same tag share it.
func Tagged(key string) bool { return tag(key) != key }

// tag returns the part of the key that decides: what the first pair of braces contains, or all of
// it if there is no such pair or nothing in it.
func tag(key string) string {
	open := strings.IndexByte(key, '{')
	if open < 0 {
		return key
	}
	length := strings.IndexByte(key[open+1:], '}')
	if length <= 0 {
		return key
	}
	return key[open+1 : open+1+length]
}

// table has the CRC of each byte.
var table = func() (t [256]uint16) {
	for i := range t {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		t[i] = crc
	}
	return t
}()
