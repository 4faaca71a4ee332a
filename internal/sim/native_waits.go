package sim

import (
	"errors"
	"math"
	"strings"
)

// What stands in for the scripts of deadlock detection.

var errWrongType = errors.New("WRONGTYPE Operation against a key holding the wrong kind of value")

// isHash reports whether a key is a hash, or may become one.
func (m *memory) isHash(key string) bool { return !m.Exists(key) || m.Type(key) == "hash" }

func nativeWaits(m *memory, keys, args []string) any {
	token, name, wait, ttl, text := args[0], args[1], args[2], whole(args[3]), args[4]
	if len(keys)%3 != 0 || token == "" || name == "" || wait == "" || wait == "owner" || ttl < 0 {
		return errBadArguments
	}
	for i := 0; i < len(keys); i += 3 {
		var failure error
		if ttl > 0 {
			failure = m.notify(keys[i:i+3], token, name, wait, ttl, text)
		} else {
			failure = m.withdraw(keys[i+1], wait)
		}
		if failure != nil {
			return failure
		}
	}
	return 1
}

func (m *memory) notify(keys []string, token, name, wait string, ttl int, text string) error {
	hash := keys[1]
	switch owner := m.get(keys[0]).(type) {
	case error:
		return owner
	case string:
		if !strings.HasSuffix(owner, token) {
			return nil
		}
	case nil:
		if m.firstIn(keys[2]) != token {
			return nil
		}
	}
	if !m.isHash(hash) {
		return errWrongType
	}
	if m.HGet(hash, "owner") != name {
		m.Del(hash)
	}
	m.HSet(hash, "owner", name, wait, text)
	m.pexpire(hash, ttl)
	return nil
}

func (m *memory) withdraw(hash, wait string) error {
	if !m.isHash(hash) {
		return errWrongType
	}
	m.HDel(hash, wait)
	if fields, _ := m.HKeys(hash); len(fields) == 1 && fields[0] == "owner" {
		m.Del(hash)
	}
	return nil
}

func nativeFollow(m *memory, keys, _ []string) any {
	if len(keys) != 3 {
		return errBadArguments
	}
	owner := m.get(keys[0])
	if err, ok := owner.(error); ok {
		return err
	}
	first := ""
	if owner == nil {
		if first = m.firstIn(keys[2]); first == "" {
			return []any{nil, []any{}}
		}
	}
	if !m.isHash(keys[1]) {
		return errWrongType
	}
	fields := []any{}
	names, _ := m.HKeys(keys[1]) // sorted; there are none if there is no such key
	for _, name := range names {
		fields = append(fields, name, m.HGet(keys[1], name))
	}
	if owner == nil {
		return []any{nil, fields, first}
	}
	return []any{owner, fields}
}

// firstIn returns who is first in a queue, "" if nobody is.
func (m *memory) firstIn(queue string) string {
	for _, name := range m.names(queue) {
		if ticket, _ := m.ZScore(queue, name); !math.IsInf(ticket, 1) {
			return name
		}
	}
	return ""
}
