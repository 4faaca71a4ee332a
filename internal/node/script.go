package node

import (
	"crypto/sha1"
	"encoding/hex"
)

// Script is a Lua script, by its source and the digest under which Redis caches it. It answers a list of requests: KEYS has
// the keys of all of them, ARGV for each the number of its keys and its arguments (as many for all), and the reply one
// element for each.
//
// A list of one string is the error of a request that failed. Scripts must not answer with an error as such: recent
// versions of go-redis (v9.23 is one) stop reading a list at some of them, READONLY, OOM and NOPERM among them, and take the
// rest of it for the replies to the commands after that.
type Script struct {
	source string
	digest string
}

// NewScript returns the script with the given source.
func NewScript(source string) *Script {
	sum := sha1.Sum([]byte(source)) // not for security: Redis names scripts by their SHA-1
	return &Script{source: source, digest: hex.EncodeToString(sum[:])}
}
