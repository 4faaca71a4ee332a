package redistest

import (
	"fmt"
	"strings"
)

// An Option changes how a server is started.
type Option func(*config)

// config is what a server is started with; lines are in redis.conf syntax.
type config struct {
	lines     []string
	cluster   bool
	sentinel  bool
	fakeClock bool
}

// Fsync says when a server with an append-only file calls fsync.
type Fsync string

// The values of appendfsync. What a killed process has written is safe in the page
// cache, so FsyncAlways and FsyncNever lose nothing that was acknowledged, and
// FsyncEverySecond loses it only while an fsync is going on, which delays the
// write: [Server.DiskState] waits for that. [Server.PowerCut] loses what
// was written too.
const (
	FsyncAlways      Fsync = "always"
	FsyncEverySecond Fsync = "everysec"
	FsyncNever       Fsync = "no"
)

// WithAOF turns the append-only file on, so that a restart keeps the data. The
// default is no persistence at all.
func WithAOF(fsync Fsync) Option {
	return func(c *config) {
		c.add("appendonly", "yes")
		c.add("appendfsync", string(fsync))
	}
}

// WithConfig adds one line to redis.conf, value as it would stand there:
// WithConfig("user", "alice on >secret ~* +@all"). Of a directive that can stand
// only once, the last one counts. An empty value is written as "".
func WithConfig(name, value string) Option {
	return func(c *config) { c.add(name, value) }
}

// withCluster gives the server a cluster bus.
func withCluster() Option {
	return func(c *config) { c.cluster = true }
}

// withSentinel runs the process as a sentinel instead of a data server.
func withSentinel() Option {
	return func(c *config) { c.sentinel = true }
}

// The library's own user, so that the helpers work whatever a test does to the
// default user and its password.
const adminUser, adminPassword = "redistest", "redistest"

func newConfig(version Version, opts []Option) *config {
	c := &config{}
	c.add("bind", "127.0.0.1")
	c.add("daemonize", "no")
	c.add("save", "")
	c.add("appendonly", "no")
	c.add("user", fmt.Sprintf("%s on >%s ~* %s +@all", adminUser, adminPassword,
		allChannels(version)))
	for _, opt := range opts {
		opt(c)
	}
	return c
}

// allChannels is the access rule for every channel. Redis 6.0 does not know it: there each user has
// them all.
func allChannels(version Version) string {
	if version.Before(6, 2) {
		return ""
	}
	return "&*"
}

func (c *config) add(name, value string) {
	if value == "" {
		value = `""`
	}
	c.lines = append(c.lines, name+" "+value)
}

// text is the whole configuration file. The port comes last, because it is ours
// to choose.
func (c *config) text(port int) string {
	lines := append([]string{}, c.lines...)
	if c.cluster {
		lines = append(lines, "cluster-enabled yes")
	}
	lines = append(lines, fmt.Sprintf("port %d", port))
	return strings.Join(lines, "\n") + "\n"
}
