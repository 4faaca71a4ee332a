//go:build go1.25

package redlock_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// tape is what the fuzzer lets a node say, byte by byte. Behind its end there are zeros, of which
// healthy answers are made.
type tape []byte

func (t *tape) next() byte {
	if len(*t) == 0 {
		return 0
	}
	b := (*t)[0]
	*t = (*t)[1:]
	return b
}

// pick returns one of the choices.
func pick[T any](t *tape, choices ...T) T { return choices[int(t.next())%len(choices)] }

// value is anything that go-redis can find in a reply.
func (t *tape) value(depth int) any {
	switch b := t.next() % 10; {
	case b == 0:
		return nil
	case b < 3:
		return pick[int64](t, 0, 1, 2, 3, -1, -2, -3, math.MaxInt64, math.MinInt64, 1<<32+1,
			math.MinInt64/1_000_000-1, math.MaxInt32)
	case b == 3:
		return pick(t, "", "1", "OK", stranger, "\xff\x00", strings.Repeat("long", 99), adopted)
	case b == 4:
		return pick[any](t, 1.0, math.NaN(), math.Inf(1), true, false, big.NewInt(1),
			map[any]any{int64(1): int64(1)}, uint64(1), int(1))
	case b == 5:
		return pick[error](t, serverError("ERR nested"), serverError("READONLY nested"))
	default:
		list := make([]any, 0, 4)
		for n := t.next() % 8; depth > 0 && n > 0; n-- {
			list = append(list, t.value(depth-1))
		}
		return list
	}
}

// serverError is an error that comes from a server.
type serverError string

func (e serverError) Error() string { return string(e) }

func (serverError) RedisError() {}

// babbler is a node whose replies come from a tape.
type babbler struct {
	tape tape
	slow bool // whether replies may take their time

	mu    sync.Mutex
	calls []babble
	said  *atomic.Int64 // answers of all nodes
}

// babble is one call of a script and its answer.
type babble struct {
	number int64 // of the answer, among those of all nodes
	at     time.Time
	script string
	keys   []string
	args   []string
	reply  any
	err    error
}

// token is whose call it is. An acquire that gives a key back may have a number in front of it.
func (c *babble) token() string { return bare(c.args[0]) }

// isCut tells whether the call shortens a lock.
func (c *babble) isCut() bool { return c.script == "extend" && c.args[3] == "cut" }

// bare is the token in a value that may have the number of a shortening in front of it.
func bare(value string) string {
	if number, token, found := strings.Cut(value, "~"); found && number != "" &&
		strings.Trim(number, "0123456789") == "" {
		return token
	}
	return value
}

// slowest is how long an answer takes at most: longer than the default node timeout.
const slowest = 1700 * time.Millisecond

// argsOf is how many arguments each script takes: first without those about queues, then where the
// keys have queues.
var argsOf = map[string][]int{"acquire": {3, 2}, "extend": {4}, "release": {2, 1, 3},
	"inspect": {0, 2}}

func (n *babbler) DialHook(redis.DialHook) redis.DialHook { return nil }

func (n *babbler) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		n.answer(cmd.(*redis.Cmd))
		return cmd.Err()
	}
}

func (n *babbler) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			n.answer(cmd.(*redis.Cmd))
		}
		return nil
	}
}

// answer says something to a script. The first byte says what: mostly something sensible, so that
// it goes on from there.
func (n *babbler) answer(cmd *redis.Cmd) {
	c := callIn(cmd)
	n.mu.Lock()
	b := n.tape.next()
	switch kind := b % 16; {
	case kind < 13:
		c.reply = n.reply(&c, kind)
	case kind == 13:
		c.err = pick[error](&n.tape, redis.Nil, io.EOF, serverError("ERR no"),
			serverError("LOADING"), serverError("NOSCRIPT"), context.DeadlineExceeded)
	default:
		c.reply = n.tape.value(3)
	}
	n.mu.Unlock()
	if err, isError := c.reply.(error); isError {
		c.reply, c.err = nil, err
	}
	if n.slow {
		// not by a receive from time.After: in a bubble that can crash the race detector
		// (go.dev/issue/78156)
		time.Sleep([]time.Duration{0, time.Millisecond, 600 * time.Millisecond, slowest}[b>>6])
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	c.number, c.at = n.said.Add(1), time.Now()
	n.calls = append(n.calls, c)
	cmd.SetVal(c.reply)
	if c.err != nil {
		cmd.SetErr(c.err)
	}
}

// reply is what the script may answer, or anything.
func (n *babbler) reply(c *babble, kind byte) any {
	switch {
	case kind < 7:
		return n.yes(c)
	case kind == 7:
		return []any{1 + int64(n.tape.next())%int64(len(c.keys))}
	case kind < 10:
		return []any{1 + int64(n.tape.next())%int64(len(c.keys)), pick(&n.tape, stranger, ""),
			pick[int64](&n.tape, 5000, -1, 0)}
	case kind == 10:
		return pick[error](&n.tape, serverError("OOM command not allowed"), serverError("READONLY"),
			serverError(""))
	default:
		return n.tape.value(3)
	}
}

// yes is what the script answers where all is well; for inspect it is one of several truths.
func (n *babbler) yes(c *babble) any {
	if c.script != "inspect" {
		return int64(1)
	}
	var list []any
	for range c.keys {
		list = append(list, pick(&n.tape, []any{adopted, int64(90_000)}, []any{adopted, int64(-1)},
			[]any{nil, int64(-2)},
			[]any{stranger, int64(70_000)}, []any{adopted, int64(1)},
			[]any{"2~" + adopted, int64(80_000)})...)
	}
	return list
}

// adopted is the token that is looked for.
const adopted = "the token that was handed over"

// callIn takes a command to pieces.
func callIn(cmd *redis.Cmd) babble {
	var args []string
	for _, a := range cmd.Args() {
		args = append(args, fmt.Sprint(a))
	}
	c := babble{script: scriptNames[args[1]]}
	keys, err := strconv.Atoi(args[2])
	c.keys, c.args = args[3:3+keys], args[3+keys:]
	counts, known := argsOf[c.script]
	switch {
	case err != nil || keys < 1 || !known || !slices.Contains(counts, len(c.args)):
		panic(fmt.Sprint("not one of our scripts: ", args))
	case len(c.args) != counts[0]:
		// a release may say nothing of a shortening
		c.keys, c.args = c.keys[:keys/2], append(c.args, "0")[:counts[0]]
	}
	return c
}

// scriptNames has the scripts' names by text and by digest.
var scriptNames = map[string]string{}

func nameScripts(f *testing.F) {
	for name := range argsOf {
		source := scriptSource(f, name)
		digest := sha1.Sum([]byte(source))
		scriptNames[source], scriptNames[hex.EncodeToString(digest[:])] = name, name
	}
}

// vote is what an answer means.
type vote int

const (
	votesYes vote = iota
	votesNo
	votesNothing
)

// means tells what the answer to a request means, from what the scripts' headers say.
func (c *babble) means() vote {
	list, isList := c.reply.([]any)
	number, isNumber := c.reply.(int64)
	switch {
	case c.err != nil:
		return votesNothing
	case c.script != "inspect" && isNumber && number == 1:
		return votesYes
	case c.script == "inspect" && isList && len(list) == 2*len(c.keys):
		for i := 0; i < len(list); i += 2 {
			if !okPair(list[i], list[i+1]) {
				return votesNothing
			}
		}
		return votesYes
	case c.script != "inspect" && isList && (len(list) == 1 || len(list) == 3):
		i, ok := list[0].(int64)
		if !ok || i < 1 || i > int64(len(c.keys)) ||
			len(list) == 3 && (list[1] == nil || !okPair(list[1], list[2])) {
			return votesNothing
		}
		return votesNo
	}
	return votesNothing
}

// okPair tells whether these can be a key's value and time to live.
func okPair(owner, pttl any) bool {
	ms, ok := pttl.(int64)
	if owner == nil {
		return ok && ms == -2
	}
	_, isText := owner.(string)
	return isText && ok && ms >= -1
}

// harmless tells whether the answer proves that the node has not run the script to any effect.
func (c *babble) harmless() bool {
	var failure redis.Error
	if c.err != nil {
		return errors.As(c.err, &failure) && c.err != redis.Nil
	}
	return c.means() == votesNo
}
