// Package examples_test builds every example and runs it as a user would. The examples check their
// own results, so most of the test is their exit code.
package examples_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

// A run takes a few seconds; the limit only keeps a hung one from hanging the test.
const runLimit = time.Minute

var examples = []struct {
	name string
	want []string // some lines, without the times, in order
}{
	{"quickstart", []string{
		"1. two competitors",
		"bob       tries once: ErrHeld; waits",
		"alice     is done and releases order:42",
		"bob       has order:42",
		"bob       tries report: ErrHeld, more than three TTLs later",
		"both      made 10 transfers each, in opposite directions: anna 100, ben 100",
		"bob       sees order:43 locked by alice",
		"alice     learns it from the next renewal: the work stops with ErrLost",
		"all six as promised",
	}},
	{"transfer", []string{
		"bank      opens with 100 in each of 4 accounts",
		"bank      total 400, of 400 paid in",
	}},
	{"renewal", []string{
		"first     has written page 4",
		"second    tries: ErrHeld",
		"first     is done",
		"first     is stopped by its context",
		"second    has the report",
	}},
	{"dedupe", []string{
		"broker    delivers each message twice",
		"puts mail-3 back: the mail server is not available",
		"has sent mail-3 and keeps its lock",
		"system    restarts",
		"drops mail-1: a duplicate",
		"operator  has sent mail-2 and keeps its lock",
		"janitor   releases what this run remembered",
	}},
	{"ratelimit", []string{
		"lock      acme: ",
		"script    acme: ",
	}},
	{"leader", []string{
		" leads",
		"demo  asks ",
		" leads",
		"demo  hand-over after ",
		"demo  kills ",
		" leads",
		"the dead leader's lock had to expire",
	}},
	{"deadlock", []string{
		"billing and shipping",
		"is told: redlock: acquire ",
		"waits for both at once",
		"one was told of the deadlock, and both have finished",
	}},
	{"jobqueue", []string{
		"crashes in the middle of film-2",
		"takes over film-2 from worker-",
		"ledger    each of 6 jobs finished once",
	}},
	{"cache", []string{
		"cache     is empty; 8 processes ask for the page",
		"builds the page",
		"cache     served edition 1 to all 8, built once",
		"cache     is out of date; 8 processes ask for the page",
		"builds the page",
		"of 8 meanwhile, built once",
	}},
	{"cron", []string{
		"sends the invoices",
		"sends the invoices",
		"host-a    runs the report: the printer is on fire",
		"host-b    asks for the report: ran is true",
		"host-c    asks for the report: ran is false",
		"has the backup's tick of this hour, for good",
	}},
	{"handover", []string{
		"rival     waits for the lock",
		"old       is told to stop",
		"new       adopts the lock and goes on with part 4",
		"new       is through and releases",
		"rival     has the lock, and finds the whole film",
	}},
	{"nested", []string{
		"gives up: held by another owner",
		"both      took orders, then stock, 10 times each",
		"both      took both at once, 10 times each, in opposite orders",
		"bob       closed the month 5 times",
		"alice     has orders and tries it once more: ErrHeld",
		"alice     passes on what it has",
	}},
}

// bin is the directory of the executables, which TestMain builds.
var bin string

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		os.Exit(m.Run())
	}
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (code int, err error) {
	bin, err = os.MkdirTemp("", "redlock-examples-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(bin)) }()
	args := []string{"build", "-o", bin + string(filepath.Separator)}
	if raceEnabled() {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "./...")...).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// raceEnabled reports whether the test was built with the race detector; then the examples are too.
func raceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

func TestEveryExampleShowsWhatItPromises(t *testing.T) {
	for _, example := range examples {
		t.Run(example.name, func(t *testing.T) {
			t.Parallel()
			out, err := run(t, program(t, example.name))
			require.NoError(t, err, out)
			requireInOrder(t, out, example.want)
			require.Contains(t, out, logged[example.name])
		})
	}
}

func TestEveryExampleIsTested(t *testing.T) {
	mains, err := filepath.Glob("*/main.go")
	require.NoError(t, err)
	var dirs, names []string
	for _, main := range mains {
		if _, err := os.Stat(filepath.Join(filepath.Dir(main), "go.mod")); err == nil {
			continue // a module of its own, with a test of its own
		}
		dirs = append(dirs, filepath.Dir(main))
	}
	for _, example := range examples {
		names = append(names, example.name)
	}
	require.ElementsMatch(t, dirs, names)
}

// Each example has its own copy of these files, so that it can be copied out of the repository.
func TestCopiesOfTheHelpersAreTheSame(t *testing.T) {
	for _, name := range []string{"helpers.go", "parallel.go"} {
		copies, err := filepath.Glob("*/" + name)
		require.NoError(t, err)
		require.NotEmpty(t, copies)
		first, err := os.ReadFile(copies[0])
		require.NoError(t, err)
		for _, other := range copies[1:] {
			text, err := os.ReadFile(other)
			require.NoError(t, err)
			require.Equal(t, string(first), string(text), "%s and %s", copies[0], other)
		}
	}
}

// What a user copies must compile outside this repository.
func TestExamplesImportNothingInternal(t *testing.T) {
	files, err := filepath.Glob("*/*.go")
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		if !strings.HasSuffix(file, "_test.go") {
			require.NotContains(t, string(text), "redlock/internal/", file)
		}
	}
}

// On real nodes the examples touch nothing but keys of their own, and leave none of them behind.
func TestExamplesOnRealServers(t *testing.T) {
	if testing.Short() {
		t.Skip("runs programs")
	}
	servers := redistest.StartN(t, 5)
	var addrs []string
	for _, server := range servers {
		addrs = append(addrs, server.Addr())
		require.NoError(t, server.Client(t).Set(t.Context(), "somebody else's", "value", 0).Err())
	}
	flags := []string{"-redis", strings.Join(addrs, ",")}
	t.Run("examples", func(t *testing.T) {
		for _, example := range examples {
			t.Run(example.name, func(t *testing.T) {
				t.Parallel()
				out, err := run(t, program(t, example.name), flags...)
				require.NoError(t, err, out)
				requireInOrder(t, out, example.want)
				require.Contains(t, out, logged[example.name])
				interrupt(t, program(t, example.name), flags...)
			})
		}
	})
	for _, server := range servers {
		client := server.Client(t)
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			keys, err := client.Keys(t.Context(), "*").Result()
			assert.NoError(c, err)
			assert.Equal(c, []string{"somebody else's"}, keys)
		}, 5*time.Second, 50*time.Millisecond)
	}
}

// Lost updates may even out by chance, so one of a few runs has to show them.
func TestTransfersWithoutLocksAreCaught(t *testing.T) {
	for range 10 {
		out, err := run(t, program(t, "transfer"), "-unsafe")
		if err != nil {
			require.Contains(t, out, "updates were lost")
			return
		}
	}
	t.Fatal("ten runs without locks lost no money: the audit sees nothing")
}

func TestInterruptEndsAnExampleCleanly(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("os.Interrupt cannot be sent here")
	}
	for _, example := range examples {
		t.Run(example.name, func(t *testing.T) { interrupt(t, program(t, example.name)) })
	}
}

// interrupt sends the signal as soon as the program has something to say.
func interrupt(t *testing.T, path string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())

	output := bufio.NewReader(stdout)
	_, err = output.ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	interrupted := time.Now()
	_, err = io.Copy(io.Discard, output)
	require.NoError(t, err)

	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &exit, "it cannot have shown what it promises")
	require.Equal(t, 1, exit.ExitCode(), "%v: %s", exit, stderr.String())
	require.Less(t, time.Since(interrupted), 5*time.Second)
	require.Equal(t, 1, strings.Count(stderr.String(), "\n"), "one line that says why: %s",
		stderr.String())
}

// program is the path of an example's executable.
func program(t *testing.T, name string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("runs programs")
	}
	return filepath.Join(bin, name)
}

// run returns what the program wrote to both of its outputs.
func run(t *testing.T, path string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s did not run: %v", path, err)
	}
	return string(out), err
}

// logged is what examples log, at any place: a Locker logs on a goroutine of its own, for which no
// call waits.
var logged = map[string]string{"deadlock": `level=WARN msg="redlock: deadlock: `}

func requireInOrder(t *testing.T, out string, want []string) {
	t.Helper()
	rest := out
	for _, line := range want {
		_, after, found := strings.Cut(rest, line)
		require.True(t, found, "%q is missing, or not where it belongs:\n%s", line, out)
		rest = after
	}
}
