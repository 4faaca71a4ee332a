package protocol

import (
	"fmt"
	"io/fs"
	"strings"

	"github.com/rediskit/redlock/internal/node"
)

// Scripts are the scripts that run on the nodes.
type Scripts struct {
	acquire, wait, extend, release, inspect, watch *node.Script
}

// recipes tells of which files in scripts/ each script is made.
var recipes = map[string][]string{
	"acquire": {"queue", "fence", "acquire", "errors"},
	"wait":    {"queue", "fence", "wait", "errors"},
	"extend":  {"fence", "extend", "errors"},
	"release": {"queue", "release", "errors"},
	"inspect": {"inspect", "errors"},
	"watch":   {"queue", "watch", "errors"},
}

// ScriptNames are the names of all scripts, sorted.
var ScriptNames = []string{"acquire", "extend", "inspect", "release", "wait", "watch"}

// Source returns the text of a script, as it goes to the nodes. The files are part of the program,
// so a missing one is a mistake of ours, and panics.
func Source(files fs.FS, name string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "-- %s: made of %s\n", name, strings.Join(recipes[name], ", "))
	for _, part := range recipes[name] {
		text.WriteString(mustRead(files, part+".lua"))
	}
	return text.String()
}

// LoadScripts reads scripts/*.lua and, from scripts/SHA1SUMS, the digests by which servers know the
// scripts that are made of them.
//
// The digests are constants because computing one is not allowed in a program in strict FIPS mode.
func LoadScripts(files fs.FS) *Scripts {
	digests := make(map[string]string)
	for line := range strings.Lines(mustRead(files, "SHA1SUMS")) {
		if digest, name, ok := strings.Cut(strings.TrimSpace(line), "  "); ok {
			digests[name] = digest
		}
	}
	load := func(name string) *node.Script { return node.NewScript(Source(files, name), digests[name]) }
	return &Scripts{
		acquire: load("acquire"), wait: load("wait"), extend: load("extend"),
		release: load("release"), inspect: load("inspect"), watch: load("watch"),
	}
}

func mustRead(files fs.FS, name string) string {
	text, err := fs.ReadFile(files, "scripts/"+name)
	if err != nil {
		panic(err)
	}
	return string(text)
}
