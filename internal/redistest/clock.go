package redistest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ErrNoFakeClock says that libfaketime is missing, or that the server was started without WithFakeClock.
var ErrNoFakeClock = errors.New("redistest: no fake clock: install libfaketime (Debian: apt-get install libfaketime)")

const clockName = "clock" // in a server's directory

// CanFakeClock reports whether libfaketime and what it needs are installed.
func CanFakeClock() bool { return fakeClockLibraries() != "" }

// WithFakeClock runs the server under libfaketime, so that SetClock works. It costs each look at the clock a look at a file.
// Where libfaketime is not installed the server cannot be started: see CanFakeClock.
func WithFakeClock() Option {
	return func(c *config) { c.fakeClock = true }
}

// SetClock lets the server's wall clock be off by so much from now on, also over restarts. Expiry follows it; the server's
// monotonic clock goes on undisturbed.
func (s *Server) SetClock(offset time.Duration) error {
	if !s.config.fakeClock {
		return ErrNoFakeClock
	}
	// Not rewritten in place: the server may look at any moment.
	path := filepath.Join(s.dir, clockName)
	if err := os.WriteFile(path+".new", []byte(clockText(offset)), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func clockText(offset time.Duration) string { return fmt.Sprintf("%+.3f\n", offset.Seconds()) }

// clockEnv is what makes a process in dir look at the clock file there.
func clockEnv(dir string) ([]string, error) {
	libraries := fakeClockLibraries()
	if libraries == "" {
		return nil, ErrNoFakeClock
	}
	path, err := filepath.Abs(filepath.Join(dir, clockName))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil {
		if err := os.WriteFile(path, []byte(clockText(0)), 0o644); err != nil {
			return nil, err
		}
	}
	return []string{
		"LD_PRELOAD=" + libraries,
		"FAKETIME_TIMESTAMP_FILE=" + path,
		"FAKETIME_NO_CACHE=1",
		"FAKETIME_DONT_FAKE_MONOTONIC=1",
	}, nil
}

// fakeClockLibraries is what has to be preloaded, "" if something is missing. Without the first, redis-server, which brings
// its own malloc, does not start under the second.
func fakeClockLibraries() string {
	var found []string
	for _, name := range []string{"libc_malloc_debug.so.0", "faketime/libfaketime.so.1"} {
		for _, dir := range []string{"/usr/lib/*-linux-gnu*", "/usr/lib64", "/usr/lib"} {
			if paths, _ := filepath.Glob(filepath.Join(dir, name)); len(paths) > 0 {
				found = append(found, paths[0])
				break
			}
		}
	}
	if len(found) < 2 {
		return ""
	}
	return strings.Join(found, ":")
}
