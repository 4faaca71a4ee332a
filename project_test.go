package redlock_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// modules returns the directories that have a go.mod, the library's own as ".".
func modules(t *testing.T) (found []string) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != "." && (entry.Name()[0] == '.' ||
			entry.Name() == "testdata" || path == "bin"):
			return filepath.SkipDir
		case entry.Name() == "go.mod":
			found = append(found, filepath.ToSlash(filepath.Dir(path)))
		}
		return nil
	})
	require.NoError(t, err)
	return found
}

// line returns what follows prefix on its line of a file.
func line(t *testing.T, file, prefix string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(prefix) + `(.*)$`).FindSubmatch(text)
	require.NotNil(t, found, "%s has no line %q", file, prefix)
	return string(found[1])
}

func TestEveryModuleIsTestedAndUpdated(t *testing.T) {
	tested := append(strings.Fields(line(t, "Makefile", "OTHERS = ")), ".")
	dependabot, err := os.ReadFile(".github/dependabot.yml")
	require.NoError(t, err)
	found := modules(t)
	require.Contains(t, found, ".")
	for _, module := range found {
		require.True(t, slices.Contains(tested, module),
			"%s is not among the OTHERS of the Makefile", module)
		directory := "      - /" + strings.TrimPrefix(module, ".") + "\n"
		require.True(t, strings.Contains(string(dependabot), directory),
			"%s is not in .github/dependabot.yml", module)
	}
}

// What go.mod asks for is what the pages promise.
func TestSupportedVersionsAreThoseOfGoMod(t *testing.T) {
	oldestGo := line(t, "go.mod", "go ")
	require.Equal(t, "go"+oldestGo, regexp.MustCompile(`^go\d+\.\d+`).FindString(
		line(t, "Makefile", "OLDEST_GO = ")))
	client := line(t, "go.mod", "\tgithub.com/redis/go-redis/v9 ")
	otel := strings.TrimSuffix(line(t, "otelredlock/go.mod", "\tgo.opentelemetry.io/otel "), ".0")
	prom := line(t, "promredlock/go.mod", "\tgithub.com/prometheus/client_golang ")
	for _, module := range []string{"otelredlock", "promredlock"} {
		require.Equal(t, oldestGo, strings.TrimSuffix(line(t, module+"/go.mod", "go "), ".0"),
			module)
	}
	for file, promises := range map[string][]string{
		"README.md": {"Go " + oldestGo + " and later", "go-redis " + client + " and later"},
		"docs/support.md": {
			"the library: " + oldestGo + " and later", "| go-redis | " + client + " ",
			"| OpenTelemetry (`otelredlock`) | " + otel + " and later |",
			"| client_golang (`promredlock`) | " + prom + " and later |",
		},
		"otelredlock/README.md": {"Go " + oldestGo + " and OpenTelemetry " + otel + " or later"},
		"promredlock/README.md": {"Go " + oldestGo + " and client_golang " + prom + " or later"},
	} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, promise := range promises {
			require.True(t, strings.Contains(string(text), promise), "%s does not say %q", file,
				promise)
		}
	}
}
