package redistest

import (
	"os/exec"
)

// Child is a process of a program's or test's own, such as its binary in another role. Like a
// server it has its own process group, and the kernel kills it if we die first.
type Child struct {
	proc *process
}

// LaunchChild starts cmd. It is waited for from then on: give cmd files, not the pipes that
// [exec.Cmd] makes and closes.
func LaunchChild(cmd *exec.Cmd) (*Child, error) {
	proc, err := runProcess(cmd)
	if err != nil {
		return nil, err
	}
	return &Child{proc}, nil
}

// Pid is the process's id.
func (c *Child) Pid() int { return c.proc.pid() }

// Exited is closed when the process has ended.
func (c *Child) Exited() <-chan struct{} { return c.proc.exited }

// ExitCode returns the exit code of a process that has ended, -1 if a signal ended it.
func (c *Child) ExitCode() int {
	<-c.proc.exited
	return c.proc.cmd.ProcessState.ExitCode()
}

// Pause stops the process with SIGSTOP and returns when it has stopped.
func (c *Child) Pause() error {
	if err := c.proc.signal(sigStop); err != nil {
		return err
	}
	return waitStopped(c.proc)
}

// Resume lets a paused process go on.
func (c *Child) Resume() error { return c.proc.signal(sigCont) }

// Kill ends the process with SIGKILL, paused or not, and waits for its end.
func (c *Child) Kill() error { return c.proc.kill() }
