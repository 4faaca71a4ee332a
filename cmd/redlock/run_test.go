//go:build unix

package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

func TestRunHoldsTheLockWhileTheCommandRuns(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	p := prepare(t, servers, "run", "--ttl", "3", "job", "--", "sh", "-c",
		`echo "$REDLOCK_RESOURCE"; echo "$REDLOCK_TOKEN"; echo "fence ${REDLOCK_FENCE-none}"; read line`)
	p.Env = append(p.Env, "REDLOCK_FENCE=of-an-outer-lock")
	stdin, err := p.StdinPipe()
	require.NoError(t, err)
	p.start()
	p.expect("job")
	token := p.line()
	p.expect("fence none")
	for _, s := range servers {
		eventually(t, func() bool { return value(t, s, "job") == token },
			"the token is on all nodes")
	}
	held := time.Now()
	for time.Since(held) < 6*time.Second { // twice the TTL
		require.Equal(t, token, value(t, servers[0], "job"), "the lock is renewed")
		<-time.After(50 * time.Millisecond)
	}
	require.NoError(t, stdin.Close())
	p.finish().requireCode(t, 1) // of read, at the end of its input
	for _, s := range servers {
		require.Empty(t, s.Keys(t))
	}
}

func TestRunPassesItsInputOn(t *testing.T) {
	t.Parallel()
	p := prepare(t, one(t), "run", "job", "cat", "-")
	p.Stdin = strings.NewReader("some input\n")
	p.start()
	r := p.finish().requireCode(t, 0)
	require.Equal(t, "some input\n", r.stdout)
	require.Empty(t, r.stderr)
}

func TestRunExitsAsTheCommandDoes(t *testing.T) {
	t.Parallel()
	servers := one(t)
	file := filepath.Join(t.TempDir(), "not-executable")
	require.NoError(t, os.WriteFile(file, []byte("#!/bin/sh\n"), 0o644))
	for _, c := range []struct {
		name    string
		command []string
		want    int
	}{
		{"well", []string{"true"}, 0},
		{"with a code", []string{"sh", "-c", "exit 7"}, 7},
		{"with a code of ours", []string{"sh", "-c", "exit 124"}, 124},
		{"by a signal", []string{"sh", "-c", "kill -KILL $$"}, 128 + 9},
		{"with a hyphen", []string{"--", "sh", "-c", "exit 3"}, 3},
		{"with flags that look like ours", []string{"echo", "-n", "--ttl", "--"}, 0},
		{"not found", []string{"no-such-command"}, 127},
		{"not found by its path", []string{"/no/such/command"}, 127},
		{"not executable", []string{file}, 126},
		{"a directory", []string{"/"}, 126},
	} {
		r := redlock(t, servers, append([]string{"run", "job"}, c.command...)...)
		require.Equal(t, c.want, r.code, "%s: %s", c.name, r.stderr)
		require.Empty(t, servers[0].Keys(t), c.name)
	}
}

func TestCommandIsLookedUpBeforeTheLockIsTaken(t *testing.T) {
	t.Parallel()
	r := redlock(t, nil, "run", "--nodes", "redis://127.0.0.1:1", "job",
		"no-such-command").requireCode(t, 127)
	require.Equal(t, "redlock: no-such-command: command not found\n", r.stderr)
}

func TestHeldLockIsAConflict(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	take(t, servers, "job", time.Minute)
	for _, command := range [][]string{{"run", "job", "echo", "ran"}, {"acquire", "job"}} {
		try := func(flags ...string) result {
			args := append([]string{command[0]}, flags...)
			r := redlock(t, servers, append(args, command[1:]...)...)
			require.Empty(t, r.stdout)
			return r
		}
		r := try("-n").requireCode(t, 75)
		require.Contains(t, r.stderr, `"job" is held by "somebody"`)
		try("--no-wait", "-E", "3").requireCode(t, 3)
		require.Empty(t, try("-n", "-E", "0").requireCode(t, 0).stderr)
		require.NotEmpty(t, try("-n", "--conflict-exit-code=255").requireCode(t, 255).stderr)
		require.Contains(t, try("-n", "-E", "256").requireCode(t, 125).stderr,
			"must be 0 to 255, not 256")
		require.Contains(t, try("-n", "--conflict-exit-code=-1").requireCode(t, 125).stderr,
			"0 to 255")
		require.Contains(t, try("-n", "-w", "1").requireCode(t, 125).stderr,
			"can't be used together")
		try("-w", "0").requireCode(t, 75)
		r = try("-w", "0.5").requireCode(t, 75)
		require.GreaterOrEqual(t, r.took, 500*time.Millisecond)
		require.Contains(t, r.stderr, "the maximum wait of 500ms is over")
	}
}

func TestRunWaitsForTheLock(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	first := prepare(t, servers, "run", "job", "sh", "-c", "echo first; read line; echo done")
	stdin, err := first.StdinPipe()
	require.NoError(t, err)
	first.start()
	first.expect("first")
	second := launch(t, servers, "run", "-w", "1m", "job", "echo", "second")
	got := make(chan string, 1)
	go func() {
		line, _ := second.lines.ReadString('\n')
		got <- line
	}()
	select {
	case line := <-got:
		require.FailNow(t, "ran without the lock: "+line)
	case <-time.After(300 * time.Millisecond):
	}
	_, err = fmt.Fprintln(stdin)
	require.NoError(t, err)
	first.expect("done")
	require.Equal(t, "second\n", <-got)
	first.finish().requireCode(t, 0)
	second.finish().requireCode(t, 0)
}

func TestAlsoLocksAllOrNothing(t *testing.T) {
	t.Parallel()
	servers := one(t)
	out := redlock(t, servers, "run", "a", "--also", "b,c", "--also=d", "--", binary, "top",
		"--once", "--nodes", urls(servers)).requireCode(t, 0).stdout
	for _, name := range []string{"a", "b,c", "d"} {
		require.Contains(t, out, "\n"+name+" ")
	}
	take(t, servers, "d", time.Minute)
	r := redlock(t, servers, "run", "-n", "a", "--also=d", "true").requireCode(t, 75)
	require.Contains(t, r.stderr, `"d" is held by "somebody"`)
	require.Equal(t, []string{"lock:d"}, servers[0].Keys(t))
}

func TestMinHoldOutlastsTheCommand(t *testing.T) {
	t.Parallel()
	servers := one(t)
	redlock(t, servers, "run", "--min-hold", "60", "job", "true").requireCode(t, 0)
	ms, _ := servers[0].Do(t, "pttl", "lock:job").(int64)
	require.Greater(t, ms, int64(30_000))
	require.LessOrEqual(t, ms, int64(60_000))
	redlock(t, servers, "run", "-n", "-E0", "--min-hold", "60", "job", "echo", "ran").requireCode(t,
		0)
	require.Empty(t, redlock(t, servers, "run", "-n", "-E0", "job", "echo", "ran").requireCode(t,
		0).stdout)
}

func TestMaxHoldEndsTheCommand(t *testing.T) {
	t.Parallel()
	servers := one(t)
	// The TTL of 30 s is cut. At 1 s TERM, which the shell ignores; at 2 s KILL.
	r := redlock(t, servers, "run", "--max-hold", "2", "-k", "1", "job", "--", "sh", "-c",
		`trap "echo TERM" TERM; `+goOn).requireCode(t, 124)
	require.Equal(t, "TERM\n", r.stdout)
	require.Greater(t, r.took, 1500*time.Millisecond)
	require.Contains(t, r.stderr,
		"redlock: the lock ends in 1s and was not renewed: sh gets TERM\n")
	require.Contains(t, r.stderr, "redlock: the lock is lost: sh is killed\n")
	require.Contains(t, r.stderr, "lock lost")
	redlock(t, servers, "run", "-w", "30", "job", "true").requireCode(t, 0)
}

func TestBadFlagsAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want string
		args []string
	}{
		{"no nodes: give --nodes or set REDLOCK_NODES", []string{"run", "job", "true"}},
		{"expected a command to run", []string{"run", "--nodes=redis://a", "job"}},
		{"expected a command to run", []string{"run", "--nodes=redis://a", "job", "--"}},
		{`"soon" is not a duration`, []string{"run", "-w", "soon", "job", "true"}},
		{"unknown flag --tll", []string{"run", "--tll=3", "job", "true"}},
		{"must not be negative", []string{"run", "--ttl=-3s", "job", "true"}},
		{"TTL must be 10ms to 10 years", []string{"run", "--nodes=redis://a", "--ttl=1ms", "-k0",
			"job", "true"}},
		{"--grace must be at most half of the TTL, 5s, not 6s",
			[]string{"run", "--ttl=10", "-k", "6", "job", "true"}},
		{"maximum hold (1s) must not be below the minimum hold (2s)",
			[]string{"run", "--nodes=redis://a", "--min-hold=2", "--max-hold=1", "job", "true"}},
		{"the resource is empty", []string{"run", "--nodes=redis://a", "", "true"}},
		{"unexpected argument b", []string{"acquire", "a", "b"}},
		{"(see redlock status --help)", []string{"status"}},
		{"(see redlock --help)", []string{"lock"}},
		{"(see redlock --help)", nil},
	} {
		r := redlock(t, nil, c.args...)
		require.Equal(t, 125, r.code, "%q", c.args)
		require.Contains(t, r.stderr, c.want, "%q", c.args)
		require.True(t, strings.HasPrefix(r.stderr, "redlock: "), "%q", r.stderr)
		require.Equal(t, 1, strings.Count(r.stderr, "\n"), "%q", r.stderr)
	}
}

func TestHelpIsHelp(t *testing.T) {
	t.Parallel()
	require.Contains(t, redlock(t, nil, "--help").requireCode(t, 0).stdout,
		"redlock run nightly-report")
	require.Contains(t, redlock(t, nil, "run", "--help").requireCode(t, 0).stdout,
		"Usage: redlock run [flags] NAME [--] COMMAND [ARG...]\n")
	_, err := exec.LookPath("go")
	require.NoError(t, err)
	require.NotEmpty(t, redlock(t, nil, "--version").requireCode(t, 0).stdout)
}
