package sim

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2/server"

	"github.com/rediskit/redlock/internal/protocol"
)

// script is one that a node has been told. What it does is read off its first line, as every script
// of the library has it.
type script struct {
	verb   string // see arity
	text   string
	native native // nil: only the Lua will do
}

// arity is how many arguments each verb may have behind the keys.
var arity = map[string][]int{
	"acquire": {2, 3, 4}, "wait": {7, 8}, "extend": {4, 5}, "release": {1, 2, 3, 7},
	"inspect": {0, 1, 2}, "watch": {0, 2},
	"waits": {5}, "follow": {0},
}

// ofLocks reports whether the verb can change a lock.
func (s *script) ofLocks() bool {
	switch s.verb {
	case "inspect", "watch", "waits", "follow":
		return false
	}
	return true
}

// countAt is which argument says how many lock keys there are. Where it is left out, all keys are
// lock keys.
var countAt = map[string]int{"acquire": 2, "wait": 2, "release": 2, "inspect": 0}

var header = regexp.MustCompile(`^-- ([a-z]+):`)

func newScript(text string) (*script, error) {
	if found := header.FindStringSubmatch(text); found != nil {
		if _, known := arity[found[1]]; known {
			return &script{verb: found[1], text: text,
				native: natives[digest(strings.TrimSuffix(text, protocol.GuardMark))]}, nil
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
	parts
	keys []string
	args []string
}

// parts are the keys of a call by what they are. The zero value stands for keys that do not fit.
type parts struct {
	locks    []string
	queued   bool     // the keys of the locks' queues come next
	counters []string // at the end; nil without fencing
}

func (p parts) fenced() bool { return p.counters != nil }

// shape is what tells of which kinds a script's keys are, where nothing counts them.
type shape struct {
	verb string
	args int
}

// halved has the shapes of which half of the keys are lock keys, and counted those that have
// counters.
var (
	halved  = map[shape]bool{{"acquire", 2}: true, {"release", 1}: true, {"extend", 5}: true}
	counted = map[shape]bool{{"acquire", 4}: true, {"wait", 8}: true, {"extend", 5}: true,
		{"inspect", 1}: true}
)

// apart takes the keys of a call apart, as all scripts have them.
func apart(verb string, keys, args []string) (p parts) {
	n, it := len(keys), shape{verb, len(args)}
	if at, told := countAt[verb]; told && at < len(args) {
		n = whole(args[at])
	} else if verb == "watch" {
		n = 1
	} else if halved[it] {
		n /= 2
	}
	if n < 1 || len(keys)%n != 0 || len(keys) > 3*n {
		return parts{}
	}
	fenced := counted[it] || verb == "inspect" && len(keys) == 3*n
	if p.locks = keys[:n]; fenced {
		p.counters = keys[len(keys)-n:]
	}
	p.queued = len(keys) > n && (!fenced || len(keys) == 3*n)
	return p
}

// call takes KEYS and ARGV apart: words are what follows the script in EVAL and EVALSHA.
func (s *script) call(words []string) (call, error) {
	count, err := strconv.Atoi(words[0])
	if err != nil || count < 1 || len(words) < 1+count {
		return call{}, fmt.Errorf("ERR %s: arguments and keys do not match", s.verb)
	}
	keys, args := words[1:1+count], words[1+count:]
	if !slices.Contains(arity[s.verb], len(args)) {
		return call{}, fmt.Errorf("ERR %s: %d arguments", s.verb, len(args))
	}
	return call{s, apart(s.verb, keys, args), keys, args}, nil
}

// owner returns whose call it is, and with which number; "" for one that changes no lock.
func (c call) owner() (token string, number int) {
	switch {
	case !c.ofLocks():
		return "", 0
	case c.takes():
		return parted(c.args[0])
	case len(c.args) == 1: // a release of a lock that was never shortened
		return c.args[0], 0
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
