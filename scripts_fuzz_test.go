package redlock_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/internal/redistest"
)

// isOurs tells whether a value is the token, alone or behind a number.
func isOurs(value, token string) bool {
	digits, found := strings.CutSuffix(value, "~"+token)
	return value == token || found && digits != "" && strings.Trim(digits, "0123456789") == ""
}

// FuzzScripts runs scripts with any arguments on a real server. Whatever they are, keys that do not
// hold the token stay as they are, nobody is told that he has what he has not, and the server goes
// on.
func FuzzScripts(f *testing.F) {
	server := redistest.Start(f)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	f.Cleanup(func() { _ = client.Close() })
	scripts := []string{"acquire", "extend", "release", "inspect"}
	for i, name := range scripts {
		for _, s := range []string{
			joined(ordinary(name, 1)), joined(ordinary(name, 3)), "mine\n60000",
			"mine\n0\n60000\nkeep", "mine\n1\n10000\ncut", "mine\n2\n10000\ncut", "mine\n1",
			"mine\n2", "2~mine\n60000", "2~mine\n2\n10000\ncut", "other\n-1", "nan\nmine\n60000",
			"other\n0\n-1\ncut", "\n\n0\n", "",
			"mine\n60000\n1\n=5", "mine\n60000\n2\n7", "mine\n0\n60000\nkeep\n5",
			"mine\n1\n10000\ncut\n5",
		} {
			for keys := range uint16(4) {
				f.Add(uint8(i), keys*0x111+keys, s)
			}
		}
	}
	for _, tt := range junkCalls {
		f.Add(uint8(slices.Index(scripts, tt.script)), uint16(0x3210), joined(tt.args))
	}
	f.Fuzz(func(t *testing.T, script uint8, which uint16, text string) {
		keys := setState(t, client, "mine/30 other/30 - list mine/ever 2~mine/30 /30")
		values := map[string]string{"a": "mine", "b": "other", "e": "mine", "f": "2~mine", "g": ""}
		before := snapshot(t, client)
		var named []string
		for n := which % 5; n > 0; n-- {
			named = append(named, keys[int(which>>(3*n))%len(keys)])
		}
		args := strings.Split(text, "\n")
		var argv []any
		for _, a := range args {
			argv = append(argv, a)
		}
		name := scripts[int(script)%len(scripts)]
		reply, err := runScript(t, client, name, named, argv...)
		taken := err != nil && (strings.HasPrefix(err.Error(), string(wrongType)) ||
			strings.Contains(err.Error(), "fencing counter"))
		if name == "inspect" || err != nil && !taken {
			// what was taken before such an error is deleted
			requireUnchanged(t, before, client, "though it ended with ", err)
			return
		}
		after := snapshot(t, client)
		for _, key := range keys {
			_, was := before[key]
			if before[key].same(after[key]) {
				continue
			}
			require.Contains(t, named, key)
			if isCounter(name, named, args, key) {
				require.False(t, was, "what is no number is no counter")
				require.Regexp(t, `^\d+$`, client.Get(t.Context(), key).Val())
				continue
			}
			require.NotEqual(t, "d", key, "a list")
			require.True(t, !was || isOurs(values[key], args[0]), "%q was another's", key)
			require.True(t, was || name == "acquire", "%s made a key", name)
			if value, err := client.Get(t.Context(), key).Result(); err == nil {
				require.True(t, isOurs(value, args[0]), "%q for %q", value, args[0])
			}
		}
		require.Subset(t, keys, slices.Collect(maps.Keys(after)), "a key from nowhere")
		if name == "acquire" && reply == yes && len(args[1]) > 4 { // for more than 10 s
			if len(args) == 2 { // the others are queues
				named = named[:len(named)/2]
			}
			for _, key := range named {
				require.Equal(t, args[0], client.Get(t.Context(), key).Val(),
					"granted, but not there")
			}
		}
	})
}

// isCounter reports whether a key is named as a counter, and not as a lock.
func isCounter(script string, named, args []string, key string) bool {
	fenced := script == "acquire" && len(args) == 4 || script == "extend" && len(args) == 5
	return fenced && !slices.Contains(named[:len(named)/2], key)
}

// joined are arguments as lines.
func joined(args []any) string {
	var lines []string
	for _, a := range args {
		lines = append(lines, fmt.Sprint(a))
	}
	return strings.Join(lines, "\n")
}
