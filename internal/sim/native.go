package sim

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// native answers a call as the Lua of scripts/ does, at a twentieth of the cost.
type native func(m *memory, keys, args []string) any

// natives are by the digest of the script that they mirror: another text is run as Lua.
var natives = map[string]native{
	"6e6f8a5b46c7234ceee2baa59e29d86daac6bbea": nativeAcquire,
	"dde7f8d15760a9146b1c104e25f78e632608cbed": nativeWait,
	"f8f1f02b67aefd29d8ead519026413236dbd9329": nativeExtend,
	"f1ff56e1e46d4e3757d10ed7ed5d9d018d85172a": nativeRelease,
	"f437736ad0ca4a5ad4de66dafd8c4f469f5ff982": nativeInspect,
	"d80d0a6b7eed86fe0bff91da3dc70481144319ec": nativeWatch,
}

var errBadArguments = errors.New("ERR bad arguments")

// memory is a node's data, as the commands see it that the scripts use.
type memory struct {
	*miniredis.Miniredis
	at      time.Time // what its clock shows
	publish func(channel, message string) (heard int)
}

// tick sets the clock.
func (m *memory) tick(now time.Time) {
	m.at = now
	m.SetTime(now)
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

func (m *memory) set(key, value string, ttl int) {
	_ = m.Set(key, value)
	m.pexpire(key, ttl)
}

func (m *memory) pexpire(key string, ttl int) { m.SetTTL(key, time.Duration(ttl)*time.Millisecond) }

func refusal(i int, owner any, pttl int) []any { return []any{i + 1, owner, pttl} }

func nativeAcquire(m *memory, keys, args []string) any {
	ttl := whole(args[1])
	locks := callsLocks(keys, args, 2)
	if args[0] == "" || ttl < 1 || locks == nil {
		return errBadArguments
	}
	var l *lines // nil: nobody can wait
	if len(locks) < len(keys) {
		l = m.lines(keys, len(locks))
	}
	for i, key := range locks {
		failure := l.givesWay(i)
		if failure == nil {
			failure = m.take(i, key, args[0], ttl)
		}
		if failure != nil {
			for j, ours := range locks[:i] {
				m.Del(ours)
				if l != nil {
					l.call(j)
				}
			}
			if refused, ok := failure.([]any); ok && l != nil {
				return append(refused, int(l.time))
			}
			return failure
		}
	}
	return 1
}

// givesWay refuses a key that is free and that somebody waits for.
func (l *lines) givesWay(i int) any {
	if l == nil || l.head(i) == "" || l.Exists(l.keys[i]) {
		return nil
	}
	l.call(i)
	return []any{i + 1, "", -2}
}

// callsLocks returns which of the keys are lock keys: there may be one more argument than usual, which says so. It returns nil if
// they do not match.
func callsLocks(keys, args []string, usual int) []string {
	if len(args) == usual {
		return keys
	}
	if n := whole(args[usual]); n >= 1 && len(keys) == 3*n {
		return keys[:n]
	}
	return nil
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
	locks := callsLocks(keys, args, 2)
	if token == "" || number < 0 || locks == nil {
		return errBadArguments
	}
	if len(locks) < len(keys) {
		if _, err := strconv.ParseFloat(args[5], 64); args[3] != "" && !named(args[3]) || args[4] != "" && (err != nil || !signed(args[6]) || !named(args[4])) {
			return errBadArguments
		}
		defer m.lines(keys, len(locks)).handOver(args[3], args[4], args[5], args[6])
	}
	deleted := 0
	var missing, foreign []any
	for i, key := range locks {
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

func nativeInspect(m *memory, keys, args []string) any {
	found, waiting := []any{}, []any(nil)
	if len(args) > 0 {
		if args[0] != "waiting" || len(keys) != 3 {
			return errBadArguments
		}
		l := m.lines(keys, 1)
		waits := slices.DeleteFunc(l.members(0), func(who string) bool { return l.watches(0, who) })
		keys, waiting = keys[:1], []any{len(waits)}
	}
	for _, key := range keys {
		owner := m.get(key)
		if err, ok := owner.(error); ok {
			return err
		}
		found = append(found, owner, m.pttl(key))
	}
	return append(found, waiting...)
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

// describe tells what there is under a key, of which type it ever is.
func (m *memory) describe(key string) string {
	value := m.get(key)
	switch m.Type(key) {
	case "zset":
		value, _ = m.SortedSet(key)
	case "hash":
		hash := make(map[string]string)
		fields, _ := m.HKeys(key)
		for _, field := range fields {
			hash[field] = m.HGet(key, field)
		}
		value = hash
	}
	return fmt.Sprint(key, " ", value, " ", m.pttl(key))
}
