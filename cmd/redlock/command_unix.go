//go:build unix

package main

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// isolate decides in which process group COMMAND runs. With a terminal it shares ours: in another
// one it would be stopped when it reads from the terminal, and Ctrl-C would not reach it. Without,
// it gets a group of its own, so that signals reach its children as well.
func (c *command) isolate(cmd *exec.Cmd) {
	c.shares = hasTerminal()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: !c.shares}
	dieWithUs(cmd.SysProcAttr)
}

// hasTerminal reports whether the process belongs to a terminal, wherever its standard input comes
// from.
func hasTerminal() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	tty.Close()
	return true
}

// forward passes a signal on that redlock got.
func (c *command) forward(s os.Signal) error {
	if c.shares && fromTerminal(s) {
		return nil // the terminal has sent it to COMMAND too
	}
	return c.signal(s.(syscall.Signal))
}

// terminate asks COMMAND to end.
func (c *command) terminate() error { return c.signal(syscall.SIGTERM) }

// kill ends COMMAND.
func (c *command) kill() error { return c.signal(syscall.SIGKILL) }

// killRest ends what COMMAND, which has ended, has left behind in its group.
func (c *command) killRest() error {
	if c.shares {
		return nil
	}
	return c.kill()
}

// signal sends a signal to COMMAND, or to its whole group where that is not ours. A process that
// is stopped cannot handle a signal before it goes on.
func (c *command) signal(s syscall.Signal) error {
	send := func(s syscall.Signal) error { return syscall.Kill(-c.process.Pid, s) }
	if c.shares {
		// to no other one with its number
		send = func(s syscall.Signal) error { return c.process.Signal(s) }
	}
	err := send(s)
	if err == nil && s != syscall.SIGKILL {
		err = send(syscall.SIGCONT)
	}
	if errors.Is(err, syscall.ESRCH) || errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// statusOf returns what a shell would say of how a process has ended.
func statusOf(state *os.ProcessState) int {
	if w, ok := state.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return codeSignal + int(w.Signal())
	}
	return state.ExitCode()
}
