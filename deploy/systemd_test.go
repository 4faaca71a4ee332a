package deploy_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const unitFile = "redis-lock@.service"

// unit returns the settings of the unit, with the instance put in; of those that are repeated, the
// last.
func unit(t *testing.T, instance string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(unitFile)
	require.NoError(t, err)
	settings := map[string]string{}
	for _, line := range strings.Split(string(text), "\n") {
		name, value, ok := strings.Cut(line, "=")
		if ok && !strings.HasPrefix(line, "#") {
			settings[name] = strings.ReplaceAll(value, "%i", instance)
		}
	}
	return settings
}

func TestUnitStartsItsServerAgainAfterTheLongestTTL(t *testing.T) {
	u := unit(t, "6379")
	require.Equal(t, "always", u["Restart"])
	require.Equal(t, strconv.Itoa(int(longestTTL/time.Second)), u["RestartSec"])
	require.Equal(t, "0", u["StartLimitIntervalSec"])
}

func TestUnitGivesTheServerItsPlaceAndFiles(t *testing.T) {
	u := unit(t, "6379")
	require.Contains(t, u["ExecStart"], " --port 6379 ")
	require.Contains(t, u["ExecStart"], " --dir /var/lib/"+u["StateDirectory"]+" ",
		"systemd makes the directory")
	files, err := strconv.Atoi(u["LimitNOFILE"])
	require.NoError(t, err)
	clients, err := strconv.Atoi(setting(t, "maxclients"))
	require.NoError(t, err)
	require.Greater(t, files, clients+1000, "otherwise Redis takes fewer clients than it is told")
}

func TestUnitStartsAServerThatTellsSystemd(t *testing.T) {
	s := newServer(t, strings.Fields(unit(t, "6379")["ExecStart"]))
	conn, err := net.ListenUnixgram("unixgram",
		&net.UnixAddr{Name: filepath.Join(s.dir, "notify"), Net: "unixgram"})
	require.NoError(t, err)
	defer conn.Close()
	s.env = []string{"NOTIFY_SOCKET=" + filepath.Join(s.dir, "notify")}
	s.start(t)
	require.NoError(t, s.as(t, "locker", s.users.locker).SetNX(soon(t), "lock:a", "mine",
		time.Minute).Err())

	require.NoError(t, conn.SetReadDeadline(time.Now().Add(limit)))
	for said, message := "", make([]byte, 4096); !strings.Contains(said, "READY=1"); {
		n, err := conn.Read(message)
		require.NoError(t, err, "Type=notify, but the server does not say that it is ready")
		said = string(message[:n])
	}
}

// Where systemd is installed, it reads the unit itself.
func TestSystemdUnderstandsTheUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		return // the tests above have looked at what matters
	}
	text, err := os.ReadFile(unitFile)
	require.NoError(t, err)
	// It also looks for the program and the manual, which are where the machine has them.
	program, err := exec.LookPath("true")
	require.NoError(t, err)
	text = regexp.MustCompile(`(?m)^ExecStart=\S+`).ReplaceAll(text, []byte("ExecStart="+program))
	path := filepath.Join(t.TempDir(), "redis-lock@6379.service")
	require.NoError(t, os.WriteFile(path, text, 0o600))
	out, err := exec.CommandContext(soon(t), analyze, "verify", path).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Empty(t, string(out))
}
