//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rediskit/redlock/internal/history"
	"github.com/rediskit/redlock/internal/redistest"
)

// fleet is the client processes. One that dies is replaced.
type fleet struct {
	settings settings
	clock    clock
	log      *history.Log
	brief    func(side int) masters
	registry string // where the registers are
	origin   time.Duration
	members  []*member
	errors   *troubles
}

// member is one client process after the other.
type member struct {
	fleet *fleet
	index int
	done  chan struct{} // closed when the last process has ended

	mu       sync.Mutex
	child    *redistest.Child // guarded by mu
	stdin    *os.File         // guarded by mu; its end is the wish to stop
	born     int              // guarded by mu; processes so far
	stopping bool             // guarded by mu
}

// troubles collects what must not happen to the soak itself.
type troubles struct {
	mu   sync.Mutex
	errs []error // guarded by mu
}

func (t *troubles) add(err error) {
	if err == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.errs = append(t.errs, err)
}

func (t *troubles) list() []error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.errs)
}

// launch starts all members.
func (f *fleet) launch() error {
	for i := range f.settings.Clients {
		m := &member{fleet: f, index: i, done: make(chan struct{})}
		stdout, stderr, err := m.start()
		if err != nil {
			return err
		}
		f.members = append(f.members, m)
		go m.live(stdout, stderr)
	}
	return nil
}

// stop asks all members to end, waits, and kills those that do not.
func (f *fleet) stop(patience time.Duration) {
	for _, m := range f.members {
		m.stop()
	}
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for _, m := range f.members {
		select {
		case <-m.done:
		case <-limit.C:
			f.errors.add(fmt.Errorf("%s does not stop", m.name()))
			f.kill()
		}
	}
}

// kill ends whatever is left.
func (f *fleet) kill() {
	for _, m := range f.members {
		m.stop()
		_ = m.process().Kill()
		<-m.done
	}
}

func (m *member) name() string { return fmt.Sprintf("c%d", m.index) }

// side is the door by which it comes in.
func (m *member) side() int { return m.index % sides }

func (m *member) process() *redistest.Child {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.child
}

func (m *member) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopping = true
	_ = m.stdin.Close()
}

// start starts a process and returns what it says.
func (m *member) start() (stdout, stderr *os.File, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopping {
		return nil, nil, nil
	}
	m.born++
	f := m.fleet
	text, err := json.Marshal(brief{
		Name: m.name(), Settings: f.settings,
		Seed:   f.settings.Seed + uint64(m.index)<<32 + uint64(m.born)<<40,
		Origin: f.origin, Registers: f.registry, Masters: f.brief(m.side()),
	})
	if err != nil {
		return nil, nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), clientEnv+"="+string(text))
	var pipes [3][2]*os.File
	for i := range pipes {
		if pipes[i][0], pipes[i][1], err = os.Pipe(); err != nil {
			return nil, nil, err
		}
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = pipes[0][0], pipes[1][1], pipes[2][1]
	m.child, err = redistest.LaunchChild(cmd)
	for _, theirs := range []*os.File{pipes[0][0], pipes[1][1], pipes[2][1]} {
		_ = theirs.Close()
	}
	if m.stdin != nil {
		_ = m.stdin.Close()
	}
	m.stdin = pipes[0][1]
	return pipes[1][0], pipes[2][0], err
}

// live records what the process says until it ends, and starts the next one.
func (m *member) live(stdout, stderr *os.File) {
	defer close(m.done)
	for stdout != nil {
		said := make(chan string)
		go func() {
			text, _ := io.ReadAll(stderr)
			_ = stderr.Close()
			said <- string(text)
		}()
		m.listen(stdout)
		if !m.mourn(<-said) {
			return
		}
		var err error
		if stdout, stderr, err = m.start(); err != nil {
			m.fleet.errors.add(err)
			return
		}
	}
}

// listen records the events. The last one of a process that was killed may be missing, but is never
// broken.
func (m *member) listen(stdout *os.File) {
	defer stdout.Close()
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		var e history.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			m.fleet.errors.add(fmt.Errorf("%s: %w: %s", m.name(), err, lines.Bytes()))
			continue
		}
		m.fleet.log.Add(e)
	}
}

// mourn records how the process has ended, and reports whether there shall be another one.
func (m *member) mourn(said string) bool {
	code := m.process().ExitCode()
	m.mu.Lock()
	stopping := m.stopping
	m.mu.Unlock()
	if code == 0 && stopping {
		return false
	}
	m.fleet.log.Add(history.Event{Kind: history.Crashed, At: m.fleet.clock.now(), Client: m.name()})
	if code == -1 {
		return !stopping
	}
	m.fleet.errors.add(fmt.Errorf("%s ended with code %d: %s", m.name(), code,
		strings.TrimSpace(said)))
	return false
}
