package redistest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	// ErrNoRedis says that there is no redis-server in PATH, and that the
	// environment names no other.
	ErrNoRedis = errors.New("redistest: redis-server not found: install Redis 6.2 or later " +
		"(Debian: apt-get install redis-server, macOS: brew install redis)")
	// ErrNotRunning says that the process is down: killed, stopped, closed or
	// ended by itself.
	ErrNotRunning = errors.New("redistest: server is not running")

	errPortTaken = errors.New("port taken by somebody else")
)

// Limits for things that take milliseconds on an idle machine.
const (
	readyTimeout = 20 * time.Second
	exitTimeout  = 20 * time.Second
	pollEvery    = 2 * time.Millisecond
)

// Server is one redis-server process with its port and directory. It is safe for
// concurrent use. A server is down after Kill and Stop, and when the process has
// ended by itself; Restart brings it back at the same address.
type Server struct {
	binary  string
	version Version
	dir     string
	config  *config
	port    port
	busPort port // of the cluster bus, if there is one

	mu    sync.Mutex
	proc  *process      // guarded by mu; the latest one, perhaps ended
	admin *redis.Client // guarded by mu; connected to proc
}

// Start runs a redis-server until the end of the test, with no persistence
// unless an option says otherwise, and returns when it answers. Without a
// server to run the test is skipped (see the package comment).
func Start(tb testing.TB, opts ...Option) *Server {
	tb.Helper()
	return StartN(tb, 1, opts...)[0]
}

// StartN runs n independent servers, started side by side.
func StartN(tb testing.TB, n int, opts ...Option) []*Server {
	tb.Helper()
	servers, errs := make([]*Server, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		dir := tb.TempDir()
		wg.Add(1)
		go func() {
			defer wg.Done()
			servers[i], errs[i] = Launch(dir, opts...)
		}()
	}
	wg.Wait()
	for _, s := range servers {
		if s != nil {
			tb.Cleanup(func() { closeOrFail(tb, s) })
		}
	}
	if err := errors.Join(errs...); err != nil {
		refuse(tb, err)
	}
	return servers
}

// refuse ends a test that could not get its servers.
func refuse(tb testing.TB, err error) {
	tb.Helper()
	required := os.Getenv("REDLOCK_REQUIRE_REDIS") == "1"
	switch {
	case errors.Is(err, ErrNoRedis) && !required:
		tb.Skip(ErrNoRedis)
	case errors.Is(err, ErrNoFakeClock) && (!required || runtime.GOOS != "linux"):
		tb.Skip(ErrNoFakeClock)
	default:
		tb.Fatal(err)
	}
}

func closeOrFail(tb testing.TB, c interface{ Close() error }) {
	tb.Helper()
	if err := c.Close(); err != nil {
		tb.Error(err)
	}
}

// Launch is Start for programs: it reports errors, ErrNoRedis among them, and
// the caller closes the server. Its files go to dir, which is created if needed
// and not removed.
func Launch(dir string, opts ...Option) (*Server, error) {
	binary, version, err := findServer()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	s := &Server{binary: binary, version: version, dir: dir, config: newConfig(version, opts)}
	for range 10 {
		if err = s.launch(); !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// launch makes one try on fresh ports.
func (s *Server) launch() (err error) {
	if s.config.cluster {
		s.port, s.busPort, err = takeClusterPorts()
	} else {
		s.port, err = takePort(lastPort)
	}
	if err != nil {
		return err
	}
	text := s.config.text(s.port.number)
	if err = os.WriteFile(filepath.Join(s.dir, confName), []byte(text), 0o644); err == nil {
		err = s.Relaunch()
	}
	if err != nil {
		s.freePorts()
	}
	return err
}

func (s *Server) freePorts() {
	s.port.free()
	s.busPort.free()
}

// Addr is the host and port, the same over restarts.
func (s *Server) Addr() string { return s.port.address() }

// Dir is where the process runs and keeps its log, configuration and
// append-only file.
func (s *Server) Dir() string { return s.dir }

// Client returns a new go-redis client with stock options: only Addr is set. The
// test's end closes it.
func (s *Server) Client(tb testing.TB) *redis.Client {
	tb.Helper()
	return newClient(tb, s.Addr())
}

// Clients returns one stock client per server.
func Clients(tb testing.TB, servers []*Server) []*redis.Client {
	tb.Helper()
	clients := make([]*redis.Client, len(servers))
	for i, s := range servers {
		clients[i] = s.Client(tb)
	}
	return clients
}

func newClient(tb testing.TB, addr string) *redis.Client {
	client := redis.NewClient(&redis.Options{Addr: addr})
	tb.Cleanup(func() { _ = client.Close() }) // the test may have closed it
	return client
}

// Proxy puts a proxy in front of the server until the end of the test.
func (s *Server) Proxy(tb testing.TB) *Proxy {
	tb.Helper()
	return NewProxy(tb, s.Addr())
}

// Running reports whether the process exists, paused or not.
func (s *Server) Running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc != nil && s.proc.alive()
}

// Pause stops the process with SIGSTOP and returns when it has stopped. The
// kernel goes on accepting connections and bytes for it, and the clock goes on:
// what was sent meanwhile runs after Resume, and keys may have expired.
func (s *Server) Pause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.proc.signal(sigStop); err != nil {
		return err
	}
	return waitStopped(s.proc)
}

// Resume lets a paused process go on. On one that is not paused it does nothing.
func (s *Server) Resume() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc.signal(sigCont)
}

// Kill ends the process with SIGKILL, paused or not, and waits for its end. On a
// server that is down it does nothing.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kill()
}

// kill is called with s.mu held.
func (s *Server) kill() error {
	if s.admin != nil {
		_ = s.admin.Close() // its connections go with the process
		s.admin = nil
	}
	if s.proc == nil {
		return nil
	}
	return s.proc.kill()
}

// Stop shuts the process down in order (SIGTERM: it flushes and syncs its
// append-only file), resuming it if it is paused, and waits for its end. On a
// server that is down it does nothing.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sig := range []os.Signal{syscall.SIGTERM, sigCont} {
		// a stopped process handles no signal
		if err := s.proc.signal(sig); err != nil && !errors.Is(err, ErrNotRunning) {
			return err
		}
	}
	waitErr := s.proc.wait(exitTimeout)
	return errors.Join(waitErr, s.kill())
}

// Close kills the process and gives its port up. It may be called twice; a
// closed server must not be restarted.
func (s *Server) Close() error {
	err := s.Kill()
	s.freePorts()
	return err
}

// Restart kills the process if it runs and starts it again at the same address
// and in the same directory: with an append-only file the data is back,
// otherwise the server is empty. It returns when the server answers.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	if err := s.Relaunch(); err != nil {
		tb.Fatal(err)
	}
}

// Relaunch is Restart for programs.
func (s *Server) Relaunch() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.kill(); err != nil {
		return err
	}
	args := []string{confName}
	if s.config.sentinel {
		args = append(args, "--sentinel")
	}
	var env []string
	if s.config.fakeClock {
		var err error
		if env, err = clockEnv(s.dir); err != nil {
			return err
		}
	}
	proc, err := startProcess(s.dir, env, s.binary, args...)
	if err != nil {
		return fmt.Errorf("redistest: start redis-server: %w", err)
	}
	s.proc = proc
	s.admin = s.newAdmin()
	if err := s.awaitReady(); err != nil {
		return errors.Join(err, s.kill())
	}
	return nil
}

func (s *Server) newAdmin() *redis.Client {
	opts := &redis.Options{
		Addr:       s.Addr(),
		Username:   adminUser,
		Password:   adminPassword,
		MaxRetries: -1, // a helper's command runs once or the test hears of it
		PoolSize:   4,
	}
	if s.config.sentinel && s.version.Before(6, 2) { // it has no users
		opts.Username, opts.Password = "", ""
	}
	return redis.NewClient(opts)
}

// awaitReady is called with s.mu held.
func (s *Server) awaitReady() error {
	deadline := time.Now().Add(readyTimeout)
	err := s.ping()
	for ; err != nil; err = s.ping() {
		if !s.proc.alive() {
			return s.explainExit()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("redistest: %s not ready within %v: %w", s.Addr(), readyTimeout, err)
		}
		time.Sleep(pollEvery)
	}
	return s.checkIdentity()
}

// ping asks over a connection of its own. A go-redis client would log every
// refused dial, and start a goroutine that dials again.
func (s *Server) ping() error {
	conn, err := net.DialTimeout("tcp", s.Addr(), time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := fmt.Fprint(conn, "PING\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	// A server that wants a password is up; one that is loading is not.
	if strings.HasPrefix(line, "+PONG") || strings.HasPrefix(line, "-NOAUTH") ||
		strings.HasPrefix(line, "-NOPERM") {
		return nil
	}
	return errors.New(strings.TrimSpace(line))
}

// checkIdentity makes sure that the answer came from our child, not from a
// stranger who was faster at the port.
func (s *Server) checkIdentity() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	info, err := s.admin.Info(ctx, "server").Result()
	if err == nil && strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", s.proc.pid())) {
		return nil
	}
	if s.proc.wait(time.Second) == nil {
		return s.explainExit()
	}
	return errors.Join(fmt.Errorf("redistest: %s is not the server just started", s.Addr()), err)
}

// explainExit turns the log of a process that ended at once into an error.
func (s *Server) explainExit() error {
	log, err := os.ReadFile(filepath.Join(s.dir, logName))
	if err != nil {
		return err
	}
	if strings.Contains(string(log), "Address already in use") {
		return fmt.Errorf("redistest: %s: %w", s.Addr(), errPortTaken)
	}
	return fmt.Errorf("redistest: redis-server exited:\n%s", log)
}

// Do runs a command with all rights over a connection that no test shares, and
// fails the test if the server reports an error. A nil reply is nil.
func (s *Server) Do(tb testing.TB, args ...any) any {
	tb.Helper()
	// Not tb.Context: clean-ups run commands too, and it has ended by then.
	reply, err := s.do(context.Background(), args...)
	if err != nil {
		tb.Fatalf("redistest: %v: %v", args, err)
	}
	return reply
}

// Command is Do for programs.
func (s *Server) Command(ctx context.Context, args ...any) (any, error) {
	return s.do(ctx, args...)
}

func (s *Server) do(ctx context.Context, args ...any) (any, error) {
	s.mu.Lock()
	admin, alive := s.admin, s.proc.alive()
	s.mu.Unlock()
	if admin == nil || !alive {
		return nil, ErrNotRunning
	}
	reply, err := admin.Do(ctx, args...).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return reply, err
}

// Keys lists all keys in order.
func (s *Server) Keys(tb testing.TB) []string {
	tb.Helper()
	found, _ := s.Do(tb, "keys", "*").([]any)
	keys := make([]string, len(found))
	for i := range found {
		keys[i], _ = found[i].(string)
	}
	slices.Sort(keys)
	return keys
}
