package acceptance_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

// GODEBUG=fips140=only makes Go refuse every algorithm that FIPS 140 does not approve, SHA-1 among
// them.
func TestLibraryWorksInAProgramThatIsHeldToFIPS140(t *testing.T) {
	s := redistest.Start(t)
	program := filepath.Join(t.TempDir(), "strictfips")
	output, err := exec.Command("go", "build", "-o", program,
		"./testdata/strictfips").CombinedOutput()
	require.NoError(t, err, "%s", output)

	for _, mode := range []string{"off", "only"} {
		t.Run(mode, func(t *testing.T) {
			command := exec.Command(program, s.Addr())
			command.Env = append(os.Environ(), "GODEBUG=fips140="+mode)
			output, err := command.CombinedOutput()
			require.NoError(t, err, "%s", output)
			require.Equal(t, "released\n", string(output))
			requireEmpty(t, s)
		})
	}
}
