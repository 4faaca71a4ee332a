package deploy_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock"
	"github.com/rediskit/redlock/internal/redistest"
)

// open returns a Locker whose nodes may take long: this machine may be busy.
func open(t *testing.T, clients []*redis.Client) *redlock.Locker {
	t.Helper()
	l, err := redlock.New(clients, redlock.WithNodeTimeout(10*time.Second),
		redlock.WithTTL(longestTTL))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

func TestSettingsAreInForce(t *testing.T) {
	s := newServer(t, composeCommandLines(t)[0])
	s.start(t)
	for setting, want := range map[string]string{
		"appendonly":                "yes",
		"appendfsync":               "always",
		"no-appendfsync-on-rewrite": "no",
		"aof-load-truncated":        "yes",
		"save":                      "",
		"maxmemory":                 "268435456",
		"maxmemory-policy":          "noeviction",
		"replica-priority":          "0",
		"timeout":                   "0",
		"tcp-keepalive":             "60",
		"maxclients":                "10000",
		"latency-monitor-threshold": "20",
		"slowlog-log-slower-than":   "10000",
	} {
		got, err := s.admin(t).ConfigGet(soon(t), setting).Result()
		require.NoError(t, err)
		require.Equal(t, map[string]string{setting: want}, got)
	}
}

func TestLocksOutliveACrashOfAllServers(t *testing.T) {
	servers := three(t)
	ctx := soon(t)
	h, err := open(t, lockers(t, servers)).TryAcquire(ctx, "order:42")
	require.NoError(t, err)
	hasIt := func(s *server) bool { return s.admin(t).Get(ctx, "lock:order:42").Val() == h.Token() }
	for _, s := range servers { // a majority has it; the third may be about to get it
		require.Eventually(t, func() bool { return hasIt(s) }, limit, 5*time.Millisecond)
	}

	for _, s := range servers {
		s.kill(t)
		s.start(t)
	}

	other := open(t, lockers(t, servers))
	_, err = other.TryAcquire(ctx, "order:42")
	require.ErrorIs(t, err, redlock.ErrHeld)
	for _, s := range servers {
		require.True(t, hasIt(s), "each of the three has it")
	}
	adopted, err := other.Adopt(ctx, []string{"order:42"}, h.Token())
	require.NoError(t, err)
	require.NoError(t, adopted.Release(ctx))
}

// What appendfsync always is there for: with everysec, whoever has just got a lock may have it no
// more after a power cut.
func TestPowerCutTakesBackTheLastSecondWithoutFsyncAlways(t *testing.T) {
	servers := redistest.StartN(t, 3, redistest.WithAOF(redistest.FsyncEverySecond))
	ctx := soon(t)
	onDisk := make([]redistest.DiskState, len(servers))
	for i, s := range servers {
		onDisk[i] = s.DiskState(t)
	}
	h, err := open(t, redistest.Clients(t, servers)).TryAcquire(ctx, "order:42")
	require.NoError(t, err)

	for i, s := range servers {
		s.PowerCut(t, onDisk[i])
		s.Restart(t)
	}
	_, err = open(t, redistest.Clients(t, servers)).TryAcquire(ctx, "order:42")
	require.NoError(t, err, "nobody remembers the first owner")
	require.NoError(t, h.Err(), "who counts on the lock still")
}

func TestFullServersRefuseNewLocksAndKeepThoseThatAreHeld(t *testing.T) {
	servers := three(t)
	ctx := soon(t)
	l := open(t, lockers(t, servers))
	h, err := l.TryAcquire(ctx, "held")
	require.NoError(t, err)

	for _, s := range servers {
		require.NoError(t, s.admin(t).ConfigSet(ctx, "maxmemory", "1").Err())
	}
	_, err = l.TryAcquire(ctx, "new")
	require.ErrorIs(t, err, redlock.ErrNoQuorum)
	require.ErrorContains(t, err, "OOM")
	require.NoError(t, h.Extend(ctx, longestTTL))
	require.NoError(t, h.Release(ctx))
}

func TestUsersMayDoNoMoreThanTheyNeed(t *testing.T) {
	s := newServer(t, composeCommandLines(t)[0])
	s.start(t)
	ctx := soon(t)

	_, err := s.as(t, "", "").Ping(ctx).Result()
	require.ErrorContains(t, err, "NOAUTH")
	health := s.as(t, "health", "whatever")
	require.NoError(t, health.Ping(ctx).Err())
	locker := s.as(t, "locker", s.users.locker)
	require.NoError(t, locker.SetNX(ctx, "lock:a", "mine", time.Minute).Err())
	admin := s.admin(t)
	require.NoError(t, admin.Set(ctx, "other", "value", 0).Err())

	for _, denied := range []error{
		health.Get(ctx, "lock:a").Err(),
		health.Info(ctx).Err(),
		locker.Get(ctx, "other").Err(),
		locker.FlushAll(ctx).Err(),
		locker.ConfigSet(ctx, "appendfsync", "no").Err(),
		locker.Keys(ctx, "*").Err(),
	} {
		require.ErrorContains(t, denied, "NOPERM")
	}
	// Protected mode is for a default user without a password.
	require.NotContains(t, admin.Do(ctx, "ACL", "LIST").String(), "default on")
	require.NotContains(t, admin.Do(ctx, "ACL", "LIST").String(), "default off nopass")
}

// The user for locks has the permissions that the library's README names, and no others.
func TestLockerIsTheUserOfTheReadme(t *testing.T) {
	rules := func(file, pattern string) []string {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		found := regexp.MustCompile(pattern).FindSubmatch(text)
		require.NotNil(t, found, file)
		fields := strings.Fields(string(found[1]))
		fields = slices.DeleteFunc(fields,
			func(f string) bool { return strings.ContainsAny(f[:1], "#>") })
		slices.Sort(fields)
		return fields
	}
	require.Equal(t,
		rules("../README.md", `(?m)^ACL SETUSER locker (.*)$`),
		rules("users.acl.template", `(?m)^user locker (.*)$`),
		"users.acl.template and README.md differ")
}

// README.md's user for the monitoring can be added to users.acl as it stands there, and may ask
// what the page says.
func TestMonitorMayAskWhatTheReadmeSays(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	line := regexp.MustCompile(`(?m)^ +(user monitor on #)SHA256( .*)$`).FindSubmatch(readme)
	require.NotNil(t, line)
	s := newServer(t, composeCommandLines(t)[0])
	users, err := os.OpenFile(filepath.Join(s.dir, "users.acl"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = fmt.Fprintf(users, "%s%x%s\n", line[1], sha256.Sum256([]byte("secret")), line[2])
	require.NoError(t, errors.Join(err, users.Close()))
	s.start(t)

	ctx := soon(t)
	monitor := s.as(t, "monitor", "secret")
	for _, question := range []string{
		"ping", "info persistence", "info stats", "info memory", "info server", "info replication",
		"latency history aof-fsync-always", "slowlog get", "config get appendfsync",
		"config get maxmemory-policy",
	} {
		var args []any
		for _, word := range strings.Fields(question) {
			args = append(args, word)
		}
		require.NoError(t, monitor.Do(ctx, args...).Err(), question)
	}
	require.ErrorContains(t, monitor.ConfigSet(ctx, "appendfsync", "no").Err(), "NOPERM")
	require.ErrorContains(t, monitor.Get(ctx, "lock:a").Err(), "NOPERM")
}

func TestServerDoesNotStartWithTheBareTemplate(t *testing.T) {
	s := newServer(t, composeCommandLines(t)[0])
	template, err := os.ReadFile("users.acl.template")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "users.acl"), template, 0o600))
	if s.launch(t) {
		s.kill(t)
		require.Fail(t, "it has started, with passwords that everybody knows")
	}
	require.Contains(t, s.output.String(), "users.acl")
}

// A probe that says yes to a server that is gone, or no to one that is well, is worse than none.
func TestProbesTellALiveServerFromADeadOne(t *testing.T) {
	probes := append(composeProbes(t), kubernetesProbes(t)...)
	s := newServer(t, composeCommandLines(t)[0])
	s.start(t)
	run := func(probe []string) error {
		cli, err := exec.LookPath(probe[0])
		require.NoError(t, err)
		return exec.CommandContext(soon(t), cli,
			append([]string{"-s", s.socket()}, probe[1:]...)...).Run()
	}
	for _, probe := range probes {
		require.NoError(t, run(probe), "%v", probe)
	}
	require.NoError(t, s.admin(t).Do(soon(t), "ACL", "SETUSER", "health", "off").Err())
	for _, probe := range probes {
		require.Error(t, run(probe), "%v: an error reply is no yes", probe)
	}
	s.kill(t)
	for _, probe := range probes {
		require.Error(t, run(probe), "%v", probe)
	}
}
