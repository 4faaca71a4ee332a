package node

import (
	"crypto/sha1"
	"encoding/hex"
)

// Script is a Lua script by its source and the digest under which Redis caches it.
type Script struct {
	source string
	digest string
}

// NewScript returns the script with the given source.
func NewScript(source string) *Script {
	sum := sha1.Sum([]byte(source)) // not for security: Redis names scripts by their SHA-1
	return &Script{source: source, digest: hex.EncodeToString(sum[:])}
}
