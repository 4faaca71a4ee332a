package pages

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

var (
	link      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading   = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	fenced    = regexp.MustCompile("(?ms)^```.*?^```$")
	testName  = regexp.MustCompile(`\bTest[A-Z][A-Za-z0-9]+\b`)
	makeGoal  = regexp.MustCompile(`\bmake ([a-z][a-z-]*)\b`)
	testRun   = regexp.MustCompile(`go test \./(\S+) -run (\w+)`)
	codeParts = regexp.MustCompile("(?ms)^```.*?^```$|`[^`\n]+`")
)

// Links checks that what a page links to in the repository exists, headings included. Others' sites
// are not asked.
func Links(t *testing.T, page string) {
	t.Helper()
	text := read(t, page)
	for _, m := range link.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		target, anchor, _ := strings.Cut(m[1], "#")
		if strings.Contains(target, "://") {
			continue
		}
		file := page
		if target != "" {
			file = filepath.Join(filepath.Dir(page), target)
		}
		if _, err := os.Stat(file); err != nil {
			t.Errorf("%s links to %s, which does not exist", page, m[1])
			continue
		}
		if anchor != "" && !slices.Contains(anchors(read(t, file)), anchor) {
			t.Errorf("%s links to %s, but there is no such heading", page, m[1])
		}
	}
}

// anchors returns what a page's headings are linked by, as GitHub makes them.
func anchors(page string) []string {
	var all []string
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
		all = append(all, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, m[1]))
	}
	return all
}

// Names checks that the tests and the targets of make that a page names exist in the repository at
// root. A name may be the beginning of a test's, as -run takes it. Where a page gives the command,
// the test is in the package of the command.
func Names(t *testing.T, page, root string) {
	t.Helper()
	tests := testsBelow(t, root)
	goals := read(t, filepath.Join(root, "Makefile"))
	text := fence.ReplaceAllString(read(t, page), "") // a snippet may declare a test
	for _, code := range codeParts.FindAllString(text, -1) {
		for _, name := range testName.FindAllString(code, -1) {
			if !slices.ContainsFunc(tests,
				func(s string) bool { return strings.HasPrefix(s, name) }) {
				t.Errorf("%s names %s, but no test's name begins so", page, name)
			}
		}
		for _, m := range testRun.FindAllStringSubmatch(code, -1) {
			here := testsBelow(t, filepath.Join(root, m[1]))
			if !slices.ContainsFunc(here,
				func(s string) bool { return strings.Contains(s, m[2]) }) {
				t.Errorf("%s says %q, which runs nothing", page, m[0])
			}
		}
		for _, m := range makeGoal.FindAllStringSubmatch(code, -1) {
			if !strings.Contains(goals, "\n"+m[1]+":") {
				t.Errorf("%s names make %s, which does not exist", page, m[1])
			}
		}
	}
}

var testFunc = regexp.MustCompile(`(?m)^func (Test[A-Z]\w*)\(`)

func testsBelow(t *testing.T, root string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "bin"):
			return filepath.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		for _, m := range testFunc.FindAllStringSubmatch(read(t, path), -1) {
			names = append(names, m[1])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
