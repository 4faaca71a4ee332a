package deploy_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

// longestTTL is what the files take for the longest TTL in use, as README.md says.
const longestTTL = 60 * time.Second

// limit is far more than anything here takes.
const limit = time.Minute

// server is a redis-server with the configuration of this directory, on a Unix socket.
type server struct {
	argv  []string
	env   []string
	dir   string
	users users

	child  *redistest.Child
	output *strings.Builder // what the process has printed; complete when logged is closed
	logged chan struct{}
}

// users has the passwords in the server's users.acl.
type users struct{ locker, admin string }

// newServer prepares a server that is started by a command line of one of the files. What the files
// call by the paths of their machine is put into a directory of the test.
func newServer(t *testing.T, commandLine []string) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "lock") // t.TempDir is too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	s := &server{dir: dir, users: makeUsers(t, dir)}

	require.Equal(t, "redis-server", filepath.Base(commandLine[0]))
	s.argv = []string{redistest.Program(t)}
	for _, arg := range commandLine[1:] {
		if strings.HasPrefix(arg, "/") {
			arg = s.place(t, arg)
		}
		s.argv = append(s.argv, arg)
	}
	s.argv = append(s.argv, "--port", "0", "--unixsocket", s.socket())
	return s
}

func (s *server) socket() string { return filepath.Join(s.dir, "socket") }

// place is where the test has what a file calls path.
func (s *server) place(t *testing.T, path string) string {
	t.Helper()
	switch {
	case filepath.Base(path) == "redis.conf":
		conf, err := filepath.Abs("redis.conf")
		require.NoError(t, err)
		return conf
	case filepath.Base(path) == "users.acl":
		return filepath.Join(s.dir, "users.acl")
	case path == "/data" || strings.HasPrefix(path, "/var/lib/redis-lock/"):
		return s.dir
	}
	require.Fail(t, "a path that the test does not know", path)
	return ""
}

// makeUsers runs the commands of README.md that make users.acl of its template.
func makeUsers(t *testing.T, dir string) users {
	t.Helper()
	template, err := os.ReadFile("users.acl.template")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "users.acl.template"), template, 0o600))
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	script := regexp.MustCompile("(?s)```sh\n([^`]*users\\.acl\\.template[^`]*)```").FindSubmatch(
		readme)
	require.NotNil(t, script, "README.md does not say how to make users.acl")

	cmd := exec.Command("sh", "-eu", "-c", string(script[1]))
	cmd.Dir = dir
	printed, err := cmd.Output()
	require.NoError(t, err)
	found := regexp.MustCompile(`(?m)^locker ([0-9a-f]{64})\nadmin  ([0-9a-f]{64})$`).FindSubmatch(
		printed)
	require.NotNil(t, found, "the passwords are not in %q", printed)
	return users{locker: string(found[1]), admin: string(found[2])}
}

// launch starts the process and reads what it prints, until it is ready or has ended.
func (s *server) launch(t *testing.T) (ready bool) {
	t.Helper()
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	cmd := exec.Command(s.argv[0], s.argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, writer, writer
	cmd.Env = append(os.Environ(), s.env...)
	s.child, err = redistest.LaunchChild(cmd)
	require.NoError(t, err)
	require.NoError(t, writer.Close()) // the child has its own

	s.output, s.logged = &strings.Builder{}, make(chan struct{})
	said := make(chan struct{})
	go s.read(reader, said)
	select {
	case <-said:
		return true
	case <-s.logged:
		return false
	case <-time.After(limit):
		require.Fail(t, "redis-server is neither ready nor gone", "%v", s.argv)
		return false
	}
}

// read collects what the process prints and closes said when it is ready.
func (s *server) read(pipe *os.File, said chan struct{}) {
	defer close(s.logged)
	defer pipe.Close()
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		s.output.WriteString(lines.Text() + "\n")
		if said != nil && strings.Contains(strings.ToLower(lines.Text()),
			"ready to accept connections") {
			close(said)
			said = nil
		}
	}
}

// start launches a server that must come up, and kills it when the test ends.
func (s *server) start(t *testing.T) {
	t.Helper()
	if !s.launch(t) {
		require.Fail(t, "redis-server does not start", s.output.String())
	}
	t.Cleanup(func() { s.kill(t) })
}

// kill is kill -9.
func (s *server) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, s.child.Kill())
	<-s.logged
}

// as returns a stock client that logs in as a user, or as nobody.
func (s *server) as(t *testing.T, user, password string) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: s.socket(), Username: user,
		Password: password})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

func (s *server) admin(t *testing.T) *redis.Client { return s.as(t, "admin", s.users.admin) }

// three starts what compose.yaml starts.
func three(t *testing.T) []*server {
	t.Helper()
	var servers []*server
	for _, commandLine := range composeCommandLines(t) {
		s := newServer(t, commandLine)
		s.start(t)
		servers = append(servers, s)
	}
	require.Len(t, servers, 3)
	return servers
}

// lockers returns a client of the user for locks for each server.
func lockers(t *testing.T, servers []*server) []*redis.Client {
	t.Helper()
	var clients []*redis.Client
	for _, s := range servers {
		clients = append(clients, s.as(t, "locker", s.users.locker))
	}
	return clients
}

// soon is a context for calls that take milliseconds.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}
