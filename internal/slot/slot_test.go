package slot_test

import (
	"testing"

	"github.com/rediskit/redlock/internal/redistest"
	"github.com/rediskit/redlock/internal/slot"
	"github.com/stretchr/testify/require"
)

var keys = map[string]uint16{
	"":                 0,
	"123456789":        0x31C3 % slot.Count, // the example of the cluster specification
	"foo":              12182,
	"{user1000}.a":     slot.Of("user1000"),
	"{user1000}.b":     slot.Of("user1000"),
	"a{b}c{d}":         slot.Of("b"),
	"foo{{bar}}zap":    slot.Of("{bar"),
	"foo{bar}{zap}":    slot.Of("bar"),
	"foo{}{bar}":       8363, // an empty tag does not count
	"}no tag{":         slot.Of("}no tag{"),
	"\x00\xff{\x00é}é": slot.Of("\x00é"),
}

func TestSlots(t *testing.T) {
	for key, want := range keys {
		require.Equal(t, want, slot.Of(key), "%q", key)
	}
	require.NotEqual(t, slot.Of("foo{}{bar}"), slot.Of("bar"))
	require.NotEqual(t, slot.Of("}no tag{"), slot.Of("no tag"))
}

func TestSlotsAreThoseOfARedisCluster(t *testing.T) {
	server := redistest.Start(t, redistest.WithConfig("cluster-enabled", "yes"))
	for key := range keys {
		require.EqualValues(t, server.Do(t, "cluster", "keyslot", key), slot.Of(key), "%q", key)
	}
}
