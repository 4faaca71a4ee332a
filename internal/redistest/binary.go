package redistest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
)

// serverEnv names the program to run instead of the redis-server in PATH.
const serverEnv = "REDLOCK_REDIS_SERVER"

// Version is what a server's program says that it is.
type Version struct {
	Name                string // Redis, Valkey or Redict
	Major, Minor, Patch int
}

func (v Version) String() string {
	return fmt.Sprintf("%s %d.%d.%d", v.Name, v.Major, v.Minor, v.Patch)
}

// Before reports whether the server lacks what came with major.minor of Redis. The answer is right
// up to 7.2: Valkey and Redict began there and went on with numbers of their own.
func (v Version) Before(major, minor int) bool {
	return v.Major < major || v.Major == major && v.Minor < minor
}

// Version is the version of the server's program.
func (s *Server) Version() Version { return s.version }

// findServer returns the path of the program to run, and its version. If the environment names a
// program that cannot be run, the error is not ErrNoRedis: no test may be skipped for it.
func findServer() (string, Version, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		err = ErrNoRedis
	}
	if chosen := os.Getenv(serverEnv); chosen != "" {
		if path, err = exec.LookPath(chosen); err != nil {
			err = fmt.Errorf("redistest: %s: %w", serverEnv, err)
		}
	}
	if err != nil {
		return "", Version{}, err
	}
	// The server runs in a directory of its own.
	if path, err = filepath.Abs(path); err != nil {
		return "", Version{}, err
	}
	version, err := versionOf(path)
	return path, version, err
}

var versions sync.Map // path of a program to its Version

func versionOf(path string) (Version, error) {
	if known, ok := versions.Load(path); ok {
		return known.(Version), nil
	}
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		return Version{}, fmt.Errorf("redistest: %s --version: %w", path, err)
	}
	version, err := parseVersion(string(out))
	if err != nil {
		return Version{}, fmt.Errorf("redistest: %s --version: %w", path, err)
	}
	versions.Store(path, version)
	return version, nil
}

// Such as "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64
// build=ae4d7c971a948f0".
var versionText = regexp.MustCompile(`^(\w+) server v=(\d+)\.(\d+)\.(\d+)`)

func parseVersion(text string) (Version, error) {
	found := versionText.FindStringSubmatch(text)
	if found == nil {
		return Version{}, fmt.Errorf("unexpected answer %q", text)
	}
	v := Version{Name: found[1]}
	for i, number := range []*int{&v.Major, &v.Minor, &v.Patch} {
		var err error
		if *number, err = strconv.Atoi(found[2+i]); err != nil {
			return Version{}, err
		}
	}
	return v, nil
}
