package acceptance_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Servers that check a script's text before they run it want to see where its keys come from: the
// key of each call is an element of KEYS, by that name.

// keyless has the commands that have no key.
var keyless = []string{"TIME", "PUBLISH", "SPUBLISH"}

var (
	luaComment = regexp.MustCompile(`(?m)--.*$`)
	luaCall    = regexp.MustCompile(`redis\s*\.\s*p?call\b`)
	luaCommand = regexp.MustCompile(`^\(\s*['"]([A-Za-z]+)['"]\s*(.*)`)
	luaKey     = regexp.MustCompile(`^,\s*KEYS\[`)
	luaRename  = regexp.MustCompile(`=\s*(KEYS|redis)\s*($|[^.\[\w])`)
)

// scriptComplaints says what is wrong with a script's text.
func scriptComplaints(source string) []string {
	var complaints []string
	text := luaComment.ReplaceAllString(source, "")
	if strings.Contains(text, "unpack") {
		complaints = append(complaints, "unpack: fails for many keys, and not every server has it")
	}
	if luaRename.MatchString(text) {
		complaints = append(complaints, "KEYS or redis under another name")
	}
	for _, at := range luaCall.FindAllStringIndex(text, -1) {
		rest, _, _ := strings.Cut(text[at[1]:], "\n")
		call := text[at[0]:at[1]] + rest
		command := luaCommand.FindStringSubmatch(rest)
		switch {
		case command == nil:
			complaints = append(complaints, fmt.Sprintf("%s: the command cannot be told", call))
		case !slices.Contains(keyless, strings.ToUpper(command[1])) &&
			!luaKey.MatchString(command[2]):
			complaints = append(complaints, fmt.Sprintf("%s: the key is not KEYS[...]", call))
		}
	}
	return complaints
}

func TestScriptsNameTheirKeysLiterally(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join("..", "..", "scripts", "*.lua"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(paths), 3, "where are the scripts?")
	calls := 0
	for _, path := range paths {
		source, err := os.ReadFile(path)
		require.NoError(t, err)
		calls += len(luaCall.FindAll(source, -1))
		t.Run(filepath.Base(path), func(t *testing.T) {
			complaints := scriptComplaints(string(source))
			require.Empty(t, complaints, strings.Join(complaints, "\n"))
		})
	}
	require.GreaterOrEqual(t, calls, 8, "where are the calls?")
}

func TestComplaintsAboutScripts(t *testing.T) {
	for _, fine := range []string{
		"redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])",
		"local owner = redis.pcall(\"get\", KEYS[k + 1])",
		"for i = 1, #KEYS do redis.call( 'DEL' , KEYS[i]) end",
		"local time = redis.call('TIME')",
		"redis.call('PUBLISH', ARGV[1], ARGV[2])",
		"-- redis.call('GET', key), unpack\nlocal n = #KEYS",
		"local first = KEYS[1]\nreturn redis.error_reply('ERR bad number of keys')",
	} {
		require.Empty(t, scriptComplaints(fine), fine)
	}
	for _, bad := range []string{
		"redis.call('GET', key)",
		"redis.pcall('GET', ARGV[1])",
		"redis.call('GET')",
		"redis.call(command, KEYS[1])",
		"local call = redis.call\ncall('GET', KEYS[1])",
		"local keys = KEYS\nreturn 1",
		"local r = redis",
		"redis.call('DEL', unpack(KEYS))",
		"redis.call('DEL', KEYS[1]) redis.call('DEL', key)",
		"redis . pcall ('DEL', key)",
	} {
		require.NotEmpty(t, scriptComplaints(bad), bad)
	}
}
