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
	"eed7bdd99170936bb75b1f3d612a3f2603d2e293": nativeAcquire,
	"264836ccc03f5984fbc3985256a624f60df46c22": nativeWait,
	"f93c7dce10e99efc787c73cceda828cede40a70e": nativeExtend,
	"5f404da449239e0c9ddedd0cb7ca556c31996432": nativeRelease,
	"42de72a9edd72bf1761fb7c4b8f79b447200ac52": nativeInspect,
	"ca8a87e00d4ebbb2d335df0be19f9e21b64bd50d": nativeWatch,
	"8db2012daf94f144205fd0b856ea78f5dcdf96b4": nativeWaits,
	"a05eaac8be8536972e8641102a5111829bb6ced1": nativeFollow,
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
	p := apart("acquire", keys, args)
	known := p.fenced() == (len(args) == 4) && (p.fenced() || p.queued == (len(args) == 2))
	if p.locks == nil || !known || args[0] == "" || ttl < 1 || p.fenced() && m.least(args[3]) < 1 {
		return errBadArguments
	}
	var l *lines // nil: nobody can wait
	if p.queued {
		l = m.lines(keys, len(p.locks))
	}
	granted := make([]bool, len(p.locks))
	for i, key := range p.locks {
		failure := l.givesWay(i)
		if failure == nil {
			granted[i] = m.get(key) == nil
			failure = m.take(i, key, args[0], ttl)
		}
		if failure != nil {
			for j, ours := range p.locks[:i] {
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
	if !p.fenced() {
		return 1
	}
	reply := m.raiseOrDrop(p, args[3], ttl, granted)
	if _, failed := reply.(error); failed && l != nil {
		for i := range p.locks {
			if granted[i] {
				l.call(i)
			}
		}
	}
	return reply
}

// givesWay refuses a key that is free and that somebody waits for.
func (l *lines) givesWay(i int) any {
	if l == nil || l.head(i) == "" || l.Exists(l.keys[i]) {
		return nil
	}
	l.call(i)
	return []any{i + 1, "", -2}
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
	p := apart("extend", keys, args)
	least := 0.0
	if len(args) == 5 {
		least = m.least("=" + args[4])
	}
	if p.fenced() != (least >= 1) || p.fenced() != (len(args) == 5) || token == "" || number < 0 ||
		ttl < 1 || args[3] != "keep" && (!cut || number == 0) {
		return errBadArguments
	}
	keys = p.locks
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
	var reply any = 1
	if p.fenced() {
		reply = m.raise(p.counters, least, ttl, nil)
		if _, failed := reply.(error); failed {
			return reply
		}
	}
	m.give(keys, token, number, ttl, cut, stands, left)
	return reply
}

// give gives keys of ours their time, and their number if it is greater than what stands on them.
func (m *memory) give(keys []string, token string, number, ttl int, cut bool, stands, left []int) {
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
}

func nativeRelease(m *memory, keys, args []string) any {
	token, number := args[0], 0
	if len(args) > 1 {
		number = whole(args[1])
	}
	p := apart("release", keys, args)
	moves := len(args) == 7
	if token == "" || number < 0 || p.locks == nil || p.queued != (len(args) != 2) {
		return errBadArguments
	}
	switch {
	case moves:
		if args[3] != "" && !named(args[3]) ||
			args[4] != "" && (!digits(args[5]) || !signed(args[6]) || !named(args[4])) {
			return errBadArguments
		}
		defer m.lines(keys, len(p.locks)).handOver(args[3], args[4], args[5], args[6])
	case p.queued:
		defer m.lines(keys, len(p.locks)).handOver("", "", "", "")
	}
	deleted := 0
	var missing, foreign []any
	for i, key := range p.locks {
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
	p := apart("inspect", keys, args)
	if p.locks == nil || p.queued != (len(args) == 2) || p.queued && args[1] != "queues" ||
		p.fenced() != (len(args) == 1 || len(keys) == 3*len(p.locks)) {
		return errBadArguments
	}
	found := []any{}
	for _, key := range p.locks {
		owner := m.get(key)
		if err, ok := owner.(error); ok {
			return err
		}
		found = append(found, owner, m.pttl(key))
	}
	for _, counter := range p.counters {
		value := m.get(counter)
		if err, ok := value.(error); ok {
			return err
		}
		found = append(found, value)
	}
	if p.queued {
		l := m.lines(keys, len(p.locks))
		for i := range p.locks {
			found = append(found, len(slices.DeleteFunc(l.members(i), func(who string) bool {
				return l.watches(i, who)
			})))
		}
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
