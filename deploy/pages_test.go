package deploy_test

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// setting returns what redis.conf sets.
func setting(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("redis.conf")
	require.NoError(t, err)
	found := regexp.MustCompile(`(?m)^` + name + ` (.+)$`).FindSubmatch(text)
	require.NotNil(t, found, name)
	return string(found[1])
}

// maxMemory is what the data of a server may take, in bytes.
func maxMemory(t *testing.T) int64 {
	t.Helper()
	megabytes, err := strconv.ParseInt(strings.TrimSuffix(setting(t, "maxmemory"), "mb"), 10, 64)
	require.NoError(t, err)
	return megabytes << 20
}

func TestReadmeSaysWhatTheFilesTakeForTheLongestTTL(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	said := fmt.Sprintf("%d s for the longest TTL", longestTTL/time.Second)
	require.True(t, strings.Contains(string(readme), said), "README.md does not say %q", said)
}

// Every setting of redis.conf has its line in README.md.
func TestReadmeExplainsEverySetting(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	conf, err := os.ReadFile("redis.conf")
	require.NoError(t, err)
	for _, found := range regexp.MustCompile(`(?m)^([a-z-]+) \S+`).FindAllSubmatch(conf, -1) {
		require.True(t, strings.Contains(string(readme), "`"+string(found[0])),
			"README.md does not say what %s buys", found[1])
	}
}

// The workflow tests the library against the servers that are recommended here.
func TestImagesAreThoseThatTheLibraryIsTestedWith(t *testing.T) {
	workflow, err := os.ReadFile("../.github/workflows/test.yml")
	require.NoError(t, err)
	images := []string{kubernetes(t).container().Image}
	for _, service := range composeFile(t).Services {
		images = append(images, service.Image)
	}
	for _, image := range images {
		require.True(t, strings.Contains(string(workflow), strconv.Quote(image)),
			"%s is not among the workflow's images", image)
		require.Equal(t, images[0], image)
	}
}
