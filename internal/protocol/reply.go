package protocol

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// Refusal is a node's answer that a key is not ours.
type Refusal struct {
	Resource string
	Gone     bool          // the key does not exist; the rest is unset
	Owner    string        // the value under the key
	Left     time.Duration // until the key expires; negative: never
	Waited   bool          // the key is free, but others wait for it; Owner and Left are unset
	Time     int64         // what the node's clock showed, in microseconds; 0: unknown
	Before   int           // so many stand before us in its queue,
	All      int           // and so many in all
}

func (r *Refusal) Error() string {
	switch label, ours := Label(r.Owner); {
	case r.Waited:
		return fmt.Sprintf("%s is free, but others wait for it", Quote(r.Resource))
	case r.Gone:
		return fmt.Sprintf("%s is gone", Quote(r.Resource))
	case !ours:
		return fmt.Sprintf("%s is held by an unknown owner%s", Quote(r.Resource), remaining(r.Left))
	default:
		return fmt.Sprintf("%s is held by %s%s", Quote(r.Resource), Quote(label), remaining(r.Left))
	}
}

// timeless returns the refusal without its time, for a node with several sites: they have clocks of
// their own, and a call does not say from which of them it comes.
func (r *Refusal) timeless() *Refusal {
	without := *r
	without.Time = 0
	return &without
}

func remaining(left time.Duration) string {
	if left < 0 {
		return " and never expires"
	}
	return fmt.Sprintf(" for %v more", left)
}

// Quote makes a name fit for a message, however long it is and whatever it holds.
func Quote(name string) string {
	const most = 64
	if len(name) <= most {
		return fmt.Sprintf("%q", name)
	}
	return fmt.Sprintf("%q... (%d bytes)", name[:most], len(name))
}

var errOvertaken = errors.New("the lock has been shortened by somebody else who has its token")

// overtaken is the answer of a node where the lock is ours, with a larger number than the
// request's. If the number is from a shortening of ours that has overtaken the request, that is a
// yes: the lock is ours, and the round proves nothing else (see Round.Overtaken).
func (a *ask) overtaken() error {
	if a.round.number < a.round.claim.number {
		return nil
	}
	return errOvertaken
}

// failed reports whether a node that answered with err said neither yes nor no.
func failed(err error) bool {
	if err == nil {
		return false
	}
	var refused *Refusal
	return !errors.As(err, &refused)
}

// keyState is what a node says of a key.
type keyState struct {
	held  bool
	owner string        // the value under the key
	left  time.Duration // until the key expires; negative: never

	fence   uint64 // its counter; 0: there is none, or it was not asked for
	waiting int    // in its queue
}

// readVerdict reads the reply that the scripts acquire, wait, extend and release share. With
// fencing all but the last say yes with a fence.
func readVerdict(a *ask, reply any) error {
	switch v := reply.(type) {
	case int64:
		if !a.fenced() && (v == 1 || v > 1 && a.round.verb.stands) {
			a.shown = v
			return nil
		}
	case string:
		if !a.round.verb.stands && a.granted(v) {
			return nil
		}
	case []any:
		r, ok := a.refusal(v)
		switch {
		case len(v) == 2 && a.round.verb.stands && a.granted(v[1]): // {time, fence}
			a.shown, _ = v[0].(int64)
			return nil
		case ok && !r.Gone && a.round.claim.own(r.Owner):
			return a.overtaken()
		case ok:
			a.shown = r.Time
			return r
		}
	}
	return errUnexpected(reply)
}

// granted reports whether a reply is a fence that was asked for, and takes it.
func (a *ask) granted(reply any) bool {
	text, _ := reply.(string)
	fence, ok := readFence(text)
	if !ok || !a.fenced() {
		return false
	}
	a.report(fence)
	return true
}

// errUnexpected tells what a reply is made of, and its text only where that is all of it: among
// others there may be a token.
func errUnexpected(reply any) error {
	switch reply.(type) {
	case string, int64:
		return fmt.Errorf("unexpected reply %.100q", fmt.Sprint(reply))
	default:
		return fmt.Errorf("unexpected reply %.100s", shape(reply))
	}
}

func shape(reply any) string {
	switch v := reply.(type) {
	case nil:
		return "nil"
	case string:
		return fmt.Sprintf("string(%d)", len(v))
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = shape(v[i])
		}
		return "[" + strings.Join(parts, " ") + "]"
	default:
		return fmt.Sprintf("%T", v)
	}
}

// errNoFence is about a counter that is not what the scripts write.
func errNoFence(resource string) error {
	return fmt.Errorf("the fencing counter of %s is not a number that a fence can be",
		Quote(resource))
}

// refusal reads {i} or {i, owner, pttl}, which time may follow, and behind that before and all.
func (a *ask) refusal(v []any) (*Refusal, bool) {
	if len(v) != 1 && (len(v) < 3 || len(v) > 6) {
		return nil, false
	}
	i, ok := v[0].(int64)
	if !ok || i < 1 || i > int64(len(a.lockKeys())) {
		return nil, false
	}
	r := &Refusal{Resource: a.round.claim.keys.resource(a.lockKeys()[i-1]), Gone: len(v) == 1}
	if r.Gone {
		return r, true
	}
	if len(v) > 3 {
		r.Time, _ = v[3].(int64)
	}
	if len(v) > 5 {
		before, _ := v[4].(int64)
		all, _ := v[5].(int64)
		r.Before, r.All = int(before), int(all)
	}
	if r.Waited = v[1] == "" && v[2] == int64(-2); r.Waited {
		return r, true
	}
	key, ok := readKey(v[1], v[2])
	r.Owner, r.Left = key.owner, key.left
	return r, ok && key.held
}

// readKeys reads {owner, pttl, owner, pttl, ...}, with fencing with the counters behind them.
func readKeys(a *ask, reply any) ([]keyState, error) {
	v, ok := reply.([]any)
	n := len(a.lockKeys())
	if !ok || len(v) != 2*n && !a.fenced() || len(v) != 3*n && a.fenced() {
		return nil, errUnexpected(reply)
	}
	found := make([]keyState, n)
	for i := range found {
		if found[i], ok = readKey(v[2*i], v[2*i+1]); !ok {
			return nil, errUnexpected(reply)
		}
		if a.fenced() && v[2*n+i] != nil {
			text, _ := v[2*n+i].(string)
			if found[i].fence, ok = readFence(text); !ok {
				return nil, errNoFence(a.round.claim.keys.resource(a.lockKeys()[i]))
			}
		}
	}
	return found, nil
}

// readKey reads what GET and PTTL say of a key: -1 stands for no expiry, and -2, with no value, for
// no key.
func readKey(owner, pttl any) (key keyState, ok bool) {
	key.owner, key.held = owner.(string)
	ms, isNumber := pttl.(int64)
	// Cut to what a Duration can hold with a millisecond to spare.
	key.left = time.Duration(min(max(ms, -2),
		math.MaxInt64/int64(time.Millisecond)-1)) * time.Millisecond
	return key, isNumber && (key.held && ms >= -1 || owner == nil && ms == -2)
}
