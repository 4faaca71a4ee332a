package redlock

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/rediskit/redlock/internal/lease"
)

// Option configures a [Locker]; see [New].
type Option interface {
	applyTo(c *config)
}

// AcquireOption configures one acquisition. Given to [New], it is the Locker's default.
type AcquireOption interface {
	Option
	applyToCall(c *callConfig)
}

const (
	minTTL = 10 * time.Millisecond
	maxTTL = 10 * 365 * 24 * time.Hour

	maxOwner = 256 // bytes
)

// config is what New's options amount to.
type config struct {
	call        callConfig
	prefix      string
	nodeTimeout time.Duration // 0: derived from the TTL
	drift       float64
	fencing     bool
	guard       time.Duration // 0: none
	logger      *slog.Logger  // may be nil
	observer    Observer      // may be nil
	// deadlocks is how long a wait lasts before deadlocks are looked for; 0: they are not.
	deadlocks time.Duration
	err       error // the first invalid option
}

// callConfig is what the options of one acquisition amount to.
type callConfig struct {
	ttl           time.Duration
	maxWait       time.Duration
	retryInterval time.Duration
	renewal       renewalChoice
	maxHold       time.Duration
	minHold       time.Duration
	maxOutage     time.Duration
	owner         string
}

// renewalChoice keeps "not said" apart from "no": Do renews unless told not to.
type renewalChoice uint8

const (
	renewalUnset renewalChoice = iota
	renewalOff
	renewalOn
)

func defaultConfig() config {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown" // a label for people: not worth failing for
	}
	return config{
		call: callConfig{
			ttl:           30 * time.Second,
			retryInterval: 100 * time.Millisecond,
			owner:         fmt.Sprintf("%s:%d", host, os.Getpid()),
		},
		prefix: "lock",
		drift:  0.01,
	}
}

type lockerOption func(c *config)

func (o lockerOption) applyTo(c *config) { o(c) }

type acquireOption func(c *callConfig)

func (o acquireOption) applyTo(c *config)         { o(&c.call) }
func (o acquireOption) applyToCall(c *callConfig) { o(c) }

// WithTTL sets how long a lock lives on the nodes unless it is extended: 10 ms to 10 years, 30 s by
// default. It is what a crashed holder costs everybody else, and what a paused or cut-off holder
// has left before it is told that the lock is lost. The lock is trusted for a little less, see
// [WithDriftFactor]. Redis counts milliseconds: fractions are rounded up on the nodes.
func WithTTL(d time.Duration) AcquireOption {
	return acquireOption(func(c *callConfig) { c.ttl = d })
}

// WithMaxWait sets how long [Locker.Acquire] waits for the lock. By default, and with 0, it waits
// as long as its context lasts. One attempt is made, and given the node timeout, however short d
// is. It has no effect on calls that never wait.
func WithMaxWait(d time.Duration) AcquireOption {
	return acquireOption(func(c *callConfig) { c.maxWait = d })
}

// WithMaxOutage sets how long [Locker.Acquire], [Locker.AcquireMulti] and [Locker.Do] go on while
// no quorum of nodes answers. After that it returns the error of its last attempt, which matches
// [ErrNoQuorum]. By default, and with 0, it goes on for as long as it waits. So a handler can wait
// for 2 s for a holder and still answer at once when Redis is down.
func WithMaxOutage(d time.Duration) AcquireOption {
	return acquireOption(func(c *callConfig) { c.maxOutage = d })
}

// WithRetryInterval sets how soon a waiting [Locker.Acquire] tries again if no message comes; 100
// ms by default; it must be positive. It is a fallback: as a rule a release calls the next one at
// once. The first pause is one interval, and one more for each who stands before. It doubles with
// each try, up to eight intervals and to 3.3 s, also if the interval is longer, and is spread at
// random by half of itself. A lock that is about to expire is tried at its expiry. Where programs
// that use another library take the same lock by turns, the first waiter asks for all who stand
// behind it: as often as every 5 ms.
func WithRetryInterval(d time.Duration) AcquireOption {
	return acquireOption(func(c *callConfig) { c.retryInterval = d })
}

// WithAutoRenewal says whether the lock is renewed in the background, every third of its TTL, until
// it is released, lost, or at the end of [WithMaxHold]. By default it is not, except under
// [Locker.Do], [Locker.TryDo], [Locker.Once] and [Locker.Lead].
//
// Without renewal and without a release the key lives for exactly its TTL: a guard against
// duplicates, say, may outlive the process that set it.
func WithAutoRenewal(on bool) AcquireOption {
	choice := renewalOff
	if on {
		choice = renewalOn
	}
	return acquireOption(func(c *callConfig) { c.renewal = choice })
}

// WithMaxHold bounds automatic renewal: it never carries the lock past d after the acquisition, and
// a lock that ends this way reports [ErrLost]. d is at least the TTL; by default, and with 0, there
// is no bound. [Handle.Extend] is not bound by it.
//
// Nothing ends renewal alone: take a lock that is to run out by itself without renewal, and extend
// it while it is needed.
func WithMaxHold(d time.Duration) AcquireOption {
	return acquireOption(func(c *callConfig) { c.maxHold = d })
}

// WithMinHold keeps the resource locked for at least d after the acquisition, up to 10 years; by
// default, and with 0, there is no such time. A [Handle.Release] before that ends the handle as
// always, but leaves the keys on the nodes until then, and so does an [Handle.Extend] to less. They
// stay over a crash too: the lock is acquired for d if that is more than its TTL. A node that hangs
// during Release may keep them for longer, by as long as it hung.
//
// This is for jobs that many hosts start at nearly the same time, where the first one may be done
// before the last one's clock says that it is time: see [Locker.Once].
func WithMinHold(d time.Duration) AcquireOption {
	return acquireOption(func(c *callConfig) { c.minHold = d })
}

// WithOwner sets the label under which [Locker.Inspect] and the errors of others show the lock: at
// most 256 bytes of any kind, "host:pid" by default. Given to one acquisition, it can say exactly
// who holds the lock: a request, a pod. It identifies nothing: ownership depends on the random part
// of the token alone. The label becomes part of the token, so whoever can read the lock keys can
// read it.
func WithOwner(label string) AcquireOption {
	return acquireOption(func(c *callConfig) { c.owner = label })
}

// WithKeyPrefix sets what stands before each resource's name in its key: prefix, a colon, resource.
// The default is "lock". With "" the key is the resource itself, so that locks which redsync or
// redislock take under that key exclude ours, and ours theirs.
func WithKeyPrefix(prefix string) Option {
	return lockerOption(func(c *config) { c.prefix = prefix })
}

// WithNodeTimeout sets how long a node may take to answer before an operation goes on without it,
// and so the longest that any attempt takes when nodes hang. It must be positive and below the TTL;
// an [Handle.Extend] to less than that waits for no longer than what it asks for.
//
// By default it is a quarter of the operation's TTL, but at least 20 ms and at most 1 s; and a
// distant node that has never answered gets the time that its first connection takes. It is kept
// whatever timeouts the Redis client has. A call may time out early by up to a 32nd, to share a
// timer.
func WithNodeTimeout(d time.Duration) Option {
	return lockerOption(func(c *config) {
		c.nodeTimeout = d
		if d <= 0 {
			c.reject("node timeout must be positive, not %v", d)
		}
	})
}

// WithDriftFactor sets how much faster than this process's clock a node's clock may run, as a
// fraction: at least 0, below 1, 0.01 by default. A lock is trusted for TTL - (TTL*factor + 2ms)
// from the moment before its request was sent; the 2 ms cover Redis's millisecond rounding. The
// formula is that of the Redlock specification
// (https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/).
func WithDriftFactor(f float64) Option {
	return lockerOption(func(c *config) {
		c.drift = f
		if !(f >= 0 && f < 1) { // also catches NaN
			c.reject("drift factor must be at least 0 and below 1, not %v", f)
		}
	})
}

// WithLogger sets the logger for events that no call can return: renewals that are retried, locks
// that were lost, waits that an outage holds up, nodes that fail and answer again. Without
// it, or with nil, the Locker is silent. No lock waits for the logger: records that it does not
// take in time are dropped and counted.
func WithLogger(logger *slog.Logger) Option {
	return lockerOption(func(c *config) { c.logger = logger })
}

// reject records an invalid option; the first one is reported.
func (c *config) reject(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("redlock: "+format, args...)
	}
}

// newConfig applies the options to the defaults and checks the result.
func newConfig(opts []Option) (config, error) {
	c := defaultConfig()
	for i, o := range opts {
		if o == nil {
			return c, fmt.Errorf("redlock: option %d is nil", i)
		}
		o.applyTo(&c)
	}
	if c.err != nil {
		return c, c.err
	}
	return c, c.check(c.call)
}

// forCall applies the options of one acquisition to the Locker's defaults and checks the result.
func (c *config) forCall(opts []AcquireOption) (callConfig, error) {
	if len(opts) == 0 {
		return c.call, nil // checked by New
	}
	call := c.call
	for i, o := range opts {
		if o == nil {
			return call, fmt.Errorf("redlock: option %d is nil", i)
		}
		o.applyToCall(&call)
	}
	return call, c.check(call)
}

// check says whether an acquisition's settings are valid and agree with each other and with the
// Locker's.
func (c *config) check(call callConfig) error {
	if err := call.checkSigns(); err != nil {
		return err
	}
	switch {
	case call.retryInterval <= 0 || call.retryInterval > maxTTL:
		return fmt.Errorf("redlock: retry interval must be positive and at most 10 years, not %v",
			call.retryInterval)
	case call.ttl >= minTTL && c.nodeTimeout >= call.ttl:
		return fmt.Errorf("redlock: node timeout (%v) must be below the TTL (%v)", c.nodeTimeout,
			call.ttl)
	case call.maxHold > 0 && call.maxHold < call.ttl:
		return fmt.Errorf("redlock: maximum hold (%v) must not be below the TTL (%v)", call.maxHold,
			call.ttl)
	case call.maxHold > 0 && call.maxHold < call.minHold:
		return fmt.Errorf("redlock: maximum hold (%v) must not be below the minimum hold (%v)",
			call.maxHold, call.minHold)
	case call.minHold > maxTTL:
		return fmt.Errorf("redlock: minimum hold must be at most 10 years, not %v", call.minHold)
	case len(call.owner) > maxOwner:
		return fmt.Errorf("redlock: owner label must be at most %d bytes, not %d", maxOwner,
			len(call.owner))
	}
	if err := c.checkGuard("minimum hold", call.minHold); err != nil {
		return err
	}
	return c.checkTTL(call.ttl)
}

// checkSigns says whether a duration is negative that may be 0.
func (c *callConfig) checkSigns() error {
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"maximum wait", c.maxWait}, {"maximum outage", c.maxOutage},
		{"maximum hold", c.maxHold}, {"minimum hold", c.minHold},
	} {
		if d.value < 0 {
			return fmt.Errorf("redlock: %s must not be negative, but is %v", d.name, d.value)
		}
	}
	return nil
}

// checkTTL says whether a lock can have the given TTL at all, at first or by an extension.
func (c *config) checkTTL(ttl time.Duration) error {
	switch {
	case ttl < minTTL || ttl > maxTTL:
		return fmt.Errorf("redlock: TTL must be %v to 10 years, not %v", minTTL, ttl)
	case (lease.Lease{TTL: ttl, Drift: c.drift}).Length() <= 0:
		return fmt.Errorf("redlock: a drift factor of %v leaves nothing of a TTL of %v", c.drift,
			ttl)
	}
	return c.checkGuard("TTL", ttl)
}
