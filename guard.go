package redlock

import (
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rediskit/redlock/internal/node"
	"github.com/rediskit/redlock/internal/protocol"
)

// WithRestartGuard keeps a server that has restarted from voting until it has been up for maxTTL:
// 10 ms to 10 years. It may have forgotten a lock that it granted just before, with persistence
// too, and could let a second owner in. After maxTTL, and a second for its clock, whatever it has
// forgotten is over. By default there is no guard.
//
// Meanwhile the other nodes decide. A quorum without votes is [ErrNoQuorum], with a
// [QuarantineError] for each of its nodes. Locks go on that were acquired before: they are extended
// and released wherever the key is still there.
//
// No TTL and no minimum hold may be longer than maxTTL. Every process that shares locks must set
// the guard, and the same maxTTL. While nodes do not restart, the guard costs nothing.
//
// It takes Redis 7.0 or later, Valkey or Redict, and a user that may run INFO and SCRIPT LOAD; else
// calls fail with [ErrMisconfigured]. New refuses a client that is neither a *redis.ClusterClient
// nor has the method Conn of *redis.Client. A replica that was promoted has no vote until some
// Locker has seen it as a master for maxTTL. The guard does not see a flush of the data without a
// restart, nor a master that is demoted and promoted again without one. docs/restarts.md in the
// repository has more.
func WithRestartGuard(maxTTL time.Duration) Option {
	return lockerOption(func(c *config) {
		if c.guard = maxTTL; !c.validGuard() {
			c.reject("restart guard must be %v to 10 years, not %v", minTTL, maxTTL)
		}
	})
}

func (c *config) validGuard() bool { return c.guard >= minTTL && c.guard <= maxTTL }

// longestTTL returns for how long a lock can be trusted at most.
func (c *config) longestTTL() time.Duration {
	if c.guard > 0 {
		return c.guard
	}
	return maxTTL
}

// checkGuard says whether a lock may live for that long on a node.
func (c *config) checkGuard(what string, d time.Duration) error {
	if c.guard > 0 && d > c.guard {
		return fmt.Errorf("redlock: %s (%v) must not be above the restart guard's maximum (%v)",
			what, d, c.guard)
	}
	return nil
}

// scripts returns the scripts for the nodes.
func (c *config) scripts() *protocol.Scripts {
	if c.guard == 0 {
		return scripts
	}
	return protocol.LoadScripts(files, c.guard)
}

// checkConn refuses a client with which the guard cannot work: a question and what follows from the
// answer must go to the same server process.
func checkConn(c any) error {
	if _, ok := c.(interface{ Conn() *redis.Conn }); ok || isCluster(c) {
		return nil
	}
	return fmt.Errorf("is a %T without the method Conn, which the restart guard needs", c)
}

// QuarantineError is one node's word that it has no vote: it has restarted, or was promoted, and
// may have forgotten locks; see [WithRestartGuard].
type QuarantineError struct {
	Up       time.Duration // since the restart; or how long the node has been seen as a master
	Left     time.Duration // until the node has a vote, at most a second less or more
	Promoted bool          // the node may be a replica that was promoted
}

// Error says since when the node has had no vote, and for how long it goes on.
func (e *QuarantineError) Error() string { return (*node.Quarantine)(e).Error() }

// quarantined returns what a node said as a QuarantineError, if it is one.
func quarantined(err error) (*QuarantineError, bool) {
	var q *node.Quarantine
	if !errors.As(err, &q) {
		return nil, false
	}
	return (*QuarantineError)(q), true
}

// unguardable reports whether a node's error is that the guard cannot work with it.
func unguardable(err error) bool {
	var u *node.Unguardable
	return errors.As(err, &u)
}
