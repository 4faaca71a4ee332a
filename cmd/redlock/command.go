package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/rediskit/redlock"
)

// command is COMMAND as it runs.
type command struct {
	process *os.Process
	shares  bool // our process group, and with it the signals of the terminal
	exited  chan error
	state   *os.ProcessState // set when exited has got its value
}

// lookUp finds COMMAND. It is done before the lock is taken, so that a mistyped one never waits.
func lookUp(name string) (string, error) {
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path, nil
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return "", &exit{codeNotFound, fmt.Errorf("%s: command not found", name)}
	default:
		return "", &exit{codeNotRun, fmt.Errorf("cannot run %s: %w", name, errors.Unwrap(err))}
	}
}

// start runs COMMAND under the lock that h is.
func start(path string, args []string, name string, h *redlock.Handle) (*command, error) {
	cmd := &exec.Cmd{
		Path: path, Args: args, Env: environment(name, h),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}
	c := &command{exited: make(chan error, 1)}
	c.isolate(cmd)
	if err := cmd.Start(); err != nil {
		return nil, &exit{codeNotRun, fmt.Errorf("cannot run %s: %w", args[0], err)}
	}
	c.process = cmd.Process
	go func() {
		err := cmd.Wait()
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			err = nil
		}
		c.state = cmd.ProcessState
		c.exited <- err
	}()
	return c, nil
}

// environment is ours, with the lock in place of what an outer redlock may have put there.
func environment(name string, h *redlock.Handle) []string {
	var env []string
	for _, v := range os.Environ() {
		key, _, _ := strings.Cut(v, "=")
		switch key {
		case "REDLOCK_RESOURCE", "REDLOCK_TOKEN", "REDLOCK_FENCE":
		default:
			env = append(env, v)
		}
	}
	env = append(env, "REDLOCK_RESOURCE="+name, "REDLOCK_TOKEN="+h.Token())
	if fence := h.Fence(); fence != 0 {
		env = append(env, "REDLOCK_FENCE="+strconv.FormatUint(fence, 10))
	}
	return env
}
