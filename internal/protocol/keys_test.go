package protocol

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/slot"
)

func TestKeysThatBelongToALockKey(t *testing.T) {
	names := map[string]string{}
	for key, want := range map[string]string{
		"lock:order:1": "{lock:order:1}:queue",
		"lock:{a}:1":   "lock:{a}:1:queue",
		"a":            "{a}:queue",
		"{a}":          "{a}::queue",
		"{a}b":         "{a}b:queue",
	} {
		name := auxiliary(key, queueSuffix)
		require.Equal(t, want, name)
		require.Equal(t, slot.Of(key), slot.Of(name), key)
		require.Empty(t, names[name], "%s shares it", key)
		names[name] = key
	}
}
