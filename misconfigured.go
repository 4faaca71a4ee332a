package redlock

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
)

const hintPermissions = "see Permissions in the README of github.com/rediskit/redlock for the " +
	"commands, keys and channels that a user needs"

// permanent has what a server answers that no waiting mends, by the beginning of its reply, and
// what to do about it where that is not plain.
var permanent = []struct{ reply, hint string }{
	{"NOAUTH", "give the client the server's password"},
	// a longer command than strangers may send
	{"ERR Protocol error: unauthenticated", "give the client the server's password"},
	{"WRONGPASS", ""},
	{"ERR invalid password", ""},
	{"ERR AUTH", ""},
	{"ERR Client sent AUTH", ""},
	{"NOPERM", hintPermissions},
	{"ERR unknown command", "the server must run Lua scripts: EVAL and EVALSHA"},
	{"ERR This Redis command is not allowed", ""},
	{"ERR The user executing the script", hintPermissions},
	{"ERR ACL failure in script", hintPermissions},
	{"ERR Unknown Redis command called from script", hintPermissions},
	{"ERR Unknown Redict command called from script", hintPermissions},
	{"ERR Unknown command called from script", hintPermissions},
	{"MOVED", "the server is part of a Redis Cluster: use redis.NewClusterClient"},
	{"ASK", "the server is part of a Redis Cluster: use redis.NewClusterClient"},
	{"CROSSSLOT", "the server is part of a Redis Cluster: use redis.NewClusterClient"},
	{"ERR SELECT is not allowed",
		"the server is part of a Redis Cluster: use redis.NewClusterClient"},
	{"ERR DB index is out of range", "the server has fewer databases than the client's DB says"},
	{"ERR This instance has cluster support disabled",
		"the server is not part of a Redis Cluster: use redis.NewClient"},
}

// hungUp reports whether a server closed the connection in the middle of a call. One that has as
// many clients as it allows says so, but what it says is often lost with the connection.
func hungUp(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, io.EOF)
}

// misconfigured reports whether a node's error is one that waiting does not mend, with a hint where
// one is due.
func misconfigured(err error) (hint string, ok bool) {
	if errors.Is(err, redis.ErrClosed) {
		return "a client was closed before the Locker", true
	}
	if unguardable(err) {
		return "docs/restarts.md in github.com/rediskit/redlock says which servers " +
			"WithRestartGuard works with", true
	}
	var reply redis.Error
	if errors.As(err, &reply) {
		for _, p := range permanent {
			if strings.HasPrefix(reply.Error(), p.reply) {
				return p.hint, true
			}
		}
	}
	var unverified *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	switch {
	case errors.As(err, &record):
		return "the server does not speak TLS, or the client should", true
	case errors.As(err, &unverified), errors.As(err, &unknown), errors.As(err, &host):
		return "the server's TLS certificate cannot be verified", true
	}
	return "", false
}
