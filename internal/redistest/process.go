package redistest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// Names in a server's directory.
const confName, logName = "redis.conf", "redis.log"

// process is one child. A Server has a new one after every restart.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the child has been reaped
}

// startProcess runs binary in dir, with env on top of our environment, and sends its output to a
// fresh log there.
func startProcess(dir string, env []string, binary string, args ...string) (*process, error) {
	log, err := os.Create(filepath.Join(dir, logName))
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own descriptor

	cmd := exec.Command(binary, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	return runProcess(cmd)
}

// runProcess starts cmd as a child that dies with us.
func runProcess(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = sysProcAttr()
	p := &process{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// run starts the child and reaps it. The parent-death signal fires when the
// thread that forked ends, not when the process does, so the goroutine keeps
// its thread for as long as the child lives.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.exited)

	err := p.cmd.Start()
	started <- err
	if err == nil {
		_ = p.cmd.Wait() // an exit status says nothing that a test asked for
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) alive() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// signal fails with ErrNotRunning if the child has ended.
func (p *process) signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); errors.Is(err, os.ErrProcessDone) {
		return ErrNotRunning
	} else if err != nil {
		return fmt.Errorf("redistest: signal %v: %w", sig, err)
	}
	return nil
}

// kill ends the child, stopped or not, and waits for it. SIGKILL needs no
// SIGCONT, which would let a stopped server run what is queued on its sockets.
func (p *process) kill() error {
	if err := p.signal(os.Kill); err != nil && !errors.Is(err, ErrNotRunning) {
		return err
	}
	return p.wait(exitTimeout)
}

func (p *process) wait(limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.exited:
		return nil
	case <-timer.C:
		return fmt.Errorf("redistest: process %d did not exit within %v", p.pid(), limit)
	}
}
