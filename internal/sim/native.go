package sim

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// native answers a call as the Lua of scripts/ does, at a twentieth of the cost.
type native func(m *memory, keys, args []string) any

// natives are by the digest of the script that they mirror: another text is run as Lua.
var natives = map[string]native{
	"7160c29d025553cad64d51e617e84b0c17f3ba76": nativeAcquire,
	"7914b884c352169a3d461f4d3a0d804e05ad7830": nativeExtend,
	"aa0d82b472477c665d311af7fca94103bab918b2": nativeRelease,
	"1a541ccedfe9a6d6a53a36a53d139488982ff7d2": nativeInspect,
}

var errBadArguments = errors.New("ERR bad arguments")

// memory is a node's data, as the commands see it that the scripts use.
type memory struct{ *miniredis.Miniredis }

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

func (m *memory) set(key, value string, ttl int) {
	_ = m.Set(key, value)
	m.pexpire(key, ttl)
}

func (m *memory) pexpire(key string, ttl int) { m.SetTTL(key, time.Duration(ttl)*time.Millisecond) }

func refusal(i int, owner any, pttl int) []any { return []any{i + 1, owner, pttl} }

func nativeAcquire(m *memory, keys, args []string) any {
	ttl := whole(args[1])
	if args[0] == "" || ttl < 1 {
		return errBadArguments
	}
	for i, key := range keys {
		if failure := m.take(i, key, args[0], ttl); failure != nil {
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
	owner := m.get(key)
	if err, ok := owner.(error); ok {
		return err
	}
	pttl := m.pttl(key)
	if owner != nil && owner != token {
		return refusal(i, owner, pttl)
	}
	if pttl < ttl {
		m.set(key, token, ttl)
	}
	return nil
}

func nativeExtend(m *memory, keys, args []string) any {
	token, number, ttl, cut := args[0], whole(args[1]), whole(args[2]), args[3] == "cut"
	if token == "" || number < 0 || ttl < 1 || args[3] != "keep" && (!cut || number == 0) {
		return errBadArguments
	}
	stands, left := make([]int, len(keys)), make([]int, len(keys))
	for i, key := range keys {
		value := m.get(key)
		if value == nil {
			return []any{i + 1}
		}
		if err, ok := value.(error); ok {
			return err
		}
		left[i] = m.pttl(key)
		if stands[i] = numberOn(value.(string), token); stands[i] < 0 || stands[i] > number {
			return refusal(i, value, left[i])
		}
	}
	for i, key := range keys {
		live := max(ttl, left[i])
		switch {
		case stands[i] < number && cut:
			m.set(key, numbered(number, token), ttl)
		case stands[i] < number:
			m.set(key, numbered(number, token), live)
		case !cut && live > left[i]:
			m.pexpire(key, live)
		}
	}
	return 1
}

func nativeRelease(m *memory, keys, args []string) any {
	token, number := args[0], whole(args[1])
	if token == "" || number < 0 {
		return errBadArguments
	}
	deleted := 0
	var missing, foreign []any
	for i, key := range keys {
		value := m.get(key)
		text, _ := value.(string) // "" for what is no string
		switch stands := numberOn(text, token); {
		case value == nil:
			missing = first(missing, []any{i + 1})
		case stands >= 0 && stands <= number:
			m.Del(key)
			deleted++
		default:
			foreign = first(foreign, refusal(i, text, m.pttl(key)))
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

// whole returns the number that an argument stands for, or -1.
func whole(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || float64(n) > 1e15 {
		return -1
	}
	return n
}

// numbered is the value that stands under a lock's keys after so many shortenings.
func numbered(number int, token string) string { return strconv.Itoa(number) + "~" + token }

// numberOn returns the number on a value of the token's, or -1 if it is not the token's.
func numberOn(value, token string) int {
	if value == token {
		return 0
	}
	digits, _ := strings.CutSuffix(value, "~"+token)
	if n := whole(digits); n >= 0 && value == numbered(n, token) {
		return n
	}
	return -1
}
