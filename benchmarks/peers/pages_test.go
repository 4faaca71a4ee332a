package peers

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/rediskit/redlock/internal/pages"
)

func TestCodeOfMigratingCompiles(t *testing.T) {
	pages.Snippets(t, "../../docs/migrating.md", readFile(t, "testdata/scene.go"))
}

// The pages speak of versions. Whoever takes others reads the pages again.
func TestVersionsOnThePagesAreThoseThatAreTested(t *testing.T) {
	for page, sentence := range map[string]string{
		"../../README.md":         "Checked against %redsync, bsm/%redislock and %rueidislock",
		"../../docs/migrating.md": "It was written for %redsync, %redislock and %rueidislock.",
	} {
		for module, name := range map[string]string{
			"github.com/go-redsync/redsync/v4": "redsync", "github.com/bsm/redislock": "redislock",
			"github.com/redis/rueidis": "rueidislock",
		} {
			sentence = strings.ReplaceAll(sentence, "%"+name,
				name+" "+list(t, module, "{{.Version}}"))
		}
		if !strings.Contains(readFile(t, page), sentence) {
			t.Errorf("%s should say: %s", page, sentence)
		}
	}
}

// moduleDir is where a module's source is.
func moduleDir(t *testing.T, module string) string { return list(t, module, "{{.Dir}}") }

func list(t *testing.T, module, format string) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", format, module).Output()
	noError(t, err)
	return strings.TrimSpace(string(out))
}
