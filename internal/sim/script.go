package sim

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/alicebob/miniredis/v2/server"
)

// script is one that a node has been told. What it does is read off its first line, as every script of the library has it.
type script struct {
	verb   string // acquire, extend, release or inspect
	text   string
	native native // nil: only the Lua will do
}

// arity is how many arguments each verb has for a request, the number of keys among them.
var arity = map[string]int{"acquire": 3, "extend": 5, "release": 2, "inspect": 1}

var header = regexp.MustCompile(`^-- ([a-z]+):`)

func newScript(text string) (*script, error) {
	found := header.FindStringSubmatch(text)
	if found == nil || arity[found[1]] == 0 {
		return nil, fmt.Errorf("not a script of the library: %.40q", text)
	}
	return &script{verb: found[1], text: text, native: natives[digest(text)]}, nil
}

func digest(text string) string {
	sum := sha1.Sum([]byte(text)) // the name that Redis has for it
	return hex.EncodeToString(sum[:])
}

// request is one of those that share a run of a script.
type request struct {
	keys []string
	args []string // behind the number of keys
}

// token returns whose request it is; "" for an inspection, which is nobody's.
func (r request) token() string {
	if len(r.args) == 0 {
		return ""
	}
	return r.args[0]
}

// requests takes KEYS and ARGV apart: args are what follows the script in EVAL and EVALSHA.
func (s *script) requests(args []string) ([]request, error) {
	count, err := strconv.Atoi(args[0])
	if err != nil || count > len(args)-1 {
		return nil, errors.New("ERR invalid number of keys")
	}
	keys := args[1 : 1+count]
	var requests []request
	for one := range slices.Chunk(args[1+count:], arity[s.verb]) {
		n := number(one[0])
		if n > len(keys) || len(one) < arity[s.verb] {
			return nil, fmt.Errorf("ERR %s: arguments and keys do not match", s.verb)
		}
		requests = append(requests, request{keys[:n], one[1:]})
		keys = keys[n:]
	}
	return requests, nil
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
