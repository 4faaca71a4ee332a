package sim

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// lines are the queues of a call's lock keys: scripts/queue.lua in Go.
type lines struct {
	*memory
	keys []string
	n    int
	time int64
}

// grace is what somebody who was called has to come, in microseconds.
const grace = 250_000

func (m *memory) lines(keys []string, n int) *lines { return &lines{m, keys, n, m.at.UnixMicro()} }

func (l *lines) queue(i int) string { return l.keys[l.n+i] }

func (l *lines) enqueue(i int, who string, ticket float64, signed string) {
	patience := whole(signed[1:])
	sign, other := "+", "-"
	if signed[:1] == other {
		sign, other = other, sign
	}
	_, _ = l.ZAdd(l.queue(i), ticket, who)
	_, _ = l.ZAdd(l.queue(i), -float64(l.time+int64(patience)*1000), sign+who)
	_, _ = l.ZRem(l.queue(i), other+who)
	if l.pttl(l.queue(i)) < patience+1000 {
		l.pexpire(l.queue(i), patience+2000)
	}
}

func (l *lines) leave(i int, who string) {
	for _, name := range []string{who, "+" + who, "-" + who} {
		if l.Exists(l.queue(i)) {
			_, _ = l.ZRem(l.queue(i), name)
		}
	}
}

// members returns who is in a queue, in its order.
func (l *lines) members(i int) []string { return l.names(l.queue(i)) }

// names returns who is in a queue, in its order: without those times until which they are waited
// for.
func (m *memory) names(queue string) []string {
	if !m.Exists(queue) {
		return nil
	}
	all, _ := m.ZMembers(queue)
	return slices.DeleteFunc(all, func(name string) bool {
		return name[0] == '+' || name[0] == '-'
	})
}

// due returns until when somebody in a queue is waited for, and with which sign.
func (l *lines) due(i int, who string) (till int64, sign string) {
	scores, _ := l.SortedSet(l.queue(i))
	for _, sign := range []string{"+", "-"} {
		if score, found := scores[sign+who]; found {
			return -int64(score), sign
		}
	}
	return 0, "-"
}

func (l *lines) watches(i int, who string) bool {
	ticket, _ := l.ZScore(l.queue(i), who)
	return math.IsInf(ticket, 1)
}

func (l *lines) first(i int) (who string, till int64, sign string) {
	for _, who := range l.members(i) {
		if l.watches(i, who) {
			break
		}
		if till, sign := l.due(i, who); till > l.time {
			return who, till, sign
		}
		l.leave(i, who)
	}
	return "", 0, ""
}

func (l *lines) head(i int) string {
	who, _, _ := l.first(i)
	return who
}

func (l *lines) tell(who, word string) int {
	number, inbox, _ := strings.Cut(who, "@")
	return l.publish(inbox, fmt.Sprintf("%s %s %d", word, number, l.time))
}

func (l *lines) call(i int) {
	for {
		head, till, sign := l.first(i)
		if head == "" {
			for _, watcher := range l.members(i) {
				l.tell(watcher, "free")
				l.leave(i, watcher)
			}
			return
		}
		if till <= l.time+grace {
			return
		}
		if l.tell(head, "come") > 0 {
			_, _ = l.ZAdd(l.queue(i), -float64(l.time+grace), sign+head)
			if members := l.members(i); len(members) > 1 && !l.watches(i, members[1]) {
				l.tell(members[1], "stand-by")
			}
			return
		}
		if sign == "-" {
			return
		}
		l.leave(i, head)
	}
}

func nativeWait(m *memory, keys, args []string) any {
	ttl, p := whole(args[1]), apart("wait", keys, args)
	ticket, _ := strconv.ParseFloat(args[4], 64)
	if !p.queued || p.fenced() != (len(args) == 8) || p.fenced() && m.least(args[7]) < 1 ||
		args[0] == "" || ttl < 1 ||
		!digits(args[4]) || !signed(args[5]) || !named(args[3]) ||
		!slices.Contains([]string{"take", "stand", "over"}, args[6]) {
		return errBadArguments
	}
	l, who, mode := m.lines(keys, len(p.locks)), args[3], args[6]
	if mode == "take" && l.n == 1 && l.head(0) == who && !l.Exists(keys[0]) {
		return l.grant(p, args, ttl)
	}
	for i, key := range p.locks {
		if mode != "over" {
			l.enqueue(i, who, ticket, args[5])
		}
		if owner := l.get(key); mode != "take" && owner == args[0] {
			l.Del(key)
		} else if err, failed := owner.(error); failed && mode != "take" {
			return err
		}
	}
	refused := l.obstacles(p.locks, args[0], who, ticket, mode)
	if refused == nil {
		return l.grant(p, args, ttl)
	}
	if _, failed := refused.(error); failed {
		return refused
	}
	for i, key := range p.locks {
		if !l.Exists(key) && (mode != "take" || l.head(i) != who) {
			l.call(i)
		}
	}
	return refused
}

// grant makes all keys the token's, and takes its owner out of the queues.
func (l *lines) grant(p parts, args []string, ttl int) any {
	granted := make([]bool, len(p.locks))
	for i, key := range p.locks {
		granted[i] = !l.Exists(key)
		if l.pttl(key) < ttl {
			l.set(key, args[0], ttl)
		}
	}
	var reply any = int(l.time)
	if p.fenced() {
		fence := l.raiseOrDrop(p, args[7], ttl, granted)
		if _, failed := fence.(error); failed {
			return fence
		}
		reply = []any{int(l.time), fence}
	}
	for i := range p.locks {
		l.leave(i, args[3])
	}
	return reply
}

// obstacles returns why the keys cannot be had, or nil.
func (l *lines) obstacles(locks []string, token, who string, ticket float64,
	mode string) (refused any) {
	if mode != "take" {
		refused = []any{1, "", -2, int(l.time), 0, 0}
	}
	for i := len(locks) - 1; i >= 0; i-- {
		why := l.obstacle(i, token, who, ticket)
		if _, failed := why.(error); failed {
			return why
		}
		if why != nil {
			refused = why
		}
	}
	return refused
}

func (l *lines) obstacle(i int, token, who string, ticket float64) any {
	owner := l.get(l.keys[i])
	if _, failed := owner.(error); failed || owner == token {
		if failed {
			return owner
		}
		return nil
	}
	pttl := -2
	if owner != nil {
		pttl = l.pttl(l.keys[i])
	} else {
		owner = ""
		if head := l.head(i); head == "" || head == who {
			return nil
		}
	}
	before, all := 0, 0
	for _, member := range l.members(i) {
		if !l.watches(i, member) {
			all++
		}
		if came, _ := l.ZScore(l.queue(i), member); came < ticket {
			before++
		}
	}
	return []any{i + 1, owner, pttl, int(l.time), before, all}
}

func nativeWatch(m *memory, keys, args []string) any {
	told := len(args) > 0
	if told && (len(keys) != 2 || !named(args[0]) || !signed(args[1])) || !told && len(keys) != 1 {
		return errBadArguments
	}
	owner := m.get(keys[0])
	if err, ok := owner.(error); ok {
		return err
	}
	if owner != nil && told {
		m.lines(keys, 1).enqueue(0, args[0], math.Inf(1), args[1])
	}
	return []any{owner, m.pttl(keys[0])}
}

// handOver is what release does to the queues.
func (l *lines) handOver(leaver, stayer, ticket, signed string) {
	score, _ := strconv.ParseFloat(ticket, 64)
	for i := range l.n {
		if leaver != "" && leaver != stayer {
			l.leave(i, leaver)
		}
		if stayer != "" {
			l.enqueue(i, stayer, score, signed)
		}
		if !l.Exists(l.keys[i]) && (stayer == "" || stayer != leaver || l.head(i) != stayer) {
			l.call(i)
		}
	}
}

// named reports whether a text is somebody's name in a queue, and signed whether it is a number
// behind a sign.
func named(text string) bool {
	number, _, found := strings.Cut(text, "@")
	return found && digits(number)
}

func signed(text string) bool {
	return text != "" && strings.Contains("+-", text[:1]) && digits(text[1:])
}

func digits(text string) bool { return text != "" && strings.Trim(text, "0123456789") == "" }
