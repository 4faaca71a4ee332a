//go:build unix

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestManualHasEveryFlagAndNoOther(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "cli.md"))
	require.NoError(t, err)
	manual, _, _ := strings.Cut(string(text), "\n## Recipes")
	flag := regexp.MustCompile(`--[a-z][a-z-]*`)
	documented, real := map[string]bool{}, map[string]bool{}
	for _, f := range flag.FindAllString(manual, -1) {
		documented[f] = true
	}
	for _, command := range []string{
		"run", "acquire", "extend", "release", "wait", "status", "top", "check",
	} {
		require.Contains(t, manual, "**redlock "+command+"**")
		for _, f := range flag.FindAllString(
			redlock(t, nil, command, "--help").requireCode(t, 0).stdout, -1) {
			if f != "--all" && f != "--report" { // of commands in examples
				real[f] = true
			}
		}
	}
	require.Equal(t, real, documented)
}

func TestScriptsOfTheManualAreScripts(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "cli.md"))
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllSubmatch(text, -1)
	require.NotEmpty(t, blocks)
	for _, b := range blocks {
		out, err := exec.Command("sh", "-n", "-c", string(b[1])).CombinedOutput()
		require.NoError(t, err, "%s\n%s", out, b[1])
	}
}

func TestDeployScriptOfTheManual(t *testing.T) {
	t.Parallel()
	servers := one(t)
	script := filepath.Join(t.TempDir(), "deploy")
	line := `[ "${REDLOCK_RESOURCE-}" = deploy ] || exec redlock run -w 10m -k 30 --ttl 2m --owner "$(whoami): deploy" deploy -- "$0" "$@"`
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "cli.md"))
	require.NoError(t, err)
	require.Contains(t, string(text), line)
	require.NoError(t,
		os.WriteFile(script, []byte("#!/bin/sh\nset -eu\n"+line+
			"\necho \"once $*\"; redlock status deploy\n"), 0o755))
	p := prepare(t, servers)
	p.Path, p.Args = script, []string{script, "a", "b c"}
	p.Env = append(p.Env, "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
	p.start()
	r := p.finish().requireCode(t, 1)
	require.Contains(t, r.stdout, "once a b c\n")
	require.Contains(t, r.stdout, ": deploy")
}
