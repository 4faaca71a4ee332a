package node

// Script is a Lua script, with the digest under which Redis caches it. It serves one lock: KEYS
// and ARGV are those of one call, its reply is the call's, and its error is an error reply.
type Script struct {
	source, digest any // strings; boxed once, not for each call
}

// NewScript returns the script with the given source. The digest is the source's SHA-1 in
// hexadecimal. It is the caller's to know: in FIPS mode a program cannot compute it.
func NewScript(source, digest string) *Script { return &Script{source: source, digest: digest} }
