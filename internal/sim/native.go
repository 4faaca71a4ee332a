package sim

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// native answers one request of a script as the Lua of scripts/ does, at a twentieth of the cost.
type native func(m *memory, keys, args []string) any

// natives are by the digest of the script that they mirror: another text is run as Lua.
var natives = map[string]native{
	"26fe3e8da67d11e55dc0c050525a5c3a38839f64": nativeAcquire,
	"c7ff3b055cabc055355ce9c6776e18b95e33b20c": nativeExtend,
	"93d31b61b122aa55734292dbbb862258426e6737": nativeRelease,
	"be426842114052d3a677873f68e3796b745edc8c": nativeInspect,
}

// memory is a node's data, as the commands see it that the scripts use.
type memory struct {
	*miniredis.Miniredis
	now time.Time // on the node's clock
}

// get returns what GET does: a string, nil or an error.
func (m *memory) get(key string) any {
	switch value, err := m.Get(key); {
	case errors.Is(err, miniredis.ErrKeyNotFound):
		return nil
	case err != nil:
		return err
	default:
		return value
	}
}

func (m *memory) pttl(key string) int {
	ttl := m.TTL(key)
	switch {
	case ttl > 0:
		return int(ttl / time.Millisecond)
	case m.Exists(key):
		return -1
	default:
		return -2
	}
}

func (m *memory) pexpire(key string, ttl int) {
	if ttl > 0 {
		m.SetTTL(key, time.Duration(ttl)*time.Millisecond)
	} else {
		m.Del(key)
	}
}

func (m *memory) milliseconds() int { return int(m.now.UnixMilli()) }

func refusal(i int, owner any, pttl int) []any { return []any{i + 1, owner, pttl} }

func nativeAcquire(m *memory, keys, args []string) any {
	token, ttl := args[0], number(args[1])
	for i, key := range keys {
		if failure := m.take(i, key, token, ttl); failure != nil {
			for _, ours := range keys[:i] {
				m.Del(ours)
			}
			return failure
		}
	}
	return 1
}

// take makes a key ours, or returns why it cannot be.
func (m *memory) take(i int, key, token string, ttl int) any {
	if !m.Exists(key) {
		_ = m.Set(key, token)
		m.pexpire(key, ttl)
		return nil
	}
	owner := m.get(key)
	if err, ok := owner.(error); ok {
		return err
	}
	pttl := m.pttl(key)
	if owner != token {
		return refusal(i, owner, pttl)
	}
	if pttl < ttl {
		m.pexpire(key, ttl)
	}
	return nil
}

func nativeExtend(m *memory, keys, args []string) any {
	token, ttl, mode, mark := args[0], number(args[1]), args[2], args[3]
	left, longest := make([]int, len(keys)), 0
	for i, key := range keys {
		owner := m.get(key)
		if owner == nil {
			return []any{i + 1}
		}
		if err, ok := owner.(error); ok {
			return err
		}
		left[i] = m.pttl(key)
		if owner != token {
			return refusal(i, owner, left[i])
		}
		longest = max(longest, left[i])
	}
	now := m.milliseconds()
	switch mode {
	case "cut":
		if distance(now+longest, number(mark)) > 1 {
			return now + longest
		}
		longest = ttl
	case "move":
		ttl = clearOf(now, max(longest, ttl), mark)
		longest = ttl
	default:
		longest = max(longest, ttl)
	}
	for i, key := range keys {
		live := max(ttl, left[i])
		if mode == "cut" {
			live = ttl
		}
		if live != left[i] {
			m.pexpire(key, live)
		}
	}
	return now + longest
}

// clearOf returns the time to live, or a little more if the mark that it would leave is to be avoided.
func clearOf(now, ttl int, marks string) int {
	for mark := range strings.SplitSeq(marks, ",") {
		if mark != "" && distance(now+ttl, number(mark)) <= 2 {
			return clearOf(now, ttl+5, marks)
		}
	}
	return ttl
}

func nativeRelease(m *memory, keys, args []string) any {
	deleted := 0
	var missing, foreign []any
	for i, key := range keys {
		switch owner := m.get(key); {
		case owner == args[0]:
			m.Del(key)
			deleted++
		case owner == nil:
			missing = first(missing, []any{i + 1})
		default:
			if _, wrongType := owner.(error); wrongType {
				owner = ""
			}
			foreign = first(foreign, refusal(i, owner, m.pttl(key)))
		}
	}
	switch {
	case foreign != nil:
		return foreign
	case deleted > 0 && missing != nil:
		return missing
	default:
		return 1
	}
}

// first returns a, or b if there is no a.
func first(a, b []any) []any {
	if a != nil {
		return a
	}
	return b
}

func nativeInspect(m *memory, keys, _ []string) any {
	found := []any{}
	for _, key := range keys {
		owner := m.get(key)
		if err, ok := owner.(error); ok {
			return err
		}
		found = append(found, owner, m.pttl(key))
	}
	return found
}

func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

func distance(a, b int) int { return max(a-b, b-a) }
