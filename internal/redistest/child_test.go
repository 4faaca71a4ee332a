//go:build unix

package redistest_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

func TestChildIsPausedResumedAndKilled(t *testing.T) {
	ours, theirs, err := os.Pipe()
	require.NoError(t, err)
	defer ours.Close()
	cmd := exec.Command("sh", "-c", "read line; exit 3")
	cmd.Stdin = ours
	child, err := redistest.LaunchChild(cmd)
	require.NoError(t, err)
	t.Cleanup(func() { _ = child.Kill() }) // if the test has failed

	require.NoError(t, child.Pause())
	_, err = theirs.WriteString("go on\n")
	require.NoError(t, err)
	select {
	case <-child.Exited():
		t.Fatal("a paused process did something")
	default:
	}
	require.NoError(t, child.Resume())
	require.Equal(t, 3, child.ExitCode())
	require.ErrorIs(t, child.Pause(), redistest.ErrNotRunning)
	require.NoError(t, child.Kill(), "which changes nothing any more")

	second, err := redistest.LaunchChild(exec.Command("sleep", "60"))
	require.NoError(t, err)
	require.NoError(t, second.Kill())
	require.Equal(t, -1, second.ExitCode())
	require.NoError(t, theirs.Close())
}
