//go:build unix

package main_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

// stubborn is a command that says which signals it gets and goes on, with a child that does too.
const stubborn = `trap "echo TERM" TERM; sh -c 'trap : TERM; echo $$; ` + goOn + `' & ` + goOn

func TestHungNodesEndTheCommandInTime(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	mark := filepath.Join(t.TempDir(), "mark")
	p := launch(t, servers, "run", "--ttl", "3", "-k", "1", "job", "sh", "-c",
		strings.Replace(stubborn, "echo TERM", ": > '"+mark+"'; echo TERM", 1))
	child, err := strconv.Atoi(p.line())
	require.NoError(t, err)
	began := time.Now() // the latest renewal that can succeed is before this
	pause(t, servers[0], servers[1])

	p.expect("TERM")
	marked, err := os.Stat(mark)
	require.NoError(t, err)
	r := p.finish().requireCode(t, 124)
	killed := time.Now()
	require.Greater(t, killed.Sub(marked.ModTime()), 500*time.Millisecond,
		"TERM comes a second before KILL")
	require.Less(t, killed.Sub(began), 3*time.Second+1500*time.Millisecond,
		"the process ends at the end of the lease")
	require.Empty(t, r.stdout)
	require.Contains(t, r.stderr, "sh gets TERM")
	require.Contains(t, r.stderr, "sh is killed")
	require.Contains(t, r.stderr, "renewal failed")
	eventually(t, func() bool { return !alive(child) }, "the children of COMMAND are killed too")
}

func TestCommandThatEndsWhenAskedIsNotKilled(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 1)
	p := launch(t, servers, "run", "--ttl", "3", "-k", "1.5", "job", "sh", "-c",
		`sh -c 'trap : TERM; echo $$; `+goOn+`' & trap "echo cleaned up; exit 0" TERM; `+goOn)
	child, err := strconv.Atoi(p.line())
	require.NoError(t, err)
	require.NoError(t, servers[0].Kill())
	r := p.finish().requireCode(t, 124)
	eventually(t, func() bool { return !alive(child) }, "nobody is left who works without the lock")
	require.Equal(t, "cleaned up\n", r.stdout)
	require.NotContains(t, r.stderr, "killed")
}

func TestWithoutGraceTheCommandIsKilledAtTheEnd(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 1)
	p := launch(t, servers, "run", "--ttl", "1", "-k", "0", "job", "sh", "-c",
		`trap "echo TERM" TERM; echo ready; `+goOn)
	p.expect("ready")
	pause(t, servers...)
	paused := time.Now() // the latest renewal that can succeed is before this
	r := p.finish().requireCode(t, 124)
	require.Less(t, time.Since(paused), 2500*time.Millisecond)
	require.Empty(t, r.stdout)
}

func TestOutageThatIsOverInTimeChangesNothing(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 1)
	p := prepare(t, servers, "run", "--ttl", "4", "-k", "0.5", "job", "sh", "-c",
		`echo ready; read line`)
	stdin, err := p.StdinPipe()
	require.NoError(t, err)
	p.start()
	p.expect("ready")
	require.NoError(t, servers[0].Pause())
	<-time.After(2 * time.Second) // renewals fail from 1.3 s on
	require.NoError(t, servers[0].Resume())
	<-time.After(3 * time.Second) // the first lease would be over
	_, err = stdin.Write([]byte("\n"))
	require.NoError(t, err)
	r := p.finish().requireCode(t, 0)
	require.NotContains(t, r.stderr, "TERM")
}

func TestLockThatIsTakenAwayEndsTheCommand(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	p := launch(t, servers, "run", "--ttl", "1", "job", "sh", "-c", stubborn)
	_ = p.line()
	for _, s := range servers {
		s.Do(t, "del", "lock:job")
	}
	take(t, servers, "job", time.Minute)
	r := p.finish().requireCode(t, 124)
	require.Contains(t, r.stderr, "the lock is lost: sh is killed")
	require.Contains(t, value(t, servers[0], "job"), "somebody")
}

func TestLockThatWasLostBeforeTheCommandEndedIsReported(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 1)
	p := prepare(t, servers, "run", "job", "sh", "-c", "echo ready; read line; exit 0")
	stdin, err := p.StdinPipe()
	require.NoError(t, err)
	p.start()
	p.expect("ready")
	take(t, servers, "job", time.Minute)
	require.NoError(t, stdin.Close())
	require.Contains(t, p.finish().requireCode(t, 124).stderr,
		"sh was not done before its lock ended (exit status 0)")
}

func TestCommandDiesWithRedlock(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux kills a process whose parent is killed")
	}
	servers := redistest.StartN(t, 1)
	p := launch(t, servers, "run", "--ttl", "2", "job", "sh", "-c", `echo $$; trap : TERM; `+goOn)
	pid, err := strconv.Atoi(p.line())
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	require.True(t, alive(pid))
	require.NoError(t, p.Process.Kill())
	eventually(t, func() bool { return !alive(pid) || zombie(pid) }, "COMMAND dies with redlock")
	p.finish().requireCode(t, -1) // a signal
	require.NotEmpty(t, value(t, servers[0], "job"), "the lock stays until its TTL")
	redlock(t, servers, "run", "-w", "30", "job", "true").requireCode(t, 0)
}

// zombie reports whether a process has ended and nobody has asked how.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && bytes.Contains(stat, []byte(") Z ")) // the state stands behind the name
}

func TestHungMinorityCostsLittle(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	pause(t, servers[2])
	r := redlock(t, servers, "run", "job", "true").requireCode(t, 0)
	require.Contains(t, r.stderr, "redlock: a node fails (node 2, addr "+servers[2].Addr())
	require.Less(t, r.took, 3*time.Second) // it gives the node half of that
}

func TestNoQuorumIsNoConflict(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	pause(t, servers[0])
	require.NoError(t, servers[1].Kill())
	var started []*process
	for _, args := range [][]string{
		{"run", "-n", "job", "echo", "ran"}, {"run", "-w", "0.5", "job", "echo", "ran"},
		{"acquire", "-n", "-E0", "job"},
		{"extend", "--token", "t", "job"}, {"release", "--token", "t", "job"},
		{"wait", "-w", "0.3", "job"},
		{"release", "--force", "--yes", "job"}, {"check"},
	} {
		started = append(started, launch(t, servers, args...))
	}
	for _, p := range started {
		r := p.finish()
		require.Equal(t, 69, r.code, "%q: %s", p.Args, r.stderr)
		require.Empty(t, r.stdout)
		require.NotEmpty(t, r.stderr)
		require.Less(t, r.took, 10*time.Second)
	}
}

func TestWaitThroughAnOutage(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 1)
	require.NoError(t, servers[0].Kill())
	p := launch(t, servers, "run", "job", "echo", "ran")
	eventually(t, func() bool {
		return strings.Contains(p.stderr.String(), "waiting for an outage to end")
	}, "it waits")
	servers[0].Restart(t)
	p.expect("ran")
	p.finish().requireCode(t, 0)
}
