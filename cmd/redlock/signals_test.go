//go:build unix

package main_test

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// hearAll has the programs that the tests run get all signals, whoever runs the tests: a process
// ignores what its parent does, and nohup ignores SIGHUP. What the tests' own process has a handler
// for, it does not.
func hearAll() {
	for _, s := range []os.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1,
		syscall.SIGUSR2,
	} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
}

func TestSignalsGoOnToTheCommand(t *testing.T) {
	t.Parallel()
	p := launch(t, one(t), "run", "job", "sh", "-c",
		`for s in TERM HUP INT QUIT USR1 USR2; do trap "echo $s" $s; done; echo ready; `+goOn)
	p.expect("ready")
	for _, s := range []struct {
		signal syscall.Signal
		name   string
	}{
		{syscall.SIGHUP, "HUP"}, {syscall.SIGINT, "INT"}, {syscall.SIGQUIT, "QUIT"},
		{syscall.SIGUSR1, "USR1"},
		{syscall.SIGUSR2, "USR2"}, {syscall.SIGTERM, "TERM"},
	} {
		require.NoError(t, p.Process.Signal(s.signal))
		p.expect(s.name)
	}
}

func TestSignalEndsTheCommandAndItsChildren(t *testing.T) {
	t.Parallel()
	servers := one(t)
	p := launch(t, servers, "run", "job", "sh", "-c",
		`sh -c 'trap "echo child; exit" TERM; echo ready; `+goOn+`' | cat`)
	p.expect("ready")
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	p.finish().requireCode(t, 128+15)
	require.Empty(t, servers[0].Keys(t), "the lock is released")
}

func TestStoppedCommandHearsASignal(t *testing.T) {
	t.Parallel()
	p := launch(t, one(t), "run", "job", "sh", "-c",
		`trap "echo TERM; exit 4" TERM; echo $$; kill -STOP $$; `+goOn)
	pid := p.line()
	eventually(t, func() bool {
		state, err := exec.Command("ps", "-o", "stat=", "-p", pid).Output()
		require.NoError(t, err)
		return state[0] == 'T'
	}, "COMMAND is stopped")
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	p.expect("TERM")
	p.finish().requireCode(t, 4)
}

func TestSignalEndsAWait(t *testing.T) {
	t.Parallel()
	servers := one(t)
	take(t, servers, "job", 1<<40)
	for _, args := range [][]string{
		{"run", "job", "echo", "ran"}, {"acquire", "job"}, {"wait", "job"},
	} {
		for signal, want := range map[syscall.Signal]int{
			syscall.SIGTERM: 143, syscall.SIGINT: 130, syscall.SIGHUP: 129,
		} {
			servers[0].ResetStats(t)
			p := launch(t, servers, args...)
			eventually(t, func() bool { return servers[0].Stats(t)["evalsha"] > 0 }, "it waits")
			require.NoError(t, p.Process.Signal(syscall.SIGUSR1)) // is of no concern
			require.NoError(t, p.Process.Signal(signal))
			r := p.finish().requireCode(t, want)
			require.Empty(t, r.stdout)
			require.Contains(t, r.stderr, "ended by a signal")
		}
	}
	require.Equal(t, []string{"lock:job"}, servers[0].Keys(t))
}

func TestIgnoredSignalsStayIgnored(t *testing.T) {
	t.Parallel()
	servers := one(t)
	p := prepare(t, servers)
	p.Args = append([]string{"sh", "-c", `trap "" HUP; exec "$0" "$@"`, binary}, "run", "job",
		"sh", "-c", `trap "echo USR1; exit 0" USR1; echo ready; `+goOn)
	sh, err := exec.LookPath("sh")
	require.NoError(t, err)
	p.Path = sh
	p.start()
	p.expect("ready")
	require.NoError(t, p.Process.Signal(syscall.SIGHUP))
	require.NoError(t, p.Process.Signal(syscall.SIGUSR1)) // behind a HUP, if that went on
	p.expect("USR1")
	p.finish().requireCode(t, 0)
}
