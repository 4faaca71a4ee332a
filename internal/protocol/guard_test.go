package protocol

import (
	"crypto/sha1"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/node"
)

// Servers know a script by the digest of its text. One that has it from somebody without a guard
// must not count as told the same script with a guard.
func TestScriptsWithAGuardAreOtherScripts(t *testing.T) {
	files := os.DirFS("../..")
	s := LoadScripts(files, time.Minute)
	guarded := map[string]*node.Script{
		"acquire": s.acquire, "inspect": s.inspect, "wait": s.wait, "watch": s.watch,
	}
	require.Len(t, guarded, len(GuardedNames))
	for _, name := range GuardedNames {
		text := Source(files, name) + GuardMark
		digest := fmt.Sprintf("%x", sha1.Sum([]byte(text)))
		require.Equal(t, node.Guarded(text, digest, time.Minute), guarded[name], name)
	}
}
