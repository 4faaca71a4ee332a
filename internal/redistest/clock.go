package redistest

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// ErrNoFakeClock says that a server's clock cannot be set: not on this machine, or not without
// WithFakeClock.
var ErrNoFakeClock = errors.New("redistest: no fake clock: it needs Linux, a C compiler (Debian: " +
	"apt-get install gcc libc6-dev) and WithFakeClock")

// Names in a server's directory.
const clockName, clockLibraryName = "clock", "clock.so"

//go:embed preload/clock.c
var clockSource string

// CanFakeClock reports whether this machine has what WithFakeClock needs.
func CanFakeClock() bool {
	_, err := exec.LookPath("cc")
	return runtime.GOOS == "linux" && err == nil
}

// WithFakeClock runs the server with a wall clock that SetClock can set. Where CanFakeClock says
// no, the server does not start.
func WithFakeClock() Option {
	return func(c *config) { c.fakeClock = true }
}

// SetClock lets the server's wall clock be off by so much from now on, also over restarts. Expiry
// follows it, on some servers a millisecond later; the server's monotonic clock goes on
// undisturbed.
func (s *Server) SetClock(offset time.Duration) error {
	if !s.config.fakeClock {
		return ErrNoFakeClock
	}
	return writeClock(filepath.Join(s.dir, clockName), offset)
}

// writeClock changes the file in place, because the server has it in memory. Eight bytes written at
// once are seen at once.
func writeClock(path string, offset time.Duration) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(binary.NativeEndian.AppendUint64(nil, uint64(offset)))
	return errors.Join(err, file.Close())
}

// clockEnv makes a process in dir look at the clock file there.
func clockEnv(dir string) ([]string, error) {
	if !CanFakeClock() {
		return nil, ErrNoFakeClock
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	clock, library := filepath.Join(dir, clockName), filepath.Join(dir, clockLibraryName)
	if _, err := os.Stat(library); err != nil {
		if err := buildClock(library); err != nil {
			return nil, err
		}
		if err := writeClock(clock, 0); err != nil {
			return nil, err
		}
	}
	return []string{"LD_PRELOAD=" + library, "REDISTEST_CLOCK=" + clock}, nil
}

func buildClock(library string) error {
	cc := exec.Command("cc", "-shared", "-fPIC", "-nostdlib", "-O1", "-o", library, "-x", "c", "-")
	cc.Stdin = strings.NewReader(clockSource)
	if out, err := cc.CombinedOutput(); err != nil {
		return fmt.Errorf("redistest: compile the clock: %w\n%s", err, out)
	}
	return nil
}
