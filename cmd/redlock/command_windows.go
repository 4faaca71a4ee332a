package main

import (
	"errors"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/windows"
)

// isolate gives COMMAND a process group of its own: a Ctrl-Break can be sent to a group only. A
// Ctrl-C does not reach it there; redlock passes it on as a Ctrl-Break.
func (c *command) isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP}
}

// forward passes a signal on that redlock got.
func (c *command) forward(os.Signal) error { return c.terminate() }

// terminate asks COMMAND to end.
func (c *command) terminate() error {
	return windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, uint32(c.process.Pid))
}

// kill ends COMMAND.
func (c *command) kill() error {
	if err := c.process.Kill(); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// killRest cannot be had here: a group is no more than who gets a Ctrl-Break.
func (c *command) killRest() error { return nil }

// statusOf returns the exit code of a process.
func statusOf(state *os.ProcessState) int { return state.ExitCode() }
