package sim

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

var (
	errNoCounter   = errors.New("ERR a fencing counter is not a number: somebody else uses its key")
	errCounterGone = errors.New(
		"ERR the fencing counter of a lock that is held is gone: the server must not evict keys")
	errCounterFull = errors.New("ERR a fencing counter would reach 2^52: a clock is wrong, and " +
		"TIME cannot be used to see it")
)

const week = 7 * 24 * 60 * 60 * 1000 // in milliseconds

// least is what a fence must be at least, or 0 if that cannot be read.
func (m *memory) least(text string) float64 {
	digits, known := strings.CutPrefix(text, "=")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0
	}
	number, _ := strconv.ParseFloat(digits, 64)
	if known || number < 1 {
		return number
	}
	return min(number, float64(m.at.UnixMicro())+86400*1e6)
}

// raise gives counters one number, and returns it. granted says whose lock was granted just now;
// nil: none, and it does not matter if they are gone.
func (m *memory) raise(counters []string, number float64, ttl int, granted []bool) any {
	for i, key := range counters {
		stands := 0.0
		switch value := m.get(key).(type) {
		case error:
			return value
		case string:
			if value == "" || strings.Trim(value, "0123456789") != "" {
				return errNoCounter
			}
			stands, _ = strconv.ParseFloat(value, 64)
		default:
			if granted != nil && !granted[i] {
				return errCounterGone
			}
		}
		if granted != nil && granted[i] {
			stands++
		}
		number = math.Max(number, stands)
	}
	if number >= 1<<52 {
		return errCounterFull
	}
	text := strconv.FormatFloat(number, 'f', 0, 64)
	for _, key := range counters {
		m.set(key, text, max(week, 8*ttl))
	}
	return text
}

// raiseOrDrop is raise for a grant. If it fails, what was granted just now is deleted.
func (m *memory) raiseOrDrop(p parts, least string, ttl int, granted []bool) any {
	reply := m.raise(p.counters, m.least(least), ttl, granted)
	if _, failed := reply.(error); failed {
		for i, key := range p.locks {
			if granted[i] {
				m.Del(key)
			}
		}
	}
	return reply
}
