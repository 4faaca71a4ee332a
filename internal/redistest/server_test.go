package redistest_test

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

func TestServersAreIndependent(t *testing.T) {
	servers := redistest.StartN(t, 3)
	clients := redistest.Clients(t, servers)
	require.NoError(t, clients[1].Set(t.Context(), "b", 1, 0).Err())
	require.NoError(t, clients[1].Set(t.Context(), "a", 1, 0).Err())

	require.Empty(t, servers[0].Keys(t))
	require.Equal(t, []string{"a", "b"}, servers[1].Keys(t))
	require.Empty(t, servers[2].Keys(t))
	require.NotEqual(t, servers[0].Addr(), servers[1].Addr())
	require.NotEqual(t, servers[0].Dir(), servers[1].Dir())
}

func TestPausedServerRunsQueuedCommandAfterResume(t *testing.T) {
	server := redistest.Start(t)
	client := connected(t, unrepeating(t, server.Addr()))

	require.NoError(t, server.Pause())
	require.True(t, server.Running())
	requireTimeout(t, hasty(client).RPush(t.Context(), "list", "queued").Err())
	require.NoError(t, client.Close())

	require.NoError(t, server.Resume())
	require.Equal(t, "queued", popped(t, server, "list"))
}

func TestKillOfPausedServerRunsNothing(t *testing.T) {
	server := redistest.Start(t, redistest.WithAOF(redistest.FsyncAlways))
	client := connected(t, unrepeating(t, server.Addr()))
	require.NoError(t, server.Pause())
	requireTimeout(t, hasty(client).Set(t.Context(), "queued", 1, 0).Err())

	require.NoError(t, server.Kill())
	require.False(t, server.Running())
	server.Restart(t)
	require.Empty(t, server.Keys(t))
}

func TestStopOfPausedServer(t *testing.T) {
	server := redistest.Start(t)
	require.NoError(t, server.Pause())
	require.NoError(t, server.Stop())
	require.False(t, server.Running())
}

func TestServerThatIsDown(t *testing.T) {
	for name, down := range map[string]func(*testing.T, *redistest.Server){
		"killed":  func(t *testing.T, s *redistest.Server) { require.NoError(t, s.Kill()) },
		"stopped": func(t *testing.T, s *redistest.Server) { require.NoError(t, s.Stop()) },
		"closed":  func(t *testing.T, s *redistest.Server) { require.NoError(t, s.Close()) },
		"ended by itself": func(t *testing.T, s *redistest.Server) {
			// the reply is the end of the connection
			_, _ = s.Command(t.Context(), "shutdown", "nosave")
			eventually(t, func() bool { return !s.Running() })
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			require.True(t, server.Running())
			down(t, server)

			require.False(t, server.Running())
			require.ErrorIs(t, server.Pause(), redistest.ErrNotRunning)
			require.ErrorIs(t, server.Resume(), redistest.ErrNotRunning)
			require.NoError(t, server.Kill())
			require.NoError(t, server.Stop())
			require.NoError(t, server.Close())
			_, err := net.Dial("tcp", server.Addr())
			require.Error(t, err)
		})
	}
}

func TestRestart(t *testing.T) {
	for name, tt := range map[string]struct {
		opts []redistest.Option
		want []string
	}{
		"without persistence": {nil, []string{}},
		"with AOF always": {[]redistest.Option{redistest.WithAOF(redistest.FsyncAlways)},
			[]string{"key"}},
		"with AOF everysec": {[]redistest.Option{redistest.WithAOF(redistest.FsyncEverySecond)},
			[]string{"key"}},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t, tt.opts...)
			addr := server.Addr()
			server.Do(t, "set", "key", 1)
			if tt.opts != nil {
				server.DiskState(t) // waits for the write
			}
			require.NoError(t, server.Kill())

			server.Restart(t)
			require.Equal(t, addr, server.Addr())
			require.Equal(t, tt.want, server.Keys(t))

			server.Restart(t) // of a running one
			require.Equal(t, tt.want, server.Keys(t))
		})
	}
}

func TestClientSurvivesRestart(t *testing.T) {
	server := redistest.Start(t)
	client := connected(t, server.Client(t))
	server.Restart(t)
	connected(t, client)
}

func TestRestartOnTakenPortFails(t *testing.T) {
	server := redistest.Start(t)
	require.NoError(t, server.Kill())
	squatter, err := net.Listen("tcp", server.Addr())
	require.NoError(t, err)
	require.ErrorContains(t, server.Relaunch(), "port taken")

	require.NoError(t, squatter.Close())
	server.Restart(t)
	require.True(t, server.Running())
}

func TestPowerCutLosesWhatWasNotOnDisk(t *testing.T) {
	server := redistest.Start(t, redistest.WithAOF(redistest.FsyncEverySecond))
	server.Do(t, "incr", "counter")
	server.Do(t, "incr", "counter")
	disk := server.DiskState(t)
	server.Do(t, "incr", "counter")

	server.PowerCut(t, disk)
	require.False(t, server.Running())
	server.Restart(t)
	require.Equal(t, "2", server.Do(t, "get", "counter"))
}

func TestHelpersWorkWhateverTheAccessRules(t *testing.T) {
	server := redistest.Start(t,
		redistest.WithConfig("requirepass", "secret"),
		redistest.WithConfig("user", "alice on >wonder ~a* +get +set"))
	require.ErrorContains(t, server.Client(t).Get(t.Context(), "key").Err(), "NOAUTH")

	server.Do(t, "set", "key", "value")
	require.Equal(t, "value", server.Do(t, "get", "key"))
	require.Nil(t, server.Do(t, "get", "missing"))
	require.Contains(t, server.Do(t, "acl", "users"), "alice")
	server.Restart(t)
	require.Empty(t, server.Keys(t))
}

func TestEmptyConfigValue(t *testing.T) {
	server := redistest.Start(t, redistest.WithConfig("save", "60 1"),
		redistest.WithConfig("save", ""))
	require.Equal(t, map[any]any{"save": ""}, server.Do(t, "config", "get", "save"))
}

func TestStatsCountCommands(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	require.Zero(t, server.CommandCount(t, "incr"))
	for range 3 {
		require.NoError(t, client.Incr(t.Context(), "n").Err())
	}
	require.NoError(t, client.ClientID(t.Context()).Err())

	require.Equal(t, 3, server.CommandCount(t, "INCR"))
	if server.Version().Before(7, 0) {
		require.NotZero(t, server.Stats(t)["client"], "with what the client sent when it connected")
	} else {
		require.Equal(t, 1, server.Stats(t)["client|id"])
	}
	server.ResetStats(t)
	require.Zero(t, server.CommandCount(t, "incr"))
}

func TestLaunchReportsWhatIsWrong(t *testing.T) {
	redistest.Start(t) // or skip
	_, err := redistest.Launch(t.TempDir(), redistest.WithConfig("no-such-directive", "1"))
	require.ErrorContains(t, err, "no-such-directive")

	t.Setenv("REDLOCK_REDIS_SERVER", "")
	t.Setenv("PATH", "")
	_, err = redistest.Launch(t.TempDir())
	require.ErrorIs(t, err, redistest.ErrNoRedis)
}

// The parent-death signal belongs to the thread that forked. If that were the
// caller's, its end would kill the server.
func TestServerOutlivesTheThreadOfItsLauncher(t *testing.T) {
	redistest.Start(t) // or skip
	launched := make(chan *redistest.Server)
	dir := t.TempDir()
	go func() {
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
		server, err := redistest.Launch(dir)
		if err != nil {
			t.Log(err)
		}
		launched <- server
	}()
	server := <-launched
	require.NotNil(t, server)
	defer server.Close()
	stays(t, server.Running)
}

func TestServerDiesWithTheTestBinary(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has a parent-death signal")
	}
	redistest.Start(t) // or skip
	orphanage := exec.Command(os.Args[0])
	orphanage.Env = append(os.Environ(), orphanDir+"="+t.TempDir())
	stdin, err := orphanage.StdinPipe()
	require.NoError(t, err)
	defer stdin.Close()
	stdout, err := orphanage.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, orphanage.Start())
	addr, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	conn, err := net.Dial("tcp", strings.TrimSpace(addr))
	require.NoError(t, err)
	defer conn.Close()

	require.NoError(t, orphanage.Process.Kill())
	_ = orphanage.Wait() // "signal: killed"
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	_, err = conn.Read(make([]byte, 1)) // returns when the server's end closes the connection
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}
