// Command mutants breaks the library in one way after the other and sees whether the simulation
// notices, or a unit test what the simulation seldom meets. Nothing in the tree is touched: the
// compiler is given other text for some of its files (go test -overlay). It fails if a mutant
// survives, or if the text that it replaces is no longer there.
//
//	go run ./internal/sim/mutants [-run regexp] [-timeout 60s]
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// seeds is more than any run gets through in its time.
const seeds = 100_000

func main() {
	only := flag.String("run", "", "only the mutants whose name matches")
	timeout := flag.Duration("timeout", 60*time.Second, "how long the simulation has for each")
	flag.Parse()
	if err := runAll(*only, *timeout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// runAll prints a table, as it stands in docs/testing.md.
func runAll(only string, timeout time.Duration) error {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	var failed []error
	fmt.Printf("| mutant | what is wrong with it | seed | promise | after |\n| --- | --- | --- | " +
		"--- | --- |\n")
	for _, m := range mutants {
		if !pattern.MatchString(m.name) {
			continue
		}
		catch, err := m.run(root, timeout)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", m.name, err))
			catch = caught{promise: "**" + strings.SplitN(err.Error(), "\n", 2)[0] + "**"}
		}
		fmt.Printf("| %s | %s | %s | %s | %.1f s |\n", m.name, m.why, catch.seed, catch.promise,
			catch.after.Seconds())
	}
	return errors.Join(failed...)
}

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	return strings.TrimSpace(string(out)), err
}

// caught tells which seed caught a mutant, by which promise, and after what time of running.
type caught struct {
	seed    string
	promise string
	after   time.Duration
}

// run builds the simulation with the mutant and runs seeds until one fails.
func (m mutant) run(root string, timeout time.Duration) (caught, error) {
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return caught{}, err
	}
	defer os.RemoveAll(dir)
	overlay, err := m.overlay(root, dir)
	if err != nil {
		return caught{}, err
	}
	if u, ok := tests[m.name]; ok {
		return u.run(root, overlay)
	}
	binary := filepath.Join(dir, "sim.test")
	build := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", binary, "./internal/sim")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return caught{}, fmt.Errorf("does not compile:\n%s", out)
	}
	return m.hunt(root, binary, timeout)
}

// overlay writes the changed files and the list of what they replace.
func (m mutant) overlay(root, dir string) (string, error) {
	texts, err := m.texts(root)
	if err != nil {
		return "", err
	}
	replace := make(map[string]string)
	for file, text := range texts {
		changed := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(root, file)] = changed
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, list, 0o600)
}

// texts returns the changed files.
func (m mutant) texts(root string) (map[string]string, error) {
	texts := make(map[string]string)
	for _, e := range m.edits {
		text, read := texts[e.file]
		if !read {
			content, err := os.ReadFile(filepath.Join(root, e.file))
			if err != nil {
				return nil, err
			}
			text = string(content)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return nil, fmt.Errorf("%s has %d times, and not once: %q", e.file, n, e.old)
		}
		texts[e.file] = strings.Replace(text, e.old, e.new, 1)
	}
	return texts, nil
}

// run runs the test, which must fail.
func (u unit) run(root, overlay string) (caught, error) {
	run := exec.Command("go", "test", "-overlay", overlay, "-run", "^"+u.test+"$", u.pkg)
	run.Dir = root
	began := time.Now()
	out, err := run.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("--- FAIL: "+u.test)) {
		return caught{}, fmt.Errorf("survived %s: %v\n%s", u.test, err, out)
	}
	return caught{"", "`" + u.test + "`", time.Since(began)}, nil
}

var violation = regexp.MustCompile(`(?m)seed (\d+): [^\n]*\n\s*VIOLATION (?:[^ ]+: )?([a-z ]+):`)

// hunt runs seeds until one fails.
func (m mutant) hunt(root, binary string, timeout time.Duration) (caught, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	run := exec.CommandContext(ctx, binary, "-test.run", "^TestSeeds$",
		fmt.Sprint("-seeds=", seeds), "-stop", fmt.Sprint("-patience=", timeout*3/4))
	run.Dir = filepath.Join(root, "internal", "sim")
	var out bytes.Buffer
	run.Stdout, run.Stderr = &out, &out
	began := time.Now()
	err := run.Run()
	after := time.Since(began)
	if found := violation.FindStringSubmatch(out.String()); found != nil {
		return caught{found[1], found[2], after}, nil
	}
	if ctx.Err() != nil {
		return caught{after: after}, fmt.Errorf("survived for %v", timeout)
	}
	return caught{after: after}, fmt.Errorf("no violation, but %v:\n%s", err, out.String())
}
