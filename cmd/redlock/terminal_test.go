//go:build unix

package main_test

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

// terminal is a redlock on a terminal of its own.
type terminal struct {
	*process
	keys   io.Writer
	mu     sync.Mutex
	screen strings.Builder // guarded by mu; all that was ever written
	closed chan struct{}   // nobody has the terminal open any more
}

// onTerminal starts a redlock on a terminal.
func onTerminal(t *testing.T, servers []*redistest.Server, args ...string) *terminal {
	t.Helper()
	term := &terminal{process: prepare(t, servers, args...), closed: make(chan struct{})}
	term.Stderr, term.SysProcAttr = nil, nil
	blocking, err := pty.StartWithSize(term.Cmd, &pty.Winsize{Rows: 10, Cols: 60})
	require.NoError(t, err)
	// One whose Close ends a Read, and so hangs up.
	fd, err := syscall.Dup(int(blocking.Fd()))
	require.NoError(t, err)
	require.NoError(t, syscall.SetNonblock(fd, true))
	require.NoError(t, blocking.Close())
	master := os.NewFile(uintptr(fd), "terminal")
	term.keys = master
	go func() {
		defer close(term.closed)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			term.mu.Lock()
			term.screen.Write(buf[:n])
			term.mu.Unlock()
			if err != nil { // EIO on Linux, EOF elsewhere
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = term.Process.Kill()
		_ = master.Close()
		<-term.closed
	})
	return term
}

// press types on the terminal.
func (term *terminal) press(keys string) {
	term.t.Helper()
	_, err := io.WriteString(term.keys, keys)
	require.NoError(term.t, err)
}

// shown returns all that was ever written.
func (term *terminal) shown() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return strings.ReplaceAll(term.screen.String(), "\r\n", "\n")
}

// shows waits until something has been written.
func (term *terminal) shows(want string) {
	term.t.Helper()
	deadline := time.Now().Add(patience)
	for !strings.Contains(term.shown(), want) {
		if time.Now().After(deadline) {
			shown := term.shown()
			require.FailNow(term.t, "not shown", "%q in %q", want, shown[max(0, len(shown)-2000):])
		}
		<-time.After(5 * time.Millisecond)
	}
}

// ends waits for the end and returns the exit code.
func (term *terminal) ends() int {
	term.t.Helper()
	timer := time.AfterFunc(patience, func() { _ = term.Process.Kill() })
	defer timer.Stop()
	_ = term.Wait()
	return term.ProcessState.ExitCode()
}

func TestCommandReadsFromTheTerminal(t *testing.T) {
	t.Parallel()
	servers := one(t)
	term := onTerminal(t, servers, "run", "job", "sh", "-c",
		`echo ready; read line; echo "got $line"; read line </dev/tty; echo "and $line"; exit 5`)
	term.shows("ready\n")
	term.press("hello\n")
	term.shows("got hello\n")
	term.press("again\n")
	term.shows("and again\n")
	require.Equal(t, 5, term.ends())
	require.Empty(t, servers[0].Keys(t))
}

// countInterrupts is a command that counts how often it is interrupted until it is terminated. A
// shell would take two that come together for one.
func countInterrupts() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	fmt.Println("ready")
	n := 0
	for s := range signals {
		if s == syscall.SIGTERM {
			break
		}
		n++
		fmt.Println("INT")
	}
	fmt.Println("interrupts:", n)
}

func TestCtrlCReachesTheCommandOnce(t *testing.T) {
	t.Parallel()
	servers := one(t)
	counter, err := os.Executable()
	require.NoError(t, err)
	term := onTerminal(t, servers, "run", "job", "env", "CLI_TEST_COUNTS=1", counter)
	term.shows("ready\n")
	term.press("\x03")
	term.shows("INT\n")
	// What a terminal sends to redlock, it sends to COMMAND too: redlock passes none of it on.
	require.NoError(t, term.Process.Signal(syscall.SIGINT))
	require.NoError(t, term.Process.Signal(syscall.SIGTERM)) // behind the INT, if that went on
	term.shows("interrupts: 1\n")
	require.Equal(t, 0, term.ends())
	require.Empty(t, servers[0].Keys(t))
}

func TestCtrlCEndsAWaitOnATerminal(t *testing.T) {
	t.Parallel()
	servers := one(t)
	take(t, servers, "job", time.Hour)
	servers[0].ResetStats(t)
	term := onTerminal(t, servers, "run", "job", "echo", "ran")
	eventually(t, func() bool { return servers[0].Stats(t)["evalsha"] > 0 }, "it waits")
	term.press("\x03")
	require.Equal(t, 130, term.ends())
}

func TestTerminalThatHangsUpEndsTheCommand(t *testing.T) {
	t.Parallel()
	servers := one(t)
	term := onTerminal(t, servers, "run", "job", "sh", "-c", "echo ready; read line; read line")
	term.shows("ready\n")
	require.NoError(t, term.keys.(io.Closer).Close())
	term.ends()
	require.Empty(t, servers[0].Keys(t))
}

func TestForceAsksOnATerminal(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	take(t, servers, "job", time.Minute)
	for _, answer := range []string{"n\n", "\n", "\x04"} {
		term := onTerminal(t, servers, "release", "--force", "job")
		term.shows(`"job": held by "somebody", expires in `)
		term.shows("Release it? [y/N] ")
		term.press(answer)
		require.Equal(t, 125, term.ends())
		require.NotEmpty(t, value(t, servers[0], "job"))
	}
	term := onTerminal(t, servers, "release", "--force", "job")
	term.shows("Release it? [y/N] ")
	term.press("y\n")
	require.Equal(t, 0, term.ends())
	term.shows(`"job" is released`)
	require.Empty(t, value(t, servers[2], "job"))
}

func TestForceLeavesWhoGetsTheLockMeanwhileAlone(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	take(t, servers, "job", time.Minute)
	term := onTerminal(t, servers, "release", "--force", "job")
	term.shows("Release it? [y/N] ")
	for _, s := range servers {
		s.Do(t, "set", "lock:job", "BBBBBBBBBBBBBBBBBBBBBB:next", "px", 60_000)
	}
	term.press("y\n")
	term.ends()
	for _, s := range servers {
		require.Contains(t, value(t, s, "job"), "next")
	}
}

func TestTopDrawsOnATerminal(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"} {
		take(t, servers, name, time.Hour)
	}
	term := onTerminal(t, servers, "top", "-i", "0.1")
	term.shows("\x1b[?1049h")
	term.shows("\x1b[H")
	term.shows("locks 9")
	term.shows("\x1b[K\na     locked  somebody  ")
	term.shows("... and 2 more") // of eleven lines, ten fit less this one
	require.NotContains(t, term.shown(), "\ni     locked")
	take(t, servers, "new", time.Hour)
	term.shows("locks 10")
	term.press("\x03")
	require.Equal(t, 130, term.ends())
	term.shows("\x1b[?25h\x1b[?1049l")
}
