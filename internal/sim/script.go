package sim

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2/server"
)

// script is one that a node has been told. What it does is read off its first line, as every script of the library has it.
type script struct {
	verb   string // acquire, wait, extend, release, inspect or watch
	text   string
	native native // nil: only the Lua will do
}

// arity is how many arguments each verb has behind the keys: without the keys of the queues, and with them.
var arity = map[string][2]int{
	"acquire": {2, 3}, "wait": {-1, 7}, "extend": {4, -1}, "release": {2, 7}, "inspect": {0, 1}, "watch": {0, 2},
}

var header = regexp.MustCompile(`^-- ([a-z]+):`)

func newScript(text string) (*script, error) {
	if found := header.FindStringSubmatch(text); found != nil {
		if _, known := arity[found[1]]; known {
			return &script{verb: found[1], text: text, native: natives[digest(text)]}, nil
		}
	}
	return nil, fmt.Errorf("not a script of the library: %.40q", text)
}

func digest(text string) string {
	sum := sha1.Sum([]byte(text)) // the name that Redis has for it
	return hex.EncodeToString(sum[:])
}

// call is one run of a script.
type call struct {
	*script
	keys  []string
	locks []string // those of the keys that are lock keys
	args  []string
}

// call takes KEYS and ARGV apart: words are what follows the script in EVAL and EVALSHA.
func (s *script) call(words []string) (call, error) {
	count, err := strconv.Atoi(words[0])
	if err != nil || count < 1 || len(words) < 1+count {
		return call{}, fmt.Errorf("ERR %s: arguments and keys do not match", s.verb)
	}
	c := call{script: s, keys: words[1 : 1+count], args: words[1+count:]}
	switch {
	case len(c.args) == arity[s.verb][0]:
		c.locks = c.keys
	case len(c.args) == arity[s.verb][1]:
		c.locks = c.keys[:count/3]
	default:
		return call{}, fmt.Errorf("ERR %s: %d arguments", s.verb, len(c.args))
	}
	return c, nil
}

// owner returns whose call it is, and with which number; "" for an inspection, which is nobody's.
func (c call) owner() (token string, number int) {
	switch c.verb {
	case "inspect", "watch":
		return "", 0
	case "acquire", "wait":
		return parted(c.args[0])
	default:
		return c.args[0], whole(c.args[1])
	}
}

// cuts reports whether the call may shorten a lock.
func (c call) cuts() bool { return c.verb == "extend" && c.args[3] == "cut" }

// takes reports whether the call may make a lock.
func (c call) takes() bool { return c.verb == "acquire" || c.verb == "wait" }

// gives returns for how long the call wants a lock to live at least, if it is one that gives time.
func (c call) gives() (ttl time.Duration, ok bool) {
	switch {
	case c.takes():
		return time.Duration(whole(c.args[1])) * time.Millisecond, true
	case c.verb == "extend" && !c.cuts():
		return time.Duration(whole(c.args[2])) * time.Millisecond, true
	default:
		return 0, false
	}
}

// parted takes a value apart that stands under a lock key. No token of the library has a tilde.
func parted(value string) (token string, number int) {
	if digits, token, found := strings.Cut(value, "~"); found {
		return token, whole(digits)
	}
	return value, 0
}

// answer writes a reply of the native handlers as Redis does.
func answer(w *server.Writer, reply any) {
	switch v := reply.(type) {
	case nil:
		w.WriteNull()
	case int:
		w.WriteInt(v)
	case string:
		w.WriteBulk(v)
	case error:
		w.WriteError(v.Error())
	case []any:
		w.WriteLen(len(v))
		for _, element := range v {
			answer(w, element)
		}
	}
}
