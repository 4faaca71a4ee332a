package redistest

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"time"
)

// sysProcAttr ties the child to us. Its own process group keeps a Ctrl-C at the
// terminal from shutting it down before the test has seen the signal.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// waitStopped returns once SIGSTOP has taken effect: the signal is only queued
// when kill(2) returns, and the server might still run one more command.
func waitStopped(p *process) error {
	deadline := time.Now().Add(exitTimeout)
	for time.Now().Before(deadline) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid()))
		if err != nil || !p.alive() {
			return ErrNotRunning
		}
		// The state follows the command name, which is in parentheses.
		if _, state, ok := bytes.Cut(stat, []byte(") ")); ok && state[0] == 'T' {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("redistest: process %d did not stop", p.pid())
}
