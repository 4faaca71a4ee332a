package protocol

import (
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/rediskit/redlock/internal/node"
)

// Scripts are the scripts that run on the nodes.
type Scripts struct {
	acquire, wait, extend, release, inspect, watch *node.Script

	waits, follow *node.Script

	find *node.Script // inspect without a guard
}

// recipes tells of which files in scripts/ each script is made.
var recipes = map[string][]string{
	"acquire": {"acquire_alone", "queue", "fence", "acquire", "errors"},
	"wait":    {"queue", "fence", "wait", "errors"},
	"extend":  {"fence", "extend", "errors"},
	"release": {"release_alone", "queue", "release", "errors"},
	"inspect": {"inspect", "errors"},
	"watch":   {"queue", "watch", "errors"},
	"waits":   {"waits", "errors"},
	"follow":  {"follow", "errors"},
}

// ScriptNames are the names of all scripts, sorted.
var ScriptNames = []string{"acquire", "extend", "follow", "inspect", "release", "wait", "waits",
	"watch"}

// GuardedNames are those by which a node grants a lock, or says that nobody has it.
var GuardedNames = []string{"acquire", "inspect", "wait", "watch"}

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
//
// With a guard, nodes have no vote until they have been up for that long: see guard.go.
func LoadScripts(files fs.FS, guard time.Duration) *Scripts {
	digests := make(map[string]string)
	for line := range strings.Lines(mustRead(files, "SHA1SUMS")) {
		if digest, name, ok := strings.Cut(strings.TrimSpace(line), "  "); ok {
			digests[name] = digest
		}
	}
	load := func(name string) *node.Script {
		return node.NewScript(Source(files, name), digests[name])
	}
	vote := load
	if guard > 0 {
		vote = func(name string) *node.Script {
			return node.Guarded(Source(files, name)+GuardMark, digests[name+guardedName], guard)
		}
	}
	return &Scripts{
		acquire: vote("acquire"), wait: vote("wait"), extend: load("extend"),
		release: load("release"),
		inspect: vote("inspect"), watch: vote("watch"), find: load("inspect"),
		waits: load("waits"), follow: load("follow"),
	}
}

func mustRead(files fs.FS, name string) string {
	text, err := fs.ReadFile(files, "scripts/"+name)
	if err != nil {
		panic(err)
	}
	return string(text)
}
