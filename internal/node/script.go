package node

import "time"

// Script is a Lua script, with the digest under which Redis caches it. It serves one lock: KEYS
// and ARGV are those of one call, its reply is the call's, and its error is an error reply.
type Script struct {
	source, digest any           // strings; boxed once, not for each call
	guard          time.Duration // see Guarded; 0: none
}

// NewScript returns the script with the given source. The digest is the source's SHA-1 in
// hexadecimal. It is the caller's to know: in FIPS mode a program cannot compute it.
func NewScript(source, digest string) *Script { return &Script{source: source, digest: digest} }

// Guarded returns a script whose text a master is told only when it has been up for at least that
// long; until then its calls end in a Quarantine. No other script may have the same text.
func Guarded(source, digest string, atLeast time.Duration) *Script {
	return &Script{source: source, digest: digest, guard: atLeast}
}
