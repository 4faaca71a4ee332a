//go:build unix

package main_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

// binary is the program that the tests run, as its users do.
var binary string

func TestMain(m *testing.M) {
	if os.Getenv("CLI_TEST_COUNTS") != "" {
		countInterrupts()
		return
	}
	hearAll()
	dir, err := os.MkdirTemp("", "redlock-cli")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "redlock")
	args := []string{"build", "-o", binary}
	if underRace {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, ".")...)
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "redlock could not be built:", err)
		os.Exit(1)
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil { // they wait most of the time
		panic(err)
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// patience is for what takes milliseconds on an idle machine.
const patience = 30 * time.Second

// process is a redlock that runs.
type process struct {
	*exec.Cmd
	t      *testing.T
	stdout io.ReadCloser
	lines  *bufio.Reader // of stdout
	stderr buffer
	began  time.Time
}

// buffer has what a process writes, and can be read meanwhile.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// prepare returns a redlock that is to be started. It has no terminal, even if the tests have one.
func prepare(t *testing.T, servers []*redistest.Server, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(binary, args...), t: t}
	p.Stderr = &p.stderr
	p.Env = slices.DeleteFunc(os.Environ(),
		func(v string) bool { return strings.HasPrefix(v, "REDLOCK_") })
	if len(servers) > 0 {
		p.Env = append(p.Env, "REDLOCK_NODES="+urls(servers))
	}
	p.WaitDelay = 5 * time.Second // a command that was left behind has the standard error open
	p.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return p
}

// launch starts a redlock, and ends it with the test if that has not waited for it.
func launch(t *testing.T, servers []*redistest.Server, args ...string) *process {
	t.Helper()
	p := prepare(t, servers, args...)
	p.start()
	return p
}

func (p *process) start() {
	p.t.Helper()
	var err error
	p.stdout, err = p.StdoutPipe()
	require.NoError(p.t, err)
	p.lines = bufio.NewReader(p.stdout)
	p.began = time.Now()
	require.NoError(p.t, p.Start())
	p.t.Cleanup(func() {
		if p.ProcessState == nil {
			_ = p.Process.Kill()
			_ = p.Wait()
		}
	})
}

// expect waits for a line of the standard output.
func (p *process) expect(want string) {
	p.t.Helper()
	line := p.line()
	require.Equal(p.t, want, line, "standard error: %s", &p.stderr)
}

// line returns the next line of the standard output.
func (p *process) line() string {
	p.t.Helper()
	timer := time.AfterFunc(patience, p.giveUp)
	defer timer.Stop()
	line, err := p.lines.ReadString('\n')
	require.NoError(p.t, err, "the standard output ended with %q; standard error: %s", line,
		&p.stderr)
	return strings.TrimSuffix(line, "\n")
}

// giveUp ends a redlock that takes too long. Its command may have the standard output open still.
func (p *process) giveUp() {
	_ = p.Process.Kill()
	_ = p.stdout.Close()
}

// result is what came of a redlock.
type result struct {
	code           int
	stdout, stderr string
	took           time.Duration
}

// finish waits for the end of a redlock.
func (p *process) finish() result {
	p.t.Helper()
	timer := time.AfterFunc(patience, p.giveUp)
	defer timer.Stop()
	stdout, err := io.ReadAll(p.lines)
	require.NoError(p.t, err)
	err = p.Wait()
	var failed *exec.ExitError
	if !errors.As(err, &failed) {
		require.NoError(p.t, err)
	}
	require.NotContains(p.t, p.stderr.String(), "DATA RACE")
	return result{p.ProcessState.ExitCode(), string(stdout), p.stderr.String(), time.Since(p.began)}
}

// redlock runs a redlock to its end.
func redlock(t *testing.T, servers []*redistest.Server, args ...string) result {
	t.Helper()
	return launch(t, servers, args...).finish()
}

// requireCode checks an exit code.
func (r result) requireCode(t *testing.T, want int) result {
	t.Helper()
	require.Equal(t, want, r.code, "standard output: %s\nstandard error: %s", r.stdout, r.stderr)
	return r
}

// urls is what --nodes is to be for these servers.
func urls(servers []*redistest.Server) string {
	all := make([]string, len(servers))
	for i, s := range servers {
		all[i] = "redis://" + s.Addr()
	}
	return strings.Join(all, ",")
}

// one starts a server.
func one(t *testing.T) []*redistest.Server {
	t.Helper()
	return redistest.StartN(t, 1)
}

// value returns what a server has under a lock's key.
func value(t *testing.T, s *redistest.Server, name string) string {
	t.Helper()
	v, _ := s.Do(t, "get", "lock:"+name).(string)
	return v
}

// take makes a stranger the owner of a lock.
func take(t *testing.T, servers []*redistest.Server, name string, ttl time.Duration) {
	t.Helper()
	for _, s := range servers {
		s.Do(t, "set", "lock:"+name, "AAAAAAAAAAAAAAAAAAAAAA:somebody", "px", ttl.Milliseconds())
	}
}

// eventually waits for a condition that an idle machine meets within milliseconds.
func eventually(t *testing.T, condition func() bool, msg string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			require.FailNow(t, "never: "+msg)
		case <-tick.C:
		}
	}
}

// pause stops servers until the end of the test.
func pause(t *testing.T, servers ...*redistest.Server) {
	t.Helper()
	for _, s := range servers {
		require.NoError(t, s.Pause())
		t.Cleanup(func() { require.NoError(t, s.Resume()) })
	}
}

// goOn is the end of a command that goes on for longer than any test, but not for ever.
const goOn = `i=0; while [ $i -lt 2000 ]; do sleep 0.02; i=$((i+1)); done`

// alive reports whether a process runs.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }
