package redistest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

// verdict is a testing.TB that notes how a test was ended.
type verdict struct {
	testing.TB
	got string
}

func (v *verdict) Skip(...any)  { v.end("skip") }
func (v *verdict) Fatal(...any) { v.end("fatal") }

func (v *verdict) end(how string) {
	v.got = how
	runtime.Goexit()
}

// verdictOfStart says how a test ends that starts a server.
func verdictOfStart(t *testing.T) string {
	t.Helper()
	v, ended := &verdict{TB: t}, make(chan struct{})
	go func() {
		defer close(ended)
		redistest.Start(v)
	}()
	<-ended
	return v.got
}

func TestMissingRedisSkipsUnlessRequired(t *testing.T) {
	t.Setenv("REDLOCK_REDIS_SERVER", "")
	t.Setenv("PATH", "")
	for required, want := range map[string]string{"": "skip", "0": "skip", "1": "fatal"} {
		t.Setenv("REDLOCK_REQUIRE_REDIS", required)
		require.Equal(t, want, verdictOfStart(t), "REDLOCK_REQUIRE_REDIS=%q", required)
	}
}

func TestMissingChosenServerNeverSkips(t *testing.T) {
	t.Setenv("REDLOCK_REQUIRE_REDIS", "")
	t.Setenv("REDLOCK_REDIS_SERVER", filepath.Join(t.TempDir(), "nothing"))
	require.Equal(t, "fatal", verdictOfStart(t))
}

// script writes an executable shell script.
func script(t *testing.T, line string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "server")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+line+"\n"), 0o755))
	return path
}

func TestChosenServerIsRun(t *testing.T) {
	redistest.Start(t) // or skip
	behind := os.Getenv("REDLOCK_REDIS_SERVER")
	if behind == "" {
		behind = "redis-server"
	}
	chosen := script(t, `echo "$@" >>"$0.calls"; exec '`+behind+`' "$@"`)
	t.Setenv("REDLOCK_REDIS_SERVER", chosen)

	redistest.Start(t)
	redistest.Start(t)
	calls, err := os.ReadFile(chosen + ".calls")
	require.NoError(t, err)
	require.Equal(t, "--version\nredis.conf\nredis.conf\n", string(calls))
}

func TestVersionIsWhatTheServerSays(t *testing.T) {
	s := redistest.Start(t)
	v := s.Version()
	require.Contains(t, s.Do(t, "info", "server"),
		fmt.Sprintf("%s_version:%d.%d.%d\r\n", strings.ToLower(v.Name), v.Major, v.Minor, v.Patch))
}

func TestVersionsInOrder(t *testing.T) {
	v := redistest.Version{Name: "Redis", Major: 6, Minor: 2, Patch: 14}
	require.Equal(t, "Redis 6.2.14", v.String())
	require.True(t, v.Before(7, 0))
	require.True(t, v.Before(6, 3))
	require.False(t, v.Before(6, 2))
	require.False(t, v.Before(6, 0))
	require.False(t, v.Before(5, 9))
}

func TestProgramThatIsNoServer(t *testing.T) {
	for line, want := range map[string]string{
		"echo something else": `unexpected answer "something else\n"`,
		"exit 3":              "exit status 3",
	} {
		t.Setenv("REDLOCK_REDIS_SERVER", script(t, line))
		_, err := redistest.Launch(t.TempDir())
		require.ErrorContains(t, err, want)
	}
}
